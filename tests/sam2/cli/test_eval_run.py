"""`sam2 eval run` and `sam2 eval make`, on made-up data in every benchmark's layout."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from data.held_out import HeldOut
from data.scenes.staging import PRESETS
from sam2.checkpoint import export
from sam2.cli.eval import app
from sam2.evaluation.benchmark import manifest, open_benchmark
from sam2.evaluation.benchmark_names import benchmarks
from sam2.evaluation.label_files import read_ids
from sam2.evaluation.report import summarise
from sam2.training.config import ModelConfig
from sam2.training.held_out import score_video
from sam2.training.made_up import make
from sam2.training.module import build_model
from sam2.training.synthetic import SyntheticData, roots
from sam2.training.synthetic import make as make_shards
from tests.sam2.cli.processes import kill_after, run_two

FRAMES = 24
MODEL = ["random", "--model", "test", "--size", "64", "--unofficial"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "short", replace(PRESETS["easy"], frames=FRAMES))
        for name in benchmarks():
            make(manifest(name), root / name, 3, preset="short", full=name != "ytvos")
    return root


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output  # both streams


def evaluated(made: Path, name: str, out: Path, *more: object) -> dict:
    code, output = run("run", *MODEL, "--dataset", name, "--root", made / name, "--out", out, *more)
    assert code == 0, output
    return json.loads((out / "results.json").read_text()) if (out / "results.json").is_file() else {}


@pytest.mark.parametrize("name", benchmarks())
def test_a_benchmark_in_its_own_layout_is_predicted_and_scored(made, tmp_path, name):
    about, out = manifest(name), tmp_path / "out"
    results = evaluated(made, name, out)
    data = open_benchmark(about, made / name)
    for video in data.videos:
        folders = [out / "masks" / video.name / f for f in (video.folders or {0: "."}).values()]
        for folder in folders:
            assert sorted(f.stem for f in folder.glob("*.png")) == sorted(video.wanted().values())
        size = video.open(64).size
        with Image.open(next(folders[0].glob("*.png"))) as image:
            assert image.mode == "P" and (image.height, image.width) == size
        answers = json.loads((out / "answers" / f"{video.name}.json").read_text())
        assert answers["objects"] == len(video.starts()) == len(answers["heard"])
        assert answers["frames"] == FRAMES and answers["seconds"] > 0
    assert (about.archive is not None) == (out / f"{name}.zip").is_file()
    if about.archive is not None:
        with zipfile.ZipFile(out / f"{name}.zip") as archive:
            inside = archive.namelist()
        prefix = f"{about.archive}/" if about.archive else ""
        on_disk = sorted(
            f"{prefix}{p.relative_to(out / 'masks').as_posix()}" for p in (out / "masks").rglob("*.png")
        )
        assert sorted(inside) == on_disk
    if name == "ytvos":
        assert results == {}  # its server keeps the true masks
        return
    assert results["protocol"] == about.protocol and results["run"]["official"] is False
    assert {o["sequence"] for o in results["objects"]} == {v.name for v in data.videos}
    assert len(results["published"]) == len(about.published)
    scored = tmp_path / "scored.json"
    words = ["--meta", made / name / "meta.json"] if about.protocol == "lvos" else []
    code, output = run(
        "score",
        "--protocol",
        about.protocol,
        "--gt",
        data.truth,
        "--pred",
        out / "masks",
        "--out",
        scored,
        *words,
    )
    assert code == 0, output
    alone = json.loads(scored.read_text())
    assert {key: results[key] for key in alone} == alone


def test_late_objects_have_no_pixel_before_they_start(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "late", replace(PRESETS["easy"], frames=FRAMES, late_probability=1))
    make(manifest("lvos"), tmp_path / "lvos", 2, preset="late")
    evaluated(tmp_path, "lvos", tmp_path / "out")
    late = 0
    for video in open_benchmark(manifest("lvos"), tmp_path / "lvos").videos:
        for start in video.starts():
            for frame, name in video.wanted().items():
                if frame < start.frame:
                    late += 1
                    assert not (
                        read_ids(tmp_path / "out/masks" / video.name / f"{name}.png") == start.object_id
                    ).any()
    assert late > 0


@pytest.mark.parametrize("world", [2, 3, 5])
def test_shares_do_every_video_once_and_give_the_number_of_one(made, tmp_path, world, monkeypatch):
    monkeypatch.setattr("sam2.evaluation.memory_growth.WARM_UP", FRAMES - 5)
    monkeypatch.setattr("sam2.evaluation.memory_growth.LEAST", 4)
    whole = evaluated(made, "davis2017", tmp_path / "whole")
    done: list[str] = []
    for rank in range(world):
        results = evaluated(made, "davis2017", tmp_path / "shared", "--share", f"{rank + 1}/{world}")
        now = sorted(p.name for p in (tmp_path / "shared" / "masks").iterdir())
        assert set(done) <= set(now)
        assert bool(results) == (len(now) == 3)
        done = now
    parts = json.loads((tmp_path / "shared" / "results.json").read_text())
    growth = [content["run"].pop("speed")["state_growth_mb"] for content in (whole, parts)]
    assert growth == [0, 0]
    assert parts == whole and whole["calibration"]["choices"] > 0
    assert tree(tmp_path / "whole" / "masks") == tree(tmp_path / "shared" / "masks")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.png")}


@pytest.mark.slow
def test_processes_of_torchrun_share_the_videos(made, tmp_path):
    whole = evaluated(made, "sav_val", tmp_path / "whole")
    words = [*MODEL, "--dataset", "sav_val", "--root", made / "sav_val", "--out", tmp_path / "shared"]
    run_two(["run", *words], tmp_path)
    parts = json.loads((tmp_path / "shared" / "results.json").read_text())
    assert parts["objects"] == whole["objects"] and parts["frames_sha256"] == whole["frames_sha256"]


def test_a_killed_run_goes_on_with_the_videos_that_are_missing(made, tmp_path):
    whole = evaluated(made, "davis2017", tmp_path / "whole")
    out = tmp_path / "killed"
    words = ["run", *MODEL, "--dataset", "davis2017", "--root", made / "davis2017", "--out", out]
    kill_after(words, lambda: [*(out / "masks").glob("[!.]*")], tmp_path)
    done = [*(out / "masks").glob("[!.]*")]
    assert done and not (out / "results.json").exists()
    before = {p: p.stat().st_mtime_ns for p in (out / "masks" / done[0].name).rglob("*.png")}
    (out / "masks/.video-c.99999").mkdir()  # as a process leaves it that is killed within a video
    (out / "masks/.video-c.99999/00000.png").write_bytes(b"half")
    again = evaluated(made, "davis2017", out)
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert sorted(p.name for p in (out / "masks").iterdir()) == ["video-a", "video-b", "video-c"]
    assert again["objects"] == whole["objects"]
    assert tree(out / "masks") == tree(tmp_path / "whole" / "masks")


def test_predictions_of_another_way_are_not_mixed(made, tmp_path):
    first = evaluated(made, "davis2017", tmp_path / "out")
    words = ["run", *MODEL, "--dataset", "davis2017", "--root", made / "davis2017", "--out", tmp_path / "out"]
    code, output = run(*words, "--prompt", "click1")
    assert code == 1 and "holds predictions with prompt 'mask', asked for is 'click1'" in output
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == first
    code, output = run(*words, "--prompt", "click1", "--overwrite")
    assert code == 0, output
    assert json.loads((tmp_path / "out" / "results.json").read_text())["run"]["prompt"] == "click1"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    code, output = run(*words[:-1], tmp_path / "other")
    assert code == 1 and "is not empty and has no run.json" in output


def test_a_policy_is_told_apart_by_what_it_says_and_not_by_its_files_name(made, tmp_path):
    def write(folder: str, alpha: float) -> Path:
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "mine.yaml"
        file.write_text(f"_target_: sam2.policies.samurai.Samurai\nalpha: {alpha}\n")
        return file

    file, copy = write("here", 0.3), write("there", 0.3)
    words = ["run", *MODEL, "--dataset", "davis2017", "--root", made / "davis2017", "--sequences", "video-a"]
    words += ["--out", tmp_path / "out", "--policy"]
    assert run(*words, file)[0] == 0
    told = json.loads((tmp_path / "out/results.json").read_text())["run"]
    assert told["policy"] == "Samurai" and told["policy_content"]["alpha"] == 0.3
    code, output = run(*words, copy)
    assert code == 0 and "1 videos, 0 to do here" in output
    file.write_text(file.read_text().replace("0.3", "0.4"))
    code, output = run(*words, file)
    assert code == 1 and "holds predictions with policy_content" in output and "'alpha': 0.3" in output


@pytest.mark.parametrize("prompt", ["box", "click3"])
@pytest.mark.parametrize("policy", ["reference", "samurai"])
def test_prompts_and_policies_make_other_masks_in_the_same_places(made, tmp_path, prompt, policy):
    options = ("--prompt", prompt, "--policy", policy, "--sequences", "video-a")
    results = evaluated(made, "davis2017", tmp_path / "out", *options)
    assert results["run"]["prompt"] == prompt and results["run"]["policy"] == policy
    assert results["sequences"] == 1 and results["run"]["videos"] == 1


def test_the_chosen_candidate_is_the_mask_that_is_scored(made, tmp_path):
    # one mask a folder here, so that none loses pixels to another
    results, out = evaluated(made, "sav_val", tmp_path / "out", "--prompt", "click1"), tmp_path / "out"
    truth = made / "sav_val/Annotations_6fps"
    words = ["--gt", truth, "--pred", out / "masks", "--out", tmp_path / "scored.json", "--per-frame"]
    assert run("score", "--protocol", "sav", *words)[0] == 0
    chosen, best, first = [], [], []
    for scored in json.loads((tmp_path / "scored.json").read_text())["objects"]:
        video, name = scored["sequence"], scored["object"]
        heard = json.loads((out / "answers" / f"{video}.json").read_text())["heard"][name]
        first.append((heard["chosen_iou"][0], heard["best_iou"][0]))
        pairs = list(zip(heard["chosen_iou"], heard["best_iou"], strict=True))
        by_frame = dict(zip(heard["frame"][1:], pairs[1:], strict=True))
        for frame, j in zip(scored["per_frame"]["frame"], scored["per_frame"]["J"], strict=True):
            if frame in by_frame and read_ids(truth / video / name / f"{frame}.png").any():
                assert by_frame[frame][0] == j <= by_frame[frame][1]
                chosen.append(j)
                best.append(by_frame[frame][1])
    found = results["calibration"]
    assert found["choices"] == found["frames"] == len(chosen) > 0
    assert found["chosen_iou"] == pytest.approx(100 * np.mean(chosen))
    assert found["best_iou"] == pytest.approx(100 * np.mean(best))
    assert found["choice_gap"] == pytest.approx(found["best_iou"] - found["chosen_iou"])
    assert found["click_choices"] == len(first)
    assert [found["click_chosen_iou"], found["click_best_iou"]] == pytest.approx(
        100 * np.array(first).mean(0)
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["random", "--dataset", "davis2017"],
            2,
            "root is not set: name the folder of the download of davis2017",
        ),
        (["random", "--dataset", "shards:x", "--root", "y"], 2, "leave root out"),
        (["random", "--dataset", "shards:x", "--unofficial"], 2, "leave unofficial out"),
        (["random", "--dataset", "davis"], 2, "no benchmark 'davis'; choose one of davis2017"),
        (["random", "--dataset", "mose", "--root", "nowhere"], 1, "--checkpoint random needs --model"),
        (["none.pt", "--dataset", "mose", "--root", "nowhere"], 1, "none.pt"),
        ([*MODEL, "--dataset", "mose", "--root", "nowhere"], 1, "nowhere: is no download of MOSE"),
        (
            [*MODEL, "--dataset", "mose", "--root", "y", "--prompt", "clik"],
            2,
            "prompt is 'clik'; choose one of mask",
        ),
        ([*MODEL, "--dataset", "mose", "--root", "y", "--policy", "samuray"], 1, "did you mean samurai?"),
        ([*MODEL, "--dataset", "mose", "--root", "y", "--share", "3/2"], 1, "share is '3/2'; expected K/N"),
        ([*MODEL, "--dataset", "mose", "--root", "y", "--precision", "half"], 2, "precision"),
    ],
)
def test_what_cannot_be_meant_is_one_line(tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    found, output = run("run", *words)
    assert (found, output.count("error:"), message in output) == (code, 1, True), output
    assert not list(tmp_path.iterdir())


def test_data_that_are_not_the_benchmark_are_refused(made, tmp_path):
    words = [*MODEL[:-1], "--dataset", "davis2017", "--root", made / "davis2017", "--out", tmp_path / "out"]
    code, output = run("run", *words)
    assert code == 1 and "has 3 videos, DAVIS 2017 val has 30" in output
    assert not (tmp_path / "out").exists()


def test_a_video_that_cannot_be_read_stops_the_run_and_spares_the_others(made, tmp_path):
    import shutil

    root = shutil.copytree(made / "davis2017", tmp_path / "davis")
    frame = root / "JPEGImages/480p/video-c/00005.jpg"
    frame.write_bytes(frame.read_bytes()[:100])
    words = ["run", *MODEL, "--dataset", "davis2017", "--root", root, "--out", tmp_path / "out"]
    code, output = run(*words)
    assert code == 1 and "00005.jpg" in output and "video-c" in output
    assert sorted(p.name for p in (tmp_path / "out/masks").iterdir()) == ["video-a", "video-b"]
    shutil.copy(made / "davis2017/JPEGImages/480p/video-c/00005.jpg", frame)
    code, output = run(*words)
    assert code == 0 and "3 videos, 1 to do here" in output


def test_make_says_what_it_made(tmp_path):
    code, output = run("make", "--dataset", "mose", tmp_path / "mose", "--videos", 1, "--preset", "easy")
    assert code == 0 and "mose: 1 videos" in output
    assert len(list((tmp_path / "mose/JPEGImages/00000001").iterdir())) == 72
    assert [p.name for p in (tmp_path / "mose/Annotations/00000001").iterdir()] == ["00000.png"]
    code, output = run("make", "--dataset", "mose", tmp_path / "mose")
    assert code == 1 and "exists; choose another folder" in output
    code, output = run("make", "--dataset", "mose", tmp_path / "other", "--preset", "eazy")
    assert code == 1 and "preset is 'eazy', expected one of easy" in output and "videos is" not in output


def test_masks_are_where_the_surest_object_is(made, tmp_path):
    evaluated(made, "davis2017", tmp_path / "out", "--sequences", "video-a")
    ids = np.stack([read_ids(p) for p in sorted((tmp_path / "out/masks/video-a").glob("*.png"))])
    truth = read_ids(made / "davis2017/Annotations/480p/video-a/00000.png")
    assert set(np.unique(ids)) <= {0, *np.unique(truth).tolist()}
    agree = (ids[0] == truth).mean()
    assert agree > 0.9  # the prompt's own frame, at a quarter of 64 pixels


def test_ones_own_shards_give_the_number_that_training_gives(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "short", replace(PRESETS["easy"], frames=FRAMES))
    wanted = SyntheticData("short", train=1, held_out=3, folder=tmp_path / "videos")
    make_shards(wanted, tmp_path)
    shards = roots(wanted, tmp_path)[1]
    torch.manual_seed(0)
    model = build_model(ModelConfig(name="test", image_size=64)).eval()
    torch.nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 3.0)
    export(model, tmp_path / "model.pt")
    videos = HeldOut.open(shards, 64)
    in_training = summarise("trained", {video.key: score_video(model, video, 4) for video in videos})
    words = [tmp_path / "model.pt", "--model", "test", "--size", "64", "--max-rows", "4"]
    code, output = run("run", *words, "--dataset", f"shards:{shards}", "--out", tmp_path / "out")
    assert code == 0, output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["protocol"] == "davis2017" and results["sequences"] == 3
    assert results["calibration"]["choices"] == results["calibration"]["frames"] > 0
    assert results["J&F"] == pytest.approx(in_training.jf, abs=1e-12) and in_training.jf > 1
    assert [o["frames"] for o in results["objects"]] == [FRAMES // 4 - 2] * len(in_training.objects)
