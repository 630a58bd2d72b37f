"""What a run is the result of: its settings, the code, the data. Runs of equal signatures would repeat each other.

    settings   those that decide the result (decisive.py), resolved
    code       the Python files of `sam2` and `data`, whether a checkout or installed, committed or not; not those that
               only start runs and read what they left (`sam2/cli`, `sam2/slurm`), not documents, recipes or tests; and
               the file of each class of the user's own that the settings name
    data       the fingerprints of the shards' indexes, those of `data.val_root` included; of made-up videos the
               settings that make them; of a `pipe:` its command, as nobody can know what it will write; and the
               content of the weight files that training starts from

Packages and hardware are in `run.json`, but not in the signature: they change rounding, not what was asked. All of it
can be computed before a run, on a machine that sees the data.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import sam2
from data.index import ShardIndex
from data.module import ClipDataModule
from data.storage.place import is_pipe
from sam2.training.config import RunConfig
from sam2.training.decisive import digest_of_settings
from sam2.training.synthetic import decisive_of
from sam2.training.typed import Plugin, to_plain

_PACKAGES = ("sam2", "data")
_WITHOUT_INFLUENCE = ("sam2/cli/", "sam2/slurm/")


@dataclass(frozen=True)
class Signature:
    """Three SHA-256 in hex, so that a difference can be named."""

    settings: str
    code: str
    data: str

    @property
    def digest(self) -> str:
        """All three as one."""
        return _sha256(json.dumps([self.settings, self.code, self.data]))

    def as_record(self) -> dict[str, str]:
        """For `run.json`."""
        return {"digest": self.digest, **dataclasses.asdict(self)}

    def differences(self, recorded: Mapping[str, Any]) -> list[str]:
        """Which parts a record holds otherwise, by name; all where it has none."""
        return [name for name, part in dataclasses.asdict(self).items() if recorded.get(name) != part]


def signature(config: RunConfig, data: ClipDataModule | None = None) -> Signature:
    """The signature of a run with these settings, now and here.

    Args:
        config: all settings.
        data: of the run, if it is open already.

    Raises:
        DataError: the data cannot be opened here.
    """
    return Signature(digest_of_settings(to_plain(config)), code_digest(config), data_digest(config, data))


def code_digest(config: RunConfig) -> str:
    """Of the code that computes, see the top of this file."""
    plugins = [config.policy, *config.callbacks.values()]
    own = {plugin.target.rpartition(".")[0] for plugin in plugins if isinstance(plugin, Plugin)}
    modules = sorted(name for name in own if name.partition(".")[0] not in _PACKAGES)
    return _sha256(json.dumps([_packages(), [[name, _source(name)] for name in modules]]))


@cache
def _packages() -> str:
    """Of the Python files of our packages; read once, as the process runs what it read."""
    root = Path(sam2.__file__).parents[1]
    files = {
        name: path
        for package in _PACKAGES
        for path in (root / package).rglob("*.py")
        if not (name := path.relative_to(root).as_posix()).startswith(_WITHOUT_INFLUENCE)
    }
    return _of_files(sorted(files.items()))


def _of_files(files: Iterable[tuple[str, Path]]) -> str:
    return _sha256(json.dumps([[name, _sha256(path.read_bytes())] for name, path in files]))


def _source(module: str) -> str:
    """Of a user's own module; its name where it is no file."""
    found = importlib.util.find_spec(module)
    path = Path(found.origin) if found is not None and found.has_location and found.origin else None
    return module if path is None else _sha256(path.read_bytes())


def data_digest(config: RunConfig, data: ClipDataModule | None = None) -> str:
    """Of what is trained and evaluated on, and of the weights that training starts from.

    Raises:
        DataError: an index cannot be opened.
    """
    weights = [path and _of_file(path) for path in (config.model.checkpoint, config.model.trunk)]
    return _sha256(json.dumps([_videos(config, data), weights], sort_keys=True))


def _videos(config: RunConfig, data: ClipDataModule | None) -> Any:
    if config.synthetic is not None:
        return decisive_of(config.synthetic)
    if data is None:
        # on a login node nothing is copied to see what it is
        read = dataclasses.replace(config.data, stage=False)
        data = ClipDataModule(read, config.image_size, config.seed)
    root, held_out = config.data.root, config.data.val_root
    of_training = (
        [str(root)]
        if root is not None and is_pipe(root)
        else [reader.samples.fingerprint for reader in data.readers]
    )
    return [
        of_training,
        held_out and ShardIndex.load(held_out, config.data.access).fingerprint,
    ]


def _of_file(path: Path) -> str:
    """Of a file's content; of its name where there is none yet, which the run itself will refuse."""
    if not path.is_file():
        return str(path)
    facts = path.stat()
    return _content(path, facts.st_size, facts.st_mtime_ns)


@cache
def _content(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()
