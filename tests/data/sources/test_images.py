"""Folders of images and masks in the forms that they come in."""

import numpy as np
import pytest
from PIL import Image

from data.clip import DataError
from data.sources import load_source
from tests.data.sav_folder import number_in
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.image_files import rectangle, write_image
from tests.data.sources.vos_files import write_palette

LEFT, RIGHT = rectangle(1, 4, 20, 30), rectangle(30, 0, 48, 20)
IDS = (1 * LEFT + 3 * RIGHT).astype(np.uint8)


def write_mask(path, values, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(dtype)).save(path)


@pytest.fixture
def root(tmp_path):
    """Images a, sub/b and c; the test writes the masks."""
    for number, name in enumerate(["a.jpg", "sub/b.png", "c.jpg"]):
        write_image(tmp_path / "set" / "images" / name, number)
    return tmp_path / "set"


def test_values_of_palette_grey_and_16_bit_masks_are_ids(root, tmp_path, caplog):
    ids = IDS.copy()
    ids[-1] = 255
    write_palette(root / "masks" / "a.png", ids)
    write_mask(root / "masks" / "sub" / "b.png", IDS.astype(int) * 300, np.uint16)
    clips = convert_from("images", root, tmp_path / "out")
    assert list(clips) == ["a", "sub_b"] and "1 image without mask left out" in caplog.text
    for (number, clip), scale in zip(enumerate(clips.values()), [1, 300], strict=True):
        assert list(clip.masks) == [scale, 3 * scale]
        assert np.array_equal(clip.masks[3 * scale][0], RIGHT)
        assert [number_in(picture) for picture in clip.pictures] == [number]
    inside = LEFT.copy()
    inside[-1] = False
    assert np.array_equal(clips["a"].masks[1][0], inside)  # 255 is void
    assert list(convert_from("images", root, tmp_path / "void", ignore=[])["a"].masks) == [1, 3, 255]


@pytest.mark.parametrize("form", ["0 and 255", "0 and 1", "black and white", "one bit"])
def test_a_binary_mask_is_one_object(root, tmp_path, form):
    image = Image.fromarray(LEFT.astype(np.uint8) * (1 if form == "0 and 1" else 255))
    image = image.convert({"black and white": "RGB", "one bit": "1"}.get(form, "L"))
    (root / "masks").mkdir()
    image.save(root / "masks" / "a_mask.png")
    clip = convert_from("images", root, tmp_path / "out", kind="binary", suffix="_mask")["a"]
    assert list(clip.masks) == [1] and np.array_equal(clip.masks[1][0], LEFT)


def test_a_folder_of_masks_holds_objects_that_may_overlap(root, tmp_path):
    for number, mask in {10: RIGHT, 2: LEFT, 3: LEFT | RIGHT}.items():
        write_mask(root / "masks" / "sub" / "b" / f"{number}.png", mask * 255)
    clip = convert_from("images", root, tmp_path / "out")["sub_b"]
    assert [clip.masks[i][0].tolist() for i in (1, 2, 3)] == [m.tolist() for m in (LEFT, LEFT | RIGHT, RIGHT)]
    assert clip.meta["extra"]["mask_files"] == ["2.png", "3.png", "10.png"]


def test_connected_parts_become_objects_on_request(root, tmp_path):
    classes = np.where(LEFT | RIGHT, 7, 0)
    classes[-2:, -2:] = 9
    write_mask(root / "masks" / "a.png", classes)
    assert list(convert_from("images", root, tmp_path / "one")["a"].masks) == [7, 9]
    clip = convert_from("images", root, tmp_path / "out", components=True)["a"]
    assert list(clip.masks) == [1, 2, 3] and clip.meta["extra"]["labels"] == [7, 7, 9]
    assert np.array_equal(clip.masks[1][0], RIGHT) and np.array_equal(clip.masks[2][0], LEFT)


def test_images_and_masks_in_one_folder_are_told_apart_by_the_suffix(tmp_path):
    write_image(tmp_path / "set" / "x.jpg", 5)
    write_mask(tmp_path / "set" / "x_gt.png", IDS)
    clips = convert_from("images", tmp_path / "set", tmp_path / "out", images="", masks="", suffix="_gt")
    assert list(clips) == ["x"] and list(clips["x"].masks) == [1, 3]
    with pytest.raises(DataError, match="images and masks in one folder; say by suffix=_mask"):
        load_source("images", tmp_path / "set", images="", masks="").clips()


def test_what_does_not_fit_together_is_named(root, tmp_path):
    masks = root / "masks"
    write_mask(masks / "a.png", LEFT * 255)
    assert "holds no value but 0 and 255, which is ignored; is it a mask of one object" in only(
        root, tmp_path / "1"
    )
    write_mask(masks / "a.png", IDS * 0)
    assert "a.png: holds 0 objects" in only(root, tmp_path / "2")
    write_mask(masks / "a.png", IDS[:, 1:])
    assert "a.jpg" in only(root, tmp_path / "3") and "32x47" in only(root, tmp_path / "3")
    Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(masks / "a.png")
    assert "is a RGB image, expected object ids" in only(root, tmp_path / "4")
    (masks / "a.png").unlink()
    write_mask(masks / "a.jpg", IDS)
    assert "a.jpg: JPEG does not keep values" in only(root, tmp_path / "5")
    write_mask(masks / "a.png", IDS)
    assert "have one name; remove one of them" in only(root, tmp_path / "6")
    (masks / "a.jpg").unlink()
    write_mask(masks / "gone.png", IDS)
    assert "gone.png: no image gone in images" in only(root, tmp_path / "7")
    messages = skipped("images", root, tmp_path / "8", unannotated="refuse")
    assert any("c.jpg: has no mask; annotate it or set unannotated=skip" in message for message in messages)


def only(root, out, **options):
    """The one clip that is left out."""
    (message,) = skipped("images", root, out, **options)
    return message


def test_a_wrong_layout_or_option_is_described(root, tmp_path):
    with pytest.raises(
        DataError, match=r"expected images/NAME.jpg and masks/NAME.png, found images/; name the two"
    ):
        load_source("images", root).clips()
    write_mask(root / "masks" / "x_mask.png", IDS)
    with pytest.raises(
        DataError, match=r"expected NAME.png or NAME/\*.png for the images in .* found x_mask.png"
    ):
        load_source("images", root).clips()
    for option, value in [("kind", "colour"), ("components", 1), ("ignore", 255), ("unannotated", None)]:
        with pytest.raises(DataError, match=f"{option} must be"):
            load_source("images", root, **{option: value})
    with pytest.raises(DataError, match="path inside"):
        load_source("images", root, masks="../x").clips()
