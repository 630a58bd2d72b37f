"""One side of benchmarks/train_step.py, in a process of its own: python train_step_child.py SIDE SETTINGS_JSON.

SIDE is `reference` (then `sam2` and `training` are imported from the folder in the settings) or `ours`. Both get the
weights, frames and clicks of tests/golden and do the same work: zero the gradients, forward with loss, backward. Both
draw their own clicks, whose time counts, and then use the recorded ones. The last line printed is a JSON object.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # behind everything: `sam2` must be the side's own
GOLDEN = "train_sam2.1_t_points"
DROP_PATH = 0.1  # of the released recipe; its dropout of 0.1 is the model's own
TERM_NAMES = {"mask": "loss_mask", "dice": "loss_dice", "iou": "loss_iou", "object": "loss_class"}

Clicks = tuple[Tensor, Tensor]
Step = Callable[[], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Settings:
    """What a side is asked to do.

    `first` and `corrected` are the frames that get a first click and `clicks` corrections; with `dropout` off the step
    has no chance in it, so that the losses of both sides can be compared.
    """

    reference: str
    size: int = 512
    frames: int = 4
    clicks: int = 7
    first: tuple[int, ...] = (0,)
    corrected: tuple[int, ...] = (0,)
    dropout: bool = True
    recompute: str = "none"
    threads: int = 2
    repeats: int = 3


class Case:
    """What both sides share: frames (T, 3, S, S) uint8 and normalised, masks (T, O, S, S), clicks, weights.

    `recorded` are the loss terms of the golden case, which has two first and corrected frames, 0 and 2.
    """

    def __init__(self, settings: Settings) -> None:
        from tests import golden

        recorded = golden.case(GOLDEN)
        [(seed, height, width)] = recorded.meta["videos"]
        self.model, self.variant = recorded.meta["model"], recorded.meta["variant"]
        frames, masks = golden.inputs.video(seed, settings.frames, height, width)
        self.network_input = torch.from_numpy(golden.inputs.model_frames(frames, settings.size))
        rows = np.floor((np.arange(settings.size) + 0.5) * height / settings.size).astype(int)
        columns = np.floor((np.arange(settings.size) + 0.5) * width / settings.size).astype(int)
        picked = frames[:, rows][:, :, columns].transpose(0, 3, 1, 2)
        self.frames = torch.from_numpy(np.ascontiguousarray(picked))
        self.masks = torch.from_numpy(golden.inputs.model_masks(masks, settings.size))
        scale = settings.size / recorded.meta["size"]
        self._clicks = {
            t: (
                torch.from_numpy(recorded[f"frame{t}/points"]) * scale,
                torch.from_numpy(recorded[f"frame{t}/labels"]),
            )
            for t in {*settings.first, *settings.corrected}
        }
        self.recorded = {ours: float(recorded[f"loss/{theirs}"]) for ours, theirs in TERM_NAMES.items()}
        self.weights = golden.state_dict(self.model, self.variant)

    def click(self, frame: int, number: int) -> Clicks:
        """Click `number` on `frame`, the first one being 0: points (O, 1, 2), labels (O, 1)."""
        points, labels = self._clicks[frame]
        return points[:, number : number + 1], labels[:, number : number + 1]


def reference_model(settings: Settings) -> Any:
    """The reference's training model: numbers from its own configuration files, tiny trunk, released recipe."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    folder = Path(settings.reference) / "sam2" / "configs"
    config = OmegaConf.load(folder / "sam2.1/sam2.1_hiera_t.yaml").model
    recipe = OmegaConf.load(folder / "sam2.1_training/sam2.1_hiera_b+_MOSE_finetune.yaml").trainer.model
    config.update({key: value for key, value in recipe.items() if key.endswith(("_train", "_eval"))})
    config.update(
        _target_="training.model.sam2.SAM2Train",
        image_size=settings.size,
        add_all_frames_to_correct_as_cond=recipe.add_all_frames_to_correct_as_cond,
        use_act_ckpt_iterative_pt_sampling=recipe.use_act_ckpt_iterative_pt_sampling,
        prob_to_use_pt_input_for_train=1.0,
        prob_to_use_box_input_for_train=0.0,
        num_init_cond_frames_for_train=len(settings.first),
        num_frames_to_correct_for_train=len(settings.corrected),
        num_correction_pt_per_frame=settings.clicks,
    )
    config.image_encoder.trunk.drop_path_rate = DROP_PATH if settings.dropout else 0.0
    if not settings.dropout:
        layer = config.memory_attention.layer
        layer.dropout = layer.self_attention.dropout = layer.cross_attention.dropout = 0.0
    return instantiate(config)


def reference_batch(settings: Settings, case: Case) -> Any:
    """The case as the reference's loader would hand it over."""
    data_utils = import_module("training.utils.data_utils")
    objects = case.masks.shape[1]
    where = [[[t, 0]] * objects for t in range(settings.frames)]
    meta = data_utils.BatchedVideoMetaData(
        unique_objects_identifier=torch.zeros(settings.frames, objects, 3, dtype=torch.long),
        frame_orig_size=torch.full((settings.frames, objects, 2), settings.size),
    )
    return data_utils.BatchedVideoDatapoint(
        img_batch=case.network_input[:, None],
        obj_to_frame_idx=torch.tensor(where, dtype=torch.int32),
        masks=case.masks,
        metadata=meta,
        dict_key="all",
        batch_size=[settings.frames],
    )


def reference_step(settings: Settings, case: Case) -> tuple[nn.Module, Step]:
    """The released training code's step."""
    sys.path.insert(0, settings.reference)
    losses, module = import_module("training.loss_fns"), import_module("training.model.sam2")
    if not Path(str(module.__file__)).is_relative_to(settings.reference):
        raise SystemExit(f"`training` was imported from {module.__file__}, not from {settings.reference}")
    model = reference_model(settings)
    model.load_state_dict(case.weights, strict=True)
    batch = reference_batch(settings, case)
    loss = losses.MultiStepMultiMasksAndIous(
        {"loss_mask": 20, "loss_dice": 1, "loss_iou": 1, "loss_class": 1},
        supervise_all_iou=True,
        iou_use_l1_loss=True,
        pred_obj_scores=True,
        focal_gamma_obj_score=0.0,
        focal_alpha_obj_score=-1.0,
    )
    draw = module.get_next_point
    recorded: Iterator[Clicks] = iter(())

    def replay(*args: Any, **kwargs: Any) -> Clicks:
        draw(*args, **kwargs)  # its time counts, its outcome does not
        points, labels = next(recorded)
        return points, labels.to(torch.int32)

    module.get_next_point = replay  # type: ignore[attr-defined]

    def step() -> tuple[Tensor, dict[str, Tensor]]:
        nonlocal recorded
        model.rng = np.random.default_rng(seed=42)
        recorded = iter(reference_order(settings, case))
        terms = loss(model(batch), batch.masks)
        if next(recorded, None) is not None:
            raise SystemExit("the reference asked for fewer clicks than it was to get")
        return terms[losses.CORE_LOSS_KEY], {ours: terms[theirs] for ours, theirs in TERM_NAMES.items()}

    return model, step


def reference_order(settings: Settings, case: Case) -> list[Clicks]:
    """Clicks in the order in which the reference draws them: first clicks, then corrections frame by frame."""
    first = [case.click(t, 0) for t in settings.first]
    order = [*settings.first, *(t for t in range(settings.frames) if t not in settings.first)]
    numbers = range(1, 1 + settings.clicks)
    return first + [case.click(t, number) for t in order if t in settings.corrected for number in numbers]


def our_step(settings: Settings, case: Case) -> tuple[nn.Module, Step]:
    """This project's step, as sam2.training.module runs it."""
    from dataclasses import replace

    from data.clip import ClipBatch
    from data.prompts import PromptPlan, PromptPolicy
    from sam2.model.memory_bank import TRAINING, fitted
    from sam2.model.sam2 import SAM2
    from sam2.training.losses import LossConfig, object_count
    from sam2.training.module import recompute  # and Lightning, which a training process holds in memory too
    from sam2.training.unroll import simulated_user, training_loss
    from sam2.variants import resolve

    variant = resolve(case.model).at(settings.size)
    variant = variant if settings.dropout else replace(variant, heads=replace(variant.heads, dropout=0.0))
    model = SAM2(variant, drop_path=DROP_PATH if settings.dropout else 0.0)
    model.load_state_dict(case.weights, strict=True)
    recompute(model, settings.recompute)  # type: ignore[arg-type]  # a choice of the parser's
    objects = case.masks.shape[1]
    batch = ClipBatch(
        frames=case.frames[:, None],
        masks=case.masks,
        video_of_object=torch.zeros(objects, dtype=torch.int64),
        object_seeds=torch.arange(objects),
        step=0,
        sources=("golden",),
    )
    plan = PromptPlan(
        settings.frames, False, settings.first, frozenset(), frozenset(settings.corrected), settings.clicks
    )
    prompts, policy, config = PromptPolicy(), fitted(TRAINING, variant.heads), LossConfig()

    class Replay:
        def __init__(self) -> None:
            self.user = simulated_user(batch, plan, prompts)

        def start(self, frame: int) -> Clicks:
            self.user.start(frame)  # its time counts, its outcome does not
            return case.click(frame, 0)

        def correct(self, frame: int, click: int, predicted: Tensor) -> Clicks:
            self.user.correct(frame, click, predicted)
            return case.click(frame, 1 + click)

    def step() -> tuple[Tensor, dict[str, Tensor]]:
        count = object_count(objects, "cpu")
        terms = training_loss(model, batch, plan, Replay(), policy, config, count)
        return terms.total(config), dict(terms.items())

    return model, step


def peak_mb() -> float:
    """The most memory this process has held so far, MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def measure(side: str, settings: Settings) -> dict[str, Any]:
    """One warm-up, then `repeats` timed steps."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    case = Case(settings)
    model, step = {"reference": reference_step, "ours": our_step}[side](settings, case)
    del case.weights
    model.train()
    calls: list[None] = []
    model.get_submodule("sam_mask_decoder").register_forward_hook(lambda *_: calls.append(None))
    setup = peak_mb()
    wall, cpu = [], []
    for _ in range(1 + settings.repeats):
        model.zero_grad(set_to_none=True)
        calls.clear()
        start = time.perf_counter(), time.process_time()
        loss, terms = step()
        loss.backward()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    return {
        "wall_s": statistics.median(wall[1:] or wall),
        "cpu_s": statistics.median(cpu[1:] or cpu),
        "setup_mb": setup,
        "peak_mb": peak_mb(),
        "loss": loss.item(),
        "terms": {name: term.item() for name, term in terms.items()},
        "recorded_terms": case.recorded,
        "gradient_norm": torch.stack(norms).norm().item(),
        "parameters_with_gradient": len(norms),
        "decoder_calls": len(calls),
        "settings": asdict(settings),
    }


if __name__ == "__main__":
    asked: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(sys.argv[2]).items()
    }
    print(json.dumps(measure(sys.argv[1], Settings(**asked))))
