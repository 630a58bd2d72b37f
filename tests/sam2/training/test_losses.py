from __future__ import annotations

import dataclasses
import pickle
import socket
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn
from torch.nn import functional

from sam2.training import mask_scores
from sam2.training.losses import TERMS, LossConfig, LossTerms, object_count, prediction_loss
from sam2.training.mask_scores import focal_dice_iou
from sam2.types import ShapeError
from tests import golden

RELEASED = LossConfig()


def steps_of(case: golden.Case) -> tuple[Tensor, list[list[Tensor]]]:
    """The target and the leaves (logits, ious, object logit) of every step of a loss case."""
    meta = case.meta
    size, objects = meta["hw"], meta["n"]
    random = np.random.Generator(np.random.PCG64(meta["seed"]))
    masks = []
    for _ in range(objects):
        (cy, cx), (ry, rx) = random.uniform(0.3, 0.7, 2) * size, random.uniform(0.1, 0.3, 2) * size
        masks.append(golden.inputs._ellipse(size, size, cy, cx, ry, rx))
    target = torch.from_numpy(np.stack(masks))
    target[meta["blank"]] = False
    leaves = [
        [
            3 * random.standard_normal((objects, candidates, size, size)),
            random.random((objects, candidates)),
            random.standard_normal((objects, 1)),
        ]
        for candidates in meta["m_list"]
    ]
    return target, [
        [torch.from_numpy(x.astype(np.float32)).requires_grad_() for x in step] for step in leaves
    ]


def config_of(recorded: dict) -> LossConfig:
    weights = {name.replace("class", "object"): value for name, value in recorded["weight_dict"].items()}
    return LossConfig(
        **{name.removeprefix("loss_"): value for name, value in weights.items()},
        supervise_all_ious=recorded["supervise_all_iou"],
        iou_l1=recorded["iou_use_l1_loss"],
        object_scores=recorded["pred_obj_scores"],
        object_focal_gamma=recorded["focal_gamma_obj_score"],
        object_focal_alpha=recorded["focal_alpha_obj_score"],
    )


@pytest.mark.parametrize("name", golden.names("loss_"))
def test_values_and_gradients_are_the_references(name):
    case = golden.case(name)
    config = config_of(case.meta["loss"])
    target, steps = steps_of(case)
    terms = reduce(add, [prediction_loss(*step, target, float(len(target)), config) for step in steps])
    recorded = {"mask": "loss_mask", "dice": "loss_dice", "iou": "loss_iou", "object": "loss_class"}
    for ours, theirs in recorded.items():
        np.testing.assert_allclose(getattr(terms, ours).item(), case[f"loss/{theirs}"], rtol=1e-6)
    total = terms.total(config)
    np.testing.assert_allclose(total.item(), case["loss/core_loss"], rtol=1e-6)

    total.backward()
    for j, leaf in enumerate(leaf for step in steps for leaf in step):
        slope = leaf.grad.double().numpy()
        np.testing.assert_allclose(np.abs(slope).sum(), case[f"grad{j}/abs_sum"], rtol=1e-5, atol=1e-12)
        head = case[f"grad{j}/head"]
        np.testing.assert_allclose(slope.ravel()[: head.size], head, rtol=1e-5, atol=1e-10)
        if f"grad{j}/per_mask_abs_sum" in case:
            sums = np.abs(slope).sum((-2, -1))
            np.testing.assert_allclose(sums, case[f"grad{j}/per_mask_abs_sum"], rtol=1e-5, atol=1e-12)


def example(objects=3, candidates=3, low_px=8, size_px=32, dtype=torch.float32, seed=0) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(objects, candidates, low_px, low_px, generator=random, dtype=dtype)
    ious = torch.rand(objects, candidates, generator=random, dtype=dtype)
    object_logit = torch.randn(objects, 1, generator=random, dtype=dtype)
    target = torch.zeros(objects, size_px, size_px, dtype=torch.bool)
    for i in range(objects):
        target[i, size_px // 8 : size_px // 2 + i, size_px // 4 : -2 - i] = True
    return logits, ious, object_logit, target


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize("alpha", [-1.0, 0.25])
@pytest.mark.parametrize("low_px", [6, 12])
def test_slopes_agree_with_finite_differences(alpha, gamma, low_px, monkeypatch):
    logits, _, _, target = example(2, 2, low_px, 12, torch.float64)
    monkeypatch.setitem(mask_scores._CHUNK_PX, "cpu", 3 * 12 * 12)  # two chunks

    def compared(masks: Tensor) -> tuple[Tensor, Tensor]:
        return focal_dice_iou(masks, target, alpha, gamma)[:2]

    assert torch.autograd.gradcheck(compared, (logits.requires_grad_(),))


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_loss_is_torchvisions(gamma):
    ops = pytest.importorskip("torchvision.ops")
    logits, _, _, target = example(low_px=32)
    truth = target[:, None].float().expand_as(logits)
    expected = ops.sigmoid_focal_loss(logits, truth, alpha=0.3, gamma=gamma).mean((-2, -1))
    torch.testing.assert_close(focal_dice_iou(logits, target, 0.3, gamma)[0], expected)


def test_plain_cross_entropy_is_focal_loss_without_balance_and_focus():
    logits, _, _, target = example(low_px=32)
    truth = target[:, None].float().expand_as(logits)
    expected = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((-2, -1))
    torch.testing.assert_close(focal_dice_iou(logits, target, -1.0, 0.0)[0], expected)


def test_a_perfect_mask_costs_nothing_and_its_opposite_the_most():
    target = example()[3]
    perfect = (200.0 * target - 100)[:, None]
    focal, dice, iou = focal_dice_iou(torch.cat((perfect, -perfect), 1), target, 0.25, 2.0)
    torch.testing.assert_close(focal[:, 0], torch.zeros(3))
    torch.testing.assert_close(dice, torch.tensor([[0.0, 1.0]] * 3), atol=2e-3, rtol=0)
    assert torch.equal(iou, torch.tensor([[1.0, 0.0]] * 3))
    assert torch.isfinite(focal).all() and (focal[:, 1] > 20).all()


@pytest.mark.parametrize("chunk_px", [1, 5 * 32 * 32, 1 << 20])
def test_chunks_do_not_change_the_loss(chunk_px, monkeypatch):
    *leaves, target = example()
    monkeypatch.setitem(mask_scores._CHUNK_PX, "cpu", 1 << 30)
    expected, expected_slope = loss_and_slope(*leaves, target)
    monkeypatch.setitem(mask_scores._CHUNK_PX, "cpu", chunk_px)
    actual, slope = loss_and_slope(*leaves, target)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(slope, expected_slope)


def loss_and_slope(logits, ious, object_logit, target, config=RELEASED) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    total = prediction_loss(logits, ious, object_logit, target, 1.0, config).total(config)
    return total.detach(), torch.autograd.grad(total, logits)[0]


def test_low_resolution_logits_are_enlarged_as_the_decoder_output_is():
    logits, *others = example()
    enlarged = functional.interpolate(logits, (32, 32), mode="bilinear", align_corners=False)
    slope = torch.autograd.functional.vjp(
        lambda s: functional.interpolate(s, (32, 32), mode="bilinear", align_corners=False),
        logits,
        loss_and_slope(enlarged, *others)[1],
    )[1]
    loss, actual = loss_and_slope(logits, *others)
    torch.testing.assert_close(loss, loss_and_slope(enlarged, *others)[0])
    torch.testing.assert_close(actual, slope)


def test_only_the_best_candidate_learns_its_mask():
    logits, ious, object_logit, target = example(objects=2, low_px=32)
    best = (20.0 * target - 10).float()
    logits[0, 2], logits[1, 1] = best[0], best[1]
    slope = loss_and_slope(logits, ious, object_logit, target)[1]
    learns = slope.abs().sum((-2, -1)) > 0
    assert learns.tolist() == [[False, False, True], [False, True, False]]


def test_an_absent_object_teaches_its_object_score_alone():
    logits, ious, object_logit, target = (x.clone() for x in example())
    target[1] = False
    leaves = [x.requires_grad_() for x in (logits, ious, object_logit)]
    prediction_loss(*leaves, target, 1.0, RELEASED).total(RELEASED).backward()
    for leaf in leaves[:2]:
        assert (leaf.grad[1] == 0).all() and (leaf.grad[[0, 2]].flatten(1).abs().sum(1) > 0).all()
    expected = torch.sigmoid(object_logit.detach()) - torch.tensor([[1.0], [0.0], [1.0]])
    torch.testing.assert_close(object_logit.grad, expected)


def test_without_object_scores_an_empty_truth_still_supervises_masks():
    logits, ious, object_logit, target = example()
    config = LossConfig(object_scores=False)
    terms = prediction_loss(logits, ious, object_logit, torch.zeros_like(target), 1.0, config)
    assert terms.object == 0
    assert terms.mask > 0 and terms.dice > 0 and terms.iou > 0


@pytest.mark.parametrize("all_ious", [True, False])
@pytest.mark.parametrize("l1", [True, False])
def test_iou_error_counts_all_candidates_or_the_best_one(all_ious, l1):
    *leaves, target = example(low_px=32)
    config = LossConfig(supervise_all_ious=all_ious, iou_l1=l1)
    focal, dice, overlap = focal_dice_iou(leaves[0], target, 0.25, 2.0)
    guess = leaves[0] > 0
    expected_overlap = (guess & target[:, None]).sum((-2, -1)) / (guess | target[:, None]).sum((-2, -1))
    torch.testing.assert_close(overlap, expected_overlap)
    error = (leaves[1] - overlap).abs() if l1 else (leaves[1] - overlap) ** 2
    best = (20 * focal + dice).argmin(1)
    expected = error.mean(1).sum() if all_ious else sum(error[i, best[i]] for i in range(3))
    torch.testing.assert_close(prediction_loss(*leaves, target, 1.0, config).iou, expected)


def test_object_score_can_have_a_focal_loss_too():
    ops = pytest.importorskip("torchvision.ops")
    *leaves, target = example()
    target[0] = False
    config = LossConfig(object_focal_alpha=0.6, object_focal_gamma=2.0)
    truth = torch.tensor([[0.0], [1.0], [1.0]])
    expected = ops.sigmoid_focal_loss(leaves[2], truth, alpha=0.6, gamma=2.0).sum()
    torch.testing.assert_close(prediction_loss(*leaves, target, 1.0, config).object, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_predictions_are_compared_in_float32(dtype):
    logits, ious, object_logit, target = example()
    half = [x.to(dtype).requires_grad_() for x in (logits, ious, object_logit)]
    full = [x.detach().float().requires_grad_() for x in half]
    ours, exact = (prediction_loss(*leaves, target, 2.0, RELEASED).total(RELEASED) for leaves in (half, full))
    assert ours.dtype == torch.float32 and torch.equal(ours, exact)
    ours.backward()
    exact.backward()
    assert half[0].grad.dtype == dtype
    torch.testing.assert_close(half[0].grad.float(), full[0].grad, rtol=1e-2, atol=1e-6)


def test_autocast_does_not_round_the_loss():
    *leaves, target = example()
    expected = loss_and_slope(*leaves, target)
    with torch.autocast("cpu", torch.bfloat16):
        actual = loss_and_slope(*leaves, target)
    assert torch.equal(actual[0], expected[0]) and torch.equal(actual[1], expected[1])


def test_a_batch_without_objects_costs_nothing():
    terms = prediction_loss(
        torch.zeros(0, 3, 8, 8), torch.zeros(0, 3), torch.zeros(0, 1), torch.zeros(0, 32, 32, dtype=torch.bool),
        object_count(0, "cpu"), RELEASED,
    )  # fmt: skip
    assert terms.total(RELEASED) == 0


def test_only_the_logits_are_kept_for_the_backward_pass():
    *leaves, target = example(2, 3, 64, 256)
    leaves = [x.requires_grad_() for x in leaves]
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        prediction_loss(*leaves, target, 2.0, RELEASED).total(RELEASED)
    inputs = leaves[0].nbytes + target.nbytes
    assert sum(kept.values()) < inputs + 4096


def test_terms_add_up_and_are_weighted_by_name():
    first, second = (
        LossTerms(tuple(torch.tensor(float(x)) for x in row)) for row in ((1, 2, 3, 4), (5, 6, 7, 8))
    )
    both = first + second
    assert [value.item() for _, value in both.items()] == [6, 8, 10, 12]
    assert both.mask == 6 and both.object == 12
    assert pickle.loads(pickle.dumps(both)) == both
    assert both.total(LossConfig(mask=1.0, dice=10.0, iou=100.0, object=0.0)) == 6 + 80 + 1000
    with pytest.raises(AttributeError, match="no loss term 'sharpness'; known: mask, dice, iou, object"):
        _ = both.sharpness


def test_a_term_is_a_function_and_a_weighted_field():
    assert list(TERMS) == ["mask", "dice", "iou", "object"]
    assert {f.name for f in dataclasses.fields(LossConfig) if f.metadata} == set(TERMS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dice": -1.0}, "loss.dice is -1.0"),
        ({"focal_gamma": -2.0}, "focal_gamma"),
        ({"focal_alpha": 1.5}, "at most 1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**settings)


def test_disagreeing_shapes_are_named():
    logits, ious, object_logit, target = example()
    with pytest.raises(ShapeError, match=r"need ious \(3, 3\).*got \(3, 2\)"):
        prediction_loss(logits, ious[:, :2], object_logit, target, 1.0, RELEASED)
    with pytest.raises(ShapeError, match="pass target > 0"):
        prediction_loss(logits, ious, object_logit, target.float(), 1.0, RELEASED)


class Painter(nn.Module):
    """A model small enough to know: every object's masks, IoUs and score are linear in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.masks, self.ious, self.object = nn.Linear(5, 3 * 8 * 8), nn.Linear(5, 3), nn.Linear(5, 1)

    def forward(self, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.masks(code).view(-1, 3, 8, 8), self.ious(code).sigmoid(), self.object(code)


def gradient_of(start: int, stop: int) -> Tensor:
    """The gradient of objects `start` to `stop` of 16, averaged over processes as DDP does."""
    torch.manual_seed(0)
    model, code = Painter(), torch.randn(16, 5)
    target = example(16)[3]
    target[[3, 13]] = False
    mine = slice(start, stop)
    count = object_count(stop - start, "cpu")
    prediction_loss(*model(code[mine]), target[mine], count, RELEASED).total(RELEASED).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    if dist.is_initialized():
        dist.all_reduce(gradient)
        gradient /= dist.get_world_size()
    return gradient


def one_rank(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)  # two processes that wait for each other must not fight for the cores
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(gradient_of(*((0, 12), (12, 16))[rank]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_with_twelve_and_four_objects_give_the_gradient_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(one_rank, (port, str(tmp_path)), nprocs=2)
    shared = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    alone = gradient_of(0, 16)
    assert torch.equal(*shared)
    assert (shared[0] - alone).norm() < 1e-6 * alone.norm()


def test_count_is_at_least_one():
    assert object_count(0, "cpu") == 1 and object_count(5, "cpu") == 5
