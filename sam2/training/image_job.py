"""Evaluate a model on still images with clicks and boxes: settings in, IoU and numbers of clicks out.

`sam2 eval image` is this. An image's file appears whole, so that a run that was killed goes on with the images that are
missing; any number of processes can share them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console, Group
from rich.table import Table

from sam2.build_sam import build_sam2
from sam2.cli.weights import Weights, find_weights
from sam2.counted import counted
from sam2.evaluation.benchmark import hash_of_names
from sam2.evaluation.benchmark_run import RESULTS, SETTINGS, Predictions
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.files import write_atomically
from sam2.evaluation.image import BUDGET, Found, ImageSegmenter, find, numbers_of
from sam2.evaluation.kinds import AFTER, IMAGES, TARGETS, image_means
from sam2.evaluation.scorecard import brackets, interval_as_json
from sam2.evaluation.scores import ObjectNumbers
from sam2.evaluation.uncertainty import sums_of, uncertainty
from sam2.lock import locked
from sam2.model_config import find_recipe
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.training.environment import processes
from sam2.training.place import find_device, find_place, sha256_of
from sam2.training.segmented_images import SegmentedImage, SegmentedImages, open_coco, open_folders

log = logging.getLogger(__name__)

FOLDER = "images"
PROTOCOL, VERSION = "image-clicks", 1


@dataclass(frozen=True)
class ImageConfig:
    """What to evaluate, on what, and how.

    Attributes:
        checkpoint: weight file, run directory, id of a released model, or "random".
        data: a COCO file, or a folder of masks.
        images: folder of the images.
        out: folder for the results.
        clicks: on each object, at most.
        void: with a folder of masks, an id that is no object.
        model: its name or configuration file, where the weights do not tell.
        image_size: side of the model's input in pixels; null: the model's own.
        precision: of the model's arithmetic; null: bfloat16 on a GPU, float32 elsewhere.
        device: null: a GPU if there is one.
        share: K/N: do the K-th of N shares alone. Null: as torchrun or srun say.
        overwrite: replace results that were made in another way.
    """

    checkpoint: str
    data: Path
    images: Path
    out: Path
    clicks: int = BUDGET
    void: int | None = None
    model: str | None = None
    image_size: int | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    device: str | None = None
    share: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.clicks < max(AFTER):
            raise ValueError(f"clicks is {self.clicks}; it must be at least {max(AFTER)}")
        if self.void is not None and self.data.suffix.lower() == ".json":
            raise ValueError("void belongs to a folder of masks, not to a COCO file")


def run_images(config: ImageConfig, console: Console) -> dict[str, Any] | None:
    """Do this process's images; give the results if none is left to the others.

    Raises:
        EvaluationError, DataError: the data are not as they should be, or the folder holds something else.
        CheckpointError, ...: see `find_weights`.
    """
    rank, world = find_place(config.share, processes())
    weights, device = find_weights(config.checkpoint, config.model), find_device(config.device)
    overrides = [] if config.image_size is None else [f"++model.image_size={config.image_size}"]
    is_coco = config.data.suffix.lower() == ".json"
    opened = (
        open_coco(config.data, config.images)
        if is_coco
        else open_folders(config.data, config.images, config.void)
    )
    settings = {
        "dataset": config.data.name,
        "dataset_sha256": sha256_of(config.data) if is_coco else None,
        "images": len(opened.images),
        "names_sha256": hash_of_names([image.name for image in opened.images]),
        "model": weights.model,
        "checkpoint": "random" if weights.path is None else weights.path.name,
        "checkpoint_sha256": None if weights.path is None else sha256_of(weights.path),
        "image_size": find_recipe(weights.model, overrides).variant.image_size,
        "prompt": "clicks and box",
        "clicks": config.clicks,
        "void": config.void,
        "precision": config.precision or ("bfloat16" if device.type == "cuda" else "float32"),
    }
    if config.overwrite and world > 1:
        raise EvaluationError(f"several processes cannot overwrite {config.out} together; remove it first")
    if config.overwrite and (config.out / SETTINGS).is_file():
        shutil.rmtree(config.out / FOLDER, ignore_errors=True)
    Predictions(config.out, ()).begin(settings, config.overwrite)
    todo = [image for image in opened.images[rank::world] if not _path(config.out, image).is_file()]
    console.print(
        f"{config.out}: {len(opened.images)} images, {len(todo)} to do here; {weights} on {device}, "
        f"{settings['precision']}"
    )
    if todo:
        _find_all(config, _predictor(weights, device, overrides), settings["precision"] == "bfloat16", todo)
    missing = [image for image in opened.images if not _path(config.out, image).is_file()]
    if missing:
        console.print(
            f"{len(missing)} images are left to others; the last to finish joins, or this command again"
        )
        return None
    with locked(config.out, wait=True):
        results = {**_join(config, opened), "run": settings}
        write_atomically(config.out / RESULTS, json.dumps(results, indent=1, allow_nan=False) + "\n")
    console.print(_table(results))
    console.print(f"results    {config.out / RESULTS}")
    return results


def _predictor(weights: Weights, device: torch.device, overrides: Sequence[str]) -> SAM2ImagePredictor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # random weights are the same every time
        model = build_sam2(weights.model, weights.path, device, hydra_overrides_extra=list(overrides))
    return SAM2ImagePredictor(model)


def _path(out: Path, image: SegmentedImage) -> Path:
    return out / FOLDER / f"{image.name}.json"


def _find_all(
    config: ImageConfig, predictor: SAM2ImagePredictor, is_rounded: bool, todo: Sequence[SegmentedImage]
) -> None:
    device = predictor.device.type

    def arithmetic() -> Any:
        return torch.autocast(device, torch.bfloat16) if is_rounded else nullcontext()

    with counted("clicking", "images") as progress:
        for done, image in enumerate(todo):
            progress(done, len(todo))
            content = _find_in(image, predictor, config.clicks, arithmetic)
            write_atomically(_path(config.out, image), json.dumps(content) + "\n")
            log.info("%s: %d objects", image.name, len(content["objects"]))


def _find_in(
    image: SegmentedImage, predictor: SAM2ImagePredictor, budget: int, arithmetic: Callable[[], Any]
) -> dict[str, Any]:
    """What comes out for an image; objects without a pixel are counted and left out."""
    pixels = image.pixels()
    masks = image.masks((pixels.shape[0], pixels.shape[1]))
    began, rows = time.monotonic(), []
    visible = [(name, mask) for name, mask in masks if mask.any()]
    if visible:
        with arithmetic():
            predictor.set_image(pixels)
            segmenter = ImageSegmenter(predictor)
            rows = [{"object": name, **_row(find(mask, segmenter, budget))} for name, mask in visible]
    seconds = round(time.monotonic() - began, 3)
    return {"objects": rows, "empty": len(masks) - len(visible), "seconds": seconds}


def _row(found: Found) -> dict[str, Any]:
    clicks = [[click.x, click.y, int(click.is_positive)] for click in found.clicks]
    return {"clicks": clicks, "ious": list(found.ious), "iou_box": found.box, "iou_best": found.best}


def _join(config: ImageConfig, opened: SegmentedImages) -> dict[str, Any]:
    """The content of the results file, of all images' files."""
    objects: list[ObjectNumbers] = []
    empty = 0
    for image in opened.images:
        path = _path(config.out, image)
        try:
            content = json.loads(path.read_bytes())
            empty += int(content["empty"])
            for row in content["objects"]:
                found = Found((), tuple(row["ious"]), float(row["iou_box"]), float(row["iou_best"]))
                objects.append(ObjectNumbers(image.name, row["object"], {**numbers_of(found, config.clicks)}))
        except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
            raise EvaluationError(f"{path}: cannot be read ({error!r}); remove it and run again") from error
    if not objects:
        raise EvaluationError(f"{config.data}: no object has a pixel")
    means = image_means(config.clicks)
    totals = {mean.name: sums_of(mean, objects).mean for mean in means}
    names = "".join(f"{o.sequence}/{o.object_id}\n" for o in objects)
    return {
        "format": IMAGES.format,
        "protocol": PROTOCOL,
        "protocol_version": VERSION,
        **totals,
        **{f"failures@{t}": sum(o.values[f"failed@{t}"] == 100 for o in objects) for t in TARGETS},
        "interval": interval_as_json(uncertainty(objects, means, totals, unit=IMAGES.unit)),
        "images": len({o.sequence for o in objects}),
        "skipped": {**opened.skipped, "empty masks": empty},
        "objects_sha256": hashlib.sha256(names.encode()).hexdigest(),
        "objects": [{"sequence": o.sequence, "object": o.object_id, **o.values} for o in objects],
    }


def _table(results: dict[str, Any]) -> Group:
    each = Table(show_header=False)
    each.add_column()
    each.add_column(justify="right")
    total = len(results["objects"])
    for mean in image_means(results["run"]["clicks"]):
        interval = brackets(results["interval"][mean.name])
        each.add_row(mean.name, f"{results[mean.name]:.2f} {interval}".rstrip())
    skipped = ", ".join(f"{count} {name}" for name, count in results["skipped"].items() if count)
    return Group(
        f"{total} objects of {results['images']} images; mIoU, gap and failed in percent, NoC in clicks",
        each,
        results["interval"]["remark"],
        *([f"left out: {skipped}"] if skipped else []),
    )
