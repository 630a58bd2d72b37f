"""Evaluate a model on a benchmark: settings in; masks, scores and the published numbers beside them out.

`sam2 eval run` and `python train.py recipes/eval_NAME.yaml` are this.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console, Group

from data.clip import DataError
from data.held_out import HeldOut, HeldOutVideo
from data.storage.access import Access
from data.storage.place import is_url, shown
from sam2.build_sam import build_sam2_video_predictor
from sam2.checkpoint import CheckpointError
from sam2.cli.weights import Weights, find_weights
from sam2.counted import counted
from sam2.evaluation.answers import known_of_itself, speed
from sam2.evaluation.attributes import by_kind, traces
from sam2.evaluation.benchmark import (
    Data,
    Manifest,
    Video,
    check_official,
    manifest,
    masks_by_id,
    open_benchmark,
)
from sam2.evaluation.benchmark_run import RESULTS, Follower, Predictions, share
from sam2.evaluation.boundary import Bools
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.files import write_atomically
from sam2.evaluation.label_maps import write_label_map
from sam2.evaluation.meta import find_unseen, read_names
from sam2.evaluation.protocols import PROTOCOLS, Protocol
from sam2.evaluation.score import evaluate
from sam2.evaluation.scorecard import as_json, table
from sam2.lock import FOREVER, locked
from sam2.model_config import find_recipe
from sam2.policies import Policy, PolicyError, content_of, find_policy, name_of
from sam2.pretrained import PretrainedError
from sam2.reference_settings import SettingError
from sam2.slurm import done
from sam2.training.benchmark_report import published, tables
from sam2.training.environment import processes
from sam2.training.evaluation_config import SHARDS, BenchmarkConfig, VideosConfig
from sam2.training.fence import Incarnation
from sam2.training.held_out import starts_of
from sam2.training.pieces import Ended
from sam2.training.place import find_device, find_place, sha256_of
from sam2.variants import UnknownVariantError
from sam2.video_state import Frames

log = logging.getLogger(__name__)

MISTAKES = (  # whose message says all
    CheckpointError,
    DataError,
    EvaluationError,
    OSError,
    PolicyError,
    PretrainedError,
    SettingError,
    UnknownVariantError,
)
_SHARDS_PROTOCOL = "davis2017"


@dataclass(frozen=True)
class Opened:
    """What a configuration names, found and checked.

    Attributes:
        about: the benchmark; None for videos of one's own.
        data: the videos.
        weights: whose model it is.
        policy: of the memory.
        device: where to compute.
        rank: which share of the videos is this process's.
        world: of how many.
        overrides: of the model's configuration.
        settings: what predictions depend on, for the record.
    """

    about: Manifest | None
    data: Data
    weights: Weights
    policy: Policy
    device: torch.device
    rank: int
    world: int
    overrides: tuple[str, ...]
    settings: dict[str, Any]

    def follower(self, prompt: str = "mask", max_rows: int | None = None) -> Follower:
        """With the model, which is built now; random weights are the same every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = build_sam2_video_predictor(
                self.weights.model, self.weights.path, self.device, hydra_overrides_extra=list(self.overrides)
            )
        dtype = torch.bfloat16 if self.settings["precision"] == "bfloat16" else None
        return Follower(model, prompt, self.policy, dtype, max_rows)


def open_evaluation(config: VideosConfig, prompt: str) -> Opened:
    """Find data, weights and device.

    Args:
        config: the settings.
        prompt: how objects are pointed at, for the record.

    Raises:
        EvaluationError: the data are not as they should be.
        CheckpointError, PolicyError, ...: see `find_weights` and `find_policy`.
    """
    about = None if config.is_shards else manifest(config.dataset)
    policy, rank, world = find_policy(config.policy), *find_place(config.share, processes())
    weights = find_weights(config.checkpoint, config.model)
    overrides = [] if config.image_size is None else [f"++model.image_size={config.image_size}"]
    size = find_recipe(weights.model, overrides).variant.image_size
    data = _data(config, about, size)
    is_official = about is not None and not config.unofficial and config.sequences is None
    if about is not None and is_official:
        check_official(about, data)
    device = find_device(config.device)
    settings = {
        "dataset": config.dataset,
        "official": is_official,
        "videos": len(data.videos),
        "names_sha256": data.names_sha256,
        "model": weights.model,
        "checkpoint": "random" if weights.path is None else weights.path.name,
        "checkpoint_sha256": None if weights.path is None else sha256_of(weights.path),
        "image_size": size,
        "prompt": prompt,
        "policy": name_of(policy),
        "policy_content": content_of(policy),
        "precision": config.precision or ("bfloat16" if device.type == "cuda" else "float32"),
    }
    return Opened(about, data, weights, policy, device, rank, world, tuple(overrides), settings)


def run_benchmark(config: BenchmarkConfig, console: Console) -> Ended:
    """Predict this process's videos; score all of them if none is left to the others.

    Raises:
        EvaluationError: the data are not as they should be, or the folder holds other predictions.
        CheckpointError, PolicyError, ...: see `find_weights` and `find_policy`.
    """
    opened = open_evaluation(config, config.prompt)
    data, settings = opened.data, opened.settings
    out = config.out or _folder(config, opened.weights)
    predictions = Predictions(out, data.videos, [] if opened.about is None else [_archive(opened.about)])
    if config.overwrite and opened.world > 1:
        raise EvaluationError(f"several processes cannot overwrite {out} together; remove it first")
    start = Incarnation.current()
    predictions.begin(settings, config.overwrite, start.job, start.restart)
    todo = predictions.missing(share(data.videos, opened.rank, opened.world))
    console.print(
        f"{out}: {len(data.videos)} videos, {len(todo)} to do here; {opened.weights} on {opened.device}, "
        f"{settings['precision']}"
    )
    if todo:
        _predict(predictions, todo, opened.follower(config.prompt, config.max_rows))
    if predictions.missing():
        left = len(predictions.missing())
        console.print(
            f"left to others: {left} of {len(data.videos)} videos; the last to finish scores, or this command again"
        )
        return Ended(out)
    with locked(out, wait_s=FOREVER):
        return _conclude(config, opened.about, data, predictions, settings, console)


def _predict(predictions: Predictions, todo: list[Video], follower: Follower) -> None:
    frames = sum(video.weight for video in todo)
    passed = 0
    with counted("following", "frames") as progress:
        for video in todo:

            def one(name: str, now: int, total: int, before: int = passed) -> None:
                progress(before + now, frames)

            predictions.predict(video, follower, one)
            done.note(video.name)
            passed += video.weight
            progress(passed, frames)
            log.info("%s: %d frames", video.name, video.weight)


def _conclude(
    config: BenchmarkConfig,
    about: Manifest | None,
    data: Data,
    predictions: Predictions,
    settings: Mapping[str, Any],
    console: Console,
) -> Ended:
    """Pack, score and report."""
    predictions.tidy()
    archive = None
    if about is not None and about.archive is not None and config.archive:
        archive = predictions.pack(about.archive, _archive(about))
        console.print(f"for {about.server}: {archive}")
    if not data.is_scorable:
        console.print(f"{data.truth}: has not the true masks of all frames, so nothing is scored here")
        return Ended(predictions.path, None, archive)
    rules = _rules(_SHARDS_PROTOCOL if about is None else about.protocol, data)
    truth = predictions.truth if about is None else data.truth
    names = [video.name for video in data.videos]
    with counted("scoring", "frames") as progress:
        found = evaluate(rules, truth, predictions.masks, names, config.workers, progress, config.how)
    answers = predictions.answers()
    known = known_of_itself(found.objects, {name: answer["heard"] for name, answer in answers.items()})
    with counted("telling objects apart", "masks") as progress:
        kinds = by_kind(found.objects, traces(truth, found.objects, progress))
    rows = published(about, settings)
    run = {"run": {**settings, "speed": speed(list(answers.values()))}, "published": rows}
    results = {**as_json(found), **known, "by": kinds, **run}
    write_atomically(predictions.path / RESULTS, json.dumps(results, indent=1, allow_nan=False) + "\n")
    for note in found.notes:
        console.print(f"note: {note}")
    console.print(Group(table(found, True, 10), *tables(results)))
    console.print(f"results    {predictions.path / RESULTS}")
    return Ended(predictions.path, results, archive)


def _archive(about: Manifest) -> str:
    """Name of the file for the benchmark's server."""
    return f"{about.name}.zip"


def _folder(config: BenchmarkConfig, weights: Weights) -> Path:
    """What differs between evaluations, as a name: data, weights, prompt and policy."""
    place = shown(config.dataset.removeprefix(SHARDS))
    data = Path(place).resolve().name if config.is_shards else config.dataset
    path = weights.path
    if path is None:
        model = Path(weights.model).stem
    else:
        run = path.resolve().parents[1] if path.parent.name == "export" else None
        model = path.stem if run is None else f"{run.parent.name}-{run.name}"
    return Path("runs") / "eval" / f"{data}-{model}-{config.prompt}-{Path(config.policy).stem}"


def _rules(name: str, data: Data) -> Protocol:
    """The protocol with what the benchmark says beside its masks."""
    kind = PROTOCOLS[name]
    unseen = find_unseen(data.truth) if kind.uses_unseen else None
    return kind(
        meta=data.meta if kind.uses_meta else None, unseen=None if unseen is None else read_names(unseen)
    )


def _data(config: VideosConfig, about: Manifest | None, size: int) -> Data:
    """All videos, or those that were asked for."""
    if about is None:
        data = _shards(config.dataset.removeprefix(SHARDS), size)
    else:
        data = open_benchmark(about, Path(config.root or ""), config.frames)
    if config.sequences is None:
        return data
    path = Path(config.sequences)
    names = (
        read_names(path)
        if path.is_file()
        else frozenset(n.strip() for n in config.sequences.split(",") if n.strip())
    )
    known = {video.name for video in data.videos}
    if not names or names - known:
        raise EvaluationError(
            f"sequences: {min(names - known, default='nothing')} is not among {len(known)} videos"
        )
    return Data(tuple(v for v in data.videos if v.name in names), data.truth, data.meta, data.is_scorable)


def _shards(root: str, size: int) -> Data:
    """One's own videos, each from the first frame on which an object is visible, as training evaluates them.

    Of an address, ranges are read: every video is wanted once.
    """
    held_out = HeldOut.open(root if is_url(root) else Path(root), size, Access(remote="range"))
    load = lru_cache(maxsize=1)(held_out.__getitem__)
    samples = [held_out.index[k] for k in range(len(held_out))]
    videos = [_shard_video(load, k, sample.key, sample.n_frames) for k, sample in enumerate(samples)]
    return Data(tuple(sorted(videos, key=lambda video: video.name)), Path(root), None, True)


def _shard_video(load: Callable[[int], HeldOutVideo], k: int, name: str, length: int) -> Video:
    def frames(_: int) -> Frames:
        return load(k)

    def wanted() -> dict[int, str]:
        return {t: f"{t:05d}" for t in range(len(load(k)))}

    def write_truth(folder: Path) -> None:
        for t, ids in enumerate(load(k).truth):
            write_label_map(folder / f"{t:05d}.png", ids.astype(np.uint8))

    def true_masks(frame: int) -> Mapping[int, Bools]:
        return masks_by_id(load(k).truth[frame])

    return Video(name, frames, lambda: starts_of(load(k)), wanted, length, None, write_truth, true_masks)
