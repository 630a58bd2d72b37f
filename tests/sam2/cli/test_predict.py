"""`sam2 predict`, from the command line to the files; these are read with other libraries than wrote them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco
from typer.testing import CliRunner, Result

from sam2 import checkpoint
from sam2.build_sam import build_sam2_video_predictor
from sam2.cli import app, prediction
from sam2.model.sam2 import SAM2
from sam2.policies import policy_names
from sam2.variants import resolve

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})
HEIGHT, WIDTH, FRAMES, FPS = 50, 75, 6, 12
TWO_OBJECTS = "--object 7 --point 20,20 --point 60,40,- --object 2 --frame 2 --box 30,10,70,45"

Predict = Callable[..., Result]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights, which thinks that every object is visible."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        model = SAM2(resolve("test"))
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5.0)
    checkpoint.export(model, path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright square on its way over a dark, textured ground."""
    path = tmp_path_factory.mktemp("video") / "clip.mkv"
    ground = np.random.default_rng(0).integers(0, 120, (HEIGHT // 5, WIDTH // 5, 3), np.uint8)
    ground = ground.repeat(5, axis=0).repeat(5, axis=1)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
        for t in range(FRAMES):
            picture = ground.copy()
            picture[10:30, 10 + 4 * t : 30 + 4 * t] = (250, 220, 40)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


@pytest.fixture
def predict(weights: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Run the command in an empty folder, on the clip and with the tiny model unless another is named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAM2_CHECKPOINT", raising=False)

    def run(line: str, video: Path = clip, model: str = f"--checkpoint {weights} --model test") -> Result:
        words = ["predict", str(video), "--out", "out", "--device", "cpu", *model.split(), *line.split()]
        return RUNNER.invoke(app, words)

    return run


def succeed(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def refused(result: Result, message: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.output.startswith("error: ") and message in result.output, result.output
    assert "Traceback" not in result.output and result.output.count("\n") == 1
    assert not Path("out").exists()


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def labels(frame: int, out: str = "out") -> NDArray[np.uint8]:
    with Image.open(f"{out}/masks/{frame:05d}.png") as image:
        assert image.mode == "P"
        return np.array(image)


def scores(out: str = "out") -> dict[str, Any]:
    return json.loads(Path(out, "scores.json").read_text())


def pictures(video: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(video)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def test_files_say_what_the_video_predictor_says(predict: Predict, weights: Path, clip: Path) -> None:
    succeed(predict(f"{TWO_OBJECTS} --rle"))
    assert tree(Path("out")) == [
        "masks.json",
        *(f"masks/{i:05d}.png" for i in range(FRAMES)),
        "overlay.mp4",
        "scores.json",
    ]

    predictor = build_sam2_video_predictor("test", weights, "cpu")
    state = predictor.init_state(clip)
    predictor.add_new_points_or_box(state, 0, 7, [[20, 20], [60, 40]], [1, 0])
    predictor.add_new_points_or_box(state, 2, 2, box=[30, 10, 70, 45])
    runs = json.loads(Path("out/masks.json").read_text())
    found = scores()
    visited = list(predictor.propagate_in_video(state, progress=False))
    assert (
        [frame for frame, *_ in visited]
        == [frame["frame"] for frame in found["frames"]]
        == list(range(FRAMES))
    )
    overlapping = 0
    for frame, ids, logits in visited:
        masks = {object_id: (logits[i, 0] > 0).numpy() for i, object_id in enumerate(ids)}
        packed = runs["frames"][frame]["objects"]
        assert packed.keys() == {"7", "2"}
        for object_id, mask in masks.items():
            decoded = coco.decode(packed[str(object_id)])
            assert decoded.shape == (HEIGHT, WIDTH) and (decoded == mask).all()
            assert found["frames"][frame]["objects"][str(object_id)]["area_px"] == mask.sum()
        winner = np.array(ids)[logits[:, 0].argmax(0).numpy()]
        union = masks[7] | masks[2]
        assert (labels(frame) == np.where(union, winner, 0)).all()
        overlapping += (masks[7] & masks[2]).sum()
    assert overlapping > 0 and 0 < union.sum() < union.size


def test_scores_are_the_models_and_the_report_says_what_ran(
    predict: Predict, weights: Path, clip: Path
) -> None:
    succeed(predict(TWO_OBJECTS + " --policy reference"))
    found = scores()
    head = {name: value for name, value in found.items() if name != "frames"}
    assert head == {
        "program": "sam2 predict",
        "video": str(clip),
        "height": HEIGHT,
        "width": WIDTH,
        "video_frames": FRAMES,
        "checkpoint": str(weights),
        "model": "test",
        "image_size": 64,
        "policy": "reference",
        "policy_settings": {"_target_": "sam2.policies.policy.Policy"},
        "device": "cpu",
        "direction": "forward",
        "prompts": [
            {"object": 7, "frame": 0, "points": [[20, 20], [60, 40]], "labels": [1, 0]},
            {"object": 2, "frame": 2, "box": [30, 10, 70, 45]},
        ],
    }
    predictor = build_sam2_video_predictor("test", weights, "cpu")
    state = predictor.init_state(clip)
    predictor.add_new_points_or_box(state, 0, 7, [[20, 20], [60, 40]], [1, 0])
    predictor.add_new_points_or_box(state, 2, 2, box=[30, 10, 70, 45])
    for found_frame, answer in zip(
        found["frames"], predictor.propagate_in_video(state, progress=False, return_scores=True), strict=True
    ):
        given = answer[-1]
        for i, object_id in enumerate(answer[1]):
            said = found_frame["objects"][str(object_id)]
            assert said["iou"] == pytest.approx(given["iou"][i].item(), abs=1e-6)
            assert said["object_logit"] == pytest.approx(given["object"][i].item(), abs=1e-6)


def test_the_overlay_shows_the_masks_over_the_frames(predict: Predict, clip: Path) -> None:
    succeed(predict("--box 10,10,30,30 --rle"))
    with av.open("out/overlay.mp4") as file:
        stream = file.streams.video[0]
        assert stream.average_rate == FPS
        # odd sides get one more row or column
        assert (stream.height, stream.width) == (HEIGHT, WIDTH + 1)
    drawn, plain = pictures(Path("out/overlay.mp4")), pictures(clip)
    assert len(drawn) == len(plain) == FRAMES
    runs = json.loads(Path("out/masks.json").read_text())["frames"]
    for picture, frame, run in zip(drawn, plain, runs, strict=True):
        mask = coco.decode(run["objects"]["1"]).astype(bool)
        assert 0.05 < mask.mean() < 0.95
        seen, red = picture[:, :WIDTH].astype(float), np.array([128.0, 0, 0])
        # the median: edges are blurred, outlined, and the number of the object is somewhere
        assert np.abs(np.median(seen[~mask] - 0.8 * frame[~mask], axis=0)).max() < 8
        assert np.abs(np.median(seen[mask] - (0.55 * frame[mask] + 0.45 * red), axis=0)).max() < 25


def test_where_objects_overlap_the_overlay_shows_what_the_pngs_say(
    predict: Predict, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[NDArray[np.uint8]] = []
    monkeypatch.setattr(prediction, "write_pictures", lambda path, pictures, fps: drawn.extend(pictures))
    succeed(predict("--object 2 --box 10,5,60,45 --object 7 --box 20,10,70,45 --rle --max-frames 2"))
    checked = 0
    for t, (picture, frame) in enumerate(zip(drawn, pictures(clip), strict=False)):
        runs = json.loads(Path("out/masks.json").read_text())["frames"][t]["objects"]
        both = np.all([coco.decode(runs[name]) > 0 for name in ("2", "7")], axis=0)
        assert both.any()
        with Image.open(f"out/masks/{t:05d}.png") as image:
            palette = np.array(image.getpalette(), float).reshape(-1, 3)
        ids = labels(t)
        for name in (2, 7):
            here = both & (ids == name)
            shares = []
            for colour in (palette[name], palette[9 - name]):
                filled = 0.55 * frame[here] + 0.45 * colour
                off = [np.abs(picture[here] - drawn).max(axis=1) for drawn in (filled, colour)]  # or outline
                shares.append((np.minimum(*off) < 1).mean())
            if here.sum() > 50:
                checked += 1
                assert shares[0] > 0.6 and shares[1] < 0.2  # the rest lies under the numbers
    assert checked


def test_frames_a_second_can_be_chosen_and_the_overlay_left_out(predict: Predict) -> None:
    succeed(predict("--point 20,20 --fps 29.97 --max-frames 2"))
    with av.open("out/overlay.mp4") as file:
        assert float(file.streams.video[0].average_rate) == pytest.approx(29.97, abs=1e-3)
    succeed(predict("--point 20,20 --no-overlay --force"))
    assert not Path("out/overlay.mp4").exists() and Path("out/scores.json").exists()


@pytest.mark.parametrize(
    ("line", "frames"),
    [
        ("--frame 2 --point 20,20", [2, 3, 4, 5]),
        ("--frame 2 --point 20,20 --frame 4 --point 20,20 --both", [0, 1, 2, 3, 4, 5]),
        ("--frame 2 --point 20,20 --frame 4 --point 20,20 --reverse", [0, 1, 2, 3, 4]),
        ("--frame 2 --point 20,20 --max-frames 2", [2, 3]),
        ("--frame 2 --point 20,20 --max-frames 2 --both", [1, 2, 3]),
        ("--frame 0 --point 20,20 --reverse", [0]),
        ("--frame 5 --point 20,20 --max-frames 99", [5]),
    ],
)
def test_frames_on_the_asked_side_are_followed_in_the_order_of_time(
    predict: Predict, line: str, frames: list[int]
) -> None:
    succeed(predict(line))
    assert [frame["frame"] for frame in scores()["frames"]] == frames
    assert tree(Path("out/masks")) == [f"{frame:05d}.png" for frame in frames]
    assert len(pictures(Path("out/overlay.mp4"))) == len(frames)


def test_going_back_equals_the_predictor_going_back(predict: Predict, weights: Path, clip: Path) -> None:
    succeed(predict("--frame 3 --point 40,20 --both"))
    predictor = build_sam2_video_predictor("test", weights, "cpu")
    state = predictor.init_state(clip)
    predictor.add_new_points_or_box(state, 3, 1, [[40, 20]], [1])
    for reverse in (False, True):
        for frame, _, logits in predictor.propagate_in_video(state, reverse=reverse, progress=False):
            assert (labels(frame) == (logits[0, 0] > 0).numpy()).all()


@pytest.mark.parametrize("policy", policy_names())
def test_every_memory_policy_can_be_asked_for(predict: Predict, policy: str) -> None:
    succeed(predict(f"{TWO_OBJECTS} --policy {policy} --no-overlay"))
    found = scores()
    assert found["policy"] == policy and len(found["frames"]) == FRAMES


def test_the_settings_of_a_policy_are_recorded(predict: Predict) -> None:
    Path("mine.yaml").write_text("_target_: sam2.policies.samurai.Samurai\nalpha: 0.3\nmin_object: -.inf\n")
    succeed(predict("--point 20,20 --policy mine.yaml --max-frames 1 --no-overlay"))
    settings = scores()["policy_settings"]
    assert scores()["policy"] == "mine.yaml" and settings["_target_"] == "sam2.policies.samurai.Samurai"
    assert (settings["alpha"], settings["min_object"], settings["stable_frames"]) == (0.3, "-inf", 15)


@pytest.mark.parametrize(
    ("line", "warned"),
    [
        ("--point 20,20,-", True),
        ("--point 20,20,- --point 40,20", False),
        ("--point 20,20,- --box 10,10,30,30", False),
        ("--point 20,20 --frame 1 --point 20,20,-", False),
        ("--frame 1 --point 20,20 --frame 0 --point 20,20,-", True),
        ("--frame 1 --point 20,20 --frame 0 --point 20,20,- --reverse", False),
    ],
)
def test_an_object_that_begins_with_a_click_beside_it_is_warned_of(
    predict: Predict, line: str, warned: bool
) -> None:
    said = succeed(predict(f"{line} --no-overlay --max-frames 2"))
    assert ("warning: object 1 on frame 0: begins with a click beside it alone" in said) == warned


@pytest.mark.parametrize(
    ("config", "prompt", "warned"),
    [
        ({"prompts": {"point_start": 0.0}, "data": {"frames": 3}}, "--point 20,20", True),
        ({"prompts": {"point_start": 0.0}, "data": {"frames": 3}}, "--box 10,10,30,30", True),
        ({"prompts": {"point_start": 0.0}, "data": {"frames": 3}}, "--mask mask.png", False),
        ({"prompts": {"point_start": 0.0}, "data": {"frames": 1}}, "--point 20,20", False),
        ({"prompts": {"point_start": 0.5}, "data": {"frames": 3}}, "--point 20,20", False),
    ],
)
def test_clicks_for_a_model_that_was_trained_from_masks_are_warned_of(
    predict: Predict, weights: Path, config: dict[str, Any], prompt: str, warned: bool
) -> None:
    Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save("mask.png")
    Path("run/export").mkdir(parents=True)
    Path("run/export/model.pt").write_bytes(weights.read_bytes())
    Path("run/run.json").write_text("{}")
    Path("run/config.yaml").write_text(json.dumps({"model": {"name": "test"}, **config}))
    said = succeed(predict(f"{prompt} --max-frames 1 --no-overlay", model="--checkpoint run"))
    assert ("warning: the model was trained from masks only (prompts: masks)" in said) == warned


def test_a_mask_is_taken_as_it_is_and_our_own_files_can_be_prompts(predict: Predict) -> None:
    given = np.zeros((HEIGHT, WIDTH), np.uint8)
    given[8:32, 8:32] = 255
    given[36:48, 40:70] = 255
    Image.fromarray(given).save("mask.png")
    succeed(predict("--object 5 --mask mask.png --max-frames 1"))
    first = labels(0)
    # the mask goes through the model's own resolution
    assert ((first == 5) == (given > 0)).mean() > 0.95
    Path("out").rename("earlier")
    succeed(predict("--object 5 --mask earlier/masks/00000.png --max-frames 1"))
    assert (labels(0) == first).mean() > 0.95


def test_ids_beyond_a_palette_have_run_lengths_alone(predict: Predict) -> None:
    assert "no masks/: PNGs hold ids up to 255" in succeed(
        predict("--object 300 --point 20,20 --rle --max-frames 1")
    )
    assert tree(Path("out")) == ["masks.json", "overlay.mp4", "scores.json"]
    assert "300" in json.loads(Path("out/masks.json").read_text())["frames"][0]["objects"]


def test_a_folder_of_images_and_an_image_are_videos_too(predict: Predict, clip: Path) -> None:
    Path("frames").mkdir()
    for i, picture in enumerate(pictures(clip)[:3]):
        Image.fromarray(picture).save(f"frames/{i}.PNG")
    succeed(predict("--point 20,20", video=Path("frames")))
    assert tree(Path("out/masks")) == ["00000.png", "00001.png", "00002.png"]
    with av.open("out/overlay.mp4") as file:
        assert file.streams.video[0].average_rate == 10
    folder_says = labels(0)
    assert [frame["file"] for frame in scores()["frames"]] == ["0.PNG", "1.PNG", "2.PNG"]
    said = succeed(predict("--point 20,20 --force", video=Path("frames/0.PNG")))
    assert tree(Path("out")) == ["masks/00000.png", "overlay.mp4", "overlay.png", "scores.json"]
    assert (labels(0) == folder_says).all()
    assert "1 object on frame 0: masks/ with 1 PNG, " in said
    with Image.open("out/overlay.png") as image:
        assert image.size == (WIDTH, HEIGHT)


def test_an_existing_result_is_replaced_by_force_alone(predict: Predict) -> None:
    succeed(predict("--point 20,20"))
    before = {name: Path("out", name).read_bytes() for name in tree(Path("out"))}
    result = predict("--point 60,40", model="--checkpoint missing.pt")
    assert (
        result.exit_code == 2 and "--out out is not empty" in result.output
    )  # before anything else is looked at
    assert {name: Path("out", name).read_bytes() for name in tree(Path("out"))} == before
    Path("out/notes.txt").write_text("mine")
    succeed(predict("--point 60,40 --max-frames 2 --overwrite"))  # as the other verbs call it
    assert tree(Path("out")) == [
        "masks/00000.png",
        "masks/00001.png",
        "notes.txt",
        "overlay.mp4",
        "scores.json",
    ]


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 1)]
)
@pytest.mark.parametrize("force", ["", "--force"])
def test_nothing_changes_when_it_stops_half_way(
    predict: Predict, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, force: str
) -> None:
    if force:
        succeed(predict("--point 20,20"))
    before = {name: Path("out", name).read_bytes() for name in tree(Path("out"))}

    def fail(*_: Any) -> None:
        assert len(tree(Path("out"))) > len(before)  # it was at work
        raise error

    monkeypatch.setattr("sam2.cli.prediction.draw_masks", fail)
    result = predict(f"--point 60,40 {force}")
    assert result.exit_code == code and "Traceback" not in result.output
    assert {name: Path("out", name).read_bytes() for name in tree(Path("out"))} == before
    assert Path("out").exists() == bool(force)


def test_what_cannot_be_meant_is_one_line_and_exit_code_2(predict: Predict, tmp_path: Path) -> None:
    Image.fromarray(np.full((HEIGHT, 20), 255, np.uint8)).save("small.png")
    (tmp_path / "empty").mkdir()
    Path("text.mp4").write_text("no video")
    refused(predict(""), "no prompt: say where an object is")
    refused(predict("--point 10"), "--point 10: expected x,y")
    refused(
        predict("--object 3 --point 20,20 --point 80,20"),
        "object 3 on frame 0: point (80, 20) is outside of the frame, 75 wide and 50 high",
    )
    refused(predict("--point -5,3"), "point (-5, 3) is outside of the frame")
    refused(predict("--box 30,10,20,40"), "object 1 on frame 0: box is (30, 10, 20, 40); expected x1 < x2")
    refused(
        predict("--frame 6 --point 20,20"),
        "object 1 on frame 6: there is no frame 6; the video has frames 0 to 5",
    )
    refused(predict("--mask small.png"), "mask small.png is 20x50, the frames are 75x50")
    refused(predict("--mask none.png"), "mask none.png does not exist")
    refused(
        predict("--point 20,20 --policy sam2lng"),
        "no memory policy is called 'sam2lng'; did you mean sam2long?",
    )
    refused(predict("--point 20,20", video=Path("missing.mp4")), "missing.mp4")
    refused(predict("--point 20,20", video=Path("empty")), "empty")
    refused(predict("--point 20,20", video=Path("text.mp4")), "text.mp4")
    refused(predict("--point 20,20 --device cuda:99"), "--device cuda:99")
    refused(
        predict("--point 20,20 --device toaster"),
        "--device toaster: there is no such device; give cpu, cuda or cuda:N",
    )
    result = RUNNER.invoke(app, ["predict", "https://a.org/clip.mp4", "--out", "out", "--point", "2,2"])
    refused(result, "https://a.org/clip.mp4: sam2 predict reads files and folders; download it first")
    result = RUNNER.invoke(app, ["predict", "text.mp4", "--out", "text.mp4/deep/out", "--point", "2,2"])
    refused(result, "--out text.mp4/deep/out: text.mp4 is a file, so no folder can be in it")
    refused(predict("--point 20,20", model="--checkpoint missing.pt"), "missing.pt does not exist")
    assert predict("--point 20,20", model="").output.startswith(
        "error: no checkpoint: $SAM2_CHECKPOINT is not set"
    )
    refused(predict("--point 20,20", model="--checkpoint random"), "--checkpoint random needs --model")
    refused(
        predict("--point 20,20", model="--checkpoint random --model sam2.1_q"),
        "no model is called 'sam2.1_q'; did you mean",
    )


def test_a_video_that_is_cut_off_is_refused_before_the_work(predict: Predict, clip: Path) -> None:
    with av.open("whole.mp4", "w", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH - 1, HEIGHT, "yuv420p"
        for picture in pictures(clip):
            even = np.ascontiguousarray(picture[:, :-1])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        file.mux(stream.encode())
    whole = Path("whole.mp4").read_bytes()
    Path("cut.mp4").write_bytes(whole[:-40])
    refused(predict("--point 20,20", video=Path("cut.mp4")), "cut.mp4, frame 5: the file is cut off after")
    succeed(predict("--point 20,20 --max-frames 2", video=Path("cut.mp4")))
