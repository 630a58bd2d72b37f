"""What the main job trains and what becomes of it: SAM 2 and its clips; scores before and after, export, report."""

from __future__ import annotations

import logging
import math
import time
from fractions import Fraction
from typing import Any

import lightning.pytorch as pl
from rich.console import Console

from data.alive import alive
from data.held_out import HeldOut
from data.module import ClipDataModule
from data.plural import plural
from sam2 import checkpoint
from sam2.counted import counted
from sam2.evaluation.overlay import write_video
from sam2.evaluation.page import page_of_run, write_page
from sam2.evaluation.report import Report, Result, read_results, summarise, table, write_results
from sam2.model.sam2 import SAM2
from sam2.training.config import RunConfig
from sam2.training.held_out import draw, gather, score_baselines, score_video
from sam2.training.job import Job
from sam2.training.module import TrainingModule
from sam2.training.preempt import preemption
from sam2.training.rundir import RunDirectory
from sam2.training.signature import signature
from sam2.training.strategies import whole
from sam2.training.typed import ConfigError

log = logging.getLogger(__name__)


def build_job(config: RunConfig, directory: RunDirectory, world: int) -> Job:
    """SAM 2 on its clips, scored on held-out videos.

    Args:
        config: the settings.
        directory: of the run.
        world: number of processes.
    """
    lists = directory.log(0).parent
    data = ClipDataModule(config.data, config.image_size, config.seed, lists, config.evaluate.videos)
    module = TrainingModule(config)
    outcome = Outcome(config, directory, module, data)
    if config.data.val_root is None:
        log.warning("data.val_root is not set: no J&F will be measured, before, during or after training")
    is_test = config.synthetic is not None and config.synthetic.split == "test"
    if is_test and config.evaluate.every_steps is not None:
        log.warning(
            "best.ckpt is chosen on the videos whose J&F is reported; synthetic.split=val keeps the test videos unseen"
        )
    facts = {
        "data": {"fingerprint": data.plan.fingerprint(world), **data.plan.describe(world)},
        "signature": signature(config, data).as_record(),
    }
    return Job(module, data, _steps(config, data, world), (outcome,), outcome.conclude, facts)


def _steps(config: RunConfig, data: ClipDataModule, world: int) -> int:
    """Optimiser steps of the run."""
    if config.trainer.epochs is None:
        return int(config.trainer.max_steps or 0)
    return steps_of(config.trainer.epochs, data.plan.steps_per_epoch(world), config.trainer.accumulate)


def steps_of(epochs: float, micro_batches: Fraction, accumulate: int) -> int:
    """Optimiser steps in which all samples come `epochs` times, the last step filled up.

    A function of the global batch alone: as many for two processes as for one that accumulates two micro-batches.

    Args:
        epochs: as it is written in the settings: 0.1 is a tenth.
        micro_batches: of one process in an epoch.
        accumulate: micro-batches of a step.
    """
    return math.ceil(Fraction(repr(epochs)) * micro_batches / accumulate)


class Outcome(pl.Callback):
    """Scores the model before the first step and after the last one; exports it; writes the report."""

    def __init__(
        self, config: RunConfig, directory: RunDirectory, module: TrainingModule, data: ClipDataModule
    ) -> None:
        self._config, self._directory, self._module, self._data = config, directory, module, data

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What there is to beat: the untrained model, copying, calling everything an object."""
        if trainer.global_step > 0 or self._config.data.val_root is None:
            return
        results: list[Result] = []
        if self._config.evaluate.at_start:
            results.append(self._evaluate(trainer, whole(self._module.model), self._start_name))
        if self._config.evaluate.baselines and trainer.is_global_zero:
            scores = score_baselines(self._held_out())
            results += [summarise(name, found, is_baseline=True) for name, found in scores.items()]
        if results and trainer.is_global_zero:
            write_results(self._directory.results, Report(tuple(results)))

    def conclude(self, trainer: pl.Trainer) -> None:
        """Export; score what training ended with; report."""
        alive("exporting the model")
        model = whole(self._module.model)
        if trainer.is_global_zero:
            checkpoint.export(model, self._directory.exported)
        if self._config.evaluate.at_end and self._config.data.val_root is not None:
            trained = self._evaluate(trainer, model, "trained")
            if trainer.is_global_zero:
                self._show(model, trained)
        alive("writing the report")
        if trainer.is_global_zero:
            self._count_bad_samples()
            write_page(self._directory.report, page_of_run(self._directory.path, self._config.name))
            for what, path in self._left_behind():
                log.info("%-10s %s", what, path)
            log.info(
                '%-10s build_sam2("%s", "%s")', "load it", self._directory.config, self._directory.exported
            )

    def _count_bad_samples(self) -> None:
        """Say how many samples were replaced, on all ranks together, and where they are named."""
        lists = sorted(self._directory.log(0).parent.glob("quarantine-*.jsonl"))
        bad = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in lists)
        self._directory.note(bad_samples=bad)
        if bad:
            log.warning(
                "%s replaced; named in %s", plural(bad, "bad sample"), lists[0].parent / "quarantine-*.jsonl"
            )

    @property
    def _start_name(self) -> str:
        """What the model is called before the first step."""
        has_weights = self._config.model.checkpoint is not None
        return "before training" if has_weights else "untrained"

    def _evaluate(self, trainer: pl.Trainer, model: SAM2, name: str) -> Result:
        """All held-out videos, shared among the ranks."""
        began, model = time.monotonic(), model.to(trainer.strategy.root_device)
        most, policy = self._config.evaluate.max_objects, self._config.memory_policy
        videos = self._held_out().share(trainer.global_rank, trainer.world_size)
        leaving = preemption(trainer)
        log.info("scoring %d held-out videos: %s", len(self._held_out()), name)
        found = {}
        with trainer.precision_plugin.val_step_context(), counted("scoring", "videos") as progress:
            for done, video in enumerate(videos, 1):
                if leaving.was_asked:
                    break
                found[video.key] = score_video(model, video, most, policy)
                progress(done, len(videos))
        leaving.leave_together(trainer)
        alive("gathering the scores of all ranks")
        result = summarise(name, gather(found), seconds=time.monotonic() - began)
        log.info("%s: J&F %.1f in %.1f s", name, result.jf, result.seconds)
        return result

    def _show(self, model: SAM2, trained: Result) -> None:
        path = self._directory.results
        earlier = read_results(path).results if path.is_file() else ()
        report = Report((*(result for result in earlier if result.name != trained.name), trained))
        write_results(path, report)
        Console().print(table(report))
        if self._config.evaluate.overlay:
            video = self._held_out()[0]
            most = self._config.evaluate.max_objects
            track = draw(model, video, most, self._config.memory_policy)
            write_video(path.parent / f"{video.key}.mp4", track)

    def _held_out(self) -> HeldOut:
        """All held-out videos; read one at a time."""
        videos = self._data.held_out()
        if videos is None:
            raise ConfigError("data.val_root is not set, so there is nothing to evaluate on")
        return videos

    def _left_behind(self) -> list[tuple[str, Any]]:
        known = (
            ("model", self._directory.exported),
            ("results", self._directory.results),
            ("metrics", self._directory.metrics),
            ("report", self._directory.report),
        )
        overlays = (("video", path) for path in sorted(self._directory.results.parent.glob("*.mp4")))
        return [*((what, path) for what, path in known if path.is_file()), *overlays]
