"""What a conversion made, read back without the project's own reader of masks."""

import io
import json
from dataclasses import dataclass

import av
import numpy as np
from PIL import Image
from pycocotools import mask as coco

from data.checking.check import check
from data.checking.check_source import check_source
from data.encode import EncodeOptions
from data.index import ShardIndex
from data.sources import load_source
from data.write import ConvertOptions, convert


@dataclass
class Converted:
    """One clip: `masks` {object id: (T, H, W) uint8}, `pictures` (T, h, w, 3), `meta` the meta.json."""

    masks: dict
    pictures: list
    meta: dict


def convert_from(name, root, out, media="jpeg", size=None, **options):
    """Convert with the source `name`; the clips by key. A clip that is left out fails the test."""
    encode = EncodeOptions(media=media, size=size, preset="ultrafast", jpeg_quality=95)
    source = load_source(name, root, **options)
    assert [finding for finding in check_source(source) if finding.severity == "error"] == []
    report = convert(source, out, ConvertOptions(encode))
    assert report.skipped == ()
    assert [finding for finding in check(out) if finding.severity == "error"] == []
    index = ShardIndex.load(out)
    return {index[i].key: read_back(index, i) for i in range(len(index))}


def read_back(index, i):
    meta, table = json.loads(index.read(i, "meta.json")), json.loads(index.read(i, "masks.json"))
    size = table["size"]
    masks = {}
    for object_id, row in zip(meta["object_ids"], table["counts"], strict=True):
        empty = np.zeros(size, np.uint8)
        masks[object_id] = np.stack(
            [coco.decode({"size": size, "counts": c.encode()}) if c else empty for c in row]
        )
    return Converted(masks, _pictures(index, i, meta), meta)


def _pictures(index, i, meta):
    raw = index.read(i, meta["media"])
    if meta["media"] == "mp4":
        with av.open(io.BytesIO(raw)) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    spans = meta["jpgs"] or [(0, len(raw))]
    return [np.asarray(Image.open(io.BytesIO(raw[at : at + n])).convert("RGB")) for at, n in spans]


def skipped(name, root, out, **options):
    """Why clips were left out, or why nothing could be converted."""
    from data.clip import DataError

    try:
        return list(convert(load_source(name, root, **options), out).skipped)
    except DataError as error:
        return [str(error)]
