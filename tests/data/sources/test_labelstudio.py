"""Label Studio's JSON, with brushes that its own SDK has encoded."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.clip import DataError
from data.formats.labelstudio_rle import brush_alpha
from data.sources import load_source
from tests.data.sav_folder import number_in
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.image_files import rectangle, write_image

FILES = Path(__file__).parents[1] / "files" / "labelstudio"
H, W = 32, 48
RLE = json.loads((FILES / "rle.json").read_text())
SOFT, NOISE = np.asarray(Image.open(FILES / "alpha.png")).reshape(2, H, W)


def region(value, kind, name="r1", **more):
    size = {"original_width": W, "original_height": H, "image_rotation": 0}
    return size | {"id": name, "from_name": "tag", "to_name": "image", "type": kind, "value": value} | more


def brush(rle, label="cat", name="r1", **more):
    return region({"format": "rle", "rle": rle, "brushlabels": [label]}, "brushlabels", name, **more)


def polygon(left, top, right, bottom, name="r2", **value):
    points = [
        [x * 100 / W, y * 100 / H] for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))
    ]
    return region({"points": points, "closed": True, "polygonlabels": ["dog"]} | value, "polygonlabels", name)


def task(number, results, image="/data/upload/3/0a1b2c3d-street%20one.jpg", **annotation):
    found = {
        "id": 10 * number,
        "completed_by": 1,
        "was_cancelled": False,
        "updated_at": "2026-01-01T00:00:00Z",
    }
    return {"id": number, "data": {"image": image}, "annotations": [found | {"result": results} | annotation]}


def write(root, *tasks, image="0a1b2c3d-street one.jpg", number=0):
    if image:
        write_image(root / image, number)
    root.mkdir(exist_ok=True)
    (root / "project.json").write_text(json.dumps(tasks))
    return root


def test_brushes_and_polygons_become_the_masks_that_were_drawn(tmp_path):
    root = write(tmp_path / "set", task(7, [brush(RLE["soft"]), polygon(4, 8, 40, 20)]), number=6)
    (clip,) = convert_from("labelstudio", root, tmp_path / "out").values()
    assert np.array_equal(clip.masks[1][0], SOFT > 0) and np.array_equal(
        clip.masks[2][0], rectangle(4, 8, 40, 20)
    )
    assert clip.meta["extra"] == {"categories": ["cat", "dog"], "regions": ["r1", "r2"]}
    assert [number_in(picture) for picture in clip.pictures] == [6] and clip.meta["key"] == "street_one-7"
    (half,) = convert_from("labelstudio", root, tmp_path / "half", least_alpha=128).values()
    assert np.array_equal(half.masks[1][0], SOFT >= 128)


def test_every_value_of_a_stroke_is_decoded():
    assert np.array_equal(brush_alpha(RLE["soft"], H, W, "x"), SOFT)
    assert np.array_equal(brush_alpha(RLE["noise"], H, W, "x"), NOISE)


def test_single_values_and_other_lengths_are_decoded():
    """As Label Studio's own encoder may write them: 20 single values in one block, lengths of other widths."""
    values = list(range(1, 21))
    stream = f"{80:032b}{7:05b}" + "".join(f"{bits - 1:04b}" for bits in (2, 5, 6, 9))
    stream += "0" + "01" + f"{19:05b}" + "".join(f"{v:08b}" for v in values)
    stream += "1" + "10" + f"{59:06b}" + f"{200:08b}"
    stream += "0" * (-len(stream) % 8)
    alpha = brush_alpha([int(stream[k : k + 8], 2) for k in range(0, len(stream), 8)], 4, 5, "x")
    assert alpha.ravel().tolist() == values[3::4] + [200] * 15


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("/data/upload/3/0a1b2c3d-street%20one.jpg", "3/0a1b2c3d-street one.jpg"),
        ("/data/upload/3/0a1b2c3d-street%20one.jpg", "street one.jpg"),
        ("/data/local-files/?d=photos/street%20one.jpg", "photos/street one.jpg"),
        ("/data/local-files/?d=/mnt/photos/street.jpg", "street.jpg"),
        ("https://example.com/a/street.jpg?token=1", "street.jpg"),
        ("s3://bucket/a/street.jpg", "a/street.jpg"),
        ("upload/3/0a1b2c3d-street.jpg", "0a1b2c3d-street.jpg"),
    ],
)
def test_images_are_found_where_they_are_now(tmp_path, named, there):
    root = write(tmp_path / "set", task(1, [polygon(1, 1, 9, 9)], named), image=f"img/{there}", number=3)
    (clip,) = convert_from("labelstudio", root, tmp_path / "out", images="img").values()
    assert [number_in(picture) for picture in clip.pictures] == [3]


def test_images_of_one_name_are_never_mistaken_for_each_other(tmp_path):
    tasks = [task(k, [polygon(1, 1, 9, 9)], f"/data/upload/{k}/0000000{k}-street.jpg") for k in (1, 2)]
    root = write(tmp_path / "set", *tasks, image="street.jpg")
    assert "several tasks have images of this name" in skipped("labelstudio", root, tmp_path / "a")[0]
    for k in (1, 2):
        write_image(root / str(k) / f"0000000{k}-street.jpg", k)
    clips = convert_from("labelstudio", root, tmp_path / "b")
    assert [number_in(clip.pictures[0]) for clip in clips.values()] == [1, 2]
    assert list(clips) == ["street-1", "street-2"]


def test_the_latest_annotation_counts_or_that_of_one_person(tmp_path):
    found = task(1, [polygon(1, 1, 9, 9)])
    later = {"id": 9, "completed_by": {"id": 2, "email": "b@c.org"}, "updated_at": "2026-02-01T00:00:00Z"}
    cancelled = {
        "id": 8,
        "completed_by": 3,
        "updated_at": "2026-03-01T00:00:00Z",
        "was_cancelled": True,
        "result": [],
    }
    found["annotations"] += [later | {"result": [polygon(5, 5, 20, 20)]}, cancelled]
    root = write(tmp_path / "set", found)
    for k, (options, wanted) in enumerate(
        [
            ({}, rectangle(5, 5, 20, 20)),
            ({"annotator": 1}, rectangle(1, 1, 9, 9)),
            ({"annotator": "b@c.org"}, rectangle(5, 5, 20, 20)),
        ]
    ):
        (clip,) = convert_from("labelstudio", root, tmp_path / str(k), **options).values()
        assert np.array_equal(clip.masks[1][0], wanted)
    with pytest.raises(DataError, match="no task has a region by 3"):
        load_source("labelstudio", root, annotator=3).clips()


def test_a_region_and_its_label_in_two_entries_are_one_object(tmp_path):
    shape = {"format": "rle", "rle": RLE["soft"]}
    results = [region(shape, "brush"), region(shape | {"labels": ["cat", "tabby"]}, "labels")]
    results.append(
        {"type": "choices", "from_name": "q", "to_name": "image", "value": {"choices": ["good"]}, "id": "x"}
    )
    (clip,) = convert_from(
        "labelstudio", write(tmp_path / "set", task(1, results)), tmp_path / "out"
    ).values()
    assert clip.meta["extra"]["categories"] == ["cat, tabby"] and list(clip.masks) == [1]


def test_tasks_without_region_are_left_out_and_counted(tmp_path, caplog):
    root = write(
        tmp_path / "set",
        task(1, [polygon(1, 1, 9, 9)]),
        task(2, []),
        task(3, [brush([])], was_cancelled=True),
    )
    assert len(convert_from("labelstudio", root, tmp_path / "out")) == 1
    assert "2 tasks without region left out" in caplog.text
    messages = skipped("labelstudio", root, tmp_path / "b", unannotated="refuse")
    assert any("task 2: has no region" in message for message in messages)


BOX = region({"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": ["cat"]}, "rectanglelabels")


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (BOX, "region r1: is no brush and no closed polygon; correct it, or leave such regions out"),
        (polygon(1, 1, 9, 9, closed=False), "region r2: is no brush and no closed polygon"),
        (polygon(1, 1, 9, 9, points=[[1, 1], [2, 2]]), "region r2: a polygon of 2 points"),
        (polygon(1, 1, 9, 9, points=[[1, "x"], [2, 2]]), "points: is 'x', expected a number"),
        (polygon(1, 1, 9, 9, points=[[1e9, 1], [2, 2], [3, 1]]), "far outside"),
        (brush(RLE["soft"][:-9]), "region r1: rle is cut off"),
        (brush(RLE["soft"], original_width=W + 1), "was drawn on 32x49, but .* is 32x48"),
        (brush([255] * 8), "rle holds 4294967295 values of 32 bits"),
        (brush("abc"), "rle must be a list of bytes"),
        (brush([*RLE["soft"][:9], 999]), "rle must be a list of bytes"),
        (brush(RLE["soft"], image_rotation=90), "was drawn on a turned image"),
    ],
)
def test_what_is_wrong_with_a_region_is_said(tmp_path, found, problem):
    (message,) = skipped("labelstudio", write(tmp_path / "set", task(5, [found])), tmp_path / "out")
    with pytest.raises(AssertionError, match=f"project.json, task 5.*{problem}"):
        raise AssertionError(message)


def test_no_path_leads_out_of_the_folder_and_videos_are_refused(tmp_path):
    write_image(tmp_path / "outside.jpg")
    for k, name in enumerate(["../outside.jpg", "/data/local-files/?d=../outside.jpg", "..\\outside.jpg"]):
        root = write(tmp_path / f"set{k}", task(1, [polygon(1, 1, 9, 9)], name))
        assert "path inside" in skipped("labelstudio", root, tmp_path / f"out{k}")[0]
    video = task(1, [region({"sequence": [], "labels": ["cat"]}, "videorectangle")])
    video["data"] = {"video": "/data/upload/1/a.mp4"}
    assert (
        "task 1: is of a video" in skipped("labelstudio", write(tmp_path / "video", video), tmp_path / "v")[0]
    )


def test_another_export_or_layout_is_described(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    with pytest.raises(DataError, match="expected one JSON, found nothing"):
        load_source("labelstudio", root).clips()
    (root / "min.json").write_text(json.dumps([{"image": "a.jpg", "tag": [{"rle": [1]}]}]))
    with pytest.raises(DataError, match="export as JSON, not as JSON-MIN"):
        load_source("labelstudio", root).clips()
    for option, value in [("unusable", 1), ("unannotated", "x"), ("least_alpha", 0)]:
        with pytest.raises(DataError, match=f"{option} must be"):
            load_source("labelstudio", root, **{option: value})
