"""J&F by what kind of object it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sam2.evaluation.attributes import KINDS, Trace, by_kind, traces
from sam2.evaluation.label_maps import write_label_map
from sam2.evaluation.scores import ObjectScore


def score(frames: int, object_id: int | str = 1, jf: float = 50.0, sequence: str = "v") -> ObjectScore:
    return ObjectScore(sequence, object_id, jf, jf, tuple(f"{t:05d}" for t in range(frames)))


def moving(sides: list[int], step: int) -> Trace:
    area = np.array([side * side for side in sides])
    place = np.where(area > 0, np.arange(len(sides)) * float(step), np.nan)
    return Trace(area, place, np.where(area > 0, 0.0, np.nan))


def groups(trace: Trace) -> dict[str, str | None]:
    return {kind.name: kind.group(trace) for kind in KINDS}


def test_groups_of_made_up_traces():
    still = moving([20] * 99, 0)
    assert groups(still) == {
        "size": "small",
        "length": "short",
        "absence": "never",
        "returns": "none",
        "motion": "slow",
    }
    busy = moving(([40] * 80 + [0] * 20) * 5, 4)
    assert groups(busy) == {
        "size": "medium",
        "length": "long",
        "absence": "at times",
        "returns": "several",
        "motion": "medium",
    }
    assert busy.absence == 0.2 and busy.returns == 4 and busy.motion == pytest.approx(0.1) and busy.side == 40


def test_limits_belong_to_the_group_above():
    assert (
        groups(moving([32] * 100, 0))["size"] == "medium"
        and groups(moving([32] * 100, 0))["length"] == "medium"
    )
    assert groups(moving([96, 0, 96, 96], 96))["absence"] == "often"
    assert groups(moving([96, 0, 96, 96], 96))["motion"] == "fast"
    assert groups(moving([10, 0, 10], 5))["motion"] is None  # never on two frames in a row
    assert groups(moving([10, 0, 10], 5))["returns"] == "one"


def test_traces_are_read_from_the_true_masks(tmp_path: Path):
    for t in range(4):
        ids = np.zeros((30, 40), np.uint8)
        if t != 2:
            ids[3 : 3 + 4, 5 + 2 * t : 5 + 2 * t + 6] = 1
        ids[20:22, 0:3] = 7
        write_label_map(tmp_path / "v" / f"{t:05d}.png", ids)
        write_label_map(tmp_path / "s" / "003" / f"{t:05d}.png", (ids == 7).astype(np.uint8))
    done: list[tuple[int, int]] = []
    found = traces(
        tmp_path, [score(4), score(3, 7), score(4, "003", sequence="s")], lambda *counts: done.append(counts)
    )
    assert found[0].area.tolist() == [24, 24, 0, 24]
    np.testing.assert_allclose(found[0].x, [7.5, 9.5, np.nan, 13.5])
    np.testing.assert_allclose(found[0].y, [4.5, 4.5, np.nan, 4.5])
    assert found[0].motion == pytest.approx(2 / np.sqrt(24))
    assert found[1].area.tolist() == [6, 6, 6] and found[2].area.tolist() == [6] * 4
    assert done[-1] == (8, 8)  # a file with two objects is read once


def test_means_are_over_the_objects_of_a_group():
    objects = [score(3, 1, 80.0), score(3, 2, 60.0), score(3, 3, 20.0)]
    table = by_kind(objects, [moving([10] * 3, 0), moving([10] * 3, 0), moving([200] * 3, 0)])
    assert table["size"]["groups"]["small"] == {"J&F": 70.0, "J": 70.0, "F": 70.0, "objects": 2}
    assert table["size"]["groups"]["large"]["J&F"] == 20.0
    assert list(table["size"]["groups"]) == ["small", "large"]
    assert table["size"]["limits"] == {"small": 32, "medium": 96, "large": None}
    assert sum(numbers["objects"] for numbers in table["motion"]["groups"].values()) == 3
