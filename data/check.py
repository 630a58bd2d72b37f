"""Check a folder of shards from the first tar header to the last frame, and say what to do about each problem."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import av
from PIL import Image, UnidentifiedImageError

from data.claim import RECORD_NAME
from data.clip import DataError
from data.columns import read_meta
from data.diagnose import reason, structure_problem
from data.index import INDEX_NAME, ShardIndex
from data.rle import area
from data.shard import MASKS, MAX_MASKS_BYTES, META, SampleMeta, list_shards, scan, sha256

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

_REDEFINE = "convert the data again, or download this shard again"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        severity: "error", training would fail or learn from wrong data; "warning", worth a look.
        code: kind of finding, stable, for scripts.
        where: shard and clip, or file.
        message: what was found and what was expected.
        remedy: what to do.
    """

    severity: str
    code: str
    where: str
    message: str
    remedy: str


@dataclass
class _Work:
    """What the shards' checks share."""

    decode: bool
    total: int
    progress: Progress | None
    done: int = 0
    keys: dict[str, tuple[str, int]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def advance(self, count: int) -> None:
        with self.lock:
            self.done += count
            if self.progress:
                self.progress(min(self.done, self.total), self.total)


def check(
    root: str | Path, decode: bool = True, workers: int = 1, progress: Progress | None = None
) -> list[Finding]:
    """Everything that is wrong with the shards of a folder, in the order of the shards.

    Args:
        root: folder of shards.
        decode: decode all media; without it only their hashes are compared, which is much faster.
        workers: shards checked at the same time.
        progress: called as bytes are done.

    Returns:
        Findings; without any of severity "error" the data can be trained on.
    """
    root = Path(root)
    try:
        shards = list_shards(root)
    except DataError as error:
        return [_error("no-shards", str(root), error)]
    work = _Work(decode, sum(path.stat().st_size for path in shards), progress)
    findings = _check_record(root)
    with ThreadPoolExecutor(workers) as pool:
        for found in pool.map(lambda path: list(_check_shard(path, work)), shards):
            findings += found
    if not any(f.severity == "error" for f in findings):
        findings += _check_index(root)  # of damaged shards it would only repeat what was said above
    return findings


def _error(code: str, where: str, error: DataError) -> Finding:
    """An error as a finding: what comes before says where, its last clause what to do."""
    text = str(error).removeprefix(f"{where}: ").removeprefix(f"{where}, ")
    message, _, remedy = text.rpartition("; ")
    return Finding("error", code, where, *((message, remedy) if message else (remedy, _REDEFINE)))


def _check_record(root: Path) -> list[Finding]:
    """The conversion's own note: was it finished, was anything left out?"""
    path = root / RECORD_NAME
    if not path.is_file():
        return []
    again = "run the same `sam2 data convert` again: it goes on where it stopped"
    try:
        record = json.loads(path.read_bytes())
        report = record.get("report")
        skipped = report["skipped"] if report else []
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return [Finding("warning", "record", str(path), f"not a conversion's note ({error!r})", again)]
    if report is None:
        return [Finding("error", "unfinished", str(path), "the conversion did not finish", again)]
    look = "see the reason, repair the source, convert into a new folder"
    return [
        Finding("warning", "left-out", str(path), f"a clip was left out: {line}", look) for line in skipped
    ]


def _check_index(root: Path) -> list[Finding]:
    where = str(root / INDEX_NAME)
    try:
        stored, actual = ShardIndex.load(root), ShardIndex.build(root)
    except DataError as error:
        return [_error("index", where, error)]
    if stored.fingerprint != actual.fingerprint:
        rebuild = f"make it again with `sam2 data index {root}`"
        return [Finding("error", "index", where, "does not describe these shards", rebuild)]
    return []


def _check_shard(path: Path, work: _Work) -> Iterator[Finding]:
    size, reached = path.stat().st_size, 0
    try:
        with path.open("rb") as file:
            for key, members in scan(path):
                yield from _check_sample(path.name, key, members, file.fileno(), work)
                end = max(offset + length for offset, length in members.values())
                work.advance(end - reached)
                reached = end
    except DataError as error:
        yield _error("tar", path.name, error)
    work.advance(size - reached)


def _check_sample(
    shard: str, key: str, members: dict[str, tuple[int, int]], fd: int, work: _Work
) -> Iterator[Finding]:
    where = f'{shard}, clip "{key}"'
    place = shard, min(offset for offset, _ in members.values())
    with work.lock:
        first = work.keys.setdefault(key, place)
    if first != place:
        message = f"the key appears a second time, first in {first[0]}"
        yield Finding("error", "duplicate-key", where, message, "rename one of the clips and convert again")
    try:
        meta, _ = read_meta(where, members, fd)
    except DataError as error:
        yield _error("meta", where, error)
        return
    if meta.key != key:
        yield Finding("error", "meta", where, f"meta.json belongs to clip {meta.key!r}", _REDEFINE)
    for member in (MASKS, meta.media):
        if member not in members:
            yield Finding("error", "member", where, f"member {member} is missing", _REDEFINE)
    for member in sorted(members.keys() - {META, MASKS, meta.media}):
        yield Finding(
            "warning", "extra-member", where, f"member {member} is not read by anything", "leave it out"
        )
    if not {MASKS, meta.media} <= members.keys():
        return
    for member in (MASKS, meta.media):
        yield from _check_member(where, member, meta, members[member], fd, work.decode)
    yield from _check_visibility(where, meta)


def _check_member(
    where: str, member: str, meta: SampleMeta, span: tuple[int, int], fd: int, decode: bool
) -> Iterator[Finding]:
    offset, size = span
    if member == MASKS and size > MAX_MASKS_BYTES:
        yield Finding(
            "error", "masks", where, f"{member} has {size} bytes, at most {MAX_MASKS_BYTES}", _REDEFINE
        )
        return
    raw = os.pread(fd, size, offset)
    expected = meta.sha256.get(member)
    if sha256(raw) != expected:
        message = f"{member} has sha256 {sha256(raw)[:12]}..., meta.json says {str(expected)[:12]}..."
        yield Finding("error", "sha256", where, message, _REDEFINE)
    try:
        if member == MASKS:
            _check_masks(raw, meta)
        elif decode:
            _MEDIA[member](raw, meta)
    except DataError as error:
        code = "masks" if member == MASKS else "media"
        yield Finding("error", code, where, f"{member}: {error}", _REDEFINE)


def _check_masks(raw: bytes, meta: SampleMeta) -> None:
    """Every mask is a mask of the picture's size, and visible exactly where `meta.json` says so."""
    try:
        found = json.loads(raw)
        size, rows = found["size"], found["counts"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"not the JSON of masks ({error!r})") from error
    if size != [meta.height, meta.width]:
        raise DataError(f"masks are of size {str(size)[:40]}, the picture is {meta.height}x{meta.width}")
    if not isinstance(rows, list) or len(rows) != len(meta.object_ids):
        raise DataError(f"expected a row of masks for each of {len(meta.object_ids)} objects")
    for object_id, row, visible in zip(meta.object_ids, rows, meta.visible, strict=True):
        good = isinstance(row, list) and len(row) == meta.n_frames and all(isinstance(c, str) for c in row)
        if not good:
            raise DataError(f"object {object_id}: expected {meta.n_frames} strings")
        for k, counts in enumerate(row):
            pixels = area(counts, meta.height, meta.width, f"object {object_id}, frame {k}")
            if (pixels > 0) != (visible[k] == "1"):
                raise DataError(
                    f"object {object_id}, frame {k}: {pixels} pixels, meta.json says visible={visible[k]}"
                )


def _check_video(raw: bytes, meta: SampleMeta) -> None:
    problem = structure_problem(io.BytesIO(raw), len(raw))
    if problem:
        raise DataError(problem)
    frames, keyframes = 0, []
    try:
        with av.open(io.BytesIO(raw), "r", metadata_errors="replace") as container:
            for frame in container.decode(video=0):
                turned = frame.rotation % 180 == 90
                size = (frame.width, frame.height) if turned else (frame.height, frame.width)
                _expect_size(size, meta, f"frame {frames}")
                if frame.key_frame:
                    keyframes.append(frames)
                frames += 1
    except (av.FFmpegError, EOFError, IndexError) as error:
        raise DataError(f"cannot be decoded after {frames} frames ({reason(error)})") from error
    if frames != meta.media_frames:
        raise DataError(f"has {frames} frames, meta.json says {meta.media_frames}")
    if tuple(keyframes) != meta.keyframes:
        raise DataError(
            f"keyframes are {str(keyframes)[:60]}, meta.json says {str(list(meta.keyframes))[:60]}"
        )


def _check_jpegs(raw: bytes, meta: SampleMeta) -> None:
    for k, (offset, size) in enumerate(meta.jpgs):
        if offset + size > len(raw):
            raise DataError(f"JPEG {k} lies at {offset}+{size}, the member has {len(raw)} bytes")
        _check_jpeg(raw[offset : offset + size], meta, f"JPEG {k}")


def _check_jpeg(raw: bytes, meta: SampleMeta, what: str = "the image") -> None:
    try:
        with Image.open(io.BytesIO(raw), formats=["JPEG"]) as image:
            _expect_size((image.height, image.width), meta, what)
            image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{what} cannot be decoded ({error})") from error


def _expect_size(size: tuple[int, int], meta: SampleMeta, what: str) -> None:
    expected = meta.media_height, meta.media_width
    if size != expected:
        raise DataError(f"{what} is {size[0]}x{size[1]}, meta.json says {expected[0]}x{expected[1]}")


_MEDIA: dict[str, Callable[[bytes, SampleMeta], None]] = {
    "mp4": _check_video,
    "jpgs": _check_jpegs,
    "jpg": _check_jpeg,
}


def _check_visibility(where: str, meta: SampleMeta) -> Iterator[Finding]:
    """Objects that training can never choose."""
    never = [i for i, row in zip(meta.object_ids, meta.visible, strict=True) if "1" not in row]
    if len(never) == len(meta.object_ids):
        message = "no object is visible in any frame: training cannot use this clip"
        yield Finding("warning", "nothing-visible", where, message, "remove the clip or annotate it")
    elif never:
        listed = ", ".join(map(str, never[:20]))
        message = f"object {listed} is" if len(never) == 1 else f"objects {listed} are"
        message += " visible in no frame"
        yield Finding(
            "warning", "never-visible", where, message, "harmless; left out of the source it would save room"
        )
