"""Properties of the four verbs on a tiny model: no mode, no hidden state, objects independent of one another."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sam2.model.memory_bank import INFERENCE, TRAINING, MemoryPolicy, Place
from sam2.model.sam2 import NO_OBJECT_LOGIT, SAM2, no_prompt, suppress_overlap
from sam2.types import MaskPrompt, Memory, Prompt
from sam2.variants import VARIANTS


@pytest.fixture(params=["test", "test_2.0"])
def model(request):
    torch.manual_seed(0)
    variant = VARIANTS[request.param]
    return SAM2(replace(variant, heads=replace(variant.heads, dropout=0.0, object_bias=3.0))).eval()


def _clip(frames=4, objects=3, size=64):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(frames, 3, size, size, generator=generator)
    masks = torch.zeros(objects, 1, size, size, dtype=torch.bool)
    for i in range(objects):
        masks[i, 0, 8 * i : 8 * i + 20, 10 : 40 - 5 * i] = True
    return images, masks


@torch.no_grad()
def _track(model, images, prompt, policy=None, order=None):
    policy = policy or model.policy
    memory, outputs = Memory(), {}
    objects = len(prompt.masks) if isinstance(prompt, MaskPrompt) else len(prompt.points)
    for i, t in enumerate(order or range(len(images))):
        seen = model.observe(images[t : t + 1]).expand(objects)
        place = Place(t, len(images))
        output, memory = model.step(seen, memory, place, policy, prompt if i == 0 else None)
        outputs[t] = output
    return outputs, memory


def test_train_and_eval_mode_agree_where_nothing_is_dropped(model):
    images, masks = _clip()
    model.eval()
    expected, _ = _track(model, images, MaskPrompt(masks))
    model.train()
    actual, _ = _track(model, images, MaskPrompt(masks))
    for t in expected:
        assert torch.equal(actual[t].low_res, expected[t].low_res)


def test_order_of_objects_does_not_matter(model):
    images, masks = _clip()
    order = [2, 0, 1]
    expected, _ = _track(model, images, MaskPrompt(masks))
    actual, _ = _track(model, images, MaskPrompt(masks[order]))
    for t in expected:
        torch.testing.assert_close(actual[t].low_res, expected[t].low_res[order], rtol=1e-4, atol=1e-4)


def test_an_object_does_not_see_the_others(model):
    images, masks = _clip()
    together, _ = _track(model, images, MaskPrompt(masks))
    alone, _ = _track(model, images, MaskPrompt(masks[1:2]))
    torch.testing.assert_close(together[3].low_res[1:2], alone[3].low_res, rtol=1e-4, atol=1e-4)


def test_verbs_leave_their_inputs_alone(model):
    images, masks = _clip()
    _, memory = _track(model, images[:2], MaskPrompt(masks))
    before = [entry.spatial.clone() for entry in memory.entries]
    seen = model.observe(images[2:3]).expand(3)
    with torch.no_grad():
        model.step(seen, memory, Place(2, 4), model.policy)
    assert len(memory) == 2
    assert all(torch.equal(a, e.spatial) for a, e in zip(before, memory.entries, strict=True))


def test_a_given_mask_is_the_answer(model):
    images, masks = _clip()
    outputs, _ = _track(model, images[:1], MaskPrompt(masks))
    assert torch.equal(outputs[0].logits(64) > 0, masks)
    assert outputs[0].object_logit.flatten().tolist() == [10.0, 10.0, 10.0]


def test_an_empty_given_mask_means_absent(model):
    images, masks = _clip(objects=2)
    masks[1] = False
    outputs, _ = _track(model, images[:1], MaskPrompt(masks))
    assert outputs[0].object_logit.flatten().tolist() == [10.0, -10.0]
    torch.testing.assert_close(outputs[0].pointer[1], model.no_obj_ptr[0])


def test_an_object_thought_absent_has_no_mask(model):
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(-50.0)
    images, _ = _clip()
    seen = model.observe(images[:1])
    click = Prompt(torch.tensor([[[20.0, 20.0]]]), torch.tensor([[1]]))
    output = model.decode(seen, model.without_memory(seen), click, INFERENCE)
    assert (output.candidates == NO_OBJECT_LOGIT).all()


def test_one_click_gives_three_candidates_and_a_box_gives_one(model):
    images, _ = _clip()
    seen = model.observe(images[:1])
    base = model.without_memory(seen)
    click = Prompt(torch.tensor([[[20.0, 20.0]]]), torch.tensor([[1]]))
    box = Prompt(torch.tensor([[[5.0, 5.0], [30.0, 30.0]]]), torch.tensor([[2, 3]]))
    assert model.decode(seen, base, click, TRAINING).candidates.shape == (1, 3, 16, 16)
    assert model.decode(seen, base, box, TRAINING).candidates.shape == (1, 1, 16, 16)
    assert model.decode(seen, base, box, TRAINING, several=True).candidates.shape == (1, 3, 16, 16)


def test_the_best_candidate_by_predicted_iou_is_chosen(model):
    images, _ = _clip()
    seen = model.observe(images[:1]).expand(4)
    points = torch.tensor([[[10.0, 10.0]], [[20.0, 40.0]], [[50.0, 9.0]], [[33.0, 33.0]]])
    clicks = Prompt(points, torch.ones(4, 1, dtype=torch.int64))
    output = model.decode(seen, model.without_memory(seen), clicks, TRAINING)
    for b in range(4):
        assert torch.equal(output.low_res[b, 0], output.candidates[b, output.ious[b].argmax()])


def test_padding_points_say_nothing(model):
    images, _ = _clip()
    seen = model.observe(images[:1])
    base = model.without_memory(seen)
    first = model.decode(seen, base, no_prompt(1, base.device), TRAINING)
    moved = Prompt(torch.tensor([[[40.0, 3.0]]]), torch.tensor([[-1]]))
    assert torch.equal(first.low_res, model.decode(seen, base, moved, TRAINING).low_res)


def test_memory_that_nothing_recalls_is_no_memory(model):
    images, masks = _clip(objects=1)
    _, memory = _track(model, images[:1], MaskPrompt(masks))
    tracked = Memory((replace(memory.entries[0], is_prompted=False),))
    seen = model.observe(images[1:2])
    far = model.condition(seen, tracked, Place(30, 40), model.policy)
    assert torch.equal(far, model.without_memory(seen))


def test_stored_memories_can_be_rounded(model):
    images, masks = _clip(objects=1)
    policy = replace(model.policy, storage=torch.bfloat16)
    outputs, memory = _track(model, images, MaskPrompt(masks), policy)
    assert memory.entries[0].spatial.dtype == torch.bfloat16
    assert outputs[3].low_res.dtype == torch.float32


def test_overlap_goes_to_the_higher_logit():
    logits = torch.tensor([[[[3.0, -1.0]]], [[[1.0, 2.0]]]])
    assert suppress_overlap(logits).flatten().tolist() == [3.0, -10.0, -10.0, 2.0]


def test_every_frame_of_the_past_reaches_the_present_through_gradients(model):
    images, masks = _clip(frames=3, objects=1)
    images.requires_grad_()
    features = model.observe(images)
    memory = Memory()
    for t in range(3):
        prompt = MaskPrompt(masks) if t == 0 else None
        output, memory = model.step(features.pick(t), memory, Place(t, 3), MemoryPolicy(slots=4), prompt)
    output.low_res.sum().backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
