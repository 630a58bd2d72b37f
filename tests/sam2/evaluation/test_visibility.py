"""Whether a model knows that an object is there."""

from __future__ import annotations

import numpy as np
import pytest

from sam2.evaluation.visibility import Sightings, visibility


def seen(there: str, says: str) -> Sightings:
    return Sightings(*(np.array([letter == "x" for letter in text]) for text in (there, says)))


def test_rates_are_counted_over_the_frames_of_all_objects():
    numbers = visibility([seen("xxxx....", "xxx..x.."), seen("xx......", "xx.....x")])
    assert numbers["miss_rate"] == pytest.approx(100 / 6)
    assert numbers["ghost_rate"] == pytest.approx(100 * 2 / 10)
    assert numbers["balanced_accuracy"] == pytest.approx(50 * (5 / 6 + 8 / 10))


def test_a_return_is_noticed_after_some_frames_or_not_at_all():
    #            back at 3, noticed at once; back at 8, after 2; back at 14, missed
    one = seen("xx.xxx..xxxx..xx", "xx.xxx....xx....")
    numbers = visibility([one])
    assert numbers["reentries"] == 3 and numbers["frames_to_notice"] == 1.0
    assert numbers["noticed"] == pytest.approx(100 * 2 / 3)


def test_an_object_that_is_absent_at_first_comes_back():
    numbers = visibility([seen("..xx", "...x")])
    assert (numbers["reentries"], numbers["frames_to_notice"], numbers["noticed"]) == (1, 1.0, 100.0)


def test_what_has_no_value_is_none():
    always = visibility([seen("xxx", "x.x")])
    assert always["ghost_rate"] is None and always["balanced_accuracy"] is None
    assert always["reentries"] == 0 and always["noticed"] is None and always["frames_to_notice"] is None
    never = visibility([seen("..", ".x")])
    assert never["miss_rate"] is None and never["ghost_rate"] == 50.0
    assert set(visibility([]).values()) == {None, 0.0}


def test_a_model_that_knows_everything_is_perfect_and_its_opposite_is_not():
    there = "xx..xx.x"
    opposite = "".join("." if letter == "x" else "x" for letter in there)
    assert visibility([seen(there, there)])["balanced_accuracy"] == 100.0
    assert visibility([seen(there, opposite)])["balanced_accuracy"] == 0.0
