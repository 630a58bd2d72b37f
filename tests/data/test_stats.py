"""What is said of a data set is so: counted by hand, and the same for shards and for what they were made from."""

import json

import numpy as np
import pytest

from data.checking.check_source import open_source
from data.facts import facts_of_shards, facts_of_source
from data.index import ShardIndex
from data.stats import gather, motion, reappearances, spread
from data.write import convert
from tests.data.test_check_source import cut_jpeg, relabel, videos


@pytest.fixture
def shards(tmp_path):
    convert(open_source("mose", videos(tmp_path / "raw")), tmp_path / "out")
    return tmp_path / "out"


def test_numbers_are_those_counted_by_hand(shards):
    found = gather(facts_of_shards(ShardIndex.load(shards), False, 2)).summary()
    counts = {
        name: found[name] for name in ("clips", "images", "videos", "annotated_frames", "objects", "masks")
    }
    assert counts == {"clips": 2, "images": 0, "videos": 2, "annotated_frames": 6, "objects": 4, "masks": 12}
    spreads = found["distributions"]
    assert (spreads["short_side"]["min"], spreads["long_side"]["max"]) == (32, 48)
    assert spreads["frames"]["median"] == 3 and spreads["seconds"]["median"] == pytest.approx(2 / 5)
    assert spreads["area"]["min"] == spreads["area"]["max"] == 96 / (32 * 48)  # 8 x 12 pixels each
    assert spreads["visibility"]["min"] == 1 and spreads["reappearances"]["max"] == 0
    moves = [0, 0, 1 / np.sqrt(96), 1 / np.sqrt(96)]  # of each video one object walks a pixel a frame
    assert [spreads["motion"][k] for k in ("min", "median", "max")] == pytest.approx(
        [moves[0], np.median(moves), moves[-1]]
    )
    assert found["sources"] == {"mose": 2} and found["splits"] == {"raw": 2}
    assert found["licenses"] == {"CC BY-NC-SA 4.0": 2}
    json.dumps(found)


@pytest.mark.parametrize("is_fast", [False, True])
def test_shards_and_what_they_were_made_from_are_told_alike(tmp_path, is_fast):
    root = videos(tmp_path / "raw")
    relabel(root / "Annotations/cat/00001.png", i2=0)
    source = open_source("mose", root)
    convert(source, tmp_path / "out")
    ours = gather(facts_of_shards(ShardIndex.load(tmp_path / "out"), is_fast, 1)).summary()
    theirs = gather(facts_of_source(source, is_fast, 2)).summary()
    assert ours["distributions"] == theirs["distributions"]
    assert ours["distributions"]["reappearances"]["max"] == 1
    assert ("area" in ours["distributions"]) != is_fast
    if not is_fast:
        assert ours == theirs


def test_clips_that_cannot_be_read_are_listed_and_pictures_are_not_decoded(tmp_path):
    root = videos(tmp_path)
    cut_jpeg(root)
    (root / "Annotations/dog/00010.png").write_bytes(b"")
    done = []
    found = gather(facts_of_source(open_source("mose", root), False, 1, lambda *counts: done.append(counts)))
    assert found.clips == 1 and len(found.unreadable) == 1 and "00010.png" in found.unreadable[0]
    assert done == [(1, 2), (2, 2)]


def test_an_object_comes_back_as_often_as_it_was_away_in_between():
    rows = ["000000", "111111", "010101", "110011", "000100"]
    visible = np.array([[c == "1" for c in row] for row in rows])
    assert reappearances(visible).tolist() == [0, 0, 2, 1, 0]


def test_motion_is_measured_in_the_side_length_of_the_object_and_not_over_gaps():
    areas = np.array([[16, 16, 0, 16], [4, 0, 4, 0]])
    centres = np.full((2, 4, 2), np.nan)
    centres[0, [0, 1, 3]] = [(0, 0), (3, 4), (90, 90)]
    centres[1, [0, 2]] = [(0, 0), (9, 9)]
    assert motion(areas, centres).tolist() == [5 / 4]


@pytest.mark.parametrize(
    ("values", "is_log", "edges", "counts"),
    [
        ([2, 3, 3], False, [1.5, 2.5, 3.5], [1, 2]),
        ([5], False, [4.5, 5.5], [1]),
        ([0, 50, 100, 100], False, list(range(0, 101, 10)), [1, 0, 0, 0, 0, 1, 0, 0, 0, 2]),
        ([1e-5, 1e5], True, [10.0**k for k in range(-5, 6)], [1, *[0] * 8, 1]),
        ([0.5], True, None, None),
    ],
)
def test_a_spread_counts_every_value_once(values, is_log, edges, counts):
    found = spread(values, is_log)
    assert (found.min, found.max, found.count) == (min(values), max(values), len(values))
    assert found.median == np.median(values) and found.mean == np.mean(values)
    assert sum(found.counts) == len(values)
    if edges:
        assert found.edges == pytest.approx(edges) and list(found.counts) == counts
