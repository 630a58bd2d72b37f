"""From prompts on a video to files.

Frames go by one at a time: masks are written as they come, the overlay is drawn afterwards, in the order of time.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sam2.build_sam import build_sam2_video_predictor
from sam2.checkpoint import CheckpointError
from sam2.cli.object_masks import (
    MaskFileError,
    areas,
    read_mask,
    run_lengths,
)
from sam2.cli.predict_options import PredictError, PredictOptions
from sam2.cli.prediction_files import (
    MASKS,
    MASKS_JSON,
    OVERLAY,
    OVERLAY_IMAGE,
    PROGRAM,
    SCORES,
    FrameRecord,
    OutputError,
    Records,
    check_output,
    mask_name,
    output_folder,
    write_json,
)
from sam2.cli.prediction_warnings import warnings_for
from sam2.cli.prompt_words import FramePrompt
from sam2.cli.weights import Weights, find_weights
from sam2.counted import counted
from sam2.evaluation.label_maps import label_map, read_label_map, write_label_map
from sam2.evaluation.overlay import draw_masks, write_pictures
from sam2.image_prompts import PromptError
from sam2.model_config import find_recipe
from sam2.palette import HIGHEST_ID, palette_colour
from sam2.pictures import FramesError
from sam2.policies import Policy, PolicyError, find_policy
from sam2.pretrained import PretrainedError
from sam2.reference_settings import SettingError
from sam2.variants import UnknownVariantError
from sam2.video_frames import LazyFrames, open_path
from sam2.video_session import VideoSession
from sam2.video_state import FrameMasks, SessionError, SessionOptions

_PICTURES_FPS = 10.0  # of an overlay whose frames were pictures
_MISTAKES = (
    CheckpointError,
    FramesError,
    OutputError,
    PolicyError,
    PretrainedError,
    SettingError,
    UnknownVariantError,
)


def predict(options: PredictOptions) -> None:
    """Follow what is pointed at and write the files, or none.

    Raises:
        PredictError: what was asked cannot be done.
        OSError: the files cannot be written.
    """
    began = time.monotonic()
    try:
        check_output(options.out, options.force)
        prediction = Prediction.prepare(options)
        print(prediction)
        with output_folder(options.out, options.force) as draft:
            written = prediction.write(draft)
    except _MISTAKES as error:
        raise PredictError(str(error)) from error
    print(f"{options.out}: {written}; {time.monotonic() - began:.1f} s")


@dataclass(frozen=True)
class Prediction:
    """A video with its prompts, ready to be followed."""

    options: PredictOptions
    weights: Weights
    frames: LazyFrames
    session: VideoSession

    @staticmethod
    def prepare(options: PredictOptions) -> Prediction:
        """Open the video, build the model, ask all prompts.

        Raises:
            PredictError, and others of `_MISTAKES`.
        """
        policy, device = find_policy(options.policy), _device(options.device)
        weights = find_weights(options.checkpoint, options.model)
        overrides = [] if options.size is None else [f"++model.image_size={options.size}"]
        frames = open_path(options.video, find_recipe(weights.model, overrides).variant.image_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # random weights are the same every time
            model = build_sam2_video_predictor(
                weights.model, weights.path, device, hydra_overrides_extra=overrides
            )
        switches = SessionOptions(
            fill_hole_area=model.fill_hole_area, keep_past=options.direction != "forward"
        )
        session = VideoSession(model, frames, switches, policy)
        prediction = Prediction(options, weights, frames, session)
        for warning in warnings_for(options, weights):
            print(f"warning: {warning}", file=sys.stderr)
        for prompt in options.prompts:
            prediction._ask(prompt)
        for order, _ in prediction.passes():
            frames.picture(order[-1])  # a file that is cut off says so before the work, not after it
        return prediction

    def __str__(self) -> str:
        height, width = self.frames.size
        what = f"{len(self.frames)} frame{'s' * (len(self.frames) > 1)} of {width}x{height}"
        return f"{self.options.video}: {what}; {self.weights} on {self.session.device}"

    def passes(self) -> list[tuple[range, bool]]:
        """Frames to visit, and whether backwards."""
        prompted = [prompt.frame for prompt in self.options.prompts]
        first, last, end = min(prompted), max(prompted), len(self.frames)
        count = self.options.max_frames or end
        forward = range(first, min(first + count, end))
        if self.options.direction == "forward":
            return [(forward, False)]
        if self.options.direction == "backward":
            return [(range(last, max(last - count, -1), -1), True)]
        before = range(first - 1, max(first - count, -1), -1)
        return [(forward, False), (before, True)] if before else [(forward, False)]

    def write(self, draft: Path) -> str:
        """Follow the objects; write all files to a folder and say which."""
        with (draft / "records").open("w+b") as file:
            records = Records(file)
            self._follow(draft, records)
            self._report(draft, records)
            if self.options.overlay:
                self._draw(draft, records)
        (draft / "records").unlink()
        return self._summary(draft, records)

    def _ask(self, prompt: FramePrompt) -> None:
        try:
            if prompt.mask is not None:
                mask = read_mask(prompt.mask, prompt.object_id, self.frames.size)
                self.session.add_mask(prompt.frame, prompt.object_id, mask)
                return
            points, labels = (prompt.points, prompt.labels) if prompt.points else (None, None)
            self.session.add_points_or_box(prompt.frame, prompt.object_id, points, labels, prompt.box)
        except (MaskFileError, PromptError, SessionError) as error:
            raise PredictError(f"{prompt}: {error}") from error

    def _follow(self, draft: Path, records: Records) -> None:
        passes = self.passes()
        total = sum(len(order) for order, _ in passes)
        self.session.prepare()
        with counted("following", "frames") as progress:
            for order, reverse in passes:
                for found in self.session.follow(order, reverse):
                    record = _record(found)
                    records.add(record)
                    if self.options.fits_palette:
                        labels = label_map(found.logits[:, 0], record.object_ids)
                        write_label_map(draft / mask_name(found.frame), labels)
                    progress(len(records), total)

    def _report(self, draft: Path, records: Records) -> None:
        """Scores and, by option, run lengths as JSON."""
        options, (height, width) = self.options, self.frames.size
        video = {
            "video": str(options.video),
            "height": height,
            "width": width,
            "video_frames": len(self.frames),
        }
        run = {
            "checkpoint": str(self.weights.path or "random"),
            "model": self.weights.model,
            "image_size": self.session.tracker.model.image_size,
            "policy": options.policy,
            "policy_settings": _settings(self.session.tracker.policy),
            "device": str(self.session.device),
            "direction": options.direction,
            "prompts": [prompt.as_json() for prompt in options.prompts],
        }
        write_json(draft / SCORES, {"program": PROGRAM, **video, **run}, map(self._scores, records))
        if options.rle:
            write_json(draft / MASKS_JSON, video, map(_masks, records))

    def _scores(self, record: FrameRecord) -> dict[str, Any]:
        return _scores(record, self.frames.file_name(record.frame))

    def _draw(self, draft: Path, records: Records) -> None:
        fps = self.options.fps or self.frames.fps or _PICTURES_FPS
        write_pictures(draft / OVERLAY, self._drawn(draft, records), fps)
        if len(self.frames) == 1:
            [picture] = self._drawn(draft, records)
            Image.fromarray(picture).save(draft / OVERLAY_IMAGE)

    def _drawn(self, draft: Path, records: Records) -> Iterator[NDArray[np.uint8]]:
        """Frames with what the PNGs say, in their colours; without PNGs, with the masks that may overlap."""
        with counted("drawing", "frames") as progress:
            for done, record in enumerate(records, 1):
                picture, ids = self.frames.picture(record.frame), record.object_ids
                if self.options.fits_palette:
                    labels = read_label_map(draft / mask_name(record.frame))
                    yield draw_masks(picture, np.array([labels == i for i in ids]), ids, palette_colour)
                else:
                    yield draw_masks(picture, record.masks(), ids)
                progress(done, len(records))

    def _summary(self, draft: Path, records: Records) -> str:
        files = sorted(path.name for path in draft.iterdir() if path.is_file())
        frames, count = records.frames, len(self.options.object_ids)
        when = f"frames {frames[0]} to {frames[-1]}" if len(frames) > 1 else f"frame {frames[0]}"
        pngs = "PNGs" if len(records) > 1 else "PNG"
        what = f"{count} object{'s' * (count > 1)} on {when}"
        if self.options.fits_palette:
            return f"{what}: {', '.join([f'{MASKS}/ with {len(records)} {pngs}', *files])}"
        return f"{what}: {', '.join(files)} (no {MASKS}/: PNGs hold ids up to {HIGHEST_ID})"


def _record(found: FrameMasks) -> FrameRecord:
    packed = run_lengths((found.logits[:, 0] > 0).cpu().numpy())
    ids = [prompted for prompted in found.object_ids if isinstance(prompted, int)]
    return FrameRecord(found.frame, ids, _numbers(found.ious), _numbers(found.object_logits), packed)


def _numbers(scores: Tensor) -> list[float | None]:
    """JSON has no word for "undefined"."""
    return [None if math.isnan(score) else score for score in scores.tolist()]


def _settings(policy: Policy) -> dict[str, Any]:
    """Class and thresholds, as a file of configs/policy has them."""
    kind = type(policy)
    values = {f.name: getattr(policy, f.name) for f in fields(policy) if f.init}
    plain = {
        name: value
        if isinstance(value, str | int | None) or (isinstance(value, float) and math.isfinite(value))
        else str(value)
        for name, value in values.items()
    }
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **plain}


def _scores(record: FrameRecord, file: str | None) -> dict[str, Any]:
    rows = zip(record.object_ids, record.ious, record.object_logits, areas(record.packed), strict=True)
    objects = {
        str(object_id): {"iou": iou, "object_logit": logit, "area_px": area}
        for object_id, iou, logit, area in rows
    }
    named = {} if file is None else {"file": file}
    return {"frame": record.frame, **named, "objects": objects}


def _masks(record: FrameRecord) -> dict[str, Any]:
    return {
        "frame": record.frame,
        "objects": dict(zip(map(str, record.object_ids), record.packed, strict=True)),
    }


def _device(name: str | None) -> torch.device:
    """A device by its name, tried out; by default a GPU if there is one."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # torch answers an unknown word with a list of all devices that it was ever built for
        told = "" if "Expected one of" in str(error) else f" ({str(error).splitlines()[0]})"
        raise PredictError(
            f"--device {name}: there is no such device{told}; give cpu, cuda or cuda:N"
        ) from error
