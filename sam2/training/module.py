"""SAM 2 as a Lightning module: one training step, held-out videos tracked and scored, the optimiser.

What the step does is in unroll.py, what it costs in losses.py; here they meet Lightning.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import lightning.pytorch as pl
from torch import Tensor, nn

from data.clip import ClipBatch
from data.held_out import HeldOutVideo
from data.prompts import draw_plan
from sam2 import checkpoint
from sam2.evaluation.jf import Scores
from sam2.evaluation.report import summarise
from sam2.model import trunk as trunks
from sam2.model.memory_bank import TRACKING, TRAINING, fitted
from sam2.model.sam2 import SAM2
from sam2.training.checkpointing import JF
from sam2.training.config import ModelConfig, RunConfig
from sam2.training.errors import TrainingError
from sam2.training.held_out import gather, score_video
from sam2.training.losses import LossTerms, object_count
from sam2.training.optim import build_optimizer, continued
from sam2.training.strategies import whole
from sam2.training.typed import ConfigError
from sam2.training.unroll import simulated_user, training_loss


@dataclass(frozen=True)
class Priced:
    """What a micro-batch cost: `count` objects that the terms are divided by, and the terms."""

    count: Tensor
    terms: LossTerms


class TrainingModule(pl.LightningModule):
    """A SAM 2 that trains as a run's settings say."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.config = config
        self.model = build_model(config.model)
        self.frozen = freeze(self.model, config.model.freeze)
        self.policy = fitted(TRAINING, self.model.variant.heads)
        self.object_count: Tensor | None = (
            None  # of the micro-batch that is played, and what it cost, for Evidence
        )
        self.priced: Priced | None = None
        self._found: dict[str, dict[int, Scores]] = {}
        self._tracking: tuple[SAM2, ...] = ()  # in a tuple, so that a copy is no part of this module
        if self.frozen:  # Lightning takes modules as they are, and would warn of these
            warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
            self.train()

    def train(self, mode: bool = True) -> TrainingModule:
        """Frozen modules stay in eval mode: no dropout, no drop path."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """The loss of one micro-batch of clips."""
        self.object_count, self.priced = None, None
        self.object_count = object_count(len(batch.video_of_object), self.device)
        terms = self.losses(batch, self.object_count)
        self.priced = Priced(self.object_count, terms.detach())
        total = terms.total(self.config.loss)
        values = {"loss": total, **dict(terms.items())}
        self.log_dict({f"train/{k}": v.detach() for k, v in values.items()}, logger=False, batch_size=1)
        return total

    def losses(self, batch: ClipBatch, count: Tensor | float) -> LossTerms:
        """The loss terms of a micro-batch, divided by `count` objects."""
        prompts = self.config.prompts
        plan = draw_plan(prompts, self.config.seed, batch.step, len(batch.frames))
        user = simulated_user(batch, plan, prompts)
        return training_loss(self.model, batch, plan, user, self.policy, self.config.loss, count)

    def on_validation_start(self) -> None:
        """Have all weights at hand; every rank takes part, whether it has videos or not."""
        self._tracking = (whole(self.model),)

    def validation_step(self, video: HeldOutVideo, batch_idx: int) -> None:
        """Track one held-out video from its first masks and score it."""
        (model,) = self._tracking
        self._found[video.key] = score_video(
            model, video, self.config.evaluate.max_objects, self.config.memory_policy
        )

    def on_validation_epoch_end(self) -> None:
        """J&F over the videos of all ranks."""
        self._tracking = ()
        scores, self._found = gather(self._found), {}
        if scores:
            result = summarise("training", scores)
            values = {JF: result.jf, "val/J": result.j, "val/F": result.f}
            self.log_dict(values, logger=False, batch_size=1)

    def configure_optimizers(self) -> Any:
        """AdamW with layer decay, its schedule stepped every optimiser step."""
        optimizer, schedule = build_optimizer(self.model, self.config.optim, int(self.trainer.max_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Hold a checkpoint to continue from against this run's model, and bring its optimiser up to the settings.

        Raises:
            TrainingError: it is of another model.
        """
        self._check_same_model(checkpoint["state_dict"])
        states, schedules = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
        states[0], schedules[0] = continued(
            states[0], schedules[0], self.model, self.config.optim, int(self.trainer.max_steps)
        )

    def _check_same_model(self, saved: dict[str, Tensor]) -> None:
        mine = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        theirs = {name: tuple(value.shape) for name, value in saved.items()}
        differing = [name for name in (*mine, *theirs) if mine.get(name) != theirs.get(name)]
        if differing:
            first = differing[0]
            raise TrainingError(
                f"the checkpoint to continue from is of another model: {len(set(differing))} tensors differ, such as "
                f"{first} ({theirs.get(first, 'not there')} in the file, {mine.get(first, 'not there')} now). Restore "
                "the settings of `model`, or start a new run from its weights: run_id=NAME model.checkpoint="
                f"{self.trainer.ckpt_path}"
            )


def build_model(config: ModelConfig) -> SAM2:
    """The model of a run with the weights it starts from.

    Raises:
        CheckpointError: the file does not fit the model; its message says which model it looks like.
    """
    variant = config.variant
    model = SAM2(variant, config.drop_path, fitted(TRACKING, variant.heads))
    if config.checkpoint is not None:
        checkpoint.load(model, config.checkpoint)
    if config.trunk is not None:
        checkpoint.load_trunk(model, config.trunk)
    recompute(model, config.recompute)
    return model


def recompute(model: SAM2, how: Literal["none", "light", "full"]) -> None:
    """Choose what is computed again in the backward pass instead of kept, see `ModelConfig.recompute`."""
    if how != "none":
        trunks.recompute(model.image_encoder.trunk, everything=how == "full")
        model.memory_attention.recompute = True


def freeze(model: nn.Module, patterns: tuple[str, ...]) -> list[nn.Module]:
    """Stop the parameters of matching modules (or matching parameters) from training.

    Args:
        model: its module names are the official ones, as `image_encoder.trunk`.
        patterns: names, with `*` for anything.

    Returns:
        The frozen modules, to be kept in eval mode.

    Raises:
        ConfigError: a pattern matches nothing, or nothing is left to train.
    """
    frozen: list[nn.Module] = []
    for pattern in patterns:
        modules = [m for name, m in model.named_modules() if name and fnmatchcase(name, pattern)]
        parameters = [p for name, p in model.named_parameters() if fnmatchcase(name, pattern)]
        if not modules and not parameters:
            known = ", ".join(name for name, _ in model.named_children())
            raise ConfigError(
                f"model.freeze: no module or parameter is called {pattern!r}; the parts are {known}"
            )
        for module in modules:
            module.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(False)
        frozen += modules
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError(f"model.freeze: {', '.join(patterns)} leaves nothing to train")
    return frozen
