"""SA-V's layout: real masklets, and annotations that are wrong in one place."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from data.clip import DataError
from data.encode import EncodeOptions
from data.index import ShardIndex
from data.sources import load_source, source_names
from data.write import ConvertOptions, convert
from tests.data.sav_folder import moving_masks, write_annotation, write_video

FILES = Path(__file__).parent / "files"


@pytest.fixture
def real(tmp_path):
    """Three annotated frames of a real SA-V video's annotation, over a drawn video of its size."""
    root = tmp_path / "sav" / "sav_000"
    root.mkdir(parents=True)
    for path in FILES.glob("sav_000001_*.json"):
        shutil.copy(path, root)
    found = json.loads((root / "sav_000001_manual.json").read_text())
    size = int(found["video_height"]), int(found["video_width"])
    write_video(root / "sav_000001.mp4", [np.full((*size, 3), 20 * n, np.uint8) for n in range(9)])
    return tmp_path / "sav"


@pytest.mark.parametrize(("tracks", "objects"), [("manual", 5), ("auto", 9), ("both", 14)])
def test_real_masklets_survive_conversion(real, tmp_path, tracks, objects):
    fast = ConvertOptions(EncodeOptions(preset="ultrafast"))
    convert(load_source("sav", real, tracks=tracks), tmp_path / "out", fast)
    index = ShardIndex.load(tmp_path / "out")
    sample, meta = index[0], index.meta(0)
    assert (sample.key, sample.height, sample.width, sample.n_frames) == ("sav_000001", 848, 480, 3)
    assert len(sample.object_ids) == len(set(sample.object_ids)) == objects
    assert (meta.source, meta.license, meta.split) == ("sav", "CC BY 4.0", "train")
    kinds = {"manual": ["manual"], "auto": ["auto"], "both": ["manual", "auto"]}[tracks]
    expected = [[], [], []]
    for kind in kinds:
        found = json.loads((FILES / f"sav_000001_{kind}.json").read_text())
        for k, row in enumerate(found["masklet"]):
            expected[k] += row
    stored = json.loads(index.read(0, "masks.json"))["counts"]
    for k, row in enumerate(expected):
        for o, rle in enumerate(row):
            area = coco.area({"size": [848, 480], "counts": rle["counts"].encode()})
            assert stored[o][k] == (rle["counts"] if area else "")
            assert sample.visible[o, k] == (area > 0)
    assert not sample.visible.all() and sample.visible.any()


def only_problem(folder, **options):
    (clip,) = load_source("sav", folder.root, **options).clips()
    with pytest.raises(DataError) as found:
        clip.read()
    return str(found.value)


def masks_with(k, i, rle):
    masks = [[dict(size=[32.0, 64.0], counts="PP2") for _ in range(2)] for _ in range(3)]
    masks[k][i] = rle
    return masks


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"masklet": masks_with(1, 0, {"size": [64, 32], "counts": "PP2"})},
            "frame 1, masklet 0: mask is 64x32",
        ),
        (
            {"masklet": masks_with(2, 1, {"size": [32, 64], "counts": "zz"})},
            "frame 2, masklet 1: not a COCO RLE",
        ),
        (
            {"masklet": masks_with(2, 1, {"size": [32, 64], "counts": [5, 5]})},
            "frame 2, masklet 1: expected {'size'",
        ),
        ({"masklet": masks_with(2, 1, "PP2")}, "frame 2, masklet 1: expected {'size'"),
        ({"masklet": [[]]}, "annotates no object"),
        ({"masklet": [masks_with(0, 0, None)[1], []]}, "frame 1 has 0 masklets, frame 0 has 2"),
        ({"masklet": None}, "'masklet' must be a list"),
        ({"masklet_id": [1, 1]}, "'masklet_id' must name each of the 2 masklets once"),
        ({"masklet_id": [1]}, "'masklet_id' must name each"),
        ({"masklet_id": [1, "x"]}, "'masklet_id' is x, expected a whole number"),
        ({"video_height": 32.5}, "'video_height' is 32.5, expected a whole number"),
        ({"video_height": 1e9}, "'video_height' is 1000000000.0, expected a whole number from 0 to"),
        ({"video_width": None}, "'video_width' is None"),
    ],
)
def test_a_wrong_annotation_is_named_with_its_place(sav, changes, message):
    sav.add("cat", frames=3, **changes)
    problem = only_problem(sav)
    assert "cat_manual.json" in problem and message in problem


def test_missing_and_damaged_files_are_named(sav):
    sav.add("cat", frames=3)
    path = sav.root / "cat_manual.json"
    path.write_text(path.read_text()[:-20])
    assert "cat_manual.json: not JSON" in only_problem(sav)
    path.write_text("[" * 100_000)
    assert "cat_manual.json: not JSON" in only_problem(sav)
    path.write_text("[]")
    assert "cat_manual.json: holds a list" in only_problem(sav)
    path.unlink()
    assert "cat.mp4: no cat_manual.json beside it" in only_problem(sav)
    assert "cat.mp4: no cat_manual.json nor cat_auto.json" in only_problem(sav, tracks="both")
    write_annotation(path, moving_masks(3, 32, 64))
    (sav.root / "cat.mp4").unlink()
    assert "cat.mp4: missing, its annotation is there" in only_problem(sav)


def test_tracks_of_different_videos_are_refused(sav):
    sav.add("cat", frames=3)
    write_annotation(sav.root / "cat_auto.json", moving_masks(4, 32, 64))
    assert "they belong to different videos" in only_problem(sav, tracks="both")


def test_clips_come_in_the_order_of_their_paths_from_all_subfolders(sav):
    (sav.root / "b").mkdir()
    sav.add("z", frames=3).add("b/Y", frames=3).add("b/x", frames=3)
    found = load_source("sav", sav.root).clips()
    assert [clip.key for clip in found] == [clip.read().key for clip in found] == ["y", "x", "z"]
    assert found[0].read().frame_index == (0, 4, 8) and found[0].read().fps == 24


def test_sources_are_found_by_the_name_of_their_file(tmp_path):
    assert "sav" in source_names()
    with pytest.raises(DataError, match="unknown source 'sva'; did you mean 'sav'"):
        load_source("sva", tmp_path)
    with pytest.raises(DataError, match="no option 'track'; did you mean 'tracks'"):
        load_source("sav", tmp_path, track="auto")
    with pytest.raises(DataError, match="tracks must be one of manual, auto, both"):
        load_source("sav", tmp_path, tracks="all")
    with pytest.raises(DataError, match="no such file or folder"):
        load_source("sav", tmp_path / "x")
    with pytest.raises(
        DataError, match=r"expected NAME\.mp4 .* found nothing; `sam2 data sources` lists what else"
    ):
        load_source("sav", tmp_path).clips()
