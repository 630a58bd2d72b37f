"""Every fault that people's folders have is found and named with its code; a clean folder has none."""

import ast
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.checking.check import check
from data.checking.check_source import check_source, open_source
from data.clip import DataError
from data.encode import EncodeOptions
from data.write import ConvertOptions, convert
from tests.data.sources.vos_files import PALETTE, write_frames, write_masks

FRAMES = Path("JPEGImages/cat")
MASKS = Path("Annotations/cat")


def two_ids(count, height=32, width=48):
    """(T, H, W): object 1 walks right, object 2 stands still."""
    ids = np.zeros((count, height, width), np.uint8)
    for k in range(count):
        ids[k, 4:12, 2 + k : 14 + k] = 1
        ids[k, 20:28, 10:22] = 2
    return ids


def videos(root):
    """Two videos in DAVIS' manner, all as it should be."""
    for first, name in ((0, "cat"), (10, "dog")):
        write_frames(root / "JPEGImages" / name, range(first, first + 3))
        write_masks(root / "Annotations" / name, range(first, first + 3), two_ids(3))
    return root


def objects(root):
    """One video with a folder of masks for each object, all as it should be."""
    write_frames(root / "frames" / "cat", range(3))
    for i in (1, 2):
        for k, ids in enumerate(two_ids(3)):
            save(root / "masks" / "cat" / str(i) / f"{k:05d}.png", np.where(ids == i, 255, 0))
    return root


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def relabel(path, **values):
    """Change ids in a palette PNG: `i1=3` makes 1 a 3."""
    ids = np.array(Image.open(path))
    changed = ids.copy()
    for old, new in values.items():
        changed[ids == int(old[1:])] = new
    image = Image.fromarray(changed, "P")
    image.putpalette(PALETTE)
    image.save(path)


def relabel_all(root, **values):
    for path in sorted((root / MASKS).iterdir()):
        relabel(path, **values)


def coco(root, repeated):
    """One image with two annotations."""
    save(root / "images" / "a.png", np.full((32, 48, 3), 90))
    boxes = [[4, 4, 20, 4, 20, 20, 4, 20], [30, 4, 40, 4, 40, 20, 30, 20]]
    shapes = [
        {"id": 1 if repeated else k, "image_id": 1, "category_id": 1, "segmentation": [box], "iscrowd": 0}
        for k, box in enumerate(boxes, 1)
    ]
    found = {
        "images": [{"id": 1, "file_name": "a.png", "height": 32, "width": 48}],
        "annotations": shapes,
        "categories": [{"id": 1, "name": "box"}],
    }
    (root / "annotations.json").write_text(json.dumps(found))


def cut_jpeg(root):
    raw = (root / FRAMES / "00001.jpg").read_bytes()
    (root / FRAMES / "00001.jpg").write_bytes(raw[: len(raw) // 2])


def as_rgb(root):
    for path in sorted((root / MASKS).iterdir()):
        Image.open(path).convert("RGB").save(path)


def sixteen_bits(root):
    for path in sorted((root / MASKS).iterdir()):
        ids = np.array(Image.open(path)).astype(np.uint16)
        Image.fromarray(np.where(ids == 2, 300, ids).astype(np.uint16)).save(path)


def renumbered(root):
    for folder in (FRAMES, MASKS):
        for path, number in zip(sorted((root / folder).iterdir()), (1, 2, 10), strict=True):
            path.rename(path.with_name(f"frame_{number}{path.suffix}"))


def renamed(root, name):
    for folder in (FRAMES, MASKS):
        (root / folder).rename((root / folder).with_name(name))


def copied(root, name):
    for folder in (FRAMES, MASKS):
        shutil.copytree(root / folder, (root / folder).with_name(name))


def larger_video(root):
    write_frames(root / "JPEGImages" / "fox", range(20, 23), height=64)
    write_masks(root / "Annotations" / "fox", range(20, 23), two_ids(3, height=64))


def dot(root):
    """An object of three pixels."""
    for path in sorted((root / MASKS).iterdir()):
        relabel(path, i2=0)
        ids = np.array(Image.open(path))
        ids[30, 40:43] = 2
        save(path, ids)


FAULTS = {
    "a truncated frame": (cut_jpeg, "error", "media", FRAMES / "00001.jpg"),
    "a frame that is garbage": (
        lambda root: (root / FRAMES / "00001.jpg").write_bytes(b"no picture"),
        "error",
        "media",
        FRAMES / "00001.jpg",
    ),
    "a mask that is garbage": (
        lambda root: (root / MASKS / "00001.png").write_bytes(b"no picture"),
        "error",
        "mask-file",
        MASKS / "00001.png",
    ),
    "a frame of another size": (
        lambda root: save(root / FRAMES / "00001.jpg", np.zeros((16, 48, 3))),
        "error",
        "size-mismatch",
        FRAMES / "00001.jpg",
    ),
    "a mask of another size": (
        lambda root: save(root / MASKS / "00001.png", np.ones((16, 48))),
        "error",
        "size-mismatch",
        MASKS / "00001.png",
    ),
    "a mask without its frame": (
        lambda root: (root / FRAMES / "00001.jpg").unlink(),
        "error",
        "mask-without-image",
        MASKS / "00001.png",
    ),
    "masks without frames": (
        lambda root: shutil.rmtree(root / FRAMES),
        "error",
        "mask-without-image",
        FRAMES,
    ),
    "frames without masks": (
        lambda root: shutil.rmtree(root / MASKS),
        "warning",
        "image-without-mask",
        FRAMES,
    ),
    "an empty folder of masks": (
        lambda root: [path.unlink() for path in (root / MASKS).iterdir()],
        "warning",
        "image-without-mask",
        MASKS,
    ),
    "palette masks stored as colours": (as_rgb, "error", "palette-as-rgb", MASKS / "00000.png"),
    "void pixels": (
        lambda root: relabel(root / MASKS / "00001.png", i2=255),
        "note",
        "void-255",
        MASKS / "00001.png",
    ),
    "ids above 255": (sixteen_bits, "note", "ids-above-255", FRAMES),
    "a gap in the ids": (lambda root: relabel_all(root, i2=4), "note", "label-gap", FRAMES),
    "masks without any object": (
        lambda root: relabel_all(root, i1=0, i2=0),
        "warning",
        "nothing-visible",
        MASKS,
    ),
    "an object of three pixels": (dot, "warning", "tiny-object", FRAMES),
    "names out of order": (renumbered, "warning", "name-order", MASKS),
    "a name outside ASCII": (
        lambda root: renamed(root, "straße"),
        "note",
        "non-ascii-name",
        "JPEGImages/straße",
    ),
    "a copy under another name": (
        lambda root: copied(root, "cat2"),
        "warning",
        "duplicate-media",
        "JPEGImages/cat2",
    ),
    "names that differ in case": (lambda root: copied(root, "CAT"), "error", "duplicate-key", FRAMES),
    "a video of another size": (larger_video, "note", "mixed-sizes", ""),
}


def findings_of(source, root, **options):
    return check_source(open_source(source, root, **options))


def kinds(findings):
    return {(finding.severity, finding.code) for finding in findings}


@pytest.mark.parametrize("source", ["mose", "frames"])
def test_a_clean_folder_has_no_finding(tmp_path, source):
    done = []
    source = open_source(source, videos(tmp_path))
    assert check_source(source, workers=2, progress=lambda *counts: done.append(counts)) == []
    assert done == [(1, 2), (2, 2)]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_with_its_code_and_its_place(tmp_path, fault):
    break_it, severity, code, place = FAULTS[fault]
    break_it(videos(tmp_path))
    found = [f for f in findings_of("mose", tmp_path) if f.code == code]
    assert [f.severity for f in found] == [severity] * len(found) and found
    assert found[0].where.partition(", clip")[0] == str(tmp_path / place)
    assert found[0].message and found[0].remedy
    others = [f for f in findings_of("mose", tmp_path) if f.code != code and f.severity == "error"]
    assert not others or code == "duplicate-key"


def test_objects_in_folders_may_overlap_and_may_never_be_seen(tmp_path):
    assert findings_of("frames", objects(tmp_path)) == []
    save(tmp_path / "masks/cat/2/00001.png", two_ids(3)[1] == 1)
    (found,) = findings_of("frames", tmp_path)
    assert (found.severity, found.code) == ("note", "overlap")
    assert "masks of 1 frame overlap by 96 pixels, first objects 1 and 2 in frame 1" in found.message
    for k in range(3):
        save(tmp_path / f"masks/cat/2/{k:05d}.png", np.zeros((32, 48)))
    (found,) = findings_of("frames", tmp_path)
    assert (found.severity, found.code) == ("warning", "never-visible")
    assert "object 2 is visible in no frame" in found.message


def test_two_annotations_of_one_id_are_found(tmp_path):
    coco(tmp_path, repeated=False)
    assert findings_of("coco", tmp_path, images="images") == []
    coco(tmp_path, repeated=True)
    assert ("error", "duplicate-id") in kinds(findings_of("coco", tmp_path, images="images"))


def test_images_and_masks_that_lack_the_other_are_named_each(tmp_path):
    for name, grey in (("a", 10), ("b", 20)):
        save(tmp_path / "images" / f"{name}.png", np.full((32, 48, 3), grey))
    save(tmp_path / "masks" / "a.png", two_ids(1)[0])
    save(tmp_path / "masks" / "c.png", two_ids(1)[0])
    found = {f.code: f for f in findings_of("images", tmp_path)}
    assert found.keys() == {"image-without-mask", "mask-without-image"}
    assert found["image-without-mask"].where.endswith("images/b.png")
    assert found["image-without-mask"].severity == "warning"
    assert found["mask-without-image"].where.endswith("masks/c.png")
    assert {f.code for f in findings_of("images", tmp_path, unannotated="skip")} == {"mask-without-image"}


def test_a_video_that_is_cut_off_or_shorter_than_its_masks_is_found(sav, tmp_path):
    sav.add("a", frames=3).add("b", frames=5)
    assert kinds(findings_of("sav", sav.root)) == set()
    shutil.copy(sav.root / "a.mp4", sav.root / "b.mp4")
    found = {f.code: f for f in findings_of("sav", sav.root)}
    assert found.keys() == {"count-mismatch"} and found["count-mismatch"].where.startswith(
        str(sav.root / "b.mp4")
    )
    raw = (sav.root / "a.mp4").read_bytes()
    (sav.root / "b.mp4").write_bytes(raw[: len(raw) // 2])
    assert kinds(findings_of("sav", sav.root)) == {("error", "media")}
    (sav.root / "b.mp4").write_bytes(b"")
    assert kinds(findings_of("sav", sav.root)) == {("error", "media")}
    (sav.root / "b.mp4").unlink()
    assert kinds(findings_of("sav", sav.root)) == {("error", "mask-without-image")}


def test_without_decoding_files_that_are_empty_are_found_and_damage_inside_is_not(tmp_path):
    cut_jpeg(videos(tmp_path))
    source = open_source("mose", tmp_path)
    assert check_source(source, decode=False) == []
    (tmp_path / FRAMES / "00001.jpg").write_bytes(b"")
    (found,) = check_source(source, decode=False)
    assert (found.code, found.where) == ("media", str(tmp_path / FRAMES / "00001.jpg"))


def test_findings_do_not_depend_on_the_number_of_workers(tmp_path):
    videos(tmp_path)
    for break_it in (lambda root: copied(root, "cat2"), dot, as_rgb, larger_video):
        break_it(tmp_path)
    source = open_source("mose", tmp_path)
    assert check_source(source, workers=4) == check_source(source, workers=1) != []


def test_a_layout_that_is_not_the_source_s_and_a_folder_of_which_nothing_can_be_read_are_errors(tmp_path):
    (found,) = findings_of("davis", tmp_path)
    assert (found.severity, found.code) == ("error", "layout")
    videos(tmp_path)
    for name in ("cat", "dog"):
        shutil.rmtree(tmp_path / "JPEGImages" / name)
    found = findings_of("mose", tmp_path)
    assert found[-1].code == "layout" and "none of 2 clips can be used" in found[-1].message


def test_options_of_a_source_are_checked(tmp_path):
    with pytest.raises(DataError, match="did you mean 'fps'"):
        open_source("mose", tmp_path, fpss=3)


@pytest.mark.parametrize(
    "fault",
    [
        "ids above 255",
        "a gap in the ids",
        "an object of three pixels",
        "a copy under another name",
        "a video of another size",
    ],
)
def test_what_masks_show_is_found_in_shards_too(tmp_path, fault):
    break_it, severity, code, _ = FAULTS[fault]
    break_it(videos(tmp_path / "raw"))
    encode = EncodeOptions(media="jpeg")
    assert not convert(
        open_source("mose", tmp_path / "raw"), tmp_path / "out", ConvertOptions(encode)
    ).skipped
    found = check(tmp_path / "out", workers=2)
    assert kinds(found) == {(severity, code)} == kinds(findings_of("mose", tmp_path / "raw"))


def test_overlaps_are_found_in_shards_too(tmp_path):
    objects(tmp_path / "raw")
    save(tmp_path / "raw/masks/cat/2/00001.png", two_ids(3)[1] == 1)
    convert(open_source("frames", tmp_path / "raw"), tmp_path / "out", ConvertOptions(EncodeOptions("jpeg")))
    (found,) = check(tmp_path / "out")
    assert found.code == "overlap" and found.where == '000000.tar, clip "cat"'


def test_every_code_is_explained_in_the_documentation():
    root = Path(__file__).parents[2]
    explained = set(re.findall(r"`([a-z0-9-]+)`", (root / "docs" / "data.md").read_text()))
    given = set()
    for path in (root / "data").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                place = {"Finding": 1, "notice": 1, "DataError": 1, "of_error": 2, "_error": None}.get(
                    call.func.id
                )
                if place is not None and len(call.args) > place:
                    given |= {
                        node.value
                        for node in ast.walk(call.args[place])
                        if isinstance(node, ast.Constant) and isinstance(node.value, str)
                    }
    assert {"media", "void-255", "overlap", "layout"} <= given
    assert given <= explained, given - explained
