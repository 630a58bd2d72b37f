"""Convert a source to shards: plain WebDataset tars with an index beside them.

The same source and options give the same bytes. A conversion that was interrupted goes on where it stopped: finished
shards are kept, after each of their clips was held against the source as it is now.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from webdataset import TarWriter

from data.claim import Claim, SourceChanged, keep_apart, origin_of
from data.clip import AnnotatedVideo, DataError, SourceClip
from data.encode import EncodeOptions, encode_media, frame_stride
from data.in_order import in_order
from data.index import ShardIndex
from data.rle import area
from data.shard import (
    KEY,
    MASKS,
    MAX_CELLS,
    MAX_SIDE,
    META,
    SCHEMA_VERSION,
    SampleMeta,
    parse_meta,
    sha256,
)
from data.sources import VideoSource
from data.split import Part

Progress = Callable[[int, int], None]
"""Called with (clips done, clips in all)."""


@dataclass(frozen=True)
class ConvertOptions:
    """How to write shards.

    Attributes:
        encode: how the media are stored.
        shard_bytes: a shard is closed when it has reached this size.
        workers: clips encoded at the same time; does not change the result.
        overwrite: shards of another conversion, or of an earlier state of the source, are replaced, not refused.
        part: of the clips; None: all.
    """

    encode: EncodeOptions = field(default_factory=EncodeOptions)
    shard_bytes: int = 512 << 20
    workers: int = 1
    overwrite: bool = False
    part: Part | None = None

    def __post_init__(self) -> None:
        if self.shard_bytes < 1 or self.workers < 1:
            raise ValueError(
                f"shard_bytes and workers must be at least 1, got {self.shard_bytes} and {self.workers}"
            )


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion made: totals of the folder, and each clip that was left out with the reason."""

    clips: int
    images: int
    annotated_frames: int
    objects: int
    shards: int
    bytes: int
    fingerprint: str
    licenses: tuple[str, ...]
    skipped: tuple[str, ...]


def convert(
    source: VideoSource,
    out: str | Path,
    options: ConvertOptions | None = None,
    progress: Progress | None = None,
    clips: Sequence[SourceClip] | None = None,
) -> ConvertReport:
    """Write all clips of `source` as shards into the folder `out`, then the index.

    Nothing is written before a clip could be read, so nothing is left behind, or replaced, where none can be.

    Args:
        source: see `data.sources`.
        out: new, or without shards, or holding an earlier conversion with the same source and options: an unfinished
            one goes on, a finished one stays as it is.
        options: media, shard size, workers.
        progress: called after every clip.
        clips: those of the source, where they were listed before.

    Raises:
        DataError: `out` holds something else, or is mixed up with the folder of the source, or clips that were
            converted before have changed or vanished in the source, or no clip could be converted. A single clip
            that cannot be converted does not raise: it is in the report's `skipped`.
    """
    options = options or ConvertOptions()
    out = Path(out)
    keep_apart(source.root, out)
    claim = Claim.open(out, _asked(source, options), options.overwrite)
    clips = source.clips() if clips is None else clips
    if options.part:
        clips = [clip for clip in clips if options.part.holds(clip)]
    with _full_disk_named(out):
        try:
            skipped = _write_all(clips, claim, options, progress)
        except SourceChanged:
            if not options.overwrite:
                raise
            claim = claim.replaced()
            skipped = _write_all(clips, claim, options, progress)
        if not claim.holds_samples:
            raise _nothing_converted(source, options, skipped)
        return _finish(claim, skipped)


@contextmanager
def _full_disk_named(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DataError(
            f"{out}: {error.strerror}; finished shards are kept, make room and run the same command again"
        ) from error


def _nothing_converted(source: VideoSource, options: ConvertOptions, skipped: Sequence[str]) -> DataError:
    if skipped:
        return DataError(f"{source.root}: no clip could be converted; the first problem: {skipped[0]}")
    if options.part:
        return DataError(
            f'{source.root}: no clip falls into the part "{options.part.name}"; give --split another share'
        )
    return DataError(f"{source.root}: no clip could be converted; the source is empty")


Members = dict[str, bytes]
_Result = tuple[str, Members] | str | DataError
"""Key and members of a clip; the key alone if a finished shard holds it; or why it is left out."""


def _write_all(
    clips: Sequence[SourceClip], claim: Claim, options: ConvertOptions, progress: Progress | None
) -> list[str]:
    """Write what finished shards do not hold; returns why clips were left out."""
    skipped: list[str] = []
    with _ShardWriter(claim, options.shard_bytes) as writer:
        for count, result in enumerate(_samples(clips, options, claim), 1):
            if isinstance(result, DataError):
                skipped.append(str(result))
            elif isinstance(result, str):
                claim.keep(result)
            else:
                claim.refuse_new(result[0])
                writer.write(*result)
            if progress:
                progress(count, len(clips))
        claim.refuse_vanished()
    return skipped


def _samples(clips: Sequence[SourceClip], options: ConvertOptions, claim: Claim) -> Iterator[_Result]:
    """What becomes of every clip, in the order of the source."""
    firsts = {clip.key: number for number, clip in reversed([*enumerate(clips)])}

    def work(numbered: tuple[int, SourceClip]) -> _Result:
        number, clip = numbered
        return _sample(clip, firsts[clip.key] != number, options, claim)

    # Threads: decoding and encoding happen in native code that releases the interpreter lock. Samples are large.
    return in_order(work, enumerate(clips), options.workers, ahead=2)


def _sample(clip: SourceClip, is_repeated: bool, options: ConvertOptions, claim: Claim) -> _Result:
    try:
        video = clip.read()
        if is_repeated:
            raise DataError(
                f'{video.media.path}: another clip is called "{clip.key}" too; rename one of the files'
            )
        if clip.key in claim.done and all(path.is_file() for path in video.media.files):
            claim.refuse_changed(video)
            return clip.key
        return clip.key, encode_sample(video, options)
    except SourceChanged:
        raise
    except DataError as error:
        return error


def encode_sample(video: AnnotatedVideo, options: ConvertOptions) -> Members:
    """The members of one sample in the order in which they are written: meta, masks, media.

    Raises:
        DataError: the media or a mask is not what it should be; the message names file, clip, frame and object.
    """
    where = f'{video.media.path}, clip "{video.key}"'
    areas = _mask_areas(video, where)
    threads = 0 if options.workers == 1 else 1
    media = encode_media(video, options.encode, threads)
    masks = json.dumps(
        {"size": [video.height, video.width], "counts": video.masks}, separators=(",", ":"), ensure_ascii=True
    ).encode()
    known = dict(video.meta)
    meta = SampleMeta(
        key=video.key,
        media=media.member,
        is_proxy=media.is_proxy,
        height=video.height,
        width=video.width,
        media_height=media.height,
        media_width=media.width,
        fps=_media_fps(video, media.is_proxy),
        media_frames=media.frames,
        frame_index=media.frame_index,
        source_frames=video.frame_index,
        object_ids=video.object_ids,
        object_types=tuple(known.pop("object_types", [""] * len(video.object_ids))),
        visible=tuple("".join("1" if pixels else "0" for pixels in row) for row in areas),
        sha256={MASKS: sha256(masks), media.member: sha256(media.raw)},
        keyframes=media.keyframes,
        jpgs=media.jpgs,
        source=str(known.pop("source", "")),
        license=str(known.pop("license", "")),
        split=str(known.pop("split", "")),
        ann_stride=frame_stride(video.frame_index),
        origin=origin_of(video),
        extra=known,
    )
    raw = meta.to_json()
    parse_meta(raw, where)  # what we write, we can read
    return {META: raw, MASKS: masks, media.member: media.raw}


def _media_fps(video: AnnotatedVideo, is_proxy: bool) -> float:
    return video.fps / max(1, frame_stride(video.frame_index)) if is_proxy else video.fps


def _mask_areas(video: AnnotatedVideo, where: str) -> list[list[int]]:
    """Pixels of every mask, `[object][frame]`, after checking the clip's own claims."""
    frames = video.frame_index
    rising = all(a < b for a, b in zip(frames, frames[1:], strict=False))
    if not frames or frames[0] < 0 or not rising:
        raise DataError(f"{where}: annotated frames must be rising frame numbers, got {str(frames)[:80]}")
    if not KEY.fullmatch(video.key):
        raise DataError(f"{where}: a key must match {KEY.pattern}; rename the file")
    if not (1 <= video.height <= MAX_SIDE and 1 <= video.width <= MAX_SIDE):
        raise DataError(f"{where}: {video.height}x{video.width} is not a picture size from 1 to {MAX_SIDE}")
    if len(video.masks) != len(video.object_ids) or len(frames) * len(video.masks) > MAX_CELLS:
        raise DataError(f"{where}: {len(video.masks)} rows of masks for {len(video.object_ids)} objects")
    areas = []
    for object_id, row in zip(video.object_ids, video.masks, strict=True):
        if len(row) != len(frames):
            raise DataError(
                f"{where}: object {object_id} has {len(row)} masks for {len(frames)} annotated frames"
            )
        place = f"{where}, object {object_id}"
        areas.append(
            [
                area(rle, video.height, video.width, f"{place}, annotated frame {k}")
                for k, rle in enumerate(row)
            ]
        )
    return areas


class _ShardWriter:
    """Tars of about `shard_bytes`, each put in place when it is complete."""

    def __init__(self, claim: Claim, shard_bytes: int) -> None:
        self.claim = claim
        self.out = claim.out
        self.shard_bytes = shard_bytes
        self.number: int | None = None  # of the shard that is being written
        self.filled = 0
        self.file: BinaryIO | None = None
        self.tar: Any = None

    def __enter__(self) -> _ShardWriter:
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is None:
            self._close()
        elif self.file:
            try:
                with self.file:
                    self.tar.close()
            finally:
                self._partial.unlink()

    @property
    def _partial(self) -> Path:
        return self.out / f".{self.number:06d}.tar.tmp"

    def write(self, key: str, members: Members) -> None:
        """Append a sample; its members stay in the order given."""
        if self.number is None:
            self.number = self.claim.begin()
        if self.tar is None:
            self.file = self._partial.open("wb")
            self.tar = TarWriter(self.file, encoder=False, mtime=0)
        for name, raw in members.items():
            # One call a member: TarWriter sorts the members of a call by name, and meta.json must come first.
            self.tar.write({"__key__": key, name: raw})
            self.filled += len(raw)
        if self.filled >= self.shard_bytes:
            self._close()

    def _close(self) -> None:
        if self.file is None or self.number is None:
            return
        self.tar.close()
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self._partial, self.out / f"{self.number:06d}.tar")
        self.number, self.filled, self.file, self.tar = self.number + 1, 0, None, None


def _asked(source: VideoSource, options: ConvertOptions) -> dict[str, Any]:
    """The note of a conversion: what decides the bytes of its shards, the files of the source aside."""
    asked = {
        "schema_version": SCHEMA_VERSION,
        "source": {"module": type(source).__module__} | asdict(cast(Any, source)),
        "options": {"shard_bytes": options.shard_bytes} | asdict(options.encode),
        "part": asdict(options.part) if options.part else None,
    }
    return json.loads(json.dumps(asked, default=lambda path: str(Path(path).resolve())))


def _finish(claim: Claim, skipped: list[str]) -> ConvertReport:
    """Write the index and the report."""
    index = ShardIndex.build(claim.out)
    index.save()
    sizes = index.columns.shard_sizes
    report = ConvertReport(
        clips=len(index),
        images=int(index.is_image.sum()),
        annotated_frames=int(index.n_frames.sum()),
        objects=int(index.n_objects.sum()),
        shards=len(sizes),
        bytes=int(sizes.sum()),
        fingerprint=index.fingerprint,
        licenses=tuple(sorted({index.meta(i).license or "not stated" for i in range(len(index))})),
        skipped=tuple(skipped),
    )
    claim.finish(asdict(report))
    return report
