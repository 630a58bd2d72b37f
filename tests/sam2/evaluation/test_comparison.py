"""Paired comparison of results, and the reader of results files."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2.evaluation.comparison import EXACT_VIDEOS, compare, sign_flip
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.results_file import read_results
from sam2.evaluation.uncertainty import Bootstrap


def content(seed: int = 0, videos: int = 12, protocol: str = "vos") -> dict[str, Any]:
    """A results file; in LVOS and YouTube-VOS every third video is unseen."""
    random = np.random.default_rng(seed)
    parted = protocol in ("lvos", "ytvos")
    numbers = np.random.default_rng(99).geometric(0.5, videos)
    objects = [
        {"sequence": f"v{v:02d}", "object": i, "J": 100 * random.beta(5, 2), "F": 100 * random.beta(6, 2)}
        | ({"part": "seen" if v % 3 else "unseen"} if parted else {})
        for v in range(videos)
        for i in range(1, 1 + numbers[v])
    ]
    made = {
        "format": "sam2-train/evaluation/1",
        "protocol": protocol,
        "protocol_version": 1,
        "as_published": False,
        "all_frames": False,
        "frames_sha256": "0" * 64,
        "objects": objects,
    }
    return with_totals(made)


def with_totals(made: dict[str, Any]) -> dict[str, Any]:
    """The same with the means of its objects."""
    objects = made["objects"]
    for o in objects:
        o["J&F"] = (o["J"] + o["F"]) / 2
    mean = lambda name, part=None: float(  # noqa: E731
        np.mean([o[name] for o in objects if part in (None, o.get("part"))])
    )
    made.update({name: mean(name) for name in ("J&F", "J", "F")})
    if "part" in objects[0]:
        by_part = (mean("J&F", "seen") + mean("J&F", "unseen")) / 2
        made |= {"lvos": {"J&F": by_part}, "ytvos": {"G": by_part}}[made["protocol"]]
    return made


def write(path: Path, made: Any) -> Path:
    path.write_text(json.dumps(made))
    return path


def pair(tmp_path: Path, one: dict[str, Any], two: dict[str, Any]) -> tuple[Any, Any]:
    return read_results(write(tmp_path / "a.json", one)), read_results(write(tmp_path / "b.json", two))


# ----------------------------------------------------------------------------------------------- the numbers


def test_equal_files_differ_by_nothing_and_prove_nothing(tmp_path):
    found = compare(*pair(tmp_path, content(), content()))
    for d in found.differences:
        assert (d.difference, d.interval, d.p) == (0, (0, 0), 1)
    assert found.outcome == {"wins": 0, "losses": 0, "ties": 12}
    assert found.gains(5) == found.losses(5) == []


def test_a_constant_gain_is_sure(tmp_path):
    better = content()
    for o in better["objects"]:
        o["J"] = o["J"] * 0.9 + 1.5
    base = json.loads(json.dumps(better))
    for o in base["objects"]:
        o["J"] -= 1.5
    found = compare(*pair(tmp_path, with_totals(base), with_totals(better)))
    j = next(d for d in found.differences if d.name == "J")
    assert j.difference == pytest.approx(1.5) and j.interval == pytest.approx((1.5, 1.5))
    assert j.p == 2 / 2**12 and found.outcome["wins"] == 12  # all signs alike: 2 of 2^12 patterns


@pytest.mark.parametrize("protocol, lead", [("vos", "J&F"), ("lvos", "J&F"), ("ytvos", "G")])
def test_differences_are_those_of_the_files_and_the_leading_number_is_first(tmp_path, protocol, lead):
    one, two = content(1, 30, protocol), content(2, 30, protocol)
    found = compare(*pair(tmp_path, one, two))
    assert found.differences[0].name == lead
    for d in found.differences:
        assert d.first == pytest.approx(one[d.name]) and d.other == pytest.approx(two[d.name])
        assert d.difference == pytest.approx(two[d.name] - one[d.name])
        assert d.interval is not None and d.interval[0] < d.difference < d.interval[1]


def test_the_other_way_round_is_the_same_with_the_sign_turned(tmp_path):
    one, two = pair(tmp_path, content(1), content(2))
    for there, back in zip(compare(one, two).differences, compare(two, one).differences, strict=True):
        assert there.difference == pytest.approx(-back.difference) and there.p == back.p
        # the ends are values that were drawn, for 2.5 % the next lower and for 97.5 % the next higher
        assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))


def test_pairing_beats_the_spread_between_videos(tmp_path):
    one, two = content(3, 30), content(3, 30)
    random = np.random.default_rng(0)
    for o in two["objects"]:
        o["J"], o["F"] = (min(100, o[name] + random.uniform(0, 3)) for name in ("J", "F"))
    found = compare(*pair(tmp_path, one, with_totals(two))).differences[0]
    assert found.interval[0] > 0 and found.p < 0.001  # videos differ by tens of points


def test_videos_are_won_and_lost_by_their_own_means(tmp_path):
    one, two = content(1), content(2)
    found = compare(*pair(tmp_path, one, two))

    def means(made: dict[str, Any]) -> dict[str, float]:
        names = {o["sequence"] for o in made["objects"]}
        return {n: np.mean([o["J&F"] for o in made["objects"] if o["sequence"] == n]) for n in names}

    before, after = means(one), means(two)
    change = {name: after[name] - before[name] for name in before}
    assert {v.sequence: pytest.approx(v.difference) for v in found.videos} == change
    assert found.outcome["wins"] == sum(c > 0 for c in change.values())
    assert [v.sequence for v in found.gains(3)] == sorted(change, key=lambda n: -change[n])[:3]
    assert [v.sequence for v in found.losses(2)] == sorted(change, key=change.__getitem__)[:2]


def test_the_seed_decides_and_the_order_of_objects_does_not(tmp_path):
    one, two = content(1, 30), content(2, 30)
    first = compare(*pair(tmp_path, one, two))
    for made in (one, two):
        made["objects"] = made["objects"][::-1]
    assert compare(*pair(tmp_path, one, two)).differences == first.differences
    other = compare(*pair(tmp_path, one, two), Bootstrap(seed=7)).differences
    assert first.flips is not None
    for before, after in zip(first.differences, other, strict=True):
        assert before.interval != after.interval and before.difference == after.difference
        assert before.p == pytest.approx(after.p, abs=0.02)


def test_few_videos_have_a_p_value_and_no_interval(tmp_path):
    found = compare(*pair(tmp_path, content(1, 2), content(2, 2)))
    assert found.differences[0].interval is None and found.differences[0].p in (0.5, 1.0)


def test_what_runs_were_told_differently_is_listed(tmp_path):
    same = {"dataset": "mose", "prompt": "box", "image_size": 1024}
    mine, theirs = {"alpha": 0.2, "beta": 1}, {"alpha": 0.3, "beta": 1}
    one = content() | {"run": same | {"policy": "reference", "speed": {"fps": 1}, "policy_content": mine}}
    two = content() | {"run": same | {"policy": "samurai", "extra": 1, "policy_content": theirs}}
    assert compare(*pair(tmp_path, one, two)).settings == {
        "extra": (None, 1),
        "policy": ("reference", "samurai"),
        "policy_content.alpha": (0.2, 0.3),
    }


# --------------------------------------------------------------------------------------------- the sign flips


@pytest.mark.parametrize("videos", [1, 2, 5, 9])
@pytest.mark.parametrize("seed", [0, 1])
def test_sign_flips_are_all_patterns_one_by_one(videos, seed):
    shares = np.random.default_rng(seed).normal(0.5, 1, videos)
    far = [
        abs(np.dot(signs, shares)) >= abs(shares.sum()) - 1e-12 for signs in product((1, -1), repeat=videos)
    ]
    assert sign_flip(shares, seed) == np.mean(far)


def test_videos_without_a_difference_change_no_p_value():
    shares = np.random.default_rng(5).normal(0.5, 1, 8)
    assert sign_flip(np.concatenate([shares, np.zeros(40)]), 0) == sign_flip(shares, 0)
    assert sign_flip(np.zeros(3), 0) == 1


def test_drawn_patterns_are_near_the_exact_value(monkeypatch):
    shares = np.random.default_rng(2).normal(0.4, 1, EXACT_VIDEOS)
    exact = sign_flip(shares, 0)
    monkeypatch.setattr("sam2.evaluation.comparison.EXACT_VIDEOS", 0)
    drawn = [sign_flip(shares, seed) for seed in range(4)]
    assert len(set(drawn)) > 1 and drawn == pytest.approx([exact] * 4, abs=0.015)  # 4 standard errors
    assert sign_flip(shares, 0) == drawn[0]


def test_p_values_are_even_where_nothing_differs():
    random = np.random.default_rng(1)
    found = [sign_flip(random.normal(0, 1, 10), 0) for _ in range(1000)]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=0.05)


# ------------------------------------------------------------------------------------------------- refusals


def changed(key: str, value: Any) -> dict[str, Any]:
    made = content(2)
    *path, last = key.split(".")
    for name in path:
        made = made[name]
    made[last] = value
    return made


@pytest.mark.parametrize(
    "key, value",
    [
        ("protocol", "davis2017"),
        ("protocol_version", 2),
        ("as_published", True),
        ("all_frames", True),
        ("frames_sha256", "1" * 64),
    ],
)
def test_files_that_answer_different_questions_are_refused_by_what_differs(tmp_path, key, value):
    with pytest.raises(
        EvaluationError, match=rf"a\.json and .*b\.json .*: {key} is .* in the first and '?{value}"
    ):
        compare(*pair(tmp_path, content(1), changed(key, value)))


@pytest.mark.parametrize("key, value", [("prompt", "click3"), ("dataset", "mose")])
def test_runs_with_other_prompts_or_data_are_refused(tmp_path, key, value):
    run = {"dataset": "davis2017", "prompt": "mask", "policy": "reference"}
    one, two = content(1) | {"run": run}, content(2) | {"run": run | {key: value}}
    with pytest.raises(EvaluationError, match=rf"run\.{key} is .* and '{value}' in the other"):
        compare(*pair(tmp_path, one, two))
    del two["run"]  # masks from elsewhere do not say
    compare(*pair(tmp_path, one, two))


def test_other_objects_are_refused_by_name(tmp_path):
    less = content(2)
    gone = less["objects"].pop()
    message = rf"a\.json has 1 that the other has not, such as object {gone['object']} of the sequence v11"
    with pytest.raises(EvaluationError, match=message):
        compare(*pair(tmp_path, content(1), with_totals(less)))
    with pytest.raises(EvaluationError, match=r"b\.json has 1 that the other has not"):
        one, two = pair(tmp_path, content(1), content(2))
        compare(replace(one, objects=one.objects[1:]), two)


def test_another_list_of_unseen_videos_is_refused(tmp_path):
    other = content(2, 12, "lvos")
    for o in other["objects"]:
        o["part"] = "unseen" if o["sequence"] < "v05" else "seen"
    with pytest.raises(EvaluationError, match=r"different objects: .* of the sequence v\d\d \((un)?seen\)"):
        compare(*pair(tmp_path, content(1, 12, "lvos"), with_totals(other)))


# --------------------------------------------------------------------------------------------------- reader


def test_a_file_is_read_as_it_was_written(tmp_path):
    made = content(4, 9, "ytvos")
    found = read_results(write(tmp_path / "a.json", made))
    assert found.totals == {name: made[name] for name in ("G", "J&F", "J", "F")}
    assert [(o.sequence, o.object_id, o.part, o.values["J"]) for o in found.objects] == [
        (o["sequence"], o["object"], o["part"], o["J"]) for o in made["objects"]
    ]


def at_object(key: str, value: Any) -> dict[str, Any]:
    made = content()
    made["objects"][1][key] = value
    return made


@pytest.mark.parametrize(
    "made, message",
    [
        ([1], "expected a JSON object, found a list"),
        ({}, "format is missing, expected one of sam2-train/evaluation/1"),
        (content() | {"format": "sam2-train/results/1"}, "format is 'sam2-train/results/1', expected"),
        (content() | {"protocol": "davis2016"}, "protocol is 'davis2016', expected one of davis2017, sav"),
        (content() | {"protocol": ["vos"]}, "protocol is a list, expected printable text"),
        (content() | {"protocol_version": True}, "protocol_version is True, expected a whole number"),
        (content() | {"as_published": 0}, "as_published is 0, expected true or false"),
        (content() | {"frames_sha256": None}, "frames_sha256 is missing"),
        (content() | {"J": "80"}, "J is '80', expected a number from 0 to 100"),
        (content() | {"J&F": 50.0}, r"J&F is 50\.0, its objects give \d"),
        (content() | {"objects": {}}, "objects is an object, expected a list"),
        (content() | {"objects": []}, "objects is empty"),
        (content() | {"objects": [3]}, r"objects\[0\] is 3, expected"),
        (content() | {"run": 3}, "run is 3, expected settings"),
        (at_object("sequence", "a\x1b[2J"), r"objects\[1\]\.sequence is 'a\\x1b\[2J', expected printable"),
        (at_object("sequence", "a" * 2000), r"objects\[1\]\.sequence is 'a+, expected printable"),
        (at_object("object", 1.5), r"objects\[1\]\.object is 1\.5, expected an id or a name"),
        (at_object("object", True), r"objects\[1\]\.object is True"),
        (at_object("J", 101), r"objects\[1\]\.J is 101, expected a number from 0 to 100"),
        (at_object("F", None), r"objects\[1\]\.F is missing"),
        (at_object("part", "old"), r"objects\[1\]\.part is 'old', expected seen or unseen"),
        (at_object("part", "seen"), "some objects have a part and some have none"),
        (content() | {"objects": content()["objects"] * 2}, r"is a second object 1 of the sequence v00"),
        (
            {key: value for key, value in content().items() if "J" not in key and key != "F"},
            "has none of the",
        ),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_by_file_and_key(tmp_path, made, message):
    with pytest.raises(EvaluationError, match=rf"a\.json: .*{message}"):
        read_results(write(tmp_path / "a.json", made))


@pytest.mark.parametrize(
    "raw, message",
    [
        (b"", "is no JSON that can be read"),
        (b"\xff\xfe\xff", "is no JSON that can be read"),
        (b'{"format": NaN}', "has NaN, which is no JSON number"),
        (b"[" * 100_000, "is no JSON that can be read"),
        (b'{"J": ' + b"9" * 10_000 + b"}", "is no JSON that can be read"),
    ],
)
def test_bytes_that_are_no_json_are_refused(tmp_path, raw, message):
    (tmp_path / "a.json").write_bytes(raw)
    with pytest.raises(EvaluationError, match=rf"a\.json: {message}"):
        read_results(tmp_path / "a.json")


def test_a_file_of_any_size_is_not_read_whole(tmp_path, monkeypatch):
    path = write(tmp_path / "a.json", content())
    monkeypatch.setattr("sam2.evaluation.results_file.MAX_BYTES", 1 << 10)
    with pytest.raises(EvaluationError, match="without --per-frame"):
        read_results(path)


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(EvaluationError, match="is no file; name one that sam2 eval score"):
            read_results(path)
