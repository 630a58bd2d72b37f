"""A byte-offset index over shards: which samples there are and where their bytes lie.

Training never streams a tar: it asks the index for a sample and reads exactly the bytes it needs with `os.pread`.
The index is columnar (a million samples are a few arrays), stored without pickle as `index.npz` beside the tars.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.clip import DataError
from data.columns import Columns, read_columns, row, scan_columns
from data.shard import MEDIA, META, SampleMeta, list_shards, parse_meta
from data.storage.access import Access
from data.storage.copied_shards import CopiedShards, stage
from data.storage.origin import Folder, fetch_whole
from data.storage.place import is_pipe, is_url, shown
from data.storage.ranged_shards import RangedShards
from data.storage.remote import Remote
from data.storage.shard_cache import ShardCache
from data.storage.shard_store import ShardStore

INDEX_NAME = "index.npz"
RECORD_NAME = "convert.json"  # what a conversion says about the folder
MAX_OPEN_SHARDS = 64


@dataclass(frozen=True, eq=False)
class Sample:
    """Where one video or image lies and what the sampler must know about it.

    Attributes:
        shard: file name of the tar.
        key: name of the sample in the tar.
        media: the member with the pixels: "mp4", "jpgs" (JPEGs one after the other; the table of their offsets is
            in `meta.json`) or "jpg".
        is_proxy: the media holds the annotated frames only.
        members: `{name: (offset, size)}` in bytes for "meta.json", "masks.json" and the media.
        height: pixels of the picture and of every mask.
        width: pixels of the picture and of every mask.
        media_height: pixels of the decoded media; see `data.shard.SampleMeta`.
        media_width: see `media_height`.
        fps: frames per second of the media; 0 for an image.
        media_frames: number of frames in the media.
        frame_index: (n_frames,) int32, the media frame of each annotated frame.
        object_ids: identity of each of O objects in the source.
        visible: (O, n_frames) bool, true where the object's mask is not empty.
    """

    shard: str
    key: str
    media: str
    is_proxy: bool
    members: dict[str, tuple[int, int]]
    height: int
    width: int
    media_height: int
    media_width: int
    fps: float
    media_frames: int
    frame_index: NDArray[np.int32]
    object_ids: tuple[int, ...]
    visible: NDArray[np.bool_]

    @property
    def kind(self) -> str:
        """Either "image" or "video"."""
        return "image" if self.media == "jpg" else "video"

    @property
    def n_frames(self) -> int:
        """Number of annotated frames."""
        return len(self.frame_index)

    @property
    def where(self) -> str:
        """Shard and clip, as messages name them."""
        return f'{self.shard}, clip "{self.key}"'


class ShardIndex:
    """The samples of a folder of shards.

    Safe with forked and spawned workers: open files belong to the process that opened them.
    """

    def __init__(self, root: Path | str, columns: Columns, store: ShardStore | None = None) -> None:
        self.root = root
        self.columns = columns
        self.store = store
        self.fingerprint = columns.digest
        self._files: OrderedDict[int, _OpenFile] = OrderedDict()
        self._pid = os.getpid()

    @classmethod
    def load(cls, root: str | Path, access: Access | None = None) -> ShardIndex:
        """Read `index.npz` and hold it against the shards beside it.

        Args:
            root: folder, or the address of one; what lies elsewhere is held against the index when it is read.
            access: how it is read from elsewhere.

        Raises:
            DataError: no index, a damaged one, or shards that were added, removed or changed in size since.
            StorageError: the address cannot be reached.
        """
        if is_url(root):
            return cls._load_from(str(root), access or Access())
        root = Path(root)
        path = root / INDEX_NAME
        shards = list_shards(root)
        if not path.is_file():
            interrupted = "if a conversion was interrupted, run the same `sam2 data convert` again; else "
            remedy = interrupted if (root / RECORD_NAME).is_file() else ""
            raise DataError(f"{path}: missing; {remedy}make it with `sam2 data index {root}`")
        columns = read_columns(path)
        listed = dict(zip(columns.shard_names.tolist(), columns.shard_sizes.tolist(), strict=True))
        present = {shard.name: shard.stat().st_size for shard in shards}
        for name in sorted(listed.keys() | present.keys()):
            if listed.get(name) != present.get(name):
                raise DataError(
                    f"{path}: {name} has {present.get(name, 'no')} bytes, the index says {listed.get(name, 'none')}; "
                    + _remedy(root)
                )
        return cls(root, columns)

    @classmethod
    def _load_from(cls, url: str, access: Access) -> ShardIndex:
        if is_pipe(url):
            raise DataError(f"{url}: a command has no index; give a folder or the address of one")
        origin, cache = access.remote_at(url), access.cache()
        columns = _copied_columns(cache, origin)
        if access.remote == "range":
            return cls(url, columns, RangedShards(columns, origin, access))
        copies = CopiedShards(columns, origin, cache)
        copies.check_budget()
        if access.stage:
            stage(copies, shown(url))
        return cls(url, columns, copies)

    def staged(self, access: Access) -> ShardIndex:
        """The same samples, read from copies on this node if `access` asks for that and there is room."""
        if not access.stage or self.store is not None:
            return self
        copies = CopiedShards(self.columns, Folder(Path(self.root)), access.cache())
        return ShardIndex(self.root, self.columns, copies) if stage(copies, str(self.root)) else self

    @classmethod
    def build(cls, root: str | Path) -> ShardIndex:
        """Scan the shards of `root` (tar headers and `meta.json`); nothing is written, see `save`.

        Raises:
            DataError: a shard or `meta.json` that cannot be read, a missing member, a key that appears twice.
        """
        root = Path(root)
        return cls(root, scan_columns(list_shards(root)))

    def save(self) -> Path:
        """Write `index.npz` beside the shards, atomically; the same shards give the same bytes."""
        path = Path(self.root) / INDEX_NAME
        partial = path.with_name(f".{INDEX_NAME}.{os.getpid()}.tmp")
        arrays = {f.name: getattr(self.columns, f.name) for f in fields(Columns)}
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, fingerprint=np.array(self.fingerprint), **arrays)
        os.replace(partial, path)
        return path

    def __len__(self) -> int:
        return len(self.columns.shard)

    def __getitem__(self, i: int) -> Sample:
        """Sample `i`; negative numbers count from the end."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)} in {shown(self.root)}")
        i %= len(self)
        c = self.columns
        height, width, media_height, media_width = c.shape[i].tolist()
        frame_index = row(c.frame_index, c.frame_end, i)
        object_ids = row(c.object_ids, c.object_end, i)
        cells = len(object_ids) * len(frame_index)
        bits = np.unpackbits(row(c.visible_bits, c.visible_end, i), count=cells)
        return Sample(
            shard=str(c.shard_names[c.shard[i]]),
            key=c.key(i),
            media=MEDIA[c.media[i]],
            is_proxy=bool(c.is_proxy[i]),
            members=c.members(i),
            height=height,
            width=width,
            media_height=media_height,
            media_width=media_width,
            fps=float(c.fps[i]),
            media_frames=int(c.media_frames[i]),
            frame_index=frame_index,
            object_ids=tuple(object_ids.tolist()),
            visible=bits.reshape(len(object_ids), len(frame_index)).astype(bool),
        )

    @property
    def n_frames(self) -> NDArray[np.int64]:
        """(N,) annotated frames of every sample."""
        return np.diff(self.columns.frame_end, prepend=0)

    @property
    def n_objects(self) -> NDArray[np.int64]:
        """(N,) objects of every sample."""
        return np.diff(self.columns.object_end, prepend=0)

    @property
    def is_image(self) -> NDArray[np.bool_]:
        """(N,) true where the sample is an image."""
        return self.columns.media == MEDIA.index("jpg")

    def read(self, i: int, member: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of a member of sample `i`, or `length` of them from `start`.

        Raises:
            DataError: the sample has no such member, the range leaves it, or the shard changed on disk.
            StorageError: the shard lies elsewhere and cannot be had now.
        """
        sample = self[i]
        if member not in sample.members:
            raise DataError(f"{sample.where}: no member {member!r}; it has {', '.join(sample.members)}")
        offset, size = sample.members[member]
        length = size - start if length is None else length
        if start < 0 or length < 0 or start + length > size:
            raise DataError(f"{sample.where}: bytes {start}+{length} leave member {member} of {size} bytes")
        if self.store is not None:
            return self.store.read(i % len(self), member, start, length)
        return self._open(int(self.columns.shard[i])).read(offset + start, length)

    def ahead(self, shards: Sequence[int]) -> None:
        """These shards will be wanted, in this order; matters where shards are copied from elsewhere."""
        if self.store is not None:
            self.store.ahead(shards)

    def meta(self, i: int) -> SampleMeta:
        """The `meta.json` of sample `i`, validated."""
        return parse_meta(self.read(i, META), self[i].where)

    def _open(self, shard: int) -> _OpenFile:
        if self._pid != os.getpid():
            self._files, self._pid = OrderedDict(), os.getpid()
        file = self._files.pop(shard, None)
        if file is None:
            name, size = str(self.columns.shard_names[shard]), int(self.columns.shard_sizes[shard])
            file = _OpenFile(Path(self.root) / name, size)
        self._files[shard] = file
        if len(self._files) > MAX_OPEN_SHARDS:
            self._files.popitem(last=False)
        return file

    def __getstate__(self) -> dict[str, Any]:
        names = ("root", "columns", "store", "fingerprint")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _files=OrderedDict(), _pid=os.getpid())


class _OpenFile:
    """A shard opened for positioned reads; closed when the last user lets go of it."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.fd = -1
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(f"{path}: cannot be opened ({error.strerror}); restore the shard") from error
        found = os.fstat(self.fd).st_size
        if found != size:
            raise DataError(f"{path}: has {found} bytes, its index says {size}; " + _remedy(path.parent))

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`."""
        parts = []
        while length > 0:
            part = os.pread(self.fd, length, offset)  # at most 2 GB a call
            if not part:
                raise DataError(f"{self.path}: ends before byte {offset + length}; restore the shard")
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def _copied_columns(cache: ShardCache, origin: Remote) -> Columns:
    """The columns of an index elsewhere; a copy that turns out to be damaged is made once more."""
    path = fetch_whole(cache, origin, INDEX_NAME)
    try:
        return read_columns(path, origin.shown(INDEX_NAME))
    except DataError:
        path.unlink(missing_ok=True)
        return read_columns(fetch_whole(cache, origin, INDEX_NAME), origin.shown(INDEX_NAME))


def _remedy(root: Path) -> str:
    return (
        f"it was cut off or changed: restore it or convert again (`sam2 data check {root}` says what is damaged); "
        f"if it was changed on purpose, `sam2 data index {root}` makes the index again"
    )
