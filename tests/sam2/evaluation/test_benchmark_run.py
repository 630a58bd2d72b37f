"""Sharing videos among processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2.evaluation.benchmark import Video
from sam2.evaluation.benchmark_run import share


def videos(weights: list[int]) -> list[Video]:
    def unused(*_: int):
        raise AssertionError("opened")

    return [Video(f"v{k:03d}", unused, unused, unused, weight) for k, weight in enumerate(weights)]


@given(st.lists(st.integers(1, 500), max_size=40), st.integers(1, 9))
def test_together_the_shares_are_every_video_once_whatever_order_they_come_in(weights, world):
    all_videos = videos(weights)
    shares = [[v.name for v in share(all_videos, rank, world)] for rank in range(world)]
    assert sorted(sum(shares, [])) == [v.name for v in all_videos]
    assert shares == [[v.name for v in share(all_videos[::-1], rank, world)] for rank in range(world)]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 9))
def test_no_share_exceeds_another_by_more_than_one_video(weights, world):
    loads = [sum(v.weight for v in share(videos(weights), rank, world)) for rank in range(world)]
    assert max(loads) - min(loads) <= max(weights)


def test_a_share_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="share 3 of 3"):
        share([], 3, 3)
