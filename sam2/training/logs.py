"""What a run says: short on the terminal, whole in `log/rank-*.txt` of the run directory."""

from __future__ import annotations

import faulthandler
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

# Lightning's remarks that are wrong for this project, or about its own code
_NOISE = (
    r".isinstance.treespec, LeafSpec.. is deprecated",  # lightning 2.6.6 with torch 2.15
    r".*does not have many workers",  # the display shows how long training waits for data
    r".*It is recommended to use .self.log\(.*sync_dist=True",  # what is logged is gathered already
    r"Grad strides do not match bucket view strides",  # of 1x1 and depthwise convolutions; nothing to gain
)


class Screen(logging.Handler):
    """Prints records as plain lines; warnings and worse begin with what they are."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        is_remark = record.levelno < logging.WARNING
        text = self.format(record) if is_remark else f"{record.levelname.lower()}: {self.format(record)}"
        style = None if is_remark else "yellow"
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def logged(path: Path, rank: int, console: Console) -> Iterator[None]:
    """Send log records, warnings and crashes of this process to `path`; on rank 0 also to the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        file = logging.StreamHandler(stream)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers: list[logging.Handler] = [file]
        if rank == 0:
            handlers.append(Screen(console))
        loggers = [logging.getLogger(name) for name in ("sam2", "data", "py.warnings")]
        before = [(logger, logger.level, logger.propagate) for logger in loggers]
        is_watched = faulthandler.is_enabled()
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        with warnings.catch_warnings():
            for message in _NOISE:
                warnings.filterwarnings("ignore", message)
            try:
                logging.captureWarnings(True)
                if not is_watched:  # python -X faulthandler and pytest have their own place for it
                    faulthandler.enable(stream)
                for logger in loggers:
                    logger.setLevel(logging.INFO)
                    logger.propagate = False
                    for handler in handlers:
                        logger.addHandler(handler)
                yield
            except BaseException:
                traceback.print_exc(file=stream)
                raise
            finally:
                logging.captureWarnings(False)
                if not is_watched:
                    faulthandler.disable()
                for logger, level, propagate in before:
                    logger.setLevel(level)
                    logger.propagate = propagate
                    for handler in handlers:
                        logger.removeHandler(handler)
