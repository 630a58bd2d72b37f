from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image

from sam2.evaluation.overlay import (
    BACKGROUND,
    TEXT,
    Track,
    colour_of,
    compare_frame,
    contact_sheet,
    draw_masks,
    write_contact_sheet,
    write_video,
)


@pytest.fixture
def track() -> Track:
    masks = np.zeros((5, 2, 20, 31), bool)
    for t in range(5):
        masks[t, 0, 4:14, 2 + t : 14 + t] = True
        masks[t, 1, 2:18, 20:30] = True
    frames = np.full((5, 20, 31, 3), 100, np.uint8)
    return Track("toy", frames, masks, np.roll(masks, 1, axis=3), (1, 2))


def panel(picture: np.ndarray, place: int, track: Track, factor: int) -> np.ndarray:
    """One of the three frames in a comparison, cut out by its size at the lower edge."""
    height, width = (side * factor for side in track.frames.shape[1:3])
    left = 6 + place * (width + 6)
    return picture[picture.shape[0] - 6 - height : picture.shape[0] - 6, left : left + width]


def test_pixels_of_a_mask_take_its_colour_and_the_rest_is_dimmed():
    frame, mask = np.full((200, 300, 3), 100, np.uint8), np.zeros((1, 200, 300), bool)
    mask[0, 50:150, 50:250] = True
    drawn = draw_masks(frame, mask, [3]).astype(int)
    assert tuple(drawn[10, 10]) == (80, 80, 80)
    assert tuple(drawn[50, 60]) == colour_of(3)  # the outline
    np.testing.assert_allclose(drawn[70, 70], 0.55 * 100 + 0.45 * np.array(colour_of(3)), atol=0.51)


def test_a_frame_without_masks_and_a_pixel_sized_mask_can_be_drawn():
    frame = np.zeros((20, 20, 3), np.uint8)
    assert not draw_masks(frame, np.zeros((2, 20, 20), bool), [1, 2]).any()
    speck = np.zeros((1, 20, 20), bool)
    speck[0, 19, 0] = True
    assert draw_masks(frame, speck, [1])[19, 0].tolist() == list(colour_of(1))


def test_other_colours_can_be_asked_for_and_dark_ones_are_labelled_readably():
    frame, masks = np.full((200, 300, 3), 100, np.uint8), np.zeros((2, 200, 300), bool)
    masks[0, 50:150, 50:250] = True
    drawn = draw_masks(frame, masks, [3, 4], lambda _: (0, 0, 128)).astype(int)
    assert tuple(drawn[50, 60]) == (0, 0, 128)
    # the number, whose thin strokes a font may soften; the other object has no pixel and none
    assert np.abs(drawn - TEXT).max(axis=2).min() < 60 < np.abs(drawn - (100, 100, 100)).max()
    assert tuple(drawn[0, 0]) == (80, 80, 80)


def test_colours_of_objects_are_far_apart():
    colours = np.array([colour_of(i) for i in range(1, 40)])
    assert len(np.unique(colours, axis=0)) == 39
    assert all(np.abs(a - b).max() > 40 for a, b in pairwise(colours))


def test_small_videos_are_enlarged_by_a_whole_factor(track):
    picture = compare_frame(track, 0)
    plain = panel(picture, 0, track, factor=17)  # 17 * 20 is the first multiple of 20 that reaches 336
    assert picture.shape[1] == 3 * 31 * 17 + 4 * 6
    assert (plain == 100).all()
    assert (picture[-3:] == BACKGROUND).all()


def test_truth_and_prediction_are_drawn_where_they_are(track):
    picture = compare_frame(track, 2)
    truth, guess = panel(picture, 1, track, 17), panel(picture, 2, track, 17)
    x, y = (
        4 * 17,
        5 * 17,
    )  # the left column of object 1 in the truth; the prediction lies a pixel to the right
    assert truth[y, x].tolist() == list(colour_of(1))
    assert guess[y, x].tolist() == [80, 80, 80]
    assert guess[y, x + 17].tolist() == list(colour_of(1))


def test_scores_are_percent_per_frame_and_object(track):
    assert track.jf.shape == (5, 2)
    perfect = replace(track, pred=track.gt)
    np.testing.assert_array_equal(perfect.jf, 100)
    assert track.jf.max() < 100
    assert (compare_frame(track, 0)[:40] != compare_frame(perfect, 0)[:40]).any()  # the header shows them


def test_a_video_holds_every_frame_in_browser_format(track, tmp_path):
    path = tmp_path / "new" / "toy.mp4"
    write_video(path, track, fps=5)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        decoded = [frame.to_ndarray(format="rgb24").astype(int) for frame in file.decode(stream)]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 5
    assert len(decoded) == len(track)
    expected = compare_frame(track, 3)
    assert decoded[3].shape[0] % 2 == decoded[3].shape[1] % 2 == 0
    seen = decoded[3][: expected.shape[0], : expected.shape[1]]
    assert np.abs(seen - expected).mean() < 4
    assert [p.name for p in path.parent.iterdir()] == ["toy.mp4"]


def test_a_contact_sheet_spreads_its_columns_over_the_video(track, tmp_path):
    sheet = contact_sheet(track, columns=3)
    few = contact_sheet(
        replace(track, frames=track.frames[:2], gt=track.gt[:2], pred=track.pred[:2]), columns=6
    )
    tile = 31 * 11 + 6
    assert sheet.shape[1] - few.shape[1] == tile  # two frames fill two columns, not six
    write_contact_sheet(tmp_path / "sheet.png", track, columns=3)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "sheet.png")), sheet)


def test_large_frames_are_reduced():
    frames = np.zeros((1, 30, 2000, 3), np.uint8)
    masks = np.zeros((1, 1, 30, 2000), bool)
    assert compare_frame(Track("wide", frames, masks, masks, (1,)), 0).shape[1] == 3 * 1280 + 4 * 6


def test_many_objects_and_long_names_still_fit(track):
    masks = track.gt.repeat(20, axis=1)
    crowd = Track("name" * 40, track.frames, masks, masks, tuple(range(1, 41)))
    assert compare_frame(crowd, 0).shape == compare_frame(track, 0).shape


def test_a_video_without_objects_can_be_drawn(track):
    nothing = track.gt[:, :0]
    assert (
        compare_frame(Track("none", track.frames, nothing, nothing, ()), 0).shape
        == compare_frame(track, 0).shape
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((5, 3, 20, 31), np.uint8)}, r"toy: frames are \(T, H, W, 3\) uint8"),
        ({"frames": np.zeros((5, 20, 31, 3))}, "float64"),
        ({"gt": np.zeros((5, 2, 20, 30), bool)}, r"gt must be \(5, 2, 20, 31\) bool, got \(5, 2, 20, 30\)"),
        ({"pred": np.zeros((5, 2, 20, 31), np.uint8)}, "pred must be .* uint8"),
    ],
)
def test_tracks_whose_parts_disagree_are_refused(track, change, message):
    with pytest.raises(ValueError, match=message):
        replace(track, **change)


def test_nothing_is_left_of_a_video_that_cannot_be_written(track, tmp_path):
    empty = replace(track, frames=track.frames[:0], gt=track.gt[:0], pred=track.pred[:0])
    with pytest.raises(ValueError, match="toy has no frames"):
        write_video(tmp_path / "toy.mp4", empty)
    with pytest.raises(ValueError, match="toy has no frames"):
        contact_sheet(empty)
    assert not list(tmp_path.iterdir())
