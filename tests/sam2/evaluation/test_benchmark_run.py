"""Sharing videos among processes, and whose a folder of predictions is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2.evaluation.benchmark import Video
from sam2.evaluation.benchmark_run import Predictions, share
from sam2.evaluation.errors import EvaluationError


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


def test_a_job_overwrites_once_and_keeps_what_it_has_made_since(tmp_path):
    def begun(settings: dict, **start: object) -> bool:
        """Whether what a start made is still there when the next one has begun."""
        Predictions(tmp_path, (), ("videos",)).begin(settings, overwrite=True, **start)
        is_there = (tmp_path / "videos").is_dir()
        (tmp_path / "videos").mkdir(exist_ok=True)
        return is_there

    assert not begun({"clicks": 1})
    assert not begun({"clicks": 2}), "outside of a job it overwrites each time"
    assert not begun({"clicks": 3}, job="5", restart=1), "its first start was killed before it came here"
    assert begun({"clicks": 3}, job="5", restart=2)
    assert not begun({"clicks": 3}, job="5", restart=0), "as by hand, twice in one allocation"
    assert not begun({"clicks": 3}, job="6", restart=1)
    with pytest.raises(EvaluationError, match="holds predictions with clicks 3"):
        begun({"clicks": 4}, job="6", restart=2)


def test_overwriting_removes_what_was_made_and_leaves_the_folder_its_own(tmp_path):
    predictions = Predictions(tmp_path, (), ("mose.zip", "videos"))
    predictions.begin({"prompt": "box"})
    (tmp_path / "masks" / "a").mkdir(parents=True)
    (tmp_path / "videos").mkdir()
    for name in ("mose.zip", "results.json", "notes of mine.txt"):
        (tmp_path / name).touch()
    with pytest.raises(EvaluationError, match="holds predictions with prompt 'box', asked for is 'mask'"):
        predictions.begin({"prompt": "mask"})
    predictions.begin({"prompt": "mask"}, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes of mine.txt", "run.json"]
    predictions.begin({"prompt": "mask"})
