"""`sam2 eval volumes`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from sam2.cli.eval import app
from sam2.evaluation import volumes
from sam2.evaluation.surfaces import boundary_iou, dice, hd95, nsd, surface_distances

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})
Labels = NDArray[np.uint8]
SPACING = (3.0, 0.7, 0.5)


def write(folder: Path, volume: Labels) -> None:
    folder.mkdir(parents=True)
    for z, ids in enumerate(volume):
        image = Image.fromarray(ids)
        image.putpalette(bytes(range(256)) * 3)
        image.save(folder / f"{z:03}.png")


def made_up(seed: int) -> tuple[Labels, Labels]:
    """Three objects that touch each other and the edges, (7, 20, 26); in the prediction 3 is missing, 9 surplus."""
    random = np.random.default_rng(seed)
    gt = np.kron(random.integers(0, 4, (4, 4, 4)), np.ones((2, 6, 7)))[:7, :20, :26].astype(np.uint8)
    gt[0, 0, :3], gt[0, 1:, 0] = (1, 2, 3), 0
    pred = np.roll(gt, (1, 2), (0, 2))
    pred[pred == 3] = 9
    return gt, pred


def run(root: Path, *more: object) -> Result:
    words = ["volumes", "--gt", root / "gt", "--pred", root / "pred", *more]
    return RUNNER.invoke(app, list(map(str, words)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed in range(2):
        for side, volume in zip(("gt", "pred"), made_up(seed), strict=True):
            write(tmp_path / side / f"ct{seed}", volume)
    return tmp_path


def scored(root: Path, *more: object) -> Any:
    result = run(root, "--out", root / "new" / "results.json", *more)
    assert result.exit_code == 0, result.output
    return json.loads((root / "new" / "results.json").read_text())


def test_slices_that_pass_give_the_numbers_of_whole_volumes(root: Path) -> None:
    found = scored(root, "--spacing", "3,0.7,0.5", "--tolerance", 2)
    assert [(o["sequence"], o["object"]) for o in found["objects"]] == [
        (f"ct{s}", i) for s in (0, 1) for i in (1, 2, 3)
    ]
    for o in found["objects"]:
        gt, pred = (volume == o["object"] for volume in made_up(int(o["sequence"][2:])))
        apart = surface_distances(gt, pred, SPACING)
        there = [z for z in range(len(gt)) if gt[z].any() or pred[z].any()]
        assert o["slices"] == len(there)
        assert o["Dice"] == pytest.approx(100 * dice(gt, pred), abs=1e-12)
        assert o["HD95"] == hd95(apart)
        assert o["NSD"] == 100 * nsd(apart, 2)
        mean = np.mean([boundary_iou(gt[z], pred[z]) for z in there])
        assert o["Boundary_IoU"] == pytest.approx(100 * mean, abs=1e-12)


def test_means_are_over_objects_and_those_without_hd95_are_counted(root: Path) -> None:
    found = scored(root)
    missed = [o for o in found["objects"] if o["object"] == 3]
    assert all((o["Dice"], o["HD95"], o["NSD"], o["Boundary_IoU"]) == (0, None, 0, 0) for o in missed)
    assert found["without_HD95"] == 2
    for name in ("Dice", "HD95", "NSD", "Boundary_IoU"):
        values = [o[name] for o in found["objects"] if o[name] is not None]
        assert len(values) == (4 if name == "HD95" else 6)
        assert found[name] == pytest.approx(np.mean(values))
    assert (found["format"], found["spacing_mm"], found["tolerance_mm"]) == (
        "sam2-train/volumes/1",
        [1, 1, 1],
        1,
    )
    assert found["sequences"] == 2 and found["slices"] == 14 and len(found["slices_sha256"]) == 64
    assert found["interval"]["Dice"] is None and "they need 5" in found["interval"]["remark"]


def test_five_sequences_have_intervals_around_their_means(root: Path) -> None:
    for seed in range(2, 6):
        for side, volume in zip(("gt", "pred"), made_up(seed), strict=True):
            write(root / side / f"ct{seed}", volume)
    found = scored(root)
    for name in ("Dice", "HD95", "NSD", "Boundary_IoU"):
        low, high = found["interval"][name]
        assert 0 <= low < found[name] < high
    assert f"[{found['interval']['Dice'][0]:.1f}, " in run(root).output
    other = scored(root, "--seed", 3, "--resamples", 300, "--overwrite")["interval"]
    assert (other["seed"], other["resamples"]) == (3, 300) and other["Dice"] != found["interval"]["Dice"]


def test_ids_that_the_truth_has_not_are_noted(root: Path) -> None:
    assert "ct0: predicted ids 9 are not in the truth" in run(root).output
    assert len(scored(root)["notes"]) == 2


def test_a_single_slice_is_an_image(tmp_path: Path) -> None:
    gt, pred = (volume[3:4] for volume in made_up(0))
    write(tmp_path / "gt" / "one", gt)
    write(tmp_path / "pred" / "one", pred)
    (first, *_) = scored(tmp_path, "--spacing", "3,0.7,0.5")["objects"]
    apart = surface_distances(gt[0] == first["object"], pred[0] == first["object"], SPACING[1:])
    assert first["HD95"] == hd95(apart) and first["NSD"] == 100 * nsd(apart, 1)


def test_objects_may_have_folders_of_their_own(tmp_path: Path) -> None:
    for side, volume in zip(("gt", "pred"), made_up(0), strict=True):
        write(tmp_path / side / "ct" / "liver", (volume == 1).astype(np.uint8) * 200)
    (found,) = scored(tmp_path)["objects"]
    gt, pred = (volume == 1 for volume in made_up(0))
    assert found["object"] == "liver" and found["Dice"] == pytest.approx(100 * dice(gt, pred))


def test_the_table_has_the_worst_objects_first_and_says_what_is_left(root: Path) -> None:
    output = run(root, "--rows", 2, "--spacing", "3,0.7,0.5").output
    rows = [line for line in output.splitlines() if line.startswith("│ ct")]
    assert len(rows) == 2 and all(" 3 │" in row and " - │" in row for row in rows)
    assert "4 more objects" in output and "spacing 3 x 0.7 x 0.5 mm" in output
    assert "2 of 6 objects without HD95" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--spacing", "1,1"), "three numbers"),
        (("--spacing", "1,a,1"), "three numbers"),
        (("--spacing", "1,0,1"), "above 0"),
        (("--tolerance", "nan"), "tolerance: expected a number, got nan"),
        (("--tolerance", "-1"), "0 or more"),
        (("--rows", "-1"), "0 or more"),
        (("--sequences", "none.txt"), "no file"),
    ],
)
def test_words_that_cannot_be_meant_end_with_2(root: Path, words: tuple[str, ...], message: str) -> None:
    result = run(root, *words)
    assert result.exit_code == 2 and message in result.output


def test_a_file_that_exists_is_replaced_only_when_asked(root: Path) -> None:
    scored(root)
    out = root / "new" / "results.json"
    before = out.read_bytes()
    assert run(root, "--out", out, "--tolerance", 9).exit_code == 2 and out.read_bytes() == before
    assert scored(root, "--tolerance", 9, "--overwrite")["tolerance_mm"] == 9


def test_slices_that_do_not_fit_are_named(root: Path) -> None:
    last = root / "pred" / "ct1" / "006.png"
    moved = last.rename(last.with_name("007.png"))
    result = run(root)
    assert result.exit_code == 1 and "006.png is missing" in result.output
    last.write_bytes(moved.read_bytes())
    result = run(root)
    assert result.exit_code == 1 and "007.png has no ground truth" in result.output
    moved.unlink()
    for side in ("gt", "pred"):
        Image.new("L", (26, 21)).save(root / side / "ct1" / "006.png")
    result = run(root)
    assert result.exit_code == 1 and "006.png: is 26x21, the first slice" in result.output


def test_a_prediction_with_other_ids_is_refused(root: Path) -> None:
    for path in (root / "pred" / "ct0").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8) * 76).save(path)
    result = run(root)
    assert result.exit_code == 1 and "has the ids 76, none of which" in result.output


def test_a_truth_without_objects_is_refused(root: Path) -> None:
    for path in (root / "gt").rglob("*.png"):
        Image.new("L", (26, 20)).save(path)
    result = run(root)
    assert result.exit_code == 1 and "no slice has an object" in result.output


def test_more_surface_than_memory_is_meant_for_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "MAX_SURFACE", 1000)
    result = run(root)
    assert result.exit_code == 1 and "more than 1000 surface voxels" in result.output
