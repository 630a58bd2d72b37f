"""The columns of a shard index: collected from tar headers, read back from an untrusted file."""

from __future__ import annotations

import hashlib
import os
import zipfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.clip import DataError
from data.shard import MASKS, MAX_META_BYTES, MAX_SIDE, MEDIA, META, SampleMeta, parse_meta, scan


@dataclass(frozen=True, eq=False)
class Columns:
    """N samples in S shards as arrays. Ragged columns come with the cumulative end of each row."""

    shard_names: NDArray[np.str_]  # (S,)
    shard_sizes: NDArray[np.int64]  # (S,) bytes
    shard: NDArray[np.int32]  # (N,)
    key_end: NDArray[np.int64]  # (N,)
    key_bytes: NDArray[np.uint8]
    media: NDArray[np.uint8]  # (N,) position in MEDIA
    is_proxy: NDArray[np.bool_]  # (N,)
    offsets: NDArray[np.int64]  # (N, 3) of meta, masks, media
    sizes: NDArray[np.int64]  # (N, 3)
    shape: NDArray[np.int32]  # (N, 4) height, width, media height, media width
    fps: NDArray[np.float64]  # (N,)
    media_frames: NDArray[np.int32]  # (N,)
    frame_end: NDArray[np.int64]  # (N,)
    frame_index: NDArray[np.int32]
    object_end: NDArray[np.int64]  # (N,)
    object_ids: NDArray[np.int64]
    visible_end: NDArray[np.int64]  # (N,)
    visible_bits: NDArray[np.uint8]  # packed (O, n_frames), each sample from a fresh byte
    content: NDArray[
        np.uint8
    ]  # (32,) sha256 over every meta.json, which holds the hashes of the other members
    meta_sha256: NDArray[np.uint8]  # (N, 32) of each meta.json; (0, 32) in an index of an earlier version

    def fingerprint(self) -> str:
        """Hex digest of everything above but `meta_sha256`, which `content` covers already."""
        digest = hashlib.sha256()
        for f in fields(self):
            if f.name == _LATER:
                continue
            values = np.ascontiguousarray(getattr(self, f.name))
            digest.update(f"{f.name} {values.dtype.str} {values.shape};".encode())
            digest.update(values.data)
        return digest.hexdigest()

    @cached_property
    def digest(self) -> str:
        """The fingerprint, computed once."""
        return self.fingerprint()

    def key(self, i: int) -> str:
        """The key of sample `i`."""
        return str(row(self.key_bytes, self.key_end, i).tobytes().decode())

    def members(self, i: int) -> dict[str, tuple[int, int]]:
        """Offset and size of each member of sample `i` in its shard."""
        spans = zip(self.offsets[i].tolist(), self.sizes[i].tolist(), strict=True)
        return dict(zip((META, MASKS, MEDIA[self.media[i]]), spans, strict=True))


def row(values: NDArray[Any], ends: NDArray[np.int64], i: int) -> NDArray[Any]:
    """Row `i` of a ragged column."""
    return values[(ends[i - 1] if i else 0) : ends[i]]


def scan_columns(shards: Sequence[Path]) -> Columns:
    """Collect the columns from tar headers and `meta.json` members.

    Raises:
        DataError: a shard or `meta.json` that cannot be read, a missing member, a key that appears twice.
    """
    rows = _Rows()
    for number, path in enumerate(shards):
        with path.open("rb") as file:
            for key, members in scan(path):
                rows.add(number, path.name, key, members, file.fileno())
    return rows.columns([path.name for path in shards], [path.stat().st_size for path in shards])


def columns_of_one(shard: str, key: str, members: dict[str, tuple[int, int]], fd: int, size: int) -> Columns:
    """The columns of a sample on its own, in a shard of `size` bytes of which `fd` holds at least the `meta.json`.

    Raises:
        DataError: as `scan_columns`.
    """
    rows = _Rows()
    rows.add(0, shard, key, members, fd)
    return rows.columns([shard], [size])


@dataclass
class _Rows:
    """Columns while they grow; typed arrays, so a million samples stay small."""

    shard: array[int] = field(default_factory=lambda: array("i"))
    keys: list[bytes] = field(default_factory=list)
    media: array[int] = field(default_factory=lambda: array("B"))
    is_proxy: array[int] = field(default_factory=lambda: array("B"))
    spans: array[int] = field(default_factory=lambda: array("q"))
    shape: array[int] = field(default_factory=lambda: array("i"))
    fps: array[float] = field(default_factory=lambda: array("d"))
    media_frames: array[int] = field(default_factory=lambda: array("i"))
    n_frames: array[int] = field(default_factory=lambda: array("q"))
    frame_index: array[int] = field(default_factory=lambda: array("i"))
    n_objects: array[int] = field(default_factory=lambda: array("q"))
    object_ids: array[int] = field(default_factory=lambda: array("q"))
    visible: list[bytes] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)
    content: Any = field(default_factory=hashlib.sha256)
    meta_sha256: list[bytes] = field(default_factory=list)

    def add(self, shard: int, name: str, key: str, members: dict[str, tuple[int, int]], fd: int) -> None:
        where = f'{name}, clip "{key}"'
        meta = read_meta(where, members, fd)
        if key.encode() in self.seen:
            raise DataError(f"{where}: this key appeared before; keys must be unique in a dataset")
        self.seen.add(key.encode())
        if meta[0].key != key:
            raise DataError(f"{where}: meta.json belongs to clip {meta[0].key!r}; convert the data again")
        sample, raw = meta
        missing = [m for m in (MASKS, sample.media) if m not in members]
        if missing:
            raise DataError(
                f"{where}: member {' and '.join(missing)} missing; convert or download the shard again"
            )
        self.content.update(raw)
        self.meta_sha256.append(hashlib.sha256(raw).digest())
        self.shard.append(shard)
        self.keys.append(key.encode())
        for member in (META, MASKS, sample.media):
            self.spans.extend(members[member])
        self._describe(sample)

    def _describe(self, meta: SampleMeta) -> None:
        self.media.append(MEDIA.index(meta.media))
        self.is_proxy.append(meta.is_proxy)
        self.shape.extend((meta.height, meta.width, meta.media_height, meta.media_width))
        self.fps.append(meta.fps)
        self.media_frames.append(meta.media_frames)
        self.n_frames.append(meta.n_frames)
        self.frame_index.extend(meta.frame_index)
        self.n_objects.append(len(meta.object_ids))
        self.object_ids.extend(meta.object_ids)
        bits = np.frombuffer("".join(meta.visible).encode(), np.uint8) == ord("1")
        self.visible.append(np.packbits(bits).tobytes())

    def columns(self, names: Sequence[str], sizes: Sequence[int]) -> Columns:
        spans = np.array(self.spans, np.int64).reshape(-1, 3, 2)
        return Columns(
            shard_names=np.array(names, np.str_),
            shard_sizes=np.array(sizes, np.int64),
            shard=np.array(self.shard, np.int32),
            key_end=_ends([len(key) for key in self.keys]),
            key_bytes=np.frombuffer(b"".join(self.keys), np.uint8),
            media=np.array(self.media, np.uint8),
            is_proxy=np.array(self.is_proxy, np.bool_),
            offsets=np.ascontiguousarray(spans[:, :, 0]),
            sizes=np.ascontiguousarray(spans[:, :, 1]),
            shape=np.array(self.shape, np.int32).reshape(-1, 4),
            fps=np.array(self.fps, np.float64),
            media_frames=np.array(self.media_frames, np.int32),
            frame_end=_ends(self.n_frames),
            frame_index=np.array(self.frame_index, np.int32),
            object_end=_ends(self.n_objects),
            object_ids=np.array(self.object_ids, np.int64),
            visible_end=_ends([len(bits) for bits in self.visible]),
            visible_bits=np.frombuffer(b"".join(self.visible), np.uint8),
            content=np.frombuffer(self.content.digest(), np.uint8),
            meta_sha256=np.frombuffer(b"".join(self.meta_sha256), np.uint8).reshape(-1, 32),
        )


def read_meta(where: str, members: dict[str, tuple[int, int]], fd: int) -> tuple[SampleMeta, bytes]:
    """The validated `meta.json` of a scanned sample, and its bytes."""
    if META not in members:
        raise DataError(f"{where}: member {META} missing; convert or download the shard again")
    offset, size = members[META]
    if size > MAX_META_BYTES:
        raise DataError(f"{where}: {META} has {size} bytes, at most {MAX_META_BYTES} are accepted")
    raw = os.pread(fd, size, offset)
    return parse_meta(raw, where), raw


def _ends(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.cumsum(np.asarray(lengths, np.int64), dtype=np.int64)


_LATER = "meta_sha256"  # a column that an index of an earlier version lacks

_UNREADABLE: tuple[type[Exception], ...] = (OSError, ValueError, KeyError, EOFError, MemoryError, SyntaxError)
_UNREADABLE += (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
)  # also what zipfile cannot or will not read


def read_columns(path: Path, known_as: str = "") -> Columns:
    """Read an index file, which is not trusted: no pickle, sizes bounded by the file, every offset checked.

    Args:
        path: of the file.
        known_as: what messages call it, where it is a copy.

    Raises:
        DataError: damaged, made by another version, or inconsistent.
    """
    name = known_as or str(path)
    again = f"make it again with `sam2 data index {name.rpartition('/')[0]}`"
    if known_as:
        again = "make it again with `sam2 data index` where the shards are"
    try:
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise DataError(f"{name}: holds compressed columns; {again}")
        with np.load(path, allow_pickle=False) as stored:
            found = {f.name: stored[f.name] for f in fields(Columns) if f.name != _LATER or _LATER in stored}
            columns = Columns(**{_LATER: np.zeros((0, 32), np.uint8), **found})
            fingerprint = str(stored["fingerprint"])
    except _UNREADABLE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name}: not a readable index ({error}); {again}") from error
    if columns.fingerprint() != fingerprint:
        raise DataError(f"{name}: does not match its own fingerprint (damaged?); {again}")
    problem = _inconsistency(columns)
    if problem:
        raise DataError(f"{name}: {problem}; {again}")
    return columns


_DTYPES = {
    np.dtype(np.int64): (
        "shard_sizes",
        "key_end",
        "offsets",
        "sizes",
        "frame_end",
        "object_end",
        "object_ids",
        "visible_end",
    ),
    np.dtype(np.int32): ("shard", "shape", "media_frames", "frame_index"),
    np.dtype(np.uint8): ("key_bytes", "media", "visible_bits", "content", "meta_sha256"),
    np.dtype(np.float64): ("fps",),
    np.dtype(np.bool_): ("is_proxy",),
}


def _inconsistency(c: Columns) -> str:
    """What is wrong with the columns, or ""."""
    for dtype, names in _DTYPES.items():
        for name in names:
            if getattr(c, name).dtype != dtype:
                return f"column {name} is {getattr(c, name).dtype}, expected {dtype}"
    n, shards = len(c.shard), len(c.shard_names)
    shapes = {"shard_sizes": (shards,), "offsets": (n, 3), "sizes": (n, 3), "shape": (n, 4), "content": (32,)}
    shapes |= {name: (n,) for name in ("key_end", "media", "is_proxy", "fps", "media_frames")}
    shapes |= {name: (n,) for name in ("frame_end", "object_end", "visible_end")}
    for name, shape in shapes.items():
        if getattr(c, name).shape != shape:
            return f"column {name} has shape {getattr(c, name).shape}, expected {shape}"
    if c.shard_names.dtype.kind != "U" or any(
        "/" in s or not s.endswith(".tar") for s in c.shard_names.tolist()
    ):
        return "a shard name is not the name of a .tar beside the index"
    ragged = (
        ("key", c.key_bytes),
        ("frame", c.frame_index),
        ("object", c.object_ids),
        ("visible", c.visible_bits),
    )
    for name, values in ragged:
        ends = getattr(c, f"{name}_end")
        if values.ndim != 1 or _falls(ends) or (ends[-1] if n else 0) != len(values):
            return f"column {name}_end does not fit its values"
    if c.meta_sha256.shape not in ((n, 32), (0, 32)):
        return f"column meta_sha256 has shape {c.meta_sha256.shape}, expected {(n, 32)}"
    if not n:
        return ""
    if c.shard.min() < 0 or c.shard.max() >= shards or c.media.max() >= len(MEDIA):
        return "a shard or media number is out of range"
    room = c.shard_sizes[c.shard][:, None]
    if (
        min(c.offsets.min(), c.sizes.min()) < 0
        or (c.offsets > room).any()
        or (c.sizes > room - c.offsets).any()
    ):
        return "a member lies outside its shard"
    if c.shape.min() < 1 or c.shape.max() > MAX_SIDE:
        return f"a picture side is not from 1 to {MAX_SIDE}"
    if not _KEY_BYTES[c.key_bytes].all():
        return "a key holds a character outside a-z 0-9 _ -"
    frames = np.diff(c.frame_end, prepend=0)
    if ((c.frame_index < 0) | (c.frame_index >= np.repeat(c.media_frames, frames))).any():
        return "an annotated frame lies outside its media"
    cells = frames * np.diff(c.object_end, prepend=0)
    if (np.diff(c.visible_end, prepend=0) != (cells + 7) // 8).any():
        return "the visibility bits do not fit objects x frames"
    return ""


_KEY_BYTES = np.isin(np.arange(256), list(b"abcdefghijklmnopqrstuvwxyz0123456789_-"))


def _falls(ends: NDArray[np.int64]) -> bool:
    return bool((ends < 0).any() or (ends[1:] < ends[:-1]).any())
