"""A preview shows what the first steps of training see: their clips, their prompts."""

import base64
import io
import re
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from data.encode import EncodeOptions
from data.module import ClipDataModule
from data.sources import load_source
from data.write import ConvertOptions, convert
from sam2.cli.data import app
from sam2.model.sam2 import SAM2
from sam2.training.clip_sheet import NEGATIVE, POSITIVE, TILE_PX, draw_frame
from sam2.training.module import TrainingModule
from sam2.training.preview import preview_config, training_clips
from sam2.training.typed import ConfigError
from sam2.types import MaskPrompt
from tests.data.sav_folder import SavFolder

SETTINGS = ("data.frames=3", "data.batch=2", "data.max_objects=2")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    folder = SavFolder(root)
    for k, name in enumerate("abc"):
        folder.add(name, frames=5 + k, height=48, width=64)
    out = tmp_path_factory.mktemp("shards") / "out"
    convert(load_source("sav", root), out, ConvertOptions(EncodeOptions(preset="ultrafast")))
    return out


def config_of(shards, *settings, seed=5):
    return preview_config(shards, "smoke", (*SETTINGS, *settings), seed)


@pytest.mark.parametrize("warp_on", ["worker", "device"])
def test_clips_are_those_of_the_data_module_at_these_steps(shards, warp_on):
    config = config_of(shards, f"data.warp_on={warp_on}")
    shown = list(islice(training_clips(config, first=2), 6))
    assert [(clip.step, clip.place) for clip in shown] == [(k, p) for k in (2, 3, 4) for p in (0, 1)]
    data = ClipDataModule(config.data, config.image_size, seed=5)
    batches = [data.on_after_batch_transfer(b, 0) for b in islice(data.train_dataloader(), 5)][2:]
    for clip in shown:
        batch = batches[clip.step - 2]
        np.testing.assert_array_equal(clip.frames, batch.frames[:, clip.place].permute(0, 2, 3, 1))
        np.testing.assert_array_equal(clip.masks, batch.masks[:, batch.video_of_object == clip.place])
        assert clip.source == batch.sources[clip.place]


def prompts_of_training(config, steps, monkeypatch):
    """What the model is really asked in each step, by frame, batch by batch: the first answer of every frame."""
    asked, decode = [], SAM2.decode

    def spy(self, seen, conditioned, prompt, policy):
        asked.append(prompt)
        return decode(self, seen, conditioned, prompt, policy)

    monkeypatch.setattr(SAM2, "decode", spy)
    module = TrainingModule(config).eval()
    module.log_dict = lambda *_, **__: None
    data = ClipDataModule(config.data, config.image_size, config.seed)
    found = []
    for step, batch in enumerate(islice(data.train_dataloader(), steps)):
        asked.clear()
        with torch.no_grad():
            module.training_step(batch, step)
        found.append((batch, list(asked)))
    return found


def test_prompts_are_those_that_the_model_is_given_in_training(shards, monkeypatch):
    config = config_of(shards, "prompts.clicks=0")  # without corrections there is one question a frame
    steps = 8
    trained = prompts_of_training(config, steps, monkeypatch)
    clips = list(islice(training_clips(config), 2 * steps))
    kinds = set()
    for clip in clips:
        batch, asked = trained[clip.step]
        mine = batch.video_of_object == clip.place
        for question, frame in zip(asked, clip.plan.order, strict=True):
            if frame not in clip.plan.first:
                assert frame not in clip.prompts and (question.labels == -1).all()
            elif clip.plan.from_masks:
                assert isinstance(question, MaskPrompt) and not clip.prompts
                np.testing.assert_array_equal(question.masks[mine][:, 0], clip.masks[frame])
                kinds.add("masks")
            else:
                np.testing.assert_array_equal(question.points[mine], clip.prompts[frame].points)
                np.testing.assert_array_equal(question.labels[mine], clip.prompts[frame].labels)
                kinds.add("box" if frame in clip.plan.boxes else "click")
    assert kinds == {"masks", "box", "click"}


def test_clicks_are_drawn_where_they_are_in_the_colour_of_their_label(shards):
    config = config_of(
        shards, "prompts.point_start=1", "prompts.box_start=0", "data.sampling.objects=anywhere"
    )
    seen = set()
    for clip in islice(training_clips(config), 24):
        scale = TILE_PX / clip.frames.shape[1]
        for frame, given in clip.prompts.items():
            drawn = np.asarray(draw_frame(clip, frame))
            for k, ((x, y),) in enumerate(given.points.tolist()):
                label = given.labels[k, 0]
                if k == len(given.points) - 1:  # earlier ones may be hidden
                    at = round((y + 0.5) * scale), round((x + 0.5) * scale)
                    colour = drawn[min(at[0], TILE_PX - 1), min(at[1], TILE_PX - 1)].tolist()
                    assert colour == list(POSITIVE if label else NEGATIVE)
                assert label == clip.masks[frame, k, int(y), int(x)]
                seen.add(int(label))
    assert seen == {0, 1}


def test_a_png_and_a_page_hold_as_many_clips_as_asked_for(shards, tmp_path):
    for name in ("clips.png", "clips.html"):
        words = [
            "preview",
            shards,
            tmp_path / name,
            *SETTINGS,
            "--recipe",
            "smoke",
            "--count",
            3,
            "--seed",
            5,
        ]
        result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0 and "clips.html: 3 clips" in result.output.replace(".png", ".html")
    clips = list(islice(training_clips(config_of(shards)), 3))
    text = (tmp_path / "clips.html").read_text()
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(images) == 3 and not re.search(r'(src|href)="(?!data:)', text)
    for raw, clip in zip(images, clips, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(raw))) as picture:
            assert picture.width == 3 * TILE_PX + 2 * 6
            tiles = np.asarray(picture)
        frame = Image.fromarray(clip.frames[1]).resize((TILE_PX, TILE_PX), Image.Resampling.BOX)
        left, top = TILE_PX + 6, tiles.shape[0] - TILE_PX
        outside = ~np.asarray(Image.fromarray(clip.masks[1].any(0)).resize((TILE_PX, TILE_PX)), bool)
        difference = np.abs(tiles[top:, left : left + TILE_PX] - 0.8 * np.asarray(frame, float))[outside]
        assert np.median(difference) < 8  # the frame is there, dimmed where there is no object
    for clip in clips:
        assert f"micro-batch {clip.step}, clip {clip.place}, seed 5: " in text
        assert clip.source.replace('"', "&quot;") in text
    with Image.open(tmp_path / "clips.png") as sheet:
        sheet.load()
        assert sheet.width == 3 * TILE_PX + 2 * 6 + 12 and sheet.height > 3 * TILE_PX


def test_the_recipe_of_fine_tuning_needs_no_weights_to_be_shown(shards):
    config = preview_config(shards, "finetune_video", ["model.image_size=64", "data.frames=2"])
    clip = next(training_clips(config))
    assert clip.frames.shape == (2, 64, 64, 3) and config.model.checkpoint is None
    again = next(
        training_clips(preview_config(shards, "finetune_video", ["model.image_size=64", "data.frames=2"]))
    )
    np.testing.assert_array_equal(clip.frames, again.frames)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["clips.gif"], 2, "give a name that ends in .html or .png"),
        (["clips.png", "data.framse=2"], 2, "did you mean"),
        (["clips.png", "--recipe", "eval_mose"], 2, "draws no training clips"),
        (["clips.png", "--recipe", "nothing"], 2, "no recipe 'nothing'"),
        (["clips.png", "data.frames=20"], 1, "lower data.frames to 6 or less"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_line(shards, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["preview", str(shards), *words], catch_exceptions=False)
    assert result.exit_code == code and message in result.stderr and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_evaluation_recipe_is_refused(shards):
    with pytest.raises(ConfigError, match="evaluates"):
        preview_config(shards, "eval_mose")
