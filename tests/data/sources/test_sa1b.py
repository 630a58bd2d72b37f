"""SA-1B as it is published: JSON beside JPEG, unpacked or in tars that GNU tar has made."""

import json
import subprocess
import tarfile

import numpy as np
import pytest

from data.augment import AugmentConfig
from data.clip import DataError
from data.index import ShardIndex
from data.plan import Job
from data.quarantine import SampleError
from data.read import ClipReader
from data.sample import SamplingConfig
from data.sources import load_source
from tests.data.sav_folder import encode_rle, number_in
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.image_files import rectangle, write_image

MASKS = {1001: rectangle(2, 2, 20, 20), 1002: rectangle(10, 10, 48, 32)}


def write_pair(folder, number, **changes):
    """sa_NUMBER.jpg and .json with every key of the published files."""
    write_image(folder / f"sa_{number}.jpg", number)
    annotations = [
        {
            "id": i,
            "segmentation": {"size": [32, 48], "counts": encode_rle(mask)["counts"]},
            "bbox": [2.0, 2.0, 17.0, 17.0],
            "area": int(mask.sum()),
            "predicted_iou": 0.9 + k / 100,
            "stability_score": 0.98,
            "crop_box": [0.0, 0.0, 48.0, 32.0],
            "point_coords": [[7.5 + k, 8.25]],
        }
        for k, (i, mask) in enumerate(MASKS.items())
    ]
    image = {"image_id": number, "width": 48, "height": 32, "file_name": f"sa_{number}.jpg"}
    (folder / f"sa_{number}.json").write_text(
        json.dumps({"image": image, "annotations": annotations} | changes)
    )


@pytest.fixture
def files(tmp_path):
    for number in (2, 10):
        write_pair(tmp_path / "files", number)
    return tmp_path / "files"


def expect_all(clips):
    assert list(clips) == ["sa_2", "sa_10"]
    for number, clip in zip([2, 10], clips.values(), strict=True):
        assert list(clip.masks) == list(MASKS)
        assert all(np.array_equal(clip.masks[i][0], mask) for i, mask in MASKS.items())
        assert [number_in(picture) for picture in clip.pictures] == [number]
        extra = clip.meta["extra"]
        assert extra["predicted_iou"] == [0.9, 0.91] and extra["stability_score"] == [0.98, 0.98]
        assert extra["point_coords"] == [[[7.5, 8.25]], [[8.5, 8.25]]] and extra["image_id"] == number
        assert clip.meta["object_types"] == ["auto", "auto"] and clip.meta["kind"] == "image"


def test_unpacked_images_keep_masks_scores_and_bytes(files, tmp_path):
    expect_all(convert_from("sa1b", files, tmp_path / "out"))


def test_tars_are_read_without_unpacking(files, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    names = ["./sa_2.jpg", "./sa_2.json", "./sa_10.jpg", "./sa_10.json"]
    subprocess.run(["tar", "-C", files, "-cf", packed / "sa_000000.tar", *names], check=True)
    expect_all(convert_from("sa1b", packed, tmp_path / "out"))
    expect_all(convert_from("sa1b", packed / "sa_000000.tar", tmp_path / "one"))
    assert [path.name for path in packed.iterdir()] == ["sa_000000.tar"]


def test_names_in_a_tar_are_never_paths_and_links_are_not_followed(files, tmp_path):
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "sa_000000.tar", "w") as tar:
        tar.add(files / "sa_2.jpg", "../../sa_2.jpg")
        tar.add(files / "sa_2.json", "/etc/sa_2.json")
        link = tarfile.TarInfo("sa_3.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert list(convert_from("sa1b", tmp_path / "packed", tmp_path / "out")) == ["sa_2"]


def test_a_damaged_tar_is_named(files, tmp_path):
    path = tmp_path / "sa_000000.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(files / "sa_2.jpg", "sa_2.jpg")
        tar.add(files / "sa_2.json", "sa_2.json")
    whole = path.read_bytes()
    (image, annotation) = (whole.index(name) for name in (b"sa_2.jpg", b"sa_2.json"))
    for damaged in (
        whole[: image + 600],
        whole[:annotation],
        whole[: annotation + 9] + b"x" + whole[annotation + 10 :],
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"sa_000000.tar: .*(cut off|not a readable)"):
            load_source("sa1b", path).clips()
    path.write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match=r"sa_000000.tar: not a readable tar"):
        load_source("sa1b", path).clips()
    path.write_bytes(whole.replace(b"\xff\xd8\xff", b"\0\0\0", 1))
    assert "sa_2.jpg: not a readable image" in skipped("sa1b", path, tmp_path / "out")[0]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"image": {"width": 48}}, "image, height: is missing"),
        (
            {"image": {"width": 48, "height": 16}},
            r"1: the mask's size is \[32, 48\], the picture's \[16, 48\]",
        ),
        ({"image": {"width": 48, "height": 1 << 40}}, "expected a whole number from 1 to 16384"),
        ({"annotations": []}, "0 annotations"),
        ({"annotations": [3]}, "expected a list of objects"),
        (
            {"annotations": [{"id": 5, "segmentation": {"size": [32, 48], "counts": "abc"}}]},
            "5: not a COCO RLE",
        ),
        (
            {"annotations": [{"id": 5, "segmentation": encode_rle(MASKS[1001])}]},
            "5, predicted_iou: is missing",
        ),
    ],
)
def test_what_is_wrong_is_said_with_file_and_annotation(files, tmp_path, changes, problem):
    write_pair(files, 2, **changes)
    (message,) = skipped("sa1b", files, tmp_path / "out")
    with pytest.raises(AssertionError, match=f"sa_2.json.*{problem}"):
        raise AssertionError(message)


def test_a_file_without_its_partner_and_a_folder_without_any_are_named(files, tmp_path):
    (files / "sa_2.json").unlink()
    (files / "sa_10.jpg").unlink()
    first = skipped("sa1b", files, tmp_path / "out")[0]
    assert "sa_2.json: missing, its .jpg is there" in first
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected sa_1.jpg with sa_1.json, or sa_000000.tar, found nothing"):
        load_source("sa1b", tmp_path / "empty").clips()


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ({}, {1001, 1002}),
        ({"min_predicted_iou": 0.905}, {1002}),
        ({"min_stability": 0.98}, {1001, 1002}),
        ({"max_area": 0.3}, {1001}),
        ({"min_area": 0.3}, {1002}),
        ({"tracks": "auto"}, {1001, 1002}),
    ],
)
def test_training_takes_objects_by_their_area_and_scores(files, tmp_path, rules, kept):
    convert_from("sa1b", files, tmp_path / "out")
    index = ShardIndex.load(tmp_path / "out")
    reader = ClipReader(index, 1, 64, 32, SamplingConfig(**rules), AugmentConfig(*(0.0,) * 14))
    assert set(reader.read(Job(0, 0, 1)).object_ids) == kept


def test_an_image_of_which_no_object_is_let_in_is_a_bad_sample(files, tmp_path):
    convert_from("sa1b", files, tmp_path / "out")
    rules = SamplingConfig(tracks="manual")
    reader = ClipReader(ShardIndex.load(tmp_path / "out"), 1, 64, 32, rules, AugmentConfig(*(0.0,) * 14))
    with pytest.raises(SampleError, match="no object is visible"):
        reader.read(Job(0, 0, 1))
