from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.clip import DataError
from data.sample import SamplingConfig, admitted, choose

ANY_TIME = SamplingConfig(1, 3, 0.5, "anywhere")


def bits(*rows):
    return np.array([[c == "#" for c in row] for row in rows])


@settings(deadline=None, max_examples=200)
@given(
    visible=st.integers(1, 6).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=n, max_size=n)
    ),
    length=st.integers(1, 6),
    cap=st.integers(1, 4),
    seed=st.integers(0, 2**62),
    objects=st.sampled_from(["first_frame", "anywhere"]),
)
def test_every_clip_follows_the_policy(visible, length, cap, seed, objects):
    visible = np.array(visible)
    config = SamplingConfig(1, 3, 0.5, objects)
    if not visible.any():
        with pytest.raises(DataError, match="no object is visible"):
            choose(visible, length, cap, config, seed)
        return
    clip = choose(visible, length, cap, config, seed)
    distances = set(np.diff(clip.frames).tolist())
    assert len(clip.frames) == length and len(distances) <= 1
    assert all(1 <= abs(d) <= 3 for d in distances)
    assert 0 <= min(clip.frames) and max(clip.frames) < 12
    assert list(clip.objects) == sorted(set(clip.objects)) and 1 <= len(clip.objects) <= cap
    shown = visible[list(clip.objects)][:, list(clip.frames)]
    assert shown[:, 0].any() and shown.any(1).all()
    if objects == "first_frame":
        assert shown[:, 0].all()


def test_by_default_clips_are_consecutive_frames_and_every_start_is_possible():
    visible = bits("####.###")
    starts = {choose(visible, 3, 3, SamplingConfig(), seed).frames for seed in range(200)}
    assert starts == {(s, s + 1, s + 2) for s in (0, 1, 2, 3, 5)}  # nothing is visible in frame 4


def test_objects_that_appear_later_are_taken_only_when_asked_for():
    visible = bits("######", "..####")
    assert all(choose(visible, 6, 3, SamplingConfig(), s).objects == (0,) for s in range(9))
    assert all(
        choose(visible, 6, 3, SamplingConfig(objects="anywhere"), s).objects == (0, 1) for s in range(9)
    )


def test_an_object_of_the_first_frame_is_always_among_the_chosen():
    visible = bits(".###", "####", ".###", ".###")
    chosen = [choose(visible, 4, 2, SamplingConfig(objects="anywhere"), seed).objects for seed in range(60)]
    assert all(1 in objects for objects in chosen)
    assert {objects for objects in chosen} == {(0, 1), (1, 2), (1, 3)}


def test_time_runs_backwards_as_often_as_asked():
    visible = bits("#" * 20)
    backwards = [choose(visible, 4, 1, SamplingConfig(reverse_probability=0.3), s).frames for s in range(400)]
    share = np.mean([frames[0] > frames[1] for frames in backwards])
    assert share == pytest.approx(0.3, abs=0.07)


def test_a_short_video_uses_the_strides_that_fit():
    strides = {np.diff(choose(bits("#" * 7), 3, 1, ANY_TIME, s).frames)[0] for s in range(200)}
    assert strides == {-3, -2, -1, 1, 2, 3}
    strides = {np.diff(choose(bits("#" * 5), 3, 1, ANY_TIME, s).frames)[0] for s in range(200)}
    assert strides == {-2, -1, 1, 2}


def test_a_start_is_found_whenever_there_is_one():
    visible = bits(".....#")  # only backwards in time, and only at stride 1 or 2
    config = SamplingConfig(1, 9, 0.01)
    assert {choose(visible, 3, 1, config, s).frames for s in range(30)} == {(5, 4, 3), (5, 3, 1)}
    with pytest.raises(
        DataError, match="no object is visible in any frame that a clip of 3 could start with"
    ):
        choose(visible, 3, 1, SamplingConfig(), 0)


def test_too_few_frames_are_named():
    with pytest.raises(DataError, match="has 5 annotated frames, a clip of 4 at stride 2 needs 7"):
        choose(bits("#####"), 4, 1, SamplingConfig(2, 3), 0)


def test_an_image_is_a_clip_of_one_frame():
    assert choose(bits("#", "#", "."), 1, 64, SamplingConfig(2, 4), 0).objects == (0, 1)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"stride_min": 0}, "stride"),
        ({"stride_min": 3}, "stride"),
        ({"reverse_probability": 1.5}, "must be from 0 to 1"),
        ({"objects": "all"}, "first_frame or anywhere"),
        ({"min_area": 1.0}, "no object can have both"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(bad, message):
    with pytest.raises(DataError, match=message):
        SamplingConfig(**bad)


def meta_of(object_types=("", "", ""), **extra):
    return SimpleNamespace(object_ids=(1, 2, 3), object_types=object_types, extra=extra)


def test_objects_are_let_in_by_who_drew_them_and_how_sure_the_source_is():
    mixed = meta_of(("manual", "auto", ""), predicted_iou=[0.9, 0.8, None], stability_score=[0.99, 0.2, 0.3])
    cases = [
        ({}, [True, True, True]),
        ({"tracks": "manual"}, [True, False, True]),
        ({"tracks": "auto"}, [False, True, True]),
        ({"min_predicted_iou": 0.85}, [True, False, True]),
        ({"min_stability": 0.25}, [True, False, True]),
        ({"min_stability": 0.25, "tracks": "auto"}, [False, False, True]),
    ]
    for settings_, expected in cases:
        assert admitted(mixed, SamplingConfig(**settings_)).tolist() == expected
    assert admitted(meta_of(), SamplingConfig(min_stability=0.9)).all()  # the source has no such score
    assert admitted(meta_of(stability_score="broken"), SamplingConfig(min_stability=0.9)).all()
