"""Volumes that nibabel wrote, and what nibabel says they hold."""

import gzip
import json
import re
import struct
import sys

import nibabel
import numpy as np
import pytest

from data.clip import DataError
from data.formats.nifti_file import NiftiFile
from data.media import frames_at
from data.sources import load_source
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.nifti_files import (
    SHAPE,
    affine_of,
    as_seen,
    blobs,
    canonical,
    intensities,
    write,
    write_pair,
)

AXES = ("sagittal", "coronal", "axial")
TURNED = [
    ("RAS", (0, 0, 0)),
    ("LPS", (0, 0, 0)),
    ("PIR", (0, 0, 0)),
    ("SLA", (0, 0, 0)),
    ("LPS", (0.2, -0.3, 0.25)),
    ("ASL", (-0.6, 0.4, 0.5)),
]


def read(root, **options):
    (clip,) = load_source("nifti", root, **options).clips()
    return clip.read()


def shown(video):
    """The pictures, (T, H, W)."""
    frames = np.stack(list(frames_at(video)))
    assert (frames == frames[..., :1]).all()
    return frames[..., 0]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(("codes", "angles"), TURNED)
def test_slices_are_those_of_the_canonical_volume_whatever_the_affine(tmp_path, codes, angles, axis):
    root = tmp_path / "set"
    write_pair(root, affine=affine_of(codes, (0.7, 1.5, 3.0), angles))
    labels, spacing = canonical(root / "labelsTr" / "case.nii.gz")
    values, _ = canonical(root / "imagesTr" / "case.nii.gz")
    clip = convert_from("nifti", root, tmp_path / "out", axis=axis, window=[0, 2000])["case"]
    expected = as_seen(labels, axis)
    assert list(clip.masks) == np.unique(expected)[1:].tolist()
    for i, mask in clip.masks.items():
        assert np.array_equal(mask, expected == i)
    cut = AXES.index(axis)
    rows, columns = (1 if cut == 2 else 2), (1 if cut == 0 else 0)
    assert np.allclose(clip.meta["extra"]["spacing_mm"], spacing[[cut, rows, columns]], atol=1e-5)
    pictures = shown(read(root, axis=axis, window=[0, 2000]))
    assert np.array_equal(pictures, np.rint((as_seen(values, axis) + 1000.0) * 255 / 2000))


@pytest.mark.parametrize("seed", range(20))
def test_slices_go_right_forward_and_up_for_any_rotation(tmp_path, seed):
    rng = np.random.default_rng(seed)
    affine = affine_of("RAS", (1, 1, 1), rng.uniform(-3, 3, 3)) @ np.diag([*rng.choice([-1, 1], 3), 1])
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    world = grid @ affine[:3, :3].T
    for axis, name in enumerate(AXES):
        write_pair(tmp_path, affine=affine, voxels=world[..., axis])
        frames = shown(read(tmp_path, axis=name, window=[0, 50])).astype(float)
        assert frames[1:].mean() > frames[:-1].mean()  # along the slices the world's coordinate rises
        canonical_values, _ = canonical(tmp_path / "imagesTr" / "case.nii.gz")
        scaled = np.clip((as_seen(canonical_values, name) + 25) * 5.1, 0, 255)
        assert np.abs(frames - scaled).max() <= 0.501


def test_the_coarsest_axis_is_cut_and_the_axial_one_where_all_are_equal(tmp_path):
    for spacing, expected in [((1, 1, 3), "axial"), ((1, 4, 3), "coronal"), ((2, 1, 1), "sagittal")]:
        write_pair(tmp_path, affine=affine_of("RAS", spacing))
        assert read(tmp_path).meta["axis"] == expected
    write_pair(tmp_path, affine=affine_of("PIR", (1.0, 1.0, 1.0)))
    assert read(tmp_path).meta["axis"] == "axial"
    write_pair(tmp_path, affine=affine_of("PIR", (1.0, 3.0, 1.0)))  # its second axis goes down
    assert read(tmp_path).meta["axis"] == "axial"


def test_windows_are_percentiles_presets_or_numbers(tmp_path):
    write_pair(tmp_path)
    values = as_seen(canonical(tmp_path / "imagesTr" / "case.nii.gz")[0], "axial").astype(float)
    low, high = np.percentile(values, [0.5, 99.5])
    bounds = {"auto": (low, high), "lung": (-1350, 150), "40,80": (0, 80)}
    for window, (black, white) in bounds.items():
        expected = np.clip((values - black) / (white - black), 0, 1) * 255
        assert np.abs(shown(read(tmp_path, window=window)) - expected).max() <= 0.501
    for constant in (7.0, 1e300):
        write_pair(tmp_path, voxels=np.full(SHAPE, constant))
        assert not shown(read(tmp_path)).any()
    voxels = np.zeros(SHAPE, np.float32)
    voxels[0, 0] = np.nan
    voxels[5, 5, 5], voxels[0, 1, 1], voxels[0, 2, 2] = 1, np.inf, -np.inf
    write_pair(tmp_path, voxels=voxels)
    assert (shown(read(tmp_path)) > 0).sum() == 2


def test_scaled_big_endian_and_version_2_files_are_what_nibabel_says(tmp_path):
    image = nibabel.Nifti1Image(intensities(), affine_of("LPS"))
    image.header.set_slope_inter(0.5, -100)
    (tmp_path / "imagesTr").mkdir()
    nibabel.save(image, tmp_path / "imagesTr" / "a.nii")
    big = nibabel.Nifti1Image(blobs().astype(">i2"), affine_of("LPS"), nibabel.Nifti1Header(endianness=">"))
    (tmp_path / "labelsTr").mkdir()
    nibabel.save(big, tmp_path / "labelsTr" / "a.nii.gz")
    write(tmp_path / "imagesTr" / "b.nii.gz", intensities(1), affine_of(), nibabel.Nifti2Image)
    write(tmp_path / "labelsTr" / "b.nii", blobs(1).astype(np.float64), affine_of(), nibabel.Nifti2Image)
    for clip, ending in zip(
        load_source("nifti", tmp_path, window=[0, 2000]).clips(), ["nii", "nii.gz"], strict=True
    ):
        video = clip.read()
        values, _ = canonical(tmp_path / "imagesTr" / f"{clip.key}.{ending}")
        assert np.array_equal(shown(video), np.rint((as_seen(values, "axial") + 1000.0) * 255 / 2000))
        assert video.object_ids == (1, 4)


def test_channels_are_files_of_nnunet_or_volumes_of_four_dimensions(tmp_path):
    root = tmp_path / "set"
    for channel in (0, 1):
        write(root / "imagesTr" / f"x_000{channel}.nii.gz", intensities(channel), affine_of())
    write(root / "labelsTr" / "x.nii.gz", blobs(), affine_of())
    four = np.stack([intensities(0), intensities(1)], axis=3)
    write(root / "imagesTr" / "y.nii.gz", four, affine_of())
    write(root / "labelsTr" / "y.nii.gz", blobs(), affine_of())
    for channel in (0, 1):
        clips = load_source("nifti", root, channel=channel, window="lung").clips()
        expected = np.clip((as_seen(intensities(channel), "axial") + 1350) / 1500, 0, 1) * 255
        for clip in clips:
            assert np.abs(shown(clip.read()) - expected).max() <= 0.501
    (message,) = skipped("nifti", root, tmp_path / "none")
    assert "y.nii.gz: holds 2 volumes; choose one, channel=0 to channel=1" in message
    assert any(
        "no image x in imagesTr" in text for text in skipped("nifti", root, tmp_path / "two", channel=2)
    )


def test_folders_of_cases_may_hold_one_file_an_object(tmp_path):
    root = tmp_path / "set"
    write(root / "s1" / "ct.nii.gz", intensities(), affine_of())
    for organ, ids in {"spleen": (1,), "liver": (2,)}.items():
        write(root / "s1" / "segmentations" / f"{organ}.nii.gz", blobs(3, ids), affine_of())
    write(root / "s1" / "segmentations" / "absent.nii.gz", blobs() * 0, affine_of())
    clip = convert_from("nifti", root, tmp_path / "out", image="ct", label="segmentations")["s1"]
    assert clip.meta["extra"]["categories"] == ["liver", "spleen"]
    for number, i in {2: 2, 3: 1}.items():
        assert np.array_equal(clip.masks[number], as_seen(blobs(3, (i,)) == i, "axial"))  # they overlap
    write(root / "s1" / "segmentations" / "liver.nii.gz", blobs(), affine_of())
    (message,) = skipped("nifti", root, tmp_path / "no", image="ct", label="segmentations")
    assert (
        "liver.nii.gz: has the values 0, [1.0, 4.0]" in message
        or "[1, 4], expected 0 and one other" in message
    )
    write(root / "b" / "BraTS_7" / "BraTS_7_t1.nii.gz", intensities(), affine_of())
    write(root / "b" / "BraTS_7" / "BraTS_7_seg.nii.gz", blobs(), affine_of())
    clips = load_source("nifti", root, image="NAME_t1", label="NAME_seg").clips()
    assert [clip.key for clip in clips] == ["b_brats_7"]


@pytest.mark.parametrize(
    "labels", [{"0": "background", "1": "liver"}, {"background": 0, "liver": 1, "both": [1, 2]}]
)
def test_names_of_labels_come_from_dataset_json(tmp_path, labels):
    write_pair(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert read(tmp_path).meta["categories"] == ["liver", ""]
    assert read(tmp_path, ignore=[1]).object_ids == (4,)


def test_volumes_of_a_patient_belong_together(tmp_path):
    for name in ("sub-1_ses-a", "sub-1_ses-b", "sub-2_ses-a"):
        write_pair(tmp_path, name)
    clips = load_source("nifti", tmp_path, patient="(sub-[^_]+)").clips()
    assert [clip.group for clip in clips] == ["sub-1", "sub-1", "sub-2"]
    with pytest.raises(DataError, match="does not match patient="):
        load_source("nifti", tmp_path, patient="case-([0-9]+)").clips()


def test_a_volume_of_one_slice_is_an_image(tmp_path):
    write_pair(tmp_path / "set", voxels=intensities()[..., :1], labels=blobs(0, (1,))[..., 5:6] * 0 + 1)
    clip = convert_from("nifti", tmp_path / "set", tmp_path / "out")["case"]
    assert clip.meta["kind"] == "image" and clip.masks[1].shape == (1, 12, 10)


def test_labels_on_another_grid_are_refused(tmp_path):
    write_pair(tmp_path)
    label = tmp_path / "labelsTr" / "case.nii.gz"
    for shift, good in [(0.01, True), (0.2, False)]:
        affine = affine_of()
        affine[0, 3] += shift
        write(label, blobs(), affine)
        if good:
            assert read(tmp_path).object_ids == (1, 4)
            continue
        with pytest.raises(
            DataError, match=r"up to 0\.2 mm from its image case.nii.gz; resample .* grid=trust"
        ):
            read(tmp_path)
        assert read(tmp_path, grid="trust").object_ids == (1, 4)
    write(label, blobs()[:, :-1], affine_of())
    with pytest.raises(DataError, match="has 10x11x8 voxels, its image case.nii.gz 10x12x8"):
        read(tmp_path, grid="trust")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (blobs() + 0.5, "holds 0.5, labels are whole numbers"),
        (np.where(blobs() == 4, np.nan, 1.0), "holds nan"),
        (blobs().astype(np.int16) - 1, "holds -1, labels are 0 to"),
        (blobs() * 0, "labels no voxel"),
    ],
)
def test_what_is_no_label_is_refused(tmp_path, labels, message):
    write_pair(tmp_path, labels=labels)
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path)


def patched(path, offset, fmt, *values):
    """Write numbers into the header of a packed file."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(fmt, raw, offset, *values)
    path.write_bytes(gzip.compress(bytes(raw)))


@pytest.mark.parametrize(
    ("offset", "fmt", "values", "message"),
    [
        (40, "<8h", (3, 16384, 16384, 64, 1, 1, 1, 1), "at most 4294967296 are read"),
        (40, "<8h", (3, 2000, 2000, 100, 1, 1, 1, 1), "is too short for 2000x2000x100x1 voxels"),
        (40, "<8h", (3, -5, 10, 10, 1, 1, 1, 1), "x10x10 voxels, expected"),
        (40, "<8h", (5, 10, 12, 4, 1, 2, 1, 1), "10x12x4x1x2 voxels, expected"),
        (108, "<f", (1e30,), "its voxels begin at byte 1e+30"),
        (70, "<h", (128,), "expected plain numbers"),
        (70, "<h", (9999,), "its header is damaged"),
        (280, "<4f", (0, 0, 0, 0), "has no inverse"),
        (280, "<4f", (np.nan, 0, 0, 0), "affine is not finite"),
        (344, "4s", (b"ni1\0",), "not a NIfTI file in one piece"),
    ],
)
def test_hostile_headers_are_refused_before_memory_is_spent(tmp_path, offset, fmt, values, message):
    write_pair(tmp_path)
    patched(tmp_path / "imagesTr" / "case.nii.gz", offset, fmt, *values)
    with pytest.raises(DataError, match=re.escape(message)):
        shown(read(tmp_path))


def test_damaged_files_are_named(tmp_path):
    write_pair(tmp_path)
    path = tmp_path / "imagesTr" / "case.nii.gz"
    good = path.read_bytes()
    short = gzip.compress(gzip.decompress(good)[:-1])
    for raw in (
        short,
        good[:-200],
        good[:100] + b"\xff" * 40 + good[140:],
        good[:-8] + bytes(8),
        b"",
        b"text",
    ):
        path.write_bytes(raw)
        with pytest.raises(DataError, match=r"imagesTr/case\.nii\.gz: "):
            shown(read(tmp_path))


def test_a_wrong_layout_or_option_is_described(tmp_path, monkeypatch, caplog):
    (tmp_path / "scans").mkdir()
    with pytest.raises(
        DataError, match="expected imagesTr/NAME.nii.gz and labelsTr/NAME.nii.gz, .* found scans/"
    ):
        load_source("nifti", tmp_path).clips()
    write_pair(tmp_path, "a")
    write(tmp_path / "imagesTr" / "b_0000.nii.gz", intensities(), affine_of())
    (tmp_path / "labelsTr" / "._a.nii.gz").write_bytes(b"")
    assert [clip.key for clip in load_source("nifti", tmp_path).clips()] == ["a"]
    assert "1 volume without labels left out" in caplog.text
    write(tmp_path / "labelsTr" / "a.nii", blobs(), affine_of())
    with pytest.raises(DataError, match="a.nii: and a.nii.gz are for one volume; remove one"):
        read(tmp_path)
    (tmp_path / "labelsTr" / "a.nii").unlink()
    wrong = {"axis": "x", "window": "liver", "ignore": 3, "patient": "(", "channel": -1, "grid": "no"}
    for option, value in wrong.items():
        with pytest.raises(DataError, match=f"{option} must be"):
            load_source("nifti", tmp_path, **{option: value})
    with pytest.raises(DataError, match="not a relative path inside"):
        load_source("nifti", tmp_path, labels="../x").clips()
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(DataError, match=r"pip install 'sam2-train\[medical\]'"):
        read(tmp_path)


def test_many_volumes_are_read_one_at_a_time(tmp_path, monkeypatch):
    for k in range(3):
        write_pair(tmp_path, f"v{k}")
    sizes, voxels = [], NiftiFile.voxels
    monkeypatch.setattr(NiftiFile, "voxels", lambda *args: sizes.append(1) or voxels(*args))
    videos = [clip.read() for clip in load_source("nifti", tmp_path).clips()]
    assert len(sizes) == 3  # the labels, whose memory is given back; no image
    assert len(list(frames_at(videos[0]))) == SHAPE[2] and len(sizes) == 4
