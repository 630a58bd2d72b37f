from types import SimpleNamespace

import numpy as np
import pytest

from data.clip import DataError
from data.lengths import refuse_short_videos
from data.sample import SamplingConfig, TooFewFrames, choose


def index(*lengths):
    return SimpleNamespace(n_frames=np.array(lengths), root="shards")


def refuse(lengths, frames, fraction=0.01, **sampling):
    refuse_short_videos(index(*lengths), frames, SamplingConfig(**sampling), fraction)


@pytest.mark.parametrize(
    ("lengths", "frames", "fraction", "stride"),
    [
        ([8, 8], 8, 0.0, 1),
        ([8, 7], 8, 0.01, 1),  # one bad sample never stops a run
        ([22, 22], 8, 0.0, 3),
        ([8] * 297 + [2] * 3, 8, 0.01, 1),
        ([8, 2, 2, 2], 8, 1.0, 1),
        ([], 8, 0.0, 1),  # told elsewhere
    ],
)
def test_data_sets_with_few_short_videos_pass(lengths, frames, fraction, stride):
    refuse(lengths, frames, fraction, stride_min=stride, stride_max=stride + 2)


@pytest.mark.parametrize(
    ("lengths", "frames", "fraction", "stride", "found", "remedy"),
    [
        ([8, 8, 9], 10, 1.0, 1, "only 0 of 3 videos in shards have 10 annotated frames (longest: 9)", 9),
        ([7], 8, 0.01, 1, "only 0 of 1 video in shards have 8 annotated frames (longest: 7)", 7),
        (
            [8, 7],
            8,
            0.0,
            1,
            "only 1 of 2 videos in shards have 8 annotated frames (longest: 8; data.max_bad_fraction=0.0 lets 0",
            7,
        ),
        ([21, 20], 8, 0.0, 3, "only 0 of 2 videos in shards have 22 annotated frames (longest: 21)", 7),
        ([8] * 296 + [2, 3, 4, 5], 8, 0.01, 1, "only 296 of 300 videos", 5),
    ],
)
def test_a_data_set_that_is_too_short_is_refused_with_a_length_that_fits(
    lengths, frames, fraction, stride, found, remedy
):
    with pytest.raises(DataError) as error:
        refuse(lengths, frames, fraction, stride_min=stride, stride_max=stride)
    assert found in str(error.value) and f"; lower data.frames to {remedy} or less" in str(error.value)
    refuse(lengths, remedy, fraction, stride_min=stride, stride_max=stride)
    with pytest.raises(DataError, match="lower data.frames"):
        refuse(lengths, remedy + 1, fraction, stride_min=stride, stride_max=stride)


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_a_video_is_too_short_exactly_where_no_clip_can_be_cut(stride):
    config = SamplingConfig(stride_min=stride, stride_max=stride)
    for length in range(1, 30):
        try:
            choose(np.ones((1, length), bool), 4, 1, config, 0)
            is_cut = True
        except TooFewFrames:
            is_cut = False
        try:
            refuse_short_videos(index(length), 4, config, 0.5)
            assert is_cut
        except DataError:
            assert not is_cut
