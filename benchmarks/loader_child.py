"""One side of the loader benchmark, in a process of its own: CPU seconds for each clip, on one thread.

Run by benchmarks/loader.py: `loader_child.py draw|reference|ours SETTINGS`; the last line is a JSON object.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

Clip = Callable[[int], object]  # makes clip number k


def draw(settings: dict[str, Any]) -> dict[str, Any]:
    """Videos in SA-V's layout, the same frames as JPEGs with palette masks, and shards of three kinds."""
    import av
    import pycocotools.mask
    from PIL import Image

    from data.encode import EncodeOptions
    from data.sources import load_source
    from data.synthetic import configure, generate
    from data.write import ConvertOptions, convert

    root = Path(settings["folder"])
    height, width = settings["height"], settings["width"]
    config = configure(
        "medium",
        height=height,
        width=width,
        frames=4 * settings["annotated"] - 3,
        objects=[4, 5],
        late_probability=0.0,
    )
    config = replace(config, crf=23, preset="medium")
    generate(config, "train", settings["videos"], root / "sav")
    for path in sorted((root / "sav").glob("*.mp4")):
        frames, masks = root / "frames" / path.stem, root / "masks" / path.stem
        for folder in (frames, masks):
            folder.mkdir(parents=True, exist_ok=True)
        table = json.loads(path.with_name(f"{path.stem}_manual.json").read_text())["masklet"]
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                k, rest = divmod(number, 4)
                if rest:
                    continue
                frame.to_image().save(frames / f"{k:05d}.jpg", quality=95)
                ids = np.zeros((height, width), np.uint8)
                for i, rle in enumerate(table[k], 1):
                    sides = [int(side) for side in rle["size"]]
                    ids[pycocotools.mask.decode({"size": sides, "counts": rle["counts"].encode()}) > 0] = i
                image = Image.fromarray(ids)
                image.putpalette(bytes(range(256)) * 3)
                image.save(masks / f"{k:05d}.png")
    source = load_source("sav", root / "sav")
    sizes = {}
    for name, media, size in (
        ("proxy", "proxy", None),
        ("proxy1024", "proxy", 1024),
        ("jpeg1024", "jpeg", 1024),
    ):
        report = convert(source, root / name, ConvertOptions(EncodeOptions(media=media, size=size)))
        sizes[name] = report.bytes
    jpeg_bytes = sum(path.stat().st_size for path in (root / "frames").rglob("*.jpg"))
    return {"jpeg_bytes": jpeg_bytes, "bytes": sizes, "psnr": psnr(root)}


def psnr(root: Path) -> float:
    """Of the full-size proxy against the frames it was made from, dB, over all frames."""
    import av

    from data.index import ShardIndex

    index, error, count = ShardIndex.load(root / "proxy"), 0.0, 0
    for i in range(len(index)):
        name = index[i].key
        source, proxy = root / "sav" / f"{name}.mp4", io.BytesIO(index.read(i, "mp4"))
        with av.open(source, "r") as original, av.open(proxy, "r") as stored:
            annotated = (f for n, f in enumerate(original.decode(video=0)) if n % 4 == 0)
            for one, other in zip(annotated, stored.decode(video=0), strict=True):
                a, b = (frame.to_ndarray(format="rgb24").astype(np.float32) for frame in (one, other))
                error += float(((a - b) ** 2).mean())
                count += 1
    return float(10 * np.log10(255**2 / (error / count)))


def reference(settings: dict[str, Any]) -> Clip:
    """The released loader with the transforms of its fine-tuning recipe, on JPEGs and palette PNGs."""
    sys.path.insert(0, settings["reference"])
    import random

    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from training.dataset.vos_dataset import VOSDataset  # type: ignore[import-not-found]
    from training.dataset.vos_raw_dataset import PNGRawDataset  # type: ignore[import-not-found]
    from training.dataset.vos_sampler import RandomUniformSampler  # type: ignore[import-not-found]
    from training.utils.data_utils import collate_fn  # type: ignore[import-not-found]

    root = Path(settings["folder"])
    recipe = Path(settings["reference"], "sam2/configs/sam2.1_training/sam2.1_hiera_b+_MOSE_finetune.yaml")
    config = OmegaConf.load(recipe)
    config.scratch.resolution = settings["size"]
    transforms = [instantiate(step) for step in config.vos.train_transforms]
    dataset = VOSDataset(
        transforms=transforms,
        training=True,
        video_dataset=PNGRawDataset(str(root / "frames"), str(root / "masks")),
        sampler=RandomUniformSampler(num_frames=8, max_num_objects=3),
        multiplier=1,
    )

    def clip(k: int) -> object:
        random.seed(k)
        torch.manual_seed(k)
        return collate_fn([dataset[k % len(dataset)]], dict_key="all")

    return clip


def ours(settings: dict[str, Any]) -> Clip:
    """This project's workers, on shards."""
    from data.config import DataConfig
    from data.module import ClipDataModule

    config = DataConfig(
        root=Path(settings["folder"], settings["shards"]), frames=8, workers=0, warp_on=settings["on"]
    )
    module = ClipDataModule(config, settings["size"], seed=0)
    batches = module.train_dataloader().batches

    def clip(k: int) -> object:
        delivery = batches[k]
        assert delivery.batch is not None, delivery.failure
        return delivery

    return clip


def main() -> None:
    """Import and warm up first, then measure."""
    side, settings = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(1)
    if side == "draw":
        print(json.dumps(draw(settings)))
        return
    clip = reference(settings) if side == "reference" else ours(settings)
    clip(0)
    times = []
    for k in range(1, 1 + settings["clips"]):
        start = time.process_time()
        clip(k)
        times.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": sum(times) / len(times), "peak_mb": peak}))


if __name__ == "__main__":
    main()
