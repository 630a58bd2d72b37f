"""Tiny shards for tests of reading, and ways to damage them."""

import json
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from data.clip import AnnotatedVideo, ImageFiles, SourceClip
from data.encode import EncodeOptions
from data.index import ShardIndex
from data.sources import load_source
from data.write import ConvertOptions, convert
from tests.data.sav_folder import SavFolder, encode_rle, write_annotation, write_video

SIDE = 64


def to_shards(folder, out, media="proxy", shard_bytes=1):
    """One clip a shard, unless `shard_bytes` says otherwise."""
    encode = EncodeOptions(media=media, preset="ultrafast", crf=12)
    convert(load_source("sav", folder), out, ConvertOptions(encode, shard_bytes))
    return ShardIndex.load(out)


def numbered_videos(folder, count, frames=6):
    """Videos named v00, v01, ... whose pictures carry their frame number (see sav_folder)."""
    folder.mkdir(parents=True)
    sav = SavFolder(folder)
    for k in range(count):
        sav.add(f"v{k:02d}", frames=frames)
    return sav


def self_naming_video(folder, name="v00", frames=12):
    """A video whose grey level and whose mask's area both tell the annotated frame: 40 + 8 k, and a square of 8 + 2 k.

    Turning, shearing and flipping leave both as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [np.full((SIDE, SIDE, 3), 40 + 2 * n, np.uint8) for n in range(4 * frames - 3)]
    masks = np.zeros((frames, 1, SIDE, SIDE), bool)
    for k in range(frames):
        low, high = SIDE // 2 - 4 - k, SIDE // 2 + 4 + k
        masks[k, 0, low:high, low:high] = True
    write_video(folder / f"{name}.mp4", pictures)
    write_annotation(folder / f"{name}_manual.json", masks)


def frame_told_by(picture, mask):
    """What `self_naming_video` wrote, from the picture and from the mask, at any size S: (3, S, S), (S, S)."""
    size = mask.shape[-1]
    grey = float(picture[:, size // 2 - 2 : size // 2 + 2, size // 2 - 2 : size // 2 + 2].float().mean())
    side = float(mask.sum()) ** 0.5 * SIDE / size
    return round((grey - 40) / 8), round((side - 8) / 2)


def rewrite(root, key, change):
    """Write the shard of `key` again with `change(members)` applied to its members, and the index from scratch.

    `change` gets {name: bytes} and edits it; what it does to meta.json is seen by the index.
    """
    for path in root.glob("*.tar"):
        with tarfile.open(path) as tar:
            members = [(info.name, tar.extractfile(info).read()) for info in tar]
        if not any(name.startswith(f"{key}.") for name, _ in members):
            continue
        ours = {name.partition(".")[2]: raw for name, raw in members if name.startswith(f"{key}.")}
        change(ours)
        rest = [(name, raw) for name, raw in members if not name.startswith(f"{key}.")]
        with tarfile.open(path, "w") as tar:
            for name, raw in [(f"{key}.{member}", raw) for member, raw in ours.items()] + rest:
                info = tarfile.TarInfo(name)
                info.size = len(raw)
                tar.addfile(info, BytesIO(raw))
    index = ShardIndex.build(root)
    index.save()
    return index


def _set(member, value):
    def change(members):
        raw = members[member]
        members[member] = value(raw) if callable(value) else value

    return change


def _masks(edit):
    def change(members):
        table = json.loads(members["masks.json"])
        edit(table)
        members["masks.json"] = json.dumps(table).encode()

    return change


def _blank(members):
    """No object is ever visible: nothing to train on."""
    _masks(lambda table: table.update(counts=[[""] * len(row) for row in table["counts"]]))(members)
    meta = json.loads(members["meta.json"])
    meta["visible"] = ["0" * len(row) for row in meta["visible"]]
    members["meta.json"] = json.dumps(meta).encode()


def _small_masks(table):
    table["size"] = [16, 32]


def _rle_of_another_size(table):
    other = encode_rle(np.ones((16, 32), bool))["counts"]
    table["counts"] = [[counts and other for counts in row] for row in table["counts"]]


def _emptied(table):
    table["counts"] = [[""] * len(row) for row in table["counts"]]


def _other_bytes_inside(raw):
    """Damage inside the pictures that decoders conceal."""
    middle = raw.index(b"mdat") + 600
    return raw[:middle] + bytes(3) + raw[middle + 3 :]


def _cut_in_pictures(raw):
    """Everything is there but for the end of the last picture, and the table of frames still counts it."""
    start = raw.index(b"mdat") - 4
    length = int.from_bytes(raw[start : start + 4], "big")
    return raw[: start + 60] + bytes(length - 60) + raw[start + length :]


DAMAGES = {
    "empty mp4": (_set("mp4", b""), "mp4", r"is empty \(0 bytes\)"),
    "header only": (_set("mp4", lambda raw: raw[:40]), "mp4", r"holds a header and no pictures \(40 bytes\)"),
    "truncated mp4": (
        _set("mp4", lambda raw: raw[: len(raw) * 2 // 3]),
        "mp4",
        r"is cut off: has \d+ bytes, needs \d+ or more",
    ),
    "without moov": (
        _set("mp4", lambda raw: raw[: raw.index(b"moov") - 4]),
        "mp4",
        "does not say where its frames are",
    ),
    "pictures wiped": (
        _set("mp4", _cut_in_pictures),
        "mp4",
        r"is damaged: (after|only) \d of 6 frames",
    ),
    "corrupt in the middle": (
        _set("mp4", _other_bytes_inside),
        "mp4",
        r"is damaged: (its sha256 is|after|only)",
    ),
    "noise": (
        _set("mp4", lambda raw: bytes(range(256)) * 20),
        "mp4",
        "is not a video .begins with 00 01 02 03 04 05 06 07",
    ),
    "masks of another size": (_masks(_small_masks), "masks.json", "masks are 16x32, the picture is 32x64"),
    "rle of another size": (_masks(_rle_of_another_size), "masks.json", "not a COCO RLE of a 32x64 mask"),
    "masks emptied": (_masks(_emptied), "masks.json", "is empty, the index says otherwise"),
    "masks not json": (_set("masks.json", b"{"), "masks.json", "is not JSON"),
    "masks another table": (
        _masks(lambda t: t["counts"].pop()),
        "masks.json",
        "not a table of 2 objects x 6",
    ),
    "empty masklets": (_blank, "masks.json", "no object is visible"),
}


@dataclass(frozen=True)
class _Images:
    root: Path
    count: int

    def clips(self):
        return [SourceClip(f"i{k:02d}", lambda k=k: self.read(k)) for k in range(self.count)]

    def read(self, k):
        path = self.root / f"i{k:02d}.png"
        Image.fromarray(np.full((40, 40, 3), 20 * k, np.uint8)).save(path)
        corner = np.zeros((40, 40), bool)
        corner[:10, : 10 + k] = True
        masks = tuple((encode_rle(mask)["counts"],) for mask in (corner, ~corner))
        return AnnotatedVideo(f"i{k:02d}", ImageFiles((path,)), 40, 40, 0.0, (0,), (1, 2), masks, {})


def image_shards(folder, count, out):
    """Pictures named i00, i01, ..., each with two objects."""
    folder.mkdir(parents=True)
    convert(_Images(folder, count), out)
    return ShardIndex.load(out)
