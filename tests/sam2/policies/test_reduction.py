"""With thresholds that reject nothing every policy gives the reference's logits, in streams and offline."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from sam2.model.memory_bank import Place
from sam2.model.pixels import normalise
from sam2.model.sam2 import SAM2
from sam2.policies import REFERENCE, Policy, find_policy, policy_names
from sam2.policies.bounded import Bounded
from sam2.policies.confidence_gated import ConfidenceGated
from sam2.policies.dam4sam import DAM4SAM
from sam2.policies.pruned import Pruned
from sam2.policies.sam2long import SAM2Long
from sam2.policies.samurai import Samurai
from sam2.policies.strided import Strided
from sam2.tracker import Tracker
from sam2.types import MaskPrompt
from sam2.variants import VARIANTS
from sam2.video_session import VideoSession

NO, ALL = -math.inf, 10**6
TRIVIAL: dict[str, Policy] = {
    "bounded": Bounded(max_prompted=ALL, max_pointers=ALL),
    "confidence_gated": ConfidenceGated(min_iou=NO, min_object=NO),
    "pruned": Pruned(min_similarity=-1, max_age=ALL),
    "sam2long": SAM2Long(paths=1, min_iou=NO, min_object=NO, least_weight=1, most_weight=1),
    "samurai": Samurai(alpha=0, min_mask=NO, min_object=NO, min_motion=NO, stable_frames=1, stable_mask=NO),
    "dam4sam": DAM4SAM(recent=ALL, every=1, anchors=0, min_object=NO),
    "strided": Strided(stride=1),
}
LENGTH, OBJECTS = 12, 2


class Clip:
    """Noise with two drifting squares, as the session wants its frames."""

    size = (64, 64)

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.frames = torch.randint(0, 100, (LENGTH, 3, 64, 64), dtype=torch.uint8, generator=generator)
        for t, frame in enumerate(self.frames):
            frame[:, 5:25, 5 + 2 * t : 25 + 2 * t] += 100
            frame[:, 35:60, 30 - t : 50 - t] += 150

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, frame: int) -> torch.Tensor:
        return self.frames[frame]


@pytest.fixture(scope="module")
def model() -> SAM2:
    torch.manual_seed(0)
    variant = VARIANTS["test"]
    model = SAM2(replace(variant, heads=replace(variant.heads, object_bias=3.0))).eval()
    with torch.no_grad():  # random weights are so small that what is remembered would hardly matter
        for part in (model.memory_attention, model.memory_encoder, model.sam_mask_decoder):
            for parameter in part.parameters():
                parameter *= 2 if parameter.dim() > 1 else 1
        model.maskmem_tpos_enc *= 50
    return model


def _masks() -> torch.Tensor:
    masks = torch.zeros(OBJECTS, 1, 64, 64, dtype=torch.bool)
    masks[0, 0, 5:25, 5:25] = True
    masks[1, 0, 35:60, 30:50] = True
    return masks


@torch.inference_mode()
def stream(model: SAM2, policy: Policy) -> torch.Tensor:
    """Logits (T, O, h, w) of a stream that forgets what it can."""
    tracker, clip, shown = Tracker(model, policy), Clip(), []
    tracks = [tracker.begin() for _ in range(OBJECTS)]
    for t in range(LENGTH):
        features, place = model.observe(normalise(clip[t][None])), Place(t, LENGTH)
        if t in (0, 5):  # a second prompted frame, as if a person had answered it anew
            asked = [MaskPrompt(mask[None]) for mask in _masks()]
            answers = [tracker.ask(features, k, place, p, True) for k, p in zip(tracks, asked, strict=True)]
            tracks = tracker.commit(features, tracks, answers, place, [True] * OBJECTS)
        else:
            found = tracker.advance(features, tracks, place)
            answers, tracks = [a for a, _ in found], [k for _, k in found]
        tracks = [tracker.forget(track, place) for track in tracks]
        shown.append(torch.cat([answer.low_res[:, 0] for answer in answers]))
    return torch.stack(shown)


def offline(model: SAM2, policy: Policy) -> torch.Tensor:
    """Logits of a session: clicks, forward from the middle, then backward, then forward once more."""
    session, shown = VideoSession(model, Clip(), policy=policy), []
    session.add_points_or_box(4, "a", [[20.0, 15.0]], [1])
    session.add_points_or_box(4, "b", box=[28.0, 35.0, 46.0, 60.0])
    for reverse in (False, True):
        shown += [masks.logits for masks in session.propagate(4, None, reverse)]
    session.add_points_or_box(8, "a", [[25.0, 15.0]], [1])
    shown += [masks.logits for masks in session.propagate(6)]
    return torch.stack(shown)


def test_every_shipped_policy_is_compared():
    assert {*TRIVIAL, "reference"} == set(policy_names()), (
        "give a new policy's trivial and strict thresholds here"
    )
    assert TRIVIAL.keys() == STRICT.keys()
    for name, policy in TRIVIAL.items():
        assert type(policy) is type(find_policy(name))


@pytest.mark.parametrize("way", [stream, offline])
@pytest.mark.parametrize("name", TRIVIAL)
def test_trivial_thresholds_are_the_reference(model, name, way):
    torch.testing.assert_close(way(model, TRIVIAL[name]), way(model, REFERENCE), rtol=1e-5, atol=1e-5)


STRICT: dict[str, Policy] = {
    "bounded": Bounded(max_prompted=1, max_pointers=1),
    "confidence_gated": ConfidenceGated(min_iou=1),
    "pruned": Pruned(max_age=1),
    "sam2long": SAM2Long(min_iou=NO, least_weight=0.1, most_weight=3),
    "samurai": Samurai(alpha=1, min_mask=NO, stable_frames=1, stable_mask=NO),
    "dam4sam": DAM4SAM(),
    "strided": Strided(stride=2),
}


@pytest.mark.parametrize("name", TRIVIAL)
def test_strict_thresholds_are_not(model, name):
    """So the comparison above can fail."""
    assert (stream(model, STRICT[name]) - stream(model, REFERENCE)).abs().max() > 1e-2


@pytest.mark.parametrize("policy", [*STRICT.values(), *map(find_policy, policy_names())], ids=repr)
def test_a_stream_that_forgets_gives_what_one_that_remembers_everything_gives(model, policy, monkeypatch):
    bounded = stream(model, policy)
    monkeypatch.setattr(Tracker, "forget", lambda self, track, place: track)
    torch.testing.assert_close(stream(model, policy), bounded, rtol=1e-5, atol=1e-5)
