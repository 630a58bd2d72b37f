"""Folders that cannot be scored: each mistake has its own message, with the file, what was expected, and what to do."""

from __future__ import annotations

import json
import re
import shutil
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.label_files import read_ids, read_mask
from sam2.evaluation.meta import find_meta, read_meta
from sam2.evaluation.protocols import PROTOCOLS
from sam2.evaluation.score import evaluate

FRAMES = 5


def write(path: Path, ids: np.ndarray, mode: str = "P") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids.astype(np.uint8))
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)
    elif mode != "L":
        image = image.convert(mode)
    image.save(path)


def scene(shift: int = 0) -> np.ndarray:
    ids = np.zeros((20, 30), np.uint8)
    ids[4:10, 4 + shift : 10 + shift], ids[12:18, 15:22] = 1, 2
    return ids


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two sequences with two objects on five frames."""
    for side in ("gt", "pred"):
        for sequence in ("cat", "dog"):
            for t in range(FRAMES):
                write(tmp_path / side / sequence / f"{t:05d}.png", scene(t * (side == "pred")))
    return tmp_path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """One video with a folder for each of two objects."""
    for side in ("gt", "pred"):
        for i in (1, 2):
            for t in range(FRAMES):
                write(tmp_path / side / "cat" / f"{i:03d}" / f"{t:05d}.png", 255 * (scene() == i), "L")
    return tmp_path


def score(tree: Path, name: str = "davis2017", **options: object) -> object:
    return evaluate(PROTOCOLS[name](**options), tree / "gt", tree / "pred")  # type: ignore[arg-type]


def one_more_frame(pred: Path) -> None:
    shutil.copy(pred / "cat/00004.png", pred / "cat/00005.png")


def empty_sequence(pred: Path) -> None:
    for path in (pred / "cat").iterdir():
        path.unlink()


def other_names(pred: Path) -> None:
    for path in sorted((pred / "cat").iterdir()):
        path.rename(path.with_name(f"{int(path.stem)}.png"))


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing frame": (
        lambda pred: (pred / "cat/00002.png").unlink(),
        r"pred.cat: 00002\.png is missing \(1 of 3 frames in all\).*gt.cat.00002\.png; write an empty mask",
    ),
    "extra frame": (
        one_more_frame,
        r"pred.cat: 00005\.png has no ground truth in .* \(1 in all\); .*same 5 frames, remove",
    ),
    "missing sequence": (
        lambda pred: shutil.rmtree(pred / "cat"),
        r"pred: has no folder for cat of .*--sequences",
    ),
    "extra sequence": (
        lambda pred: shutil.copytree(pred / "cat", pred / "cow"),
        r"pred: has folders .*has not: cow",
    ),
    "size": (
        lambda pred: write(pred / "cat/00002.png", np.ones((10, 15))),
        r"pred.cat.00002\.png: is 15x10, .*gt.cat.00002\.png is 30x20; nothing is resized",
    ),
    "turned": (lambda pred: write(pred / "cat/00002.png", scene().T), r"00002\.png: is 20x30, .* is 30x20"),
    "RGB": (
        lambda pred: write(pred / "cat/00002.png", scene(), "RGB"),
        r"pred.cat.00002\.png: is an RGB image, expected a palette PNG",
    ),
    "16 bit": (
        lambda pred: Image.fromarray(scene().astype(np.uint16)).save(pred / "cat/00002.png"),
        r"00002\.png: is an I;16 image, expected a palette PNG",
    ),
    "strange id": (
        lambda pred: write(pred / "cat/00002.png", scene() + 7 * (scene() == 0)),
        r"pred.cat.00002\.png: has id 7, the first frame of its ground truth has 1, 2; remove",
    ),
    "empty folder": (empty_sequence, r"pred.cat: is empty, expected a PNG a frame"),
    "other file": (
        lambda pred: (pred / "cat/notes.txt").write_text("x"),
        r"pred.cat: notes\.txt is no \*\.png",
    ),
    "mixed words": (
        lambda pred: (pred / "cat/00004.png").rename(pred / "cat/frame_4.png"),
        r"pred.cat: mixed naming, 00000\.png beside frame_4\.png",
    ),
    "same number": (
        lambda pred: shutil.copy(pred / "cat/00004.png", pred / "cat/000004.png"),
        r"pred.cat: mixed naming, 0+4\.png and 0+4\.png are the same frame",
    ),
    "other names": (other_names, r"pred.cat: names its frames 0, 1, 2, 3, 4, its ground truth .* 00000"),
    "text": (
        lambda pred: (pred / "cat/00002.png").write_text("no picture"),
        r"pred.cat.00002\.png: is no PNG that can be read",
    ),
    "cut off": (
        lambda pred: (pred / "cat/00002.png").write_bytes((pred / "cat/00002.png").read_bytes()[:-40]),
        r"pred.cat.00002\.png: is no PNG that can be read",
    ),
    "no folder": (shutil.rmtree, r"pred: is not there; expected the predictions"),
    "folders for files": (
        lambda pred: [
            shutil.rmtree(pred / "cat"),
            write(pred / "cat/001/00000.png", scene()),
        ],
        r"pred.cat: has a folder an object, its ground truth .* has one PNG a frame",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_predictions_is_named_with_file_and_remedy(tree: Path, mistake: str):
    spoil, message = MISTAKES[mistake]
    spoil(tree / "pred")
    with pytest.raises(EvaluationError, match=message):
        score(tree)


def test_pngs_without_a_folder_for_their_sequence_are_named(tree: Path):
    with pytest.raises(EvaluationError, match=r"gt.cat: holds 5 PNG files, expected one folder a sequence"):
        evaluate(PROTOCOLS["vos"](), tree / "gt/cat", tree / "pred/cat")


def test_frames_out_of_the_order_of_their_numbers_are_named(tree: Path):
    for side in ("gt", "pred"):
        for t, path in enumerate(sorted((tree / side / "cat").iterdir())):
            path.rename(path.with_name(f"{t + 8}.png"))
    with pytest.raises(
        EvaluationError, match=r"gt.cat: mixed naming, 8\.png and .*leading zeros, as 08\.png"
    ):
        score(tree)


def test_a_palette_image_that_became_grey_levels_is_noticed(tree: Path):
    for path in (tree / "pred/cat").iterdir():
        write(path, np.array([0, 38, 75], np.uint8)[scene()], "L")
    with pytest.raises(EvaluationError, match=r"pred.cat: has the ids 38, 75, none of which .*\(1, 2\)"):
        score(tree, "vos")


@pytest.mark.parametrize("name", ["vos", "sav", "mosev2"])
def test_ids_that_the_ground_truth_has_not_are_noted_and_not_scored(tree: Path, name: str):
    before = score(tree, name)
    ids = scene()
    ids[0, 0] = 9
    write(tree / "pred/cat/00002.png", np.where(ids == 9, 9, scene(2)))
    after = score(tree, name)
    assert after.totals == before.totals  # type: ignore[attr-defined]
    assert after.notes == ("cat: ids 9 of the prediction are not scored",)  # type: ignore[attr-defined]


def test_extra_predictions_are_no_mistake_where_the_ground_truth_is_sparse(tree: Path):
    assert not score(tree, "sav").notes  # type: ignore[attr-defined]
    (tree / "gt/cat/00002.png").unlink()
    found = score(tree, "sav")
    assert len(found.frames) == 2 + 3  # type: ignore[attr-defined]
    assert found.notes == ("predicted frames without ground truth are not scored: cat/00002",)  # type: ignore[attr-defined]


def test_several_objects_in_the_file_of_one_are_named(folders: Path):
    write(folders / "pred/cat/001/00002.png", scene(), "L")
    with pytest.raises(EvaluationError, match=r"001.00002\.png: has the values 1, 2 beside 0, expected one"):
        score(folders, "sav")


def test_a_missing_object_folder_is_named(folders: Path):
    shutil.rmtree(folders / "pred/cat/002")
    with pytest.raises(EvaluationError, match=r"pred.cat: has no folder for object 002 of the ground truth"):
        score(folders, "sav")


def test_folders_of_objects_are_for_sav_only(folders: Path):
    with pytest.raises(
        EvaluationError, match=r"gt.cat: has a folder an object, vos expects .*--protocol sav"
    ):
        score(folders, "vos")


def test_an_object_absent_from_all_scored_frames_is_left_out_and_noted_where_the_tool_stops(folders: Path):
    for t in range(1, FRAMES - 1):
        write(folders / f"gt/cat/002/{t:05d}.png", np.zeros((20, 30)), "L")
    found = score(folders, "sav")
    assert [o.object_id for o in found.objects] == ["001"]  # type: ignore[attr-defined]
    assert re.match(r"cat/002: .*in none of the scored", found.notes[-1])  # type: ignore[attr-defined]
    with pytest.raises(EvaluationError, match=r"gt.cat.002: .* where the published tool stops"):
        score(folders, "sav", as_published=True)


def test_a_sequence_too_short_to_score_is_named(tree: Path):
    for side in ("gt", "pred"):
        for t in (2, 3, 4):
            (tree / side / f"dog/{t:05d}.png").unlink()
    with pytest.raises(EvaluationError, match=r"gt.dog: has 2 frames, none of which counts"):
        score(tree)


@pytest.mark.parametrize(
    "where", [(slice(0, 1), slice(0, 1)), (slice(19, 20), slice(29, 30)), (slice(0, 0), slice(0, 0))]
)
@pytest.mark.parametrize("how", ["palette", "transparent palette", "few colours", "grey", "black and white"])
def test_ids_are_the_bytes_of_the_file_in_every_kind_of_png(
    tmp_path: Path, how: str, where: tuple[slice, slice]
):
    ids = np.zeros((20, 30), np.uint8)
    ids[where] = 1 if how in ("few colours", "black and white") else 200
    image = Image.fromarray(ids * 255 if how == "black and white" else ids)
    if "grey" not in how and "black" not in how:
        image.putpalette(bytes(range(256)) * 3)
    if how == "black and white":
        image = image.convert("1")
    extra = {"transparency": 0} if "transparent" in how else {"bits": 1} if how == "few colours" else {}
    image.save(tmp_path / "a.png", **extra)
    np.testing.assert_array_equal(read_ids(tmp_path / "a.png"), ids)


# ------------------------------------------------------------------------------------------------ hostile files


def png(width: int, height: int) -> bytes:
    """A header that promises pixels, and none of them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(9000, 9000), (60000, 60000), (2**31 - 1, 2**31 - 1)])
def test_a_header_that_promises_too_many_pixels_costs_no_memory(tmp_path: Path, size: tuple[int, int]):
    path = tmp_path / "00000.png"
    path.write_bytes(png(*size))
    tracemalloc.start()
    with pytest.raises(EvaluationError, match=r"00000\.png: is "):
        read_ids(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


def test_another_format_under_the_name_of_a_png_is_refused(tmp_path: Path):
    Image.fromarray(scene()).save(tmp_path / "a.png", format="BMP")
    with pytest.raises(EvaluationError, match=r"a\.png: is no PNG"):
        read_mask(tmp_path / "a.png")


def test_names_in_a_meta_file_open_no_files(tree: Path):
    (tree / "meta.json").write_text(json.dumps({"videos": {"../../cat": {"objects": [1]}}}))
    with pytest.raises(EvaluationError, match=r"meta\.json: says nothing about sequence cat"):
        score(tree, "mosev2", meta=read_meta(tree / "meta.json"))


@pytest.mark.parametrize(
    "content, message",
    [
        ("[" * 100_000, "is no JSON"),
        ("[1]", "expected a JSON object, found a list"),
        ('{"videos": 3}', 'expected {"videos": .*found 3'),
        ('{"videos": {"a": {}}}', 'sequence a: expected {"objects"'),
        ('{"videos": {"a": {"objects": [-1]}}}', "a, object: expected a whole number, found -1"),
        ('{"videos": {"a": {"objects": [900]}}}', "object 900 is not between 1 and 255"),
        ('{"videos": {"a": {"objects": {"1": {"frame_range": {"start": 1}}}}}}', "with start and end"),
        ('{"videos": {"a": {"objects": [1], "length": 1e99}}}', "a, length: expected a whole number"),
    ],
)
def test_a_meta_file_that_says_nothing_is_named_with_the_place(tmp_path: Path, content: str, message: str):
    path = tmp_path / "meta.json"
    path.write_text(content)
    with pytest.raises(EvaluationError, match=rf"meta\.json.*{message}"):
        read_meta(path)


def test_two_meta_files_are_a_question(tree: Path):
    for name in ("meta.json", "val_meta.json"):
        (tree / "gt" / name).write_text("{}")
    with pytest.raises(EvaluationError, match=r"several meta files \(meta\.json, val_meta\.json\).*--meta"):
        find_meta(tree / "gt")


def test_a_meta_file_of_another_length_is_named(tree: Path):
    (tree / "meta.json").write_text(
        json.dumps({"cat": {"objects": [1, 2], "length": 6}, "dog": {"objects": [1]}})
    )
    with pytest.raises(EvaluationError, match=r"meta\.json: sequence cat has length 6, .* 5 frames"):
        score(tree, "mosev2", meta=read_meta(tree / "meta.json"))


def test_lvos_needs_ranges_whose_frames_are_there(tree: Path):
    span = {"start": "1", "end": "26", "frame_nums": "6"}
    (tree / "meta.json").write_text(json.dumps({"cat": {"objects": {"1": {"frame_range": span}}}}))
    meta = read_meta(tree / "meta.json")
    with pytest.raises(EvaluationError, match=r"meta\.json: sequence cat has frame 6, .* 00000 to 00004"):
        evaluate(PROTOCOLS["lvos"](meta=meta), tree / "gt", tree / "pred", ["cat"])
    span["frame_nums"] = "9"
    (tree / "meta.json").write_text(json.dumps({"cat": {"objects": {"1": {"frame_range": span}}}}))
    meta = read_meta(tree / "meta.json")
    with pytest.raises(EvaluationError, match=r"object 1 has frame_nums 9, its range 1 to 26 .* has 6"):
        evaluate(PROTOCOLS["lvos"](meta=meta), tree / "gt", tree / "pred", ["cat"])


def test_a_range_without_end_costs_no_memory(tree: Path):
    about = {"frame_range": {"start": "0", "end": "999999999"}}
    (tree / "meta.json").write_text(json.dumps({"cat": {"objects": {"1": about}}}))
    meta = read_meta(tree / "meta.json")
    tracemalloc.start()
    with pytest.raises(
        EvaluationError, match=r"sequence cat has frame 5, the ground truth has 00000 to 00004"
    ):
        evaluate(PROTOCOLS["lvos"](meta=meta), tree / "gt", tree / "pred", ["cat"])
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


# ------------------------------------------------------------------------------------------------ memory, workers


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path):
    def peak(frames: int) -> int:
        root = tmp_path / str(frames)
        ids = np.pad(scene(), 200)
        ids[1, 1] = ids[-2, -2] = 1  # what is background all around is not kept in any case
        for side in ("gt", "pred"):
            write(root / side / "v/000.png", ids)
            for t in range(1, frames):
                (root / side / f"v/{t:03d}.png").symlink_to(root / side / "v/000.png")
        tracemalloc.start()
        evaluate(PROTOCOLS["vos"](), root / "gt", root / "pred")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(4)  # what is made once
    assert peak(120) < 1.5 * peak(12)


def test_workers_find_the_same_first_mistake(tree: Path):
    for sequence in ("cat", "dog"):
        write(tree / f"pred/{sequence}/00003.png", scene(), "RGB")
    with pytest.raises(EvaluationError, match=r"cat.00003\.png: is an RGB image"):
        evaluate(PROTOCOLS["vos"](), tree / "gt", tree / "pred", workers=2)
