import numpy as np
import pytest
import torch
from torchvision.transforms import functional as TF

from data.clip import DataError
from data.decode import decode_frames
from data.held_out import HeldOut
from data.module import ClipDataModule, DataConfig
from data.quarantine import SampleError
from data.sources import load_source
from data.write import convert
from tests.data.sav_folder import number_in, numbered_frame, write_annotation, write_video
from tests.data.shards import DAMAGES, numbered_videos, rewrite, to_shards
from tests.data.sources.image_files import write_image
from tests.data.sources.vos_files import write_palette


def test_a_video_comes_whole_with_its_truth_at_its_own_size(tmp_path):
    sav = numbered_videos(tmp_path / "sav", 2, frames=20)  # more than are decoded at once
    index = to_shards(tmp_path / "sav", tmp_path / "out")
    video = HeldOut(index, size=64)[1]
    assert (video.key, video.size, video.object_ids) == ("v01", (32, 64), (0,))
    assert video.frames.shape == (20, 3, 64, 64) and video.frames.dtype == torch.uint8
    assert [number_in(frame.permute(1, 2, 0).numpy()) for frame in video.frames] == list(range(0, 80, 4))
    assert video.truth.dtype == np.uint8
    np.testing.assert_array_equal(video.truth, sav.masks["v01"][:, 0])
    np.testing.assert_array_equal(video.masks[:, 0], sav.masks["v01"][:, 0])


def given(folder, masks, name="v"):
    """A video with these masks (T, O, H, W)."""
    folder.mkdir(exist_ok=True)
    frames, _, height, width = masks.shape
    write_video(folder / f"{name}.mp4", [numbered_frame(n, height, width) for n in range(4 * frames - 3)])
    write_annotation(folder / f"{name}_manual.json", masks)
    return HeldOut(to_shards(folder, folder.parent / "out"), 32)[0]


def test_tracking_starts_where_the_first_object_appears(tmp_path):
    masks = np.zeros((5, 3, 32, 64), bool)
    masks[2:, 1, 4:20, 4:20] = True
    masks[3:, 2, 20:30, 40:60] = True
    video = given(tmp_path / "sav", masks)
    assert [number_in(frame.permute(1, 2, 0).numpy()) for frame in video.frames] == [8, 12, 16]
    assert video.object_ids == (1,)  # the other one appears later
    np.testing.assert_array_equal(video.masks, masks[2:, 1:2])


def test_a_video_is_its_frames_at_model_size(tmp_path):
    video = given(tmp_path / "sav", np.ones((3, 1, 32, 64), bool))
    assert len(video) == 3 and video.size == (32, 64)
    assert all(torch.equal(video[t], video.frames[t]) and video[t].shape == (3, 32, 32) for t in range(3))


def test_a_video_without_any_object_is_named_at_once(tmp_path):
    given(tmp_path / "sav", np.ones((2, 1, 32, 64), bool))
    rewrite(tmp_path / "out", "v", DAMAGES["empty masklets"][0])
    with pytest.raises(SampleError, match=r'000000\.tar, clip "v", masks\.json: no object is ever visible'):
        HeldOut.open(tmp_path / "out", 32)


def test_frames_are_resized_as_training_clips_are(tmp_path):
    numbered_videos(tmp_path / "sav", 1, frames=2)
    index = to_shards(tmp_path / "sav", tmp_path / "out")
    video = HeldOut(index, size=24)[0]
    own = torch.from_numpy(decode_frames(index, 0, [0, 1]).copy()).permute(0, 3, 1, 2)
    expected = TF.resize(own, [24, 24], antialias=True)
    assert (video.frames.int() - expected.int()).abs().max() <= 1


def test_where_objects_overlap_the_smaller_one_is_on_top(tmp_path):
    masks = np.zeros((2, 2, 32, 64), bool)
    masks[:, 0, 10:14, 10:14] = True
    masks[0, 1, 5:20, 5:20] = True
    masks[1, 1, 12:14, 12:14] = True
    truth = given(tmp_path / "sav", masks).truth
    assert [truth[t, 12, 12] for t in (0, 1)] == [1, 2]
    assert [int((truth[0] == k).sum()) for k in (1, 2)] == [16, 225 - 16]


def test_processes_share_the_videos_and_none_is_lost_or_counted_twice(tmp_path):
    numbered_videos(tmp_path / "sav", 5, frames=2)
    videos = HeldOut(to_shards(tmp_path / "sav", tmp_path / "out"), 16)
    for world in (1, 2, 3, 7):
        keys = [video.key for rank in range(world) for video in videos.share(rank, world)]
        assert sorted(keys) == [f"v{k:02d}" for k in range(5)]
        assert sum(len(videos.share(rank, world)) for rank in range(world)) == 5
    assert [video.key for video in videos.share(1, 2, limit=4)] == ["v01", "v03"]
    assert [video.key for video in videos] == [f"v{k:02d}" for k in range(5)]


def test_frames_move_to_a_device_and_the_truth_stays(tmp_path):
    numbered_videos(tmp_path / "sav", 1, frames=2)
    video = HeldOut(to_shards(tmp_path / "sav", tmp_path / "out"), 16)[0].to("meta")
    assert video.frames.device.type == "meta" and isinstance(video.truth, np.ndarray)


def test_images_cannot_be_tracked_and_that_is_said_before_training(tmp_path):
    write_image(tmp_path / "set" / "images" / "a.jpg")
    write_palette(tmp_path / "set" / "masks" / "a.png", np.ones((32, 48)))
    convert(load_source("images", tmp_path / "set"), tmp_path / "out")
    config = DataConfig(root=tmp_path / "out", val_root=tmp_path / "out", workers=0)
    with pytest.raises(
        DataError, match=r"out: holds images, and held-out videos are tracked; .* `sam2 eval image`"
    ):
        ClipDataModule(config, 32, 0).train_dataloader()
