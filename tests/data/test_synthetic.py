"""The generator: exact masks, the promised events, seeds that do not meet, SA-V's files."""

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from data.clip import DataError
from data.index import ShardIndex
from data.scenes.motion import arrive_late, fold, leave_and_return, push_out, wander
from data.scenes.scene import Outline, Scene, Thing, make_shape
from data.scenes.textures import texture
from data.sources import load_source
from data.synthetic import PRESETS, SyntheticConfig, generate, render
from data.write import convert

FILES = Path(__file__).parent / "files"
SMALL = replace(PRESETS["demo"], height=64, width=64, frames=21)


def disc(x, y, radius, colour):
    """A thing that is a plain disc and does not move."""
    zero = np.zeros(4, np.float32)
    one = np.ones(1, np.float32)
    skin = np.full((16, 16, 3), colour, np.float32)
    return Thing(Outline(zero, zero, zero, zero), skin, x * one, y * one, radius * one, 0 * one)


def still(things, size=40):
    one = np.ones(1, np.float32)
    grey = np.full((80, 80, 3), 90, np.float32)
    return Scene(size, size, tuple(things), grey, 0 * one, 40 * one, 40 * one, one, one)


def inside(x, y, radius, size=40):
    rows, columns = np.mgrid[:size, :size]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def test_masks_are_the_shapes_that_were_drawn_and_the_nearer_hides_the_farther():
    far, near, cut = (12.3, 20.4, 9.6), (20.1, 18.2, 7.7), (39.0, 2.0, 6.5)
    drawn = still([disc(*far, 200), disc(*near, 20), disc(*cut, 250)]).draw(0)
    assert np.array_equal(drawn.owner == 1, inside(*near))
    assert np.array_equal(drawn.owner == 0, inside(*far) & ~inside(*near))
    assert np.array_equal(drawn.owner == 2, inside(*cut))
    assert drawn.areas.tolist() == [inside(*place).sum() for place in (far, near, cut)]
    core = inside(near[0], near[1], near[2] - 1)
    assert (drawn.picture[core] == 20).all()
    clear = ~(inside(far[0], far[1], far[2] + 1) | inside(near[0], near[1], near[2] + 1) | inside(39, 2, 8))
    assert (drawn.picture[clear] == 90).all()


def test_a_thing_outside_the_picture_leaves_no_trace():
    empty = still([]).draw(0)
    drawn = still([disc(-30, 20, 8, 200), disc(20, 90, 8, 200)]).draw(0)
    assert np.array_equal(drawn.picture, empty.picture)
    assert (drawn.owner == -1).all() and drawn.areas.tolist() == [0, 0]


@pytest.mark.parametrize("is_figure", [False, True])
def test_shapes_stay_within_reach_and_have_an_inside(is_figure):
    side = np.linspace(-2, 2, 81, dtype=np.float32)
    u, v = np.meshgrid(side, side)
    for seed in range(12):
        for time in (0.0, 3.7, 11.2):
            depth = make_shape(seed, is_figure, 0.15).depth(u, v, time)
            assert depth[np.hypot(u, v) > 1.41].max() < 0
            assert 0.3 < (depth >= 0).mean() * 16 < 6.2


def test_a_clip_follows_from_its_numbers_alone():
    first, again = render(SMALL, "train", 3), render(SMALL, "train", 3)
    assert np.array_equal(first.frames, again.frames) and np.array_equal(first.masks, again.masks)
    others = [render(SMALL, "train", 4), render(SMALL, "val", 3), render(replace(SMALL, seed=1), "train", 3)]
    for other in others:
        assert not np.array_equal(first.frames, other.frames)


def test_splits_share_no_texture_and_no_shape():
    config = replace(SMALL, frames=1, look_alike_probability=0.5, occluders=(1, 1))
    seeds = {}
    for split in ("train", "val", "test"):
        clips = [render(replace(config, seed=seed), split, i) for i in range(12) for seed in (0, 1)]
        looks = [look for clip in clips for look in clip.objects]
        seeds[split] = {look[kind] for look in looks for kind in ("texture_seed", "shape_seed")}
        seeds[split] |= {clip.background_seed for clip in clips}
        assert len(seeds[split]) > 60
        assert (
            len({seed % 3 for seed in seeds[split]}) == 1
        )  # whatever is drawn, the remainder keeps splits apart
    assert not (
        seeds["train"] & seeds["val"] or seeds["train"] & seeds["test"] or seeds["val"] & seeds["test"]
    )


def test_textures_of_different_seeds_differ_and_one_seed_keeps_its_look():
    pictures = [texture(seed, 32) for seed in range(20)]
    for i, picture in enumerate(pictures):
        assert picture.min() >= 0 and picture.max() <= 255 and picture.std() > 5
        assert all(np.abs(picture - other).mean() > 5 for other in pictures[:i])
        coarse, fine = texture(i, 64), texture(i, 128).reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert np.corrcoef(coarse.ravel(), fine.ravel())[0, 1] > 0.5


def presence(config, number):
    return render(config, "train", number).masks.any((2, 3))


def test_objects_leave_and_come_back():
    config = replace(SMALL, frames=81, objects=(1, 1), leave_probability=1)
    for number in range(6):
        visible = presence(config, number)[:, 0]
        assert visible[0] and visible[-1] and not visible.all()
        assert (visible[1:] != visible[:-1]).sum() == 2


def test_late_objects_come_after_the_first_frame_and_the_first_object_is_never_late():
    config = replace(SMALL, frames=81, objects=(3, 3), late_probability=1)
    for number in range(4):
        visible = presence(config, number)
        assert visible[0].sum() == 1
        assert visible.any(0).all()


def test_look_alikes_copy_the_look_of_an_earlier_object():
    objects = render(replace(SMALL, look_alike_probability=1), "train", 0).objects
    assert len(objects) > 2 and objects[0]["look_alike_of"] is None
    assert {o["texture_seed"] for o in objects} == {objects[0]["texture_seed"]}
    assert {o["shape_seed"] for o in objects} == {objects[0]["shape_seed"]}


def test_occluders_hide_objects_and_have_no_mask():
    config = replace(SMALL, objects=(2, 2), radius=(0.2, 0.2), occluders=(6, 6))
    clips = [render(config, "train", number) for number in range(4)]
    assert all(len(clip.objects) <= 2 for clip in clips)
    assert max(o["hidden"] for clip in clips for o in clip.objects) > 0.2


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_render_what_they_promise(name):
    config = replace(PRESETS[name], frames=9)
    clip = render(config, "val", 0)
    assert clip.frames.shape == (9, config.height, config.width, 3)
    assert clip.masks.shape[0] == 3
    assert 1 <= clip.masks.shape[1] <= config.objects[1]
    assert clip.masks.sum(1).max() == 1  # no pixel belongs to two objects
    assert clip.masks.any((0, 2, 3)).all()


def test_the_demo_preset_has_twelve_annotated_frames():
    assert len(PRESETS["demo"].annotated) == 12


def test_motion_blur_averages_what_moves():
    config = replace(SMALL, speed=(0.3, 0.3), noise=(0, 0), frames=5)
    sharp, blurred = render(config, "train", 0), render(replace(config, blur_samples=3), "train", 0)
    detail = [np.abs(np.diff(clip.frames.astype(int), axis=2)).mean() for clip in (sharp, blurred)]
    assert detail[1] < detail[0]
    assert np.array_equal(sharp.masks[0], blurred.masks[0])


def test_files_have_the_keys_and_types_of_sa_v(tmp_path):
    (path,) = generate(SMALL, "val", 1, tmp_path)
    assert path.name == "val_000000.mp4"
    ours = json.loads((tmp_path / "val_000000_manual.json").read_text())
    real = json.loads((FILES / "sav_000001_manual.json").read_text())
    assert list(ours) == list(real)
    for key, value in real.items():
        assert type(ours[key]) is type(value), key
        if isinstance(value, list) and value[0] is not None:
            assert type(ours[key][0]) is type(value[0]), key
    assert set(ours["masklet"][0][0]) == {"size", "counts"}


def test_the_video_is_a_long_gop_original(tmp_path):
    (path,) = generate(replace(SMALL, frames=72), "train", 1, tmp_path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 24 and stream.codec_context.name == "h264"
        keyframes = [packet.is_keyframe for packet in container.demux(stream) if packet.size]
    assert len(keyframes) == 72 and keyframes.index(True) == 0 and sum(keyframes) == 1


def test_masks_and_pictures_survive_the_way_through_files_and_shards(tmp_path):
    generate(SMALL, "train", 2, tmp_path / "sav")
    report = convert(load_source("sav", tmp_path / "sav"), tmp_path / "out")
    assert (report.clips, report.skipped) == (2, ())
    index = ShardIndex.load(tmp_path / "out")
    for i in range(2):
        clip, sample = render(SMALL, "train", i), index[i]
        counts = json.loads(index.read(i, "masks.json"))["counts"]
        for (k, o), visible in np.ndenumerate(clip.masks.any((2, 3))):
            assert sample.visible[o, k] == visible
            if visible:
                found = coco.decode({"size": [64, 64], "counts": counts[o][k].encode()})
                assert np.array_equal(found, clip.masks[k, o])
        (tmp_path / "proxy.mp4").write_bytes(index.read(i, "mp4"))
        with av.open(str(tmp_path / "proxy.mp4")) as container:
            pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        error = np.abs(np.stack(pictures).astype(int) - clip.frames[::4])
        assert error.mean() < 12
        shifted = np.abs(np.stack(pictures[:-1]).astype(int) - clip.frames[4::4])
        assert shifted.mean() > error.mean()


def test_same_seed_same_files_with_any_number_of_workers(tmp_path):
    done = []
    generate(SMALL, "train", 3, tmp_path / "one", workers=1, progress=lambda *counts: done.append(counts))
    generate(SMALL, "train", 3, tmp_path / "two", workers=2)
    assert done == [(1, 3), (2, 3), (3, 3)]
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 7
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


TINY = replace(SMALL, height=32, width=32, frames=5, objects=(1, 1))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_videos_that_are_complete_stay_and_an_interrupted_call_is_completed(tmp_path):
    videos = generate(TINY, "train", 3, tmp_path)
    whole, written = contents(tmp_path), videos[0].stat().st_mtime_ns
    assert generate(TINY, "train", 3, tmp_path) == videos
    assert videos[0].stat().st_mtime_ns == written
    videos[1].unlink()
    assert generate(TINY, "train", 3, tmp_path) == videos and contents(tmp_path) == whole

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(TINY, "train", 3, tmp_path / "cut", progress=stop)
    with pytest.raises(DataError, match=r"count=3; asked for count=2"):
        generate(TINY, "train", 2, tmp_path / "cut")
    generate(TINY, "train", 3, tmp_path / "cut")
    assert contents(tmp_path / "cut") == whole


@pytest.mark.parametrize(
    ("config", "split", "count", "difference"),
    [
        (replace(TINY, seed=4), "train", 3, r"config\.seed=0; asked for config\.seed=4"),
        (TINY, "val", 3, "split=train; asked for split=val"),
        (TINY, "train", 2, "count=3; asked for count=2"),
        (TINY, "train", 4, "count=3; asked for count=4"),
    ],
)
def test_a_folder_of_other_made_up_videos_is_refused_or_replaced_whole(
    tmp_path, config, split, count, difference
):
    generate(TINY, "train", 3, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match=rf"holds made-up videos with {difference}; .*--overwrite"):
        generate(config, split, count, tmp_path / "out")
    assert contents(tmp_path / "out") == before
    generate(config, split, count, tmp_path / "out", overwrite=True)
    generate(config, split, count, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh") | {"notes.txt": b"mine"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_videos_that_were_not_made_up_here_are_left_alone(tmp_path, overwrite):
    (tmp_path / "cat.mp4").write_bytes(b"a cat")
    with pytest.raises(
        DataError, match=r"holds cat\.mp4, which no earlier call noted; choose another folder"
    ):
        generate(TINY, "train", 1, tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["cat.mp4"]
    (tmp_path / "synthetic_val.json").write_text('{"split": "train"}')
    with pytest.raises(DataError, match=r"synthetic_val\.json: not a note about videos of the split val"):
        generate(TINY, "train", 1, tmp_path, overwrite=overwrite)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radius": (0.2, 0.1)}, "radius must be"),
        ({"radius": (0.0, 0.1)}, "must be greater than 0"),
        ({"late_probability": 1.5}, "late_probability must be from 0 to 1"),
        ({"height": 65}, "height and width must be even"),
        ({"frames": 0}, "must be greater than 0"),
        ({"blur_samples": 2}, "blur_samples must be odd"),
    ],
)
def test_a_wrong_setting_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        SyntheticConfig(**changes)


def test_an_unknown_split_is_named(tmp_path):
    with pytest.raises(ValueError, match="split must be one of train, val, test"):
        generate(SMALL, "training", 1, tmp_path)


@given(st.floats(-1e4, 1e4), st.floats(-100, 100), st.floats(0.1, 50))
def test_folding_keeps_a_path_inside_and_unbroken(start, low, span):
    path = start + np.linspace(0, 5 * span, 101)
    folded = fold(path, low, low + span)
    assert folded.min() >= low - 1e-6 and folded.max() <= low + span + 1e-6
    assert np.abs(np.diff(folded)).max() <= 5 * span / 100 + 1e-6


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_an_absent_thing_is_wholly_outside(seed, is_late):
    rng = np.random.default_rng(seed)
    times = np.arange(0, 18, 0.25)
    path = 32 + wander(rng, times, (0.1, 1.0))
    absence = (arrive_late if is_late else leave_and_return)(rng, 18)
    moved = push_out(path, absence, times, (64, 64), reach=9)
    gone = absence.share(times) == 1
    assert gone.any() and (absence.share(times)[-1] == 0)
    assert ((moved[gone] <= -9 + 1e-6) | (moved[gone] >= 73 - 1e-6)).any(1).all()
    present = absence.share(times) == 0
    assert np.array_equal(moved[present], path[present])
