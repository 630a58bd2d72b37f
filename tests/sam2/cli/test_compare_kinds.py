"""`sam2 compare` on the results of interactive runs, images and volumes, as their verbs write them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from data.scenes.staging import PRESETS
from sam2.cli import app as sam2
from sam2.cli.eval import app
from sam2.evaluation.benchmark import manifest
from sam2.training.made_up import make

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})
KINDS = ("interactive", "image", "volumes")
UNITS = {"interactive": "videos", "image": "images", "volumes": "volumes"}
LEADS = {"interactive": "J&F", "image": "mIoU@1", "volumes": "Dice"}
SIZE = (40, 56)


def evaluated(*words: object) -> Any:
    result = RUNNER.invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output


def compare(*words: object) -> Result:
    return RUNNER.invoke(sam2, ["compare", *map(str, words)])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def write_volumes(root: Path) -> None:
    """Five volumes of two objects, and two predictions; the first misses object 2 of volume 0."""
    for v in range(5):
        random = np.random.default_rng(v)
        gt = np.zeros((3, *SIZE), np.uint8)
        gt[:, 5 : 20 + v, 8:30], gt[1:, 25:35, 30:50] = 1, 2
        sides = {"gt": gt}
        for k, name in enumerate("ab"):
            sides[name] = np.roll(gt, random.integers(0, 4 - k, 2), (1, 2))
        sides["a"][(sides["a"] == 2) & (v == 0)] = 1
        for side, volume in sides.items():
            folder = root / side / f"ct{v}"
            folder.mkdir(parents=True)
            for z, ids in enumerate(volume):
                Image.fromarray(ids).save(folder / f"{z:03}.png")


def write_images(root: Path) -> None:
    (root / "images").mkdir()
    (root / "masks").mkdir()
    random = np.random.default_rng(0)
    for k, name in enumerate("abcde"):
        Image.fromarray(random.integers(0, 256, (*SIZE, 3), np.uint8)).save(root / f"images/{name}.png")
        ids = np.zeros(SIZE, np.uint8)
        ids[5 : 20 + k, 8:30], ids[25:35, 30:50] = 1, 2
        Image.fromarray(ids).save(root / f"masks/{name}.png")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What makes results of each kind, but for the model or prediction and --out."""
    root = tmp_path_factory.mktemp("data")
    write_volumes(root)
    write_images(root)
    with pytest.MonkeyPatch.context() as patch:
        small = replace(PRESETS["easy"], frames=3, height=64, width=96, objects=(1, 1))
        patch.setitem(PRESETS, "short", small)
        make(manifest("davis2017"), root / "davis", 5, preset="short", full=True)
    model = ["random", "--model", "test"]
    return {
        "interactive": ["interactive", *model, "--dataset", "davis2017", "--root", root / "davis"]
        + ["--unofficial", "--frames-budget", 2, "--clicks", 1],
        "image": ["image", *model, "--data", root / "masks", "--images", root / "images", "--clicks", 5],
        "volumes": ["volumes", "--gt", root / "gt", "--spacing", "2,1,1"],
    }


def made(words: dict[str, list[Any]], kind: str, folder: Path, which: str, *more: object) -> Path:
    """A results file of the first or the other model or prediction."""
    if kind == "volumes":
        pred = Path(words[kind][2]).with_name(which)
        evaluated(*words[kind], "--pred", pred, "--out", folder / f"{which}.json", *more)
        return folder / f"{which}.json"
    size = {"a": 64, "b": 32}[which]
    evaluated(*words[kind], "--size", size, "--out", folder / which, *more)
    return folder / which / "results.json"


@pytest.fixture(scope="module")
def files(words: dict[str, list[Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    root = tmp_path_factory.mktemp("results")
    return {kind: [made(words, kind, root / kind, which) for which in "ab"] for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_score_has_an_interval_that_says_how_it_was_made(
    files: dict[str, list[Path]], kind: str
) -> None:
    found = read(files[kind][0])
    interval = found["interval"]
    told = {key: interval[key] for key in ("level", "resamples", "seed", "unit", UNITS[kind], "method")}
    assert told == {
        "level": 0.95, "resamples": 2000, "seed": 0, "unit": UNITS[kind], UNITS[kind]: 5, "method": "bootstrap-t",
    }  # fmt: skip
    scores = {key: value for key, value in found.items() if key in interval and key not in told}
    if kind == "interactive":
        scores |= {f"J&F@{n}": value for n, value in enumerate(found["J&F_after"], 1)}
    assert LEADS[kind] in scores and set(scores) | set(told) | {"remark"} == set(interval)
    for name, value in scores.items():
        if interval[name] is not None:
            low, high = interval[name]
            assert low <= value + 1e-9 and value <= high + 1e-9
    assert interval[LEADS[kind]] is not None


@pytest.mark.parametrize("kind", KINDS)
def test_differences_are_those_of_the_objects(
    files: dict[str, list[Path]], tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "comparison.json"
    result = compare(*files[kind], "--out", out)
    assert result.exit_code == 0, result.output
    first, other = map(read, files[kind])
    found = read(out)
    (against,) = found["comparisons"]
    assert found["of"] == first["format"] and found["unit"] == UNITS[kind] and found[UNITS[kind]] == 5
    assert next(iter(against["numbers"])) == LEADS[kind]
    for name, number in against["numbers"].items():
        if name == "HD95":  # one object of the first file has none
            continue
        at = name.startswith("J&F@") and int(name[4:])
        one, two = (side["J&F_after"][at - 1] if at else side[name] for side in (first, other))
        assert (number["first"], number["other"]) == (pytest.approx(one), pytest.approx(two))
        assert number["difference"] == pytest.approx(two - one) and 0 < number["p"] <= 1
    changes = {row["sequence"]: row["difference"] for row in against[f"per_{UNITS[kind][:-1]}"]}
    of = LEADS[kind].removeprefix("m")
    for name in {o["sequence"] for o in first["objects"]}:
        means = [
            np.mean([o[of] for o in side["objects"] if o["sequence"] == name]) for side in (first, other)
        ]
        assert changes.pop(name) == pytest.approx(means[1] - means[0])
    assert changes == {} and against["wins"] + against["losses"] + against["ties"] == 5
    assert f"{UNITS[kind]} by {LEADS[kind]}: {against['wins']} won, {against['losses']} lost" in result.output


def test_what_one_side_has_not_is_left_out_of_both_and_it_is_said(
    files: dict[str, list[Path]], tmp_path: Path
) -> None:
    result = compare(*files["volumes"], "--out", tmp_path / "out.json")
    first, other = (
        {(o["sequence"], o["object"]): o["HD95"] for o in read(f)["objects"]} for f in files["volumes"]
    )
    both = [key for key in first if first[key] is not None and other[key] is not None]
    assert len(both) == 9 and len(first) == 10
    number = read(tmp_path / "out.json")["comparisons"][0]["numbers"]["HD95"]
    assert (number["unit"], number["less_is_better"], number["objects"]) == ("mm", True, 9)
    assert number["first"] == pytest.approx(np.mean([first[key] for key in both]))
    assert number["other"] == pytest.approx(np.mean([other[key] for key in both]))
    assert number["difference"] == pytest.approx(number["other"] - number["first"])
    assert "HD95: over the 9 of 10 objects that have it in both files" in result.output
    assert "HD95 (mm, less is better)" in result.output


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("interactive", ("--mode", "online"), "protocol is 'interactive-offline' in the first and 'interactive-on"),
        ("interactive", ("--sequences", "video-a,video-b"), "frames_sha256 is"),
        ("image", ("--void", 2), "objects_sha256 is"),
        ("volumes", ("--spacing", "3,1,1"), "spacing_mm is [2.0, 1.0, 1.0] in the first and [3.0, 1.0, 1.0]"),
        ("volumes", ("--tolerance", 2), "tolerance_mm is 1.0 in the first and 2.0"),
        ("volumes", ("--sequences", "ct0,ct1"), "slices_sha256 is"),
    ],
)  # fmt: skip
def test_answers_to_other_questions_are_refused(words, files, tmp_path, kind, more, message) -> None:
    result = compare(files[kind][0], made(words, kind, tmp_path, "b", *more))
    assert result.exit_code == 1 and result.output.count("\n") == 1
    assert f"cannot be compared: {message}" in result.output


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("interactive", "dataset", "mose"),
        ("interactive", "clicks", 2),
        ("interactive", "frames_budget", 3),
        ("interactive", "threshold", 0.5),
        ("image", "clicks", 6),
        ("image", "dataset", "others"),
        ("image", "dataset_sha256", "0" * 64),
        ("image", "void", 255),
    ],
)
def test_runs_that_were_asked_something_else_are_refused(files, tmp_path, kind, key, value) -> None:
    content = read(files[kind][1])
    assert key in content["run"]
    (tmp_path / "b.json").write_text(json.dumps(changed(content, ("run", key), value)))
    result = compare(files[kind][0], tmp_path / "b.json")
    assert result.exit_code == 1 and f"cannot be compared: run.{key} is " in result.output


def test_files_of_two_kinds_are_refused(files: dict[str, list[Path]]) -> None:
    result = compare(files["image"][0], files["volumes"][0])
    assert result.exit_code == 1
    assert (
        "format is 'sam2-train/image-evaluation/1' in the first and 'sam2-train/volumes/1'" in result.output
    )


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("kind", "path", "value", "message"),
    [
        ("interactive", ("J&F_after",), 3, "J&F_after is no list of 1 to 100 numbers"),
        ("interactive", ("J&F_after",), [1.0] * 101, "J&F_after is no list of 1 to 100 numbers"),
        ("interactive", ("J&F_after", 1), 0.5, "J&F@2 is 0.5, its objects give"),
        ("interactive", ("objects", 1, "J&F_after"), [50.0], "objects[1].J&F@2 is missing"),
        ("interactive", ("run",), None, "run is missing, expected settings by name"),
        ("image", ("run", "clicks"), 4, "run.clicks is 4, expected a whole number from 5 on"),
        ("image", ("objects", 0, "NoC@85"), 6, "objects[0].NoC@85 is 6, expected a number from 1 to 5"),
        ("image", ("mIoU@box",), None, "mIoU@box is missing, expected a number from 0 to 100"),
        ("volumes", ("spacing_mm",), [1, 2], "spacing_mm is [1, 2], expected three lengths"),
        ("volumes", ("tolerance_mm",), "1", "tolerance_mm is '1', expected a length"),
        ("volumes", ("objects", 3, "HD95"), 10**400, "expected a number from 0 on"),
        ("volumes", ("objects", 3, "Dice"), None, "objects[3].Dice is missing"),
        ("volumes", ("HD95",), None, "HD95 is None, its objects give"),
    ],
)
def test_a_file_that_was_changed_is_refused_by_its_key(files, tmp_path, kind, path, value, message) -> None:
    (tmp_path / "b.json").write_text(json.dumps(changed(read(files[kind][1]), path, value)))
    result = compare(files[kind][0], tmp_path / "b.json")
    assert result.exit_code == 1 and result.output.count("\n") == 1
    assert "b.json: " in result.output and message in result.output
