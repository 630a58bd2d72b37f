"""Benchmarks: what a folder must have to be one, and which objects start where."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam2.evaluation.benchmark import (
    check_official,
    hash_of_names,
    manifest,
    open_benchmark,
)
from sam2.evaluation.benchmark_names import benchmarks
from sam2.evaluation.errors import EvaluationError
from sam2.evaluation.label_files import read_ids
from sam2.evaluation.label_maps import write_label_map
from sam2.evaluation.protocols import PROTOCOLS
from sam2.training.made_up import make

NAMES = benchmarks()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("benchmarks")
    for name in NAMES:
        make(manifest(name), root / name, 2)
    return root


def test_every_benchmark_is_one_file_that_fits_a_protocol():
    assert NAMES == ("davis2017", "lvos", "mose", "sav_test", "sav_val", "ytvos")
    for name in NAMES:
        about = manifest(name)
        assert about.name == name and about.protocol in PROTOCOLS and about.videos > 0
        assert (about.archive is None) == (about.server is None)
        assert all(0 < row.jf < 100 and row.source for row in about.published)


def test_the_names_of_davis_are_the_thirty_of_its_list():
    # as in ImageSets/2017/val.txt, sequences of its 2016 edition first
    old = """blackswan bmx-trees breakdance camel car-roundabout car-shadow cows dance-twirl dog drift-chicane
        drift-straight goat horsejump-high kite-surf libby motocross-jump paragliding-launch parkour scooter-black
        soapbox""".split()
    new = "bike-packing dogs-jump gold-fish india judo lab-coat loading mbike-trick pigs shooting".split()
    assert manifest("davis2017").names_sha256 == hash_of_names([*new, *old])
    assert manifest("davis2017").videos == len(old) + len(new)


def test_an_unknown_benchmark_is_named():
    with pytest.raises(EvaluationError, match="no benchmark 'davis'; choose one of davis2017, lvos, mose"):
        manifest("davis")


@pytest.mark.parametrize("name", NAMES)
def test_made_up_data_have_the_layout_and_are_not_taken_for_the_benchmark(made, name):
    about = manifest(name)
    data = open_benchmark(about, made / name)
    assert len(data.videos) == 2
    assert data.is_scorable == (about.made_up.public_truth == "all")
    with pytest.raises(
        EvaluationError, match=rf"has 2 videos, {about.title.split()[0]}.* has {about.videos}.*--unofficial"
    ):
        check_official(about, data)
    fits = replace(about, videos=2, objects=sum(len(v.starts()) for v in data.videos), names_sha256=None)
    check_official(fits, data)
    with pytest.raises(EvaluationError, match=r"has \d+ objects, .* has 999"):
        check_official(replace(fits, objects=999), data)
    with pytest.raises(EvaluationError, match="has other videos than"):
        check_official(replace(fits, names_sha256="0" * 64), data)
    with pytest.raises(EvaluationError, match="is no name of"):
        check_official(replace(fits, name_pattern="x"), data)


@pytest.mark.parametrize("name", NAMES)
def test_objects_start_where_their_first_true_mask_is(made, name):
    about = manifest(name)
    full = make(about, made / f"{name}-full", 2, full=True)
    for public, known in zip(
        open_benchmark(about, made / name).videos, open_benchmark(about, full).videos, strict=True
    ):
        frames = public.open(64)
        assert len(frames) == public.weight == 45
        assert [(s.object_id, s.frame) for s in public.starts()] == [
            (s.object_id, s.frame) for s in known.starts()
        ]
        for ours, theirs in zip(public.starts(), known.starts(), strict=True):
            np.testing.assert_array_equal(ours.mask, theirs.mask)
            assert ours.mask.shape == frames.size and ours.mask.any()
            assert about.late_objects or ours.frame == 0
        assert set(public.wanted()) == set(range(0, 45, 4 if about.only_annotated else 1))


def test_late_objects_of_a_palette_start_late_and_void_is_no_object(tmp_path):
    root = make(manifest("lvos"), tmp_path / "lvos", 1, full=True)
    (video,) = (root / "Annotations").iterdir()
    files = sorted(video.iterdir())
    for t, file in enumerate(files):
        ids = np.where(read_ids(file) > 0, 1, 0).astype(np.uint8)
        ids[:3, :3] = 255
        if t >= 7:
            ids[-4:, -4:] = 9
        write_label_map(file, ids)
    (root / "meta.json").unlink()
    starts = open_benchmark(manifest("lvos"), root).videos[0].starts()
    assert [(s.object_id, s.frame) for s in starts] == [(1, 0), (9, 7)]
    assert int(starts[1].mask.sum()) == 16
    only_one = {"videos": {video.name: {"objects": {"1": {}}}}}
    (root / "meta.json").write_text(json.dumps(only_one))
    assert [s.object_id for s in open_benchmark(manifest("lvos"), root).videos[0].starts()] == [1]


def test_frames_from_elsewhere_are_followed_and_the_benchmarks_frames_are_written(tmp_path):
    root = make(manifest("ytvos"), tmp_path / "ytvos", 1)
    (video,) = (root / "JPEGImages").iterdir()
    dense = tmp_path / "all" / video.name
    shutil.copytree(video, dense)
    for file in sorted(video.iterdir())[1::2]:
        file.unlink()
    found = open_benchmark(manifest("ytvos"), root, tmp_path / "all").videos[0]
    assert found.weight == 45 and sorted(found.wanted()) == list(range(0, 45, 2))
    assert found.wanted()[4] == "00020"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("pictures", r"is no download of DAVIS 2017 val; expected .*JPEGImages/480p"),
        ("video", r"JPEGImages/480p/video-b: is not there"),
        ("list", r"val\.txt: names video-z, which .* does not have"),
        ("masks", r"Annotations/480p/video-a: is empty, expected masks"),
        ("picture", r"00000\.png: has no frame of its name among 44 frames"),
        ("ids", r"has no object on its first frame"),
    ],
)
def test_what_is_missing_is_named(tmp_path, damage, message):
    root = make(manifest("davis2017"), tmp_path / "davis", 2)
    truth, pictures = root / "Annotations/480p/video-a", root / "JPEGImages/480p"
    if damage == "pictures":
        shutil.rmtree(pictures)
    elif damage == "video":
        shutil.rmtree(pictures / "video-b")
    elif damage == "list":
        (root / "ImageSets/2017/val.txt").write_text("video-a\nvideo-z\n")
    elif damage == "masks":
        shutil.rmtree(truth)
        truth.mkdir()
    elif damage == "picture":
        (pictures / "video-a" / "00000.jpg").unlink()
    else:
        write_label_map(truth / "00000.png", np.zeros_like(read_ids(truth / "00000.png")))
    with pytest.raises(EvaluationError, match=message):
        for video in open_benchmark(manifest("davis2017"), root).videos:
            video.starts()


def test_made_up_data_replace_nothing(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(EvaluationError, match="there: exists; choose another folder"):
        make(manifest("mose"), tmp_path / "there", 1)
    with pytest.raises(EvaluationError, match="preset is 'plain', expected one of easy"):
        make(manifest("mose"), tmp_path / "new", 1, preset="plain")
    assert not (tmp_path / "new").exists()
