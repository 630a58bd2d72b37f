"""Evaluate a model on still images with clicks and boxes: settings in, IoU and numbers of clicks out.

`sam2 eval image` and recipes with `task: evaluate_image` are this.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console, Group
from rich.table import Table

from sam2.build_sam import build_sam2
from sam2.cli.weights import Weights, find_weights
from sam2.counted import counted
from sam2.evaluation.benchmark import hash_of_names
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.files import write_atomically
from sam2.evaluation.image import Found, ImageSegmenter, find, numbers_of
from sam2.evaluation.kinds import IMAGES, TARGETS, image_means
from sam2.evaluation.scorecard import brackets, interval_as_json
from sam2.evaluation.scores import ObjectNumbers
from sam2.evaluation.uncertainty import sums_of, uncertainty
from sam2.model_config import find_recipe
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.slurm import done
from sam2.training.environment import processes
from sam2.training.evaluation_config import ImageConfig
from sam2.training.pieces import Ended, Pieces, run_pieces
from sam2.training.place import find_device, find_place, sha256_of
from sam2.training.segmented_images import SegmentedImage, SegmentedImages, open_coco, open_folders

log = logging.getLogger(__name__)

FOLDER = "images"
PROTOCOL, VERSION = "image-clicks", 1


@dataclass(frozen=True)
class OpenedImages:
    """What a configuration names, found and checked.

    Attributes:
        data: the images and what could not be used.
        weights: whose model it is.
        device: where to compute.
        overrides: of the model's configuration.
        settings: what results depend on, for the record.
    """

    data: SegmentedImages
    weights: Weights
    device: torch.device
    overrides: tuple[str, ...]
    settings: dict[str, Any]


def open_images(config: ImageConfig) -> OpenedImages:
    """Find data, weights and device.

    Raises:
        EvaluationError, DataError, CheckpointError, ...: see `run_images`.
    """
    weights, device = find_weights(config.checkpoint, config.model), find_device(config.device)
    overrides = () if config.image_size is None else (f"++model.image_size={config.image_size}",)
    opened = (
        open_coco(config.data, config.images)
        if config.is_coco
        else open_folders(config.data, config.images, config.void)
    )
    settings = {
        "dataset": config.data.name,
        "dataset_sha256": sha256_of(config.data) if config.is_coco else None,
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
    return OpenedImages(opened, weights, device, overrides, settings)


def run_images(config: ImageConfig, console: Console) -> Ended:
    """Do this process's images; join the results if none is left to the others.

    Raises:
        EvaluationError, DataError: the data are not as they should be, or the folder holds something else.
        CheckpointError, ...: see `find_weights`.
    """
    rank, world = find_place(config.share, processes())
    opened = open_images(config)
    images, settings = opened.data.images, opened.settings
    pieces = Pieces(config.out, FOLDER, images, images[rank::world], lambda image: image.name, "images")
    pieces.begin(settings, config.overwrite, world)

    def work(todo: Sequence[SegmentedImage]) -> None:
        predictor = _predictor(opened.weights, opened.device, opened.overrides)
        rounded = settings["precision"] == "bfloat16"
        with counted("clicking", "images") as progress:
            for number, image in enumerate(todo):
                progress(number, len(todo))
                with torch.autocast(opened.device.type, torch.bfloat16, enabled=rounded):
                    content = _find_in(image, predictor, config.clicks)
                write_atomically(pieces.path(image), json.dumps(content) + "\n")
                done.note(image.name)
                log.info("%s: %d objects", image.name, len(content["objects"]))

    def joined() -> tuple[dict[str, Any], Group]:
        results = {**_join(config, opened.data, pieces), "run": settings}
        return results, _table(results)

    where = f"{opened.weights} on {opened.device}, {settings['precision']}"
    return run_pieces(pieces, work, joined, console, where)


def _predictor(weights: Weights, device: torch.device, overrides: Sequence[str]) -> SAM2ImagePredictor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # random weights are the same every time
        model = build_sam2(weights.model, weights.path, device, hydra_overrides_extra=list(overrides))
    return SAM2ImagePredictor(model)


def _find_in(image: SegmentedImage, predictor: SAM2ImagePredictor, budget: int) -> dict[str, Any]:
    """What comes out for an image; objects without a pixel are counted and left out."""
    pixels = image.pixels()
    masks = image.masks((pixels.shape[0], pixels.shape[1]))
    began, rows = time.monotonic(), []
    visible = [(name, mask) for name, mask in masks if mask.any()]
    if visible:
        predictor.set_image(pixels)
        segmenter = ImageSegmenter(predictor)
        rows = [{"object": name, **_row(find(mask, segmenter, budget))} for name, mask in visible]
    seconds = round(time.monotonic() - began, 3)
    return {"objects": rows, "empty": len(masks) - len(visible), "seconds": seconds}


def _row(found: Found) -> dict[str, Any]:
    clicks = [[click.x, click.y, int(click.is_positive)] for click in found.clicks]
    return {"clicks": clicks, "ious": list(found.ious), "iou_box": found.box, "iou_best": found.best}


def _join(config: ImageConfig, opened: SegmentedImages, pieces: Pieces[SegmentedImage]) -> dict[str, Any]:
    """The content of the results file, of all images' files."""
    objects: list[ObjectNumbers] = []
    empty = 0
    for image in opened.images:
        path = pieces.path(image)
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
        "interval": interval_as_json(uncertainty(objects, means, totals, config.how, IMAGES.unit)),
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
