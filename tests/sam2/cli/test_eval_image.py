"""`sam2 eval image`, on made-up images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sam2.build_sam import build_sam2
from sam2.cli.eval import app
from sam2.evaluation.clicks import next_click
from sam2.evaluation.following import box_around
from sam2.sam2_image_predictor import SAM2ImagePredictor
from tests.sam2.cli.processes import kill_after, run_two

MODEL = ["random", "--model", "test", "--size", "64"]
SIZE = (40, 56)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    random = np.random.default_rng(0)
    for k, name in enumerate("abc"):
        Image.fromarray(random.integers(0, 256, (*SIZE, 3), np.uint8)).save(root / f"images/{name}.png")
        ids = np.zeros(SIZE, np.uint8)
        ids[5 : 20 + k, 8:30], ids[25:35, 30:50] = 1, 2
        Image.fromarray(ids).save(root / f"masks/{name}.png")
    return root


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["image", *(str(word) for word in words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output  # both streams


def found(made: Path, out: Path, *more: object) -> dict:
    words = [*MODEL, "--data", made / "masks", "--images", made / "images", "--out", out, "--clicks", 6]
    code, output = run(*words, *more)
    assert code == 0, output
    return json.loads((out / "results.json").read_text()) if (out / "results.json").is_file() else {}


def test_every_object_is_clicked_and_boxed(made, tmp_path):
    results = found(made, tmp_path / "out")
    assert [(o["sequence"], o["object"]) for o in results["objects"]] == [
        (f"{name}.png", i) for name in "abc" for i in (1, 2)
    ]
    # one object by hand, with the predictor alone
    torch.manual_seed(0)
    predictor = SAM2ImagePredictor(
        build_sam2("test", device="cpu", hydra_overrides_extra=["++model.image_size=64"])
    )
    predictor.set_image(np.asarray(Image.open(made / "images/b.png")).copy())
    truth = np.asarray(Image.open(made / "masks/b.png")) == 2
    clicks, labels, ious, offered, rough, answer = [], [], [], [], None, np.zeros(SIZE, bool)
    for k in range(6):
        click = next_click(truth, answer)
        clicks.append([click.x, click.y])
        labels.append(int(click.is_positive))
        masks, scores, low = predictor.predict(clicks, labels, mask_input=rough, multimask_output=k == 0)
        best = scores.argmax()
        rough, answer = low[best][None], masks[best] > 0
        ious.append((truth & answer).sum() / (truth | answer).sum())
        offered.append([(truth & (m > 0)).sum() / (truth | (m > 0)).sum() for m in masks])
    boxed = predictor.predict(box=box_around(truth), multimask_output=False)[0][0] > 0
    row = results["objects"][3]
    written = json.loads((tmp_path / "out/images/b.png.json").read_text())["objects"][1]
    assert written["ious"] == ious and [c[:2] for c in written["clicks"]] == clicks
    assert [row[f"IoU@{n}"] for n in (1, 3, 5)] == [100 * ious[n - 1] for n in (1, 3, 5)]
    assert row["IoU@box"] == 100 * (truth & boxed).sum() / (truth | boxed).sum()
    assert len(offered[0]) == 3 and row["IoU_best@1"] == 100 * max(offered[0]) >= row["IoU@1"]
    assert row["gap@1"] == pytest.approx(row["IoU_best@1"] - row["IoU@1"])
    assert results["gap@1"] == pytest.approx(np.mean([o["gap@1"] for o in results["objects"]]))
    assert results["gap@1"] > 0
    for key in ("IoU@1", "IoU@3", "IoU@5", "IoU@box", "IoU_best@1"):
        assert results[f"m{key}"] == pytest.approx(np.mean([o[key] for o in results["objects"]]))
    assert results["NoC@90"] == pytest.approx(np.mean([o["NoC@90"] for o in results["objects"]]))
    failed = [o["failed@90"] for o in results["objects"]]
    assert results["failures@90"] == failed.count(100) and results["failed@90"] == np.mean(failed)
    how = {
        key: results["interval"][key]
        for key in ("seed", "resamples", "unit", "images", "mIoU@1", "failed@85")
    }
    assert how == {
        "seed": 0, "resamples": 2000, "unit": "images", "images": 3, "mIoU@1": None, "failed@85": None,
    }  # fmt: skip
    assert results["images"] == 3 and results["run"]["clicks"] == 6


def test_shares_and_a_second_start_give_the_numbers_of_one(made, tmp_path):
    whole, shared = found(made, tmp_path / "whole"), tmp_path / "shared"
    assert found(made, shared, "--share", "1/2") == {}
    assert found(made, shared, "--share", "2/2") == whole
    (shared / "images/a.png.json").unlink()
    kept = (shared / "images/b.png.json").stat().st_mtime_ns
    assert found(made, shared) == whole and (shared / "images/b.png.json").stat().st_mtime_ns == kept


def words_of(made: Path, out: Path) -> list[object]:
    data = ["--data", made / "masks", "--images", made / "images", "--out", out, "--clicks", 6]
    return ["image", *MODEL, *data]


def test_a_killed_run_goes_on_with_the_images_that_are_missing(made, tmp_path):
    whole, out = found(made, tmp_path / "whole"), tmp_path / "killed"
    kill_after(words_of(made, out), lambda: [*out.glob("images/*.json")], tmp_path)
    done = [*out.glob("images/*.json")]
    assert 1 <= len(done) < 3 and not (out / "results.json").exists()
    before = {path: path.stat().st_mtime_ns for path in done}
    assert found(made, out) == whole
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.slow
def test_processes_of_torchrun_share_the_images(made, tmp_path):
    whole = found(made, tmp_path / "whole")
    run_two(words_of(made, tmp_path / "shared"), tmp_path)
    assert json.loads((tmp_path / "shared/results.json").read_text()) == whole
    both = found(made, tmp_path / "shared", "--share", "1/2", "--seed", "5")
    assert both["objects"] == whole["objects"] and both["interval"]["seed"] == 5
    code, output = run(*words_of(made, tmp_path / "shared")[1:], "--share", "1/2", "--overwrite")
    assert code == 1 and "several processes cannot overwrite" in output


def test_a_coco_file_gives_what_a_folder_gives(made, tmp_path):
    images, annotations = [], []
    for k, name in enumerate("abc"):
        images.append({"id": k, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]})
        top, bottom = 5, 20 + k
        for corners in ((8, top, 30, bottom), (30, 25, 50, 35)):
            x1, y1, x2, y2 = corners
            polygon = [[x1, y1, x2, y1, x2, y2, x1, y2]]
            annotations.append({"id": len(annotations) + 1, "image_id": k, "segmentation": polygon})
    crowd = {"id": 99, "image_id": 0, "iscrowd": 1, "segmentation": {"counts": [5, 2235], "size": list(SIZE)}}
    empty = {"id": 98, "image_id": 0, "iscrowd": 0, "segmentation": {"counts": [2240], "size": list(SIZE)}}
    file = tmp_path / "coco.json"
    file.write_text(json.dumps({"images": images, "annotations": [*annotations, crowd, empty]}))
    by_folder = found(made, tmp_path / "folder")
    by_file = found(made, tmp_path / "file", "--data", file)
    assert by_file["skipped"] == {"crowds": 1, "images without objects": 0, "empty masks": 1}
    for key in ("mIoU@1", "mIoU@5", "mIoU@box", "NoC@85", "failures@85"):
        assert by_file[key] == by_folder[key]


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--clicks", "4"], 2, "clicks is 4; it must be at least 5"),
        (["--data", "a.json", "--void", "255"], 2, "void belongs to a folder of masks"),
        (["--data", "a.json"], 1, "a.json: is no JSON that can be read"),
        (["--data", "nowhere"], 1, "nowhere: is no folder"),
        (["--share", "3/2"], 1, "expected K/N"),
        (["--device", "tpu9"], 1, "device tpu9: there is none"),
    ],
)
def test_what_cannot_be_meant_is_one_line(made, tmp_path, monkeypatch, more, code, message):
    monkeypatch.chdir(tmp_path)
    words = [*MODEL, "--data", made / "masks", "--images", made / "images", "--out", tmp_path / "out"]
    status, output = run(*words, *more)
    assert (status, output.count("error:"), message in output) == (code, 1, True), output
    assert not (tmp_path / "out").exists()
