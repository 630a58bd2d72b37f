"""Check a folder of shards from the first tar header to the last frame, and say what to do about each problem."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import av
from PIL import Image, UnidentifiedImageError

from data.checking.clip_check import ClipMasks, SideBySide, measure_clip
from data.checking.diagnose import reason, structure_problem
from data.checking.finding import Finding, of_error
from data.clip import DataError
from data.columns import read_meta
from data.in_order import in_order
from data.index import INDEX_NAME, RECORD_NAME, ShardIndex
from data.shard import MASKS, MAX_MASKS_BYTES, META, SampleMeta, list_shards, scan, sha256

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

_REDEFINE = "convert the data again, or download this shard again"
Members = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class _Found:
    """A sample's findings, how many bytes were read for it, and what is compared with other samples."""

    findings: list[Finding]
    size: int = 0
    where: str = ""
    key: str = ""
    meta: SampleMeta | None = None


def check(
    root: str | Path, decode: bool = True, workers: int = 1, progress: Progress | None = None
) -> list[Finding]:
    """Everything that is wrong with the shards of a folder, in the order of the shards.

    Args:
        root: folder of shards.
        decode: decode all media; without it only their hashes are compared, which is much faster.
        workers: samples checked at the same time.
        progress: called as bytes are done.

    Returns:
        Findings; without any of severity "error" the data can be trained on.
    """
    root = Path(root)
    try:
        shards = list_shards(root)
    except DataError as error:
        return [_error("no-shards", str(root), error)]
    total, done = sum(path.stat().st_size for path in shards), 0
    findings, together = _check_record(root), SideBySide()
    for found in in_order(lambda task: task(), _tasks(shards, decode), workers):
        findings += _beside(found, together) + found.findings
        done += found.size
        if progress:
            progress(min(done, total), total)
    findings += together.finish(str(root))
    if not any(f.severity == "error" for f in findings):
        findings += _check_index(root)  # of damaged shards it would only repeat what was said above
    return findings


def _tasks(shards: list[Path], decode: bool) -> Iterator[Callable[[], _Found]]:
    """What is to be done for every sample, and for what is left of each shard."""
    for path in shards:
        reached, size = 0, path.stat().st_size
        findings = []
        try:
            for key, members in scan(path):
                end = max(offset + length for offset, length in members.values())
                yield partial(_check_sample, path, key, members, decode, end - reached)
                reached = end
        except DataError as error:
            findings.append(_error("tar", path.name, error))
        yield partial(_Found, findings, size - reached)


def _beside(found: _Found, together: SideBySide) -> list[Finding]:
    """What a sample shows when it is held beside those before it."""
    if not found.key:
        return []
    findings = list(together.add_key(found.key, found.where))
    if found.meta is not None and not findings:
        findings += together.add_media(found.meta.sha256.get(found.meta.media, found.where), found.where)
        together.sizes[found.meta.height, found.meta.width] += 1
    return findings


def _error(code: str, where: str, error: DataError) -> Finding:
    return of_error(error, where, code, _REDEFINE)


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


def _check_sample(path: Path, key: str, members: Members, decode: bool, size: int) -> _Found:
    found = _Found([], size, f'{path.name}, clip "{key}"', key)
    with path.open("rb") as file:
        try:
            meta, _ = read_meta(found.where, members, file.fileno())
        except DataError as error:
            return replace(found, findings=[_error("meta", found.where, error)])
        found = replace(found, meta=meta)
        found.findings.extend(_check_members(found.where, key, meta, members))
        if {MASKS, meta.media} <= members.keys():
            found.findings.extend(_check_masks_member(found.where, meta, members[MASKS], file.fileno()))
            found.findings.extend(_check_media(found.where, meta, members[meta.media], file.fileno(), decode))
    return found


def _check_members(where: str, key: str, meta: SampleMeta, members: Members) -> Iterator[Finding]:
    if meta.key != key:
        yield Finding("error", "meta", where, f"meta.json belongs to clip {meta.key!r}", _REDEFINE)
    for member in (MASKS, meta.media):
        if member not in members:
            yield Finding("error", "member", where, f"member {member} is missing", _REDEFINE)
    for member in sorted(members.keys() - {META, MASKS, meta.media}):
        message = f"member {member} is not read by anything"
        yield Finding("warning", "extra-member", where, message, "leave it out")


def _check_hash(where: str, member: str, meta: SampleMeta, raw: bytes) -> Iterator[Finding]:
    found, expected = sha256(raw), meta.sha256.get(member)
    if found != expected:
        message = f"{member} has sha256 {found[:12]}..., meta.json says {str(expected)[:12]}..."
        yield Finding("error", "sha256", where, message, _REDEFINE)


def _check_media(
    where: str, meta: SampleMeta, span: tuple[int, int], fd: int, decode: bool
) -> Iterator[Finding]:
    offset, size = span
    raw = os.pread(fd, size, offset)
    yield from _check_hash(where, meta.media, meta, raw)
    if decode:
        try:
            _MEDIA[meta.media](raw, meta)
        except DataError as error:
            yield Finding("error", "media", where, f"{meta.media}: {error}", _REDEFINE)


def _check_masks_member(where: str, meta: SampleMeta, span: tuple[int, int], fd: int) -> Iterator[Finding]:
    offset, size = span
    if size > MAX_MASKS_BYTES:
        message = f"{MASKS} has {size} bytes, at most {MAX_MASKS_BYTES}"
        yield Finding("error", "masks", where, message, _REDEFINE)
        return
    raw = os.pread(fd, size, offset)
    yield from _check_hash(where, MASKS, meta, raw)
    try:
        yield from _check_masks(where, raw, meta)
    except DataError as error:
        yield Finding("error", "masks", where, f"{MASKS}: {error}", _REDEFINE)


def _check_masks(where: str, raw: bytes, meta: SampleMeta) -> list[Finding]:
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
    for object_id, row in zip(meta.object_ids, rows, strict=True):
        good = isinstance(row, list) and len(row) == meta.n_frames and all(isinstance(c, str) for c in row)
        if not good:
            raise DataError(f"object {object_id}: expected {meta.n_frames} strings")
    areas, findings = measure_clip(ClipMasks(where, meta.object_ids, rows, meta.height, meta.width))
    for object_id, pixels, visible in zip(meta.object_ids, areas.tolist(), meta.visible, strict=True):
        for k, count in enumerate(pixels):
            if (count > 0) != (visible[k] == "1"):
                raise DataError(
                    f"object {object_id}, frame {k}: {count} pixels, meta.json says visible={visible[k]}"
                )
    return findings


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
