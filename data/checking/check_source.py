"""Check files as they were downloaded or annotated, before they become shards: all that a source can read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import av

from data.checking.clip_check import ClipMasks, SideBySide, measure_clip
from data.checking.finding import Finding, listening, notice, of_error
from data.clip import AnnotatedVideo, DataError, Pictures, SourceClip
from data.in_order import in_order
from data.media import frames_at
from data.plural import plural
from data.sources import VideoSource, load_source

Progress = Callable[[int, int], None]
"""Called with (clips done, clips in all)."""

_CORRECT = "correct or remove it"
_RESTORE = "restore it or remove its annotation"


@dataclass(frozen=True)
class _Found:
    """A clip's findings and what is compared with other clips."""

    key: str
    where: str
    findings: list[Finding] = field(default_factory=list)
    digest: str = ""
    size: tuple[int, int] | None = None


def open_source(name: str, root: str | Path, **options: Any) -> VideoSource:
    """As `load_source`; a source that can name each image without annotation does.

    Raises:
        DataError: no such source, folder or option.
    """
    source = load_source(name, root, **options)
    if "unannotated" in {f.name for f in fields(source)} - options.keys():  # type: ignore[arg-type]
        return load_source(name, root, **options, unannotated="refuse")
    return source


def check_source(
    source: VideoSource, decode: bool = True, workers: int = 1, progress: Progress | None = None
) -> list[Finding]:
    """Everything that is wrong with the files of a source, in the order of its clips.

    Args:
        source: see `open_source`.
        decode: decode all media and look for copies; without it only annotations and masks are read.
        workers: clips checked at the same time.
        progress: called as clips are done.
    """
    root = str(source.root)
    with listening() as findings:
        try:
            clips = source.clips()
        except DataError as error:
            return [_error(error, source.root, root, "layout")]
        if not clips:
            notice("error", "layout", root, "holds no clip", "see `sam2 data sources`")
    together = SideBySide()
    for done, found in enumerate(in_order(lambda clip: _check_clip(clip, source, decode), clips, workers), 1):
        findings += together.add_key(found.key, found.where)
        if found.digest:
            findings += together.add_media(found.digest, found.where)
        if found.size:
            together.sizes[found.size] += 1
        findings += found.findings
        if progress:
            progress(done, len(clips))
    if clips and not together.sizes:
        message = f"none of {plural(len(clips), 'clip')} can be used"
        findings.append(Finding("error", "layout", root, message, "see the other findings"))
    findings += together.finish(root)
    return list(dict.fromkeys(findings))  # folders that several clips share are told of once


def _check_clip(clip: SourceClip, source: VideoSource, decode: bool) -> _Found:
    """One clip, read and checked."""
    with listening() as findings:
        try:
            video = clip.read()
        except DataError as error:
            failed = _error(error, source.root, f'{source.root}, clip "{clip.key}"', "annotation")
            return _Found(clip.key, failed.where, [*findings, failed])
        where = f'{video.media.path}, clip "{video.key}"'
        _check_names(video, source.root)
        findings += _check_masks(where, video)
        digest = ""
        try:
            digest = _decode(video) if decode else _expect_files(video)
        except DataError as error:
            findings.append(_error(error, source.root, where, "media"))
    return _Found(clip.key, where, findings, digest, (video.height, video.width))


def _error(error: DataError, root: Path, where: str, code: str) -> Finding:
    """An error as a finding about the file that its text begins with, else about `where`."""
    place, colon, _ = str(error).partition(": ")
    is_place = colon and (place.startswith(str(root)) or root == Path("."))
    return of_error(error, place if is_place else where, code, _CORRECT)


def _check_names(video: AnnotatedVideo, root: Path) -> None:
    """Say that a name is not ASCII."""
    for path in (video.media.path, *video.media.files):
        name = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
        if not name.isascii():
            remedy = "no matter here, the clip's key is made ASCII; rename it for other tools"
            notice("note", "non-ascii-name", path, "the name holds letters outside ASCII", remedy)
            return


def _check_masks(where: str, video: AnnotatedVideo) -> list[Finding]:
    """What the masks show."""
    frames = len(video.frame_index)
    if any(len(row) != frames for row in video.masks) or len(video.masks) != len(video.object_ids):
        found = sorted({len(row) for row in video.masks})
        message = (
            f"{len(video.masks)} rows of {found} masks for {len(video.object_ids)} objects in {frames} frames"
        )
        return [Finding("error", "count-mismatch", where, message, _CORRECT)]
    clip = ClipMasks(where, video.object_ids, video.masks, video.height, video.width)
    try:
        return measure_clip(clip)[1]
    except DataError as error:
        return [of_error(error, where, "masks", _CORRECT)]


def _decode(video: AnnotatedVideo) -> str:
    """Decode the annotated frames, of a video file all frames; a digest of what the pixels come from.

    Raises:
        DataError: see `frames_at`.
    """
    digest = hashlib.sha256()
    for frame in frames_at(video):
        if isinstance(video.media, Pictures) and not isinstance(frame, av.VideoFrame):
            digest.update(frame.tobytes())  # several may come from one file
    if not isinstance(video.media, Pictures):
        for path in video.media.files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _expect_files(video: AnnotatedVideo) -> str:
    """See that the media's files are there and hold something; no digest.

    Raises:
        DataError: one does not.
    """
    for path in video.media.files:
        if not path.is_file():
            raise DataError(f"{path}: no such file; {_RESTORE}", "missing-media")
        if not path.stat().st_size:
            raise DataError(f"{path}: is empty (0 bytes); {_RESTORE}", "media")
    return ""
