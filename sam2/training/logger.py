"""Where metrics go besides `metrics.csv`: TensorBoard, Weights & Biases, or a logger of the user's own."""

from __future__ import annotations

import logging
import netrc
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from sam2.evaluation.files import write_atomically
from sam2.training.config import LoggerConfig, RunConfig
from sam2.training.typed import ConfigError, Plugin, to_plain

log = logging.getLogger(__name__)

_ID_FILE = "wandb-id.txt"


def build_loggers(config: RunConfig, directory: Path) -> list[Logger]:
    """The loggers of a run, writing into its directory; none for `csv`."""
    chosen = config.logger
    if isinstance(chosen, Plugin):
        made = chosen.build()
        if not isinstance(made, Logger):
            raise ConfigError(f"logger: {chosen.target} is a {type(made).__name__}, not a Lightning Logger")
        return [made]
    if chosen.kind == "tensorboard":
        return [TensorBoardLogger(directory, name="tensorboard", version="")]
    if chosen.kind == "wandb":
        return [_wandb(config, chosen, directory)]
    return []


def _wandb(config: RunConfig, chosen: LoggerConfig, directory: Path) -> WandbLogger:
    mode = chosen.mode
    if mode == "auto":
        mode = "online" if has_wandb_key() else "offline"
    if mode == "online" and "WANDB_MODE" not in os.environ and not has_wandb_key():
        raise ConfigError(
            "logger.mode is online, but there is no W&B key: run `wandb login` or set WANDB_API_KEY; "
            "logger.mode=offline writes into the run directory, to upload later"
        )
    if mode == "offline":
        log.info(
            "no W&B key: writing offline; upload later with `wandb sync %s`",
            directory / "wandb" / "offline-run-*",
        )
    settings: dict[str, Any] = {
        "entity": chosen.entity,
        "tags": list(chosen.tags),
        "group": chosen.group,
        "config": to_plain(config),
    }
    return WandbLogger(
        name=f"{config.name}/{directory.name}",
        project=chosen.project,
        save_dir=directory,
        id=_run_id(directory),
        offline=mode == "offline",
        resume="allow",
        **settings,
    )


def _run_id(directory: Path) -> str:
    """The run's id at W&B: made once, kept in the run directory, so a resumed run continues its curves."""
    path = directory / _ID_FILE
    if not path.is_file():
        write_atomically(path, secrets.token_hex(4) + "\n")
    return path.read_text().strip()


def has_wandb_key() -> bool:
    """Whether W&B could log in without asking."""
    if os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun"):
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
