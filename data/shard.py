"""The shard format: which members a sample has, what its `meta.json` says, and how to walk a tar.

A shard is a plain WebDataset tar. A sample is three consecutive members that share a key: `meta.json`,
`masks.json` and the media. The format is described in docs/data.md; writer, index and checker all go through this file.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from data.clip import DataError
from data.look import look

SCHEMA_VERSION = 1
META, MASKS = "meta.json", "masks.json"
MEDIA = ("mp4", "jpgs", "jpg")
KEY = re.compile(r"[a-z0-9_-]{1,200}")

# Far above any real sample; they bound what a hostile file can make us allocate.
MAX_META_BYTES = 64 << 20
MAX_MASKS_BYTES = 1 << 30
MAX_SIDE = 16384
MAX_FRAMES = 1_000_000
MAX_OBJECTS = 100_000
MAX_CELLS = 50_000_000  # objects x frames of one sample


@dataclass(frozen=True)
class SampleMeta:
    """What `meta.json` says about one sample.

    Attributes:
        key: name of the sample in its shard.
        media: which member holds the pixels, "mp4", "jpgs" or "jpg".
        is_proxy: the media holds the annotated frames only (media frame k is annotated frame k).
        height: pixels of the picture and of every mask.
        width: pixels of the picture and of every mask.
        media_height: pixels of the decoded media; a little more than `height` where that cannot be stored as video.
        media_width: pixels of the decoded media; the picture is its top left part. Where one of the two is smaller than
            the picture, all of the picture was shrunk to all of the media.
        fps: frames per second of the media; 0 for an image.
        media_frames: number of frames in the media.
        frame_index: media frame of each annotated frame, rising.
        source_frames: frame number in the source video of each annotated frame.
        object_ids: identity of each object in the source.
        object_types: "manual", "auto" or "" for each object.
        visible: for each object one character a frame, "1" where its mask is not empty.
        keyframes: media frames that can be decoded without an earlier one (mp4 only).
        jpgs: offset and size of each JPEG in the member `jpgs`, else empty.
        sha256: hex digest of each other member.
        source: the data set it came from.
        license: terms of the source.
        split: split of the source.
        ann_stride: source frames from one annotated frame to the next; 0 if it varies.
        origin: digest of what the sample was made from (`data.claim.origin_of`); "" if unknown.
        extra: what else the source knows, unchecked.
    """

    key: str
    media: str
    is_proxy: bool
    height: int
    width: int
    media_height: int
    media_width: int
    fps: float
    media_frames: int
    frame_index: tuple[int, ...]
    source_frames: tuple[int, ...]
    object_ids: tuple[int, ...]
    object_types: tuple[str, ...]
    visible: tuple[str, ...]
    sha256: dict[str, str]
    keyframes: tuple[int, ...] = ()
    jpgs: tuple[tuple[int, int], ...] = ()
    source: str = ""
    license: str = ""
    split: str = ""
    ann_stride: int = 0
    origin: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def n_frames(self) -> int:
        """Number of annotated frames."""
        return len(self.frame_index)

    @property
    def kind(self) -> str:
        """Either "image" or "video"."""
        return "image" if self.media == "jpg" else "video"

    def to_json(self) -> bytes:
        """The bytes of `meta.json`."""
        head = {"schema_version": SCHEMA_VERSION, "kind": self.kind, "n_frames": self.n_frames}
        return json.dumps(head | asdict(self), separators=(",", ":"), allow_nan=False).encode()


def as_key(name: str) -> str:
    """A key for a clip called `name`: lower case, "_" for what a key may not hold.

    Names that are long or not ASCII end in a piece of their hash, so that they stay apart.
    """
    plain = re.sub(r"[^a-z0-9_-]", "_", name.lower())
    if name.isascii() and 0 < len(plain) <= 200:
        return plain
    return f"{plain[:180]}-{sha256(name.encode(errors='surrogateescape'))[:10]}"


def sha256(raw: bytes) -> str:
    """Hex digest, as stored in `SampleMeta.sha256`."""
    return hashlib.sha256(raw).hexdigest()


def parse_meta(raw: bytes, where: str) -> SampleMeta:
    """Read and validate the bytes of a `meta.json`.

    Args:
        raw: the member, from a file that is not trusted.
        where: shard and clip, for the message.

    Raises:
        DataError: not JSON, another schema version, a field of another type or out of bounds, or fields that
            contradict each other.
    """
    if len(raw) > MAX_META_BYTES:
        raise DataError(f"{where}: meta.json has {len(raw)} bytes, at most {MAX_META_BYTES} are accepted")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: meta.json is not JSON ({error}); convert the data again") from error
    if not isinstance(found, dict):
        raise DataError(f"{where}: meta.json holds a {type(found).__name__}, expected an object")
    if found.get("schema_version") != SCHEMA_VERSION:
        version = found.get("schema_version")
        raise DataError(
            f"{where}: schema version {version!r}, expected {SCHEMA_VERSION}; convert the data again"
        )
    found.setdefault("origin", "")  # shards of an earlier version lack it
    missing = sorted(f.name for f in fields(SampleMeta) if f.name not in found)
    if missing:
        raise DataError(f"{where}: meta.json lacks {', '.join(missing)}; convert the data again")
    meta = SampleMeta(**{f.name: _freeze(found[f.name]) for f in fields(SampleMeta)})
    _check_types(meta, where)
    _check_sense(meta, where)
    return meta


def _freeze(value: Any) -> Any:
    """JSON lists as tuples."""
    return tuple(_freeze(v) for v in value) if isinstance(value, list) else value


def _check_types(meta: SampleMeta, where: str) -> None:
    def require(name: str, good: bool, expected: str) -> None:
        if not good:
            raise DataError(f"{where}: meta.json field {name!r} is not {expected}; convert the data again")

    for name in ("key", "media", "source", "license", "split", "origin"):
        require(name, isinstance(getattr(meta, name), str), "a string")
    for name in ("height", "width", "media_height", "media_width"):
        require(name, _is_int(getattr(meta, name), 1, MAX_SIDE), f"an integer from 1 to {MAX_SIDE}")
    for name in ("media_frames", "ann_stride"):
        require(name, _is_int(getattr(meta, name), 0, MAX_FRAMES), f"an integer from 0 to {MAX_FRAMES}")
    for name, least, most, high in (
        ("frame_index", 0, MAX_FRAMES, MAX_FRAMES),
        ("source_frames", 0, 2**31 - 1, MAX_FRAMES),
        ("keyframes", 0, MAX_FRAMES, MAX_FRAMES),
        ("object_ids", -(2**62), 2**62, MAX_OBJECTS),
    ):
        value = getattr(meta, name)
        good = isinstance(value, tuple) and len(value) <= high and all(_is_int(v, least, most) for v in value)
        require(name, good, f"a list of integers from {least} to {most}")
    for name in ("object_types", "visible"):
        value = getattr(meta, name)
        require(
            name, isinstance(value, tuple) and all(isinstance(v, str) for v in value), "a list of strings"
        )
    pairs = isinstance(meta.jpgs, tuple) and all(
        isinstance(p, tuple) and len(p) == 2 and all(_is_int(v, 0, 2**62) for v in p) for p in meta.jpgs
    )
    require("jpgs", pairs, "a list of [offset, size]")
    fps_ok = isinstance(meta.fps, int | float) and not isinstance(meta.fps, bool) and 0 <= meta.fps <= 10_000
    require("fps", fps_ok, "a number from 0 to 10000")
    require("is_proxy", isinstance(meta.is_proxy, bool), "true or false")
    hashes = isinstance(meta.sha256, dict) and all(isinstance(v, str) for v in meta.sha256.values())
    require("sha256", hashes, "an object of strings")
    require("extra", isinstance(meta.extra, dict), "an object")


def _is_int(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _check_sense(meta: SampleMeta, where: str) -> None:
    """Fields that must agree with each other."""
    problem = ""
    frames, objects = meta.n_frames, len(meta.object_ids)
    rising = all(a < b for a, b in zip(meta.frame_index, meta.frame_index[1:], strict=False))
    if not KEY.fullmatch(meta.key):
        problem = f"key {meta.key!r} does not match {KEY.pattern}"
    elif meta.media not in MEDIA:
        problem = f"media {meta.media!r} is not one of {', '.join(MEDIA)}"
    elif frames == 0 or not rising or meta.frame_index[-1] >= meta.media_frames:
        problem = f"frame_index must rise and stay below media_frames={meta.media_frames}"
    elif meta.is_proxy and meta.frame_index != tuple(range(meta.media_frames)):
        problem = "a proxy must hold exactly the annotated frames"
    elif len(meta.source_frames) != frames:
        problem = f"{len(meta.source_frames)} source_frames for {frames} annotated frames"
    elif objects * frames > MAX_CELLS:
        problem = f"{objects} objects x {frames} frames, at most {MAX_CELLS} masks are accepted"
    elif len(set(meta.object_ids)) != objects:
        problem = "an object id appears twice"
    elif len(meta.object_types) != objects or len(meta.visible) != objects:
        problem = f"object_types and visible must have one entry for each of {objects} objects"
    elif any(len(row) != frames or row.strip("01") for row in meta.visible):
        problem = f"each row of visible must be {frames} characters 0 or 1"
    elif len(meta.jpgs) != (meta.media_frames if meta.media == "jpgs" else 0):
        problem = f"{len(meta.jpgs)} entries in jpgs for {meta.media_frames} media frames"
    if problem:
        raise DataError(f"{where}: meta.json: {problem}; convert the data again")


def list_shards(root: Path) -> list[Path]:
    """The tars of a folder, in the order of their names.

    Raises:
        DataError: no such folder, or no tar in it.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; make shards with `{_convert('sav', 'SRC', root)}`")
    shards = sorted(root.glob("*.tar"))
    if not shards:
        found = look(root)
        if found == "nothing":
            raise DataError(f"{root}: holds no .tar; make shards with `{_convert('sav', 'SRC', root)}`")
        source = "sav" if found.startswith("videos") else "SOURCE"
        beside = root.resolve()
        command = _convert(source, root, beside.with_name(f"{beside.name}-shards"))
        known = "" if source == "sav" else "; `sam2 data sources` lists what SOURCE can be"
        raise DataError(
            f"{root}: holds {found}, but no .tar; give a folder of shards, which `{command}` makes{known}"
        )
    return shards


def _convert(source: str, folder: str | Path, out: Path) -> str:
    return f"sam2 data convert --from {source} {shlex.quote(str(folder))} {shlex.quote(str(out))}"


def scan(path: Path) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
    """Walk a shard by its tar headers alone: each key with `{member: (offset, size)}`, in file order.

    Raises:
        DataError: not a tar, cut off, a member that is not a plain file, a name that is not `key.member`, a
            member twice in a sample. (A key that comes back later in the shard is the caller's to notice.)
    """
    key, members = "", dict[str, tuple[int, int]]()
    for name, offset, size in _headers(path):
        stem, dot, member = name.partition(".")
        if not dot or not KEY.fullmatch(stem):
            raise DataError(
                f"{path.name}: member {name!r} is not named KEY.MEMBER with KEY like {KEY.pattern}"
            )
        if stem != key and members:
            yield key, members
            members = {}
        if member in members:
            raise DataError(f"{path.name}, clip {stem!r}: member {member} appears twice")
        key, members[member] = stem, (offset, size)
    if members:
        yield key, members


def _headers(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, data offset and size of every member; the tar must end with a zero block."""
    total = path.stat().st_size
    cut_off = DataError(f"{path.name}: the tar is cut off or damaged; convert or download it again")
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header; a shard may hold millions
                if not info.isreg() or info.issparse():
                    raise DataError(f"{path.name}: member {info.name!r} is not a plain file")
                if info.offset_data + info.size > total:
                    raise cut_off
                yield info.name, info.offset_data, info.size
            # tarfile takes any damaged header after the first for the end of the archive.
            file.seek(tar.offset)
            if file.read(512) != bytes(512):
                raise cut_off
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise DataError(f"{path.name}: not a readable tar ({error}); convert or download it again") from error
