"""COCO JSON, held to pycocotools' own reading of the same file."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from data.clip import DataError
from data.sources import load_source
from data.split import Part
from tests.data.sav_folder import number_in
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.image_files import rectangle, write_image

H, W = 32, 48
STAR = [5.5, 3.2, 40.7, 28.4, 3.1, 20.0, 44.0, 6.3, 20.2, 30.9]  # crosses itself
BOX, FAR_BOX = [4, 2, 14, 2, 14, 9, 4, 9], [30, 20, 40, 20, 40, 30, 30, 30]


def annotation(number, image_id, segmentation, **more):
    fields = {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "segmentation": segmentation,
        "iscrowd": 0,
    }
    return fields | {"area": 1, "bbox": [0, 0, 1, 1]} | more


def runs(mask):
    """Uncompressed counts as COCO writes crowds: column by column, background first."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    lengths = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *lengths] if flat[0] else lengths}


def compressed(mask):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


@pytest.fixture
def coco(tmp_path):
    """Writes a data set; `images` are three, the last without annotation."""
    root = tmp_path / "coco"
    images = []
    for number, name in enumerate(["a.jpg", "sub/B.jpg", "none.jpg"], 1):
        write_image(root / "train" / name, number)
        images.append({"id": number, "file_name": name, "height": H, "width": W, "license": 4})
    annotations = [
        annotation(11, 1, [STAR]),
        annotation(12, 1, [BOX, FAR_BOX], category_id=7),
        annotation(900100000013, 1, runs(rectangle(0, 0, 20, 30)), iscrowd=1),
        annotation(14, 2, compressed(rectangle(1, 1, 47, 5))),
        annotation(15, 2, runs(rectangle(0, 0, 3, 3))),
        annotation(16, 2, [[-5.0, 10, 60.5, 12, 30, 40]]),  # over the edge
    ]
    found = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "two parts"}],
        "licenses": [{"id": 4, "name": "CC BY 2.0"}],
    }

    def write(change=None):
        if change:
            change(found)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / "instances.json").write_text(json.dumps(found))
        return root

    return write


def test_masks_are_those_that_pycocotools_reads(coco, tmp_path):
    root = coco()
    clips = convert_from("coco", root, tmp_path / "out", images="train", crowds="keep")
    assert list(clips) == ["a", "sub_b"]
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO(root / "annotations" / "instances.json")
    for image_id, clip in zip([1, 2], clips.values(), strict=True):
        found = api.loadAnns(api.getAnnIds(imgIds=image_id))
        assert list(clip.masks) == [a["id"] for a in found]
        for a in found:
            assert np.array_equal(clip.masks[a["id"]][0], api.annToMask(a))
            assert clip.masks[a["id"]].any()
        assert [number_in(picture) for picture in clip.pictures] == [image_id]
        assert clip.meta["kind"] == "image" and clip.meta["license"] == "CC BY 2.0"
    both = rectangle(4, 2, 14, 9) | rectangle(30, 20, 40, 30)
    assert np.array_equal(clips["a"].masks[12][0], both)  # parts of one object are merged
    assert np.array_equal(clips["sub_b"].masks[15][0], rectangle(0, 0, 3, 3))
    assert clips["a"].meta["extra"]["categories"] == ["cat", "two parts", "cat"]


def test_crowds_and_images_without_annotation_are_left_out_unless_asked_for(coco, tmp_path, caplog):
    root = coco()
    clips = convert_from("coco", root, tmp_path / "out", images="train")
    assert list(clips["a"].masks) == [11, 12]
    assert "1 image without annotation left out" in caplog.text
    (message,) = skipped("coco", root, tmp_path / "refuse", images="train", unannotated="refuse")
    assert '"none.jpg" (id 3): has no annotation' in message


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        ([[1, 2, 3, 4]], "annotation 77: a polygon of 2 points, at least 3 are needed; correct it, or leave"),
        ([[1, 2, 3, 4, 5]], "annotation 77: 5 numbers are not points"),
        ([[4, 4, 4.1, 4, 4.1, 4.1]], "annotation 77: the polygon covers no pixel"),
        ([[1, 1, 9, 1, 9, float("nan")]], "annotation 77: a point of the polygon is far outside"),
        ([[1, 1, 1e9, 1, 9, 9]], "annotation 77: a point of the polygon is far outside"),
        ([[1, 1, "9", 1, 9, 9]], "annotation 77: a polygon is a list of numbers"),
        ([[0, 0, 16000, 16000] * 300], "annotation 77: the outline is longer than"),
        ([], "annotation 77: has no segmentation, a box alone is no mask"),
        (
            {"size": [W, H], "counts": [W * H]},
            r"77: the mask's size is \[48, 32\], the picture's \[32, 48\]",
        ),
        (
            {"size": [H, W], "counts": [5, 6]},
            "77: the run lengths are not whole numbers that add up to 1536",
        ),
        ({"size": [H, W], "counts": [-1, W * H + 1]}, "annotation 77: the run lengths are not whole"),
        ({"size": [H, W], "counts": "zzz"}, "annotation 77: not a COCO RLE"),
        ("polygon", "annotation 77: expected {'size'"),
    ],
)
def test_an_outline_that_is_none_is_refused_with_image_and_annotation(coco, tmp_path, segmentation, problem):
    root = coco(lambda found: found["annotations"].append(annotation(77, 1, segmentation)))
    (message,) = skipped("coco", root, tmp_path / "out", images="train")
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(message)
    assert 'image "a.jpg" (id 1)' in message


def test_unusable_outlines_are_left_out_on_request(coco, tmp_path):
    def add(found):
        found["annotations"] += [annotation(77, 1, []), annotation(78, 1, [[1, 1, 1, 1, 1, 1]])]

    clips = convert_from("coco", coco(add), tmp_path / "out", images="train", unusable="skip")
    assert list(clips["a"].masks) == [11, 12]


@pytest.mark.parametrize("name", ["/etc/passwd", "../../outside.jpg", "C:\\a.jpg", "", None, 3])
def test_no_file_name_leads_out_of_the_folder(coco, tmp_path, name):
    write_image(tmp_path / "outside.jpg")
    root = coco(lambda found: found["images"][1].update(file_name=name))
    (message,) = skipped("coco", root, tmp_path / "out", images="train")
    assert "path inside" in message and "(id 2)" in message


def test_sizes_categories_and_ids_must_fit(coco, tmp_path):
    for k, (field, value, problem) in enumerate(
        [("height", 31, "31x48"), ("width", None, "width: is missing"), ("height", 10**9, "from 1 to 16384")]
    ):
        root = coco(lambda found: found["images"][0].update({"height": H, "width": W, field: value}))  # noqa: B023
        (message,) = skipped("coco", root, tmp_path / str(k), images="train")
        assert problem in message, message
    coco(lambda found: found["images"][0].update(height=H))
    root = coco(lambda found: found["annotations"][0].update(category_id=99))
    assert any(
        "annotation 11: category 99 is not listed" in m
        for m in skipped("coco", root, tmp_path / "c", images="train")
    )


def test_a_wrong_layout_is_described(coco, tmp_path):
    root = coco()
    with pytest.raises(
        DataError, match=r"none of its images is there, .*B.jpg .*holds annotations/, train/; name"
    ):
        load_source("coco", root).clips()
    (root / "annotations" / "captions.json").write_text("[]")
    with pytest.raises(
        DataError, match=r"expected one JSON, found annotations/captions.json, annotations/instances"
    ):
        load_source("coco", root).clips()
    with pytest.raises(DataError, match=r"captions.json: holds a list, expected an object"):
        load_source("coco", root, annotations="annotations/captions.json").clips()
    with pytest.raises(DataError, match="path inside"):
        load_source("coco", root, annotations="../x.json").clips()
    with pytest.raises(DataError, match="crowds must be skip or keep, got 'drop'"):
        load_source("coco", root, crowds="drop")
    with pytest.raises(DataError, match="two images have one id"):
        load_source(
            "coco", coco(lambda f: f["images"][1].update(id=1)), annotations="annotations/instances.json"
        ).clips()


def test_the_json_itself_can_be_given(coco, tmp_path):
    root = coco()
    beside = root / "train" / "_annotations.coco.json"
    (root / "annotations" / "instances.json").rename(beside)
    assert list(convert_from("coco", beside, tmp_path / "out")) == ["a", "sub_b"]


def test_images_of_lvis_are_found_by_their_url(coco, tmp_path):
    def as_lvis(found):
        for image in found["images"]:
            image["coco_url"] = f"http://images.cocodataset.org/train/{image.pop('file_name').split('/')[-1]}"

    root = coco(as_lvis)
    (root / "train" / "sub" / "B.jpg").rename(root / "train" / "B.jpg")
    assert list(convert_from("coco", root, tmp_path / "out")) == ["train_a", "train_b"]


def test_augmented_copies_of_an_image_stay_on_one_side_of_a_split(coco):
    names = [f"street_jpg.rf.{k:032x}.jpg" for k in range(20)]

    def many(found):
        found["images"] = [
            {"id": k, "file_name": name, "height": H, "width": W} for k, name in enumerate(names)
        ]
        found["annotations"] = [annotation(k, k, [BOX]) for k in range(20)]

    root = coco(many)
    write_image(root / names[0])
    clips = load_source("coco", root).clips()
    assert len({clip.key for clip in clips}) == 20
    assert len({Part("train", 0, 0.5).holds(clip) for clip in clips}) == 1
