"""Whose an output folder is: a note in it says what was asked for. The same request goes on, any other is refused.

A folder of shards is emptied in an order that leaves, wherever it stops, less of what was there and nothing else:
first the index (so nothing trains on the rest), then the note's report (so the rest counts as unfinished), then the
shards from the last to the first, then the note.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from data.clip import AnnotatedVideo, DataError, VideoFile
from data.columns import read_meta
from data.index import INDEX_NAME, RECORD_NAME
from data.shard import META, scan

_REPORT = "report"
_SHARD = re.compile(r"\d{6}\.tar")
_BLOCK, _BLOCKS = 1 << 16, 32  # of a file that `origin_of` looks at: bytes, and how many


class SourceChanged(DataError):
    """Shards that are there were made from other clips than the source has now."""


def keep_apart(source: str | Path, out: str | Path) -> None:
    """See that an output folder neither is the source's, nor lies in it, nor holds it; links are followed.

    Raises:
        DataError: it does.
    """
    here, there = Path(source).resolve(), Path(out).resolve()
    if here == there:
        relation = "is the source itself"
    elif here in there.parents:
        relation = f"lies inside the source {source}"
    elif there in here.parents:
        relation = f"holds the source {source}"
    else:
        return
    raise DataError(
        f"{out}: {relation}, where shards and videos would mix; give a folder beside it, such as {here}-shards"
    )


def read_note(path: Path) -> dict[str, Any] | None:
    """What an output folder says about itself, None if it says nothing.

    Raises:
        DataError: it says something that is not a note.
    """
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); choose another folder") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds a {type(found).__name__}, not a note; choose another folder")
    return found


def is_unfinished(root: Path) -> bool:
    """Whether a conversion into a folder was interrupted.

    Raises:
        DataError: its note is damaged.
    """
    note = read_note(root / RECORD_NAME)
    return note is not None and _REPORT not in note


def write_note(path: Path, value: dict[str, Any]) -> None:
    """Write a note, atomically."""
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(partial, path)


def refuse_another(out: Path, what: str, earlier: dict[str, Any], asked: dict[str, Any]) -> None:
    """See that the note `earlier` in `out` is of the request `asked`.

    Raises:
        DataError: it is of another; says in what they differ and what can be done.
    """
    there, here = _named(earlier), _named(asked)
    differing = [name for name in here if there.get(name) != here[name]]
    if differing:
        held = ", ".join(f"{name}={there.get(name)}" for name in differing)
        wanted = ", ".join(f"{name}={here[name]}" for name in differing)
        raise DataError(
            f"{out}: holds {what} with {held}; asked for {wanted}; choose another folder, or replace what it holds "
            "with --overwrite"
        )


def _named(note: dict[str, Any]) -> dict[str, Any]:
    """What a note asks for by name; the part of a source as the command line has it."""
    part = note.get("part")
    share = "" if not part else part["high"] if part["name"] == "train" else part["low"]
    split = {"--split": f"video-hash:{share} ({part['name']})" if part else None}
    return _flat({name: value for name, value in note.items() if name != "part"}) | split


def _flat(note: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in note.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def origin_of(video: AnnotatedVideo) -> str:
    """Hex digest of all that a sample is made from: the files of its media and what the source says about it."""
    facts = asdict(replace(video, media=VideoFile(Path())))
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for path in video.media.files:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(size.to_bytes(8, "little"))
            # Of a large file a few places: going on after an interruption would else read terabytes again.
            for start in (*range(0, size, max(_BLOCK, size // _BLOCKS)), max(0, size - _BLOCK)):
                digest.update(os.pread(file.fileno(), _BLOCK, start))
    return digest.hexdigest()


@dataclass
class Claim:
    """A folder of shards and the conversion that may write into it; nothing is written before `begin`.

    Attributes:
        out: the folder.
        asked: the note of this conversion.
        done: by key, what the samples in finished shards were made from, see `origin_of`.
        is_finished: the conversion came to its end before: nothing may be added.
        is_replacing: what the folder holds goes away when the first new sample is there.
    """

    out: Path
    asked: dict[str, Any]
    done: dict[str, str] = field(default_factory=dict)
    is_finished: bool = False
    is_replacing: bool = False
    _seen: set[str] = field(default_factory=set)
    _is_begun: bool = False

    @classmethod
    def open(cls, out: Path, asked: dict[str, Any], overwrite: bool) -> Claim:
        """Look at what `out` holds.

        Raises:
            DataError: it holds something else, which `overwrite` does not allow to replace or this tool did not write.
        """
        earlier = read_note(out / RECORD_NAME)
        if earlier is None:
            shards = sorted(path.name for path in out.glob("*.tar"))
            if shards:
                raise DataError(
                    f"{out}: holds {shards[0]}, which no conversion noted; choose another folder, or remove it yourself"
                )
            return cls(out, asked)
        own = _own_shards(out)
        try:
            refuse_another(out, "a conversion", earlier, asked)
            return cls(out, asked, _origins(own), is_finished=_REPORT in earlier)
        except DataError:
            if not overwrite:
                raise
            return cls(out, asked, is_replacing=True)

    @property
    def holds_samples(self) -> bool:
        """Whether the folder holds samples of this conversion."""
        return self._is_begun or bool(self.done)

    def replaced(self) -> Claim:
        """The same request for a folder whose content goes away."""
        return Claim(self.out, self.asked, is_replacing=True)

    def keep(self, key: str) -> None:
        """A finished shard holds the sample `key`, made from what the source has now."""
        self._seen.add(key)

    def refuse_new(self, key: str) -> None:
        """See that a sample that no finished shard holds may be added.

        The clips of a source come in a fixed order, so the finished shards of an interrupted conversion hold the first.

        Raises:
            SourceChanged: it was not in the source, or could not be read, when those shards were made.
        """
        if self.is_finished or self.done.keys() - self._seen:
            raise self._changed(f'clip "{key}" of the source is not in them')

    def refuse_vanished(self) -> None:
        """See that the source still has all that finished shards hold.

        Raises:
            SourceChanged: it has not.
        """
        vanished = sorted(self.done.keys() - self._seen)
        if vanished:
            more = f" and {len(vanished) - 1} more" if len(vanished) > 1 else ""
            raise self._changed(f'clip "{vanished[0]}"{more} cannot be read from the source any more')

    def refuse_changed(self, video: AnnotatedVideo) -> None:
        """See that a sample in a finished shard was made from this.

        Raises:
            SourceChanged: it was made from something else.
        """
        made_from = self.done[video.key]
        if not made_from:
            raise self._changed(f'meta.json of clip "{video.key}" does not say what it was made from')
        if made_from != origin_of(video):
            raise self._changed(
                f'clip "{video.key}" was made from something else than {video.media.path} is now'
            )

    def _changed(self, reason: str) -> SourceChanged:
        return SourceChanged(
            f"{self.out}: holds shards of {self.asked['source'].get('root', 'the source')} as it was before: {reason}; "
            "choose another folder, or replace what it holds with --overwrite"
        )

    def begin(self) -> int:
        """Make the folder this conversion's, unfinished; returns the number of the next shard."""
        if self.is_replacing:
            self._empty()
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / INDEX_NAME).unlink(missing_ok=True)
        write_note(self.out / RECORD_NAME, self.asked)
        self._is_begun = True
        return len(_own_shards(self.out))

    def _empty(self) -> None:
        (self.out / INDEX_NAME).unlink(missing_ok=True)
        note = self.out / RECORD_NAME
        write_note(note, {k: v for k, v in (read_note(note) or {}).items() if k != _REPORT})
        for shard in reversed(_own_shards(self.out)):
            shard.unlink()
        for partial in self.out.glob(".*.tar.tmp"):
            partial.unlink()
        note.unlink()

    def finish(self, report: dict[str, Any]) -> None:
        """Note that the folder is complete."""
        write_note(self.out / RECORD_NAME, self.asked | {_REPORT: report})


def _own_shards(out: Path) -> list[Path]:
    """The shards of a folder with a note, in order.

    Raises:
        DataError: there is a tar among them that no conversion wrote.
    """
    shards = sorted(out.glob("*.tar"))
    for number, shard in enumerate(shards):
        if not _SHARD.fullmatch(shard.name) or not _begins_as_ours(shard):
            raise DataError(f"{shard}: not written by a conversion; move it away, or choose another folder")
        if int(shard.stem) != number:
            raise DataError(
                f"{out}: shards are not numbered 000000.tar, 000001.tar, ... ({number:06d}.tar is missing); "
                "choose another folder, or remove them yourself"
            )
    return shards


def _begins_as_ours(shard: Path) -> bool:
    """Whether the first member is a `meta.json`; a shard that was cut off may hold nothing at all."""
    if shard.stat().st_size == 0:
        return True
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            first = tar.next()
    except (tarfile.TarError, EOFError, UnicodeError):
        return False
    return first is not None and first.name.endswith(f".{META}")


def _origins(shards: list[Path]) -> dict[str, str]:
    """By key, what each sample says it was made from."""
    origins = {}
    for shard in shards:
        with shard.open("rb") as file:
            for key, members in scan(shard):
                meta, _ = read_meta(f'{shard.name}, clip "{key}"', members, file.fileno())
                origins[key] = meta.origin
    return origins
