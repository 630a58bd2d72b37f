"""Arrays that numpy saved, among them some that must not be trusted."""

import io
import re
import zipfile

import numpy as np
import pytest

from data.clip import DataError
from data.media import frames_at
from data.sources import load_source
from tests.data.sources.converted import convert_from, skipped

SHAPE = (5, 16, 20)


def grey(seed=0):
    return np.random.default_rng(seed).integers(0, 256, SHAPE, np.uint8)


def labels(dtype=np.uint8):
    found = np.zeros(SHAPE, dtype)
    found[1:4, 2:9, 3:8], found[3:, 5:14, 10:18] = 2, 7
    return found


def read(root, **options):
    (clip,) = load_source("npz", root, **options).clips()
    return clip.read()


def shown(video):
    return np.stack(list(frames_at(video)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32, ">i2"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_masks_and_pictures_are_those_of_the_arrays(tmp_path, save, dtype):
    root = tmp_path / "set"
    (root / "CT").mkdir(parents=True)
    save(root / "CT" / "A.npz", imgs=grey(), gts=labels(dtype), spacing=(0.7, 0.8, 3.0))
    clip = convert_from("npz", root, tmp_path / "out", license="CC0")["ct_a"]
    assert list(clip.masks) == [2, 7] and clip.meta["license"] == "CC0"
    for i, mask in clip.masks.items():
        assert np.array_equal(mask, labels() == i)
    assert clip.meta["extra"]["spacing_mm"] == [3.0, 0.8, 0.7]
    assert clip.meta["visible"] == ["01110", "00011"]
    assert np.array_equal(shown(read(root))[..., 0], grey())


def test_colours_single_images_and_column_order_are_read(tmp_path):
    colour = np.stack([grey(k) for k in range(3)], -1)
    np.savez(tmp_path / "a.npz", imgs=np.asfortranarray(colour), gts=np.asfortranarray(labels()))
    assert np.array_equal(shown(read(tmp_path)), colour)
    assert read(tmp_path).fps > 0
    for picture in (grey()[2], colour[2]):
        np.savez(tmp_path / "a.npz", imgs=picture, gts=labels()[2])
        video = read(tmp_path / "a.npz")
        assert video.fps == 0 and video.frame_index == (0,)
        assert np.array_equal(shown(video)[0, ..., 0], picture if picture.ndim == 2 else picture[..., 0])


def test_other_numbers_need_a_window(tmp_path):
    hu = grey().astype(np.int16) * 4 - 500
    np.savez(tmp_path / "a.npz", img=hu, seg=labels())
    names = {"images": "img", "labels": "seg"}
    with pytest.raises(DataError, match="img: holds int16, not uint8; say by window="):
        read(tmp_path, **names)
    seen = shown(read(tmp_path, window="40,400", **names))[..., 0]
    assert np.abs(seen - np.clip((hu + 160.0) / 400, 0, 1) * 255).max() <= 0.501
    low, high = np.percentile(hu, [0.5, 99.5])
    seen = shown(read(tmp_path, window="auto", **names))[..., 0]
    assert np.abs(seen - np.clip((hu - low) / (high - low), 0, 1) * 255).max() <= 0.501


def test_volumes_of_a_patient_belong_together(tmp_path):
    for name in ("p1_a", "p1_b", "p2_a"):
        np.savez(tmp_path / f"{name}.npz", imgs=grey(), gts=labels())
    clips = load_source("npz", tmp_path, patient="^(p[0-9]+)_").clips()
    assert [(clip.key, clip.group) for clip in clips] == [("p1_a", "p1"), ("p1_b", "p1"), ("p2_a", "p2")]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"gts": None}, "expected an array 'gts', found imgs"),
        ({"gts": np.array([{}], object)}, "gts: holds object, expected plain numbers"),
        ({"imgs": np.array(["x"])}, "imgs: holds <U1, expected plain numbers"),
        ({"gts": labels()[:4]}, "imgs: shape (5, 16, 20), the labels have (4, 16, 20)"),
        ({"gts": labels()[0, 0]}, "gts: shape (20,), expected (T, H, W)"),
        ({"gts": labels()[:0]}, "gts: shape (0, 16, 20)"),
        ({"gts": labels() / 3}, "labels are whole numbers"),
        ({"gts": labels() * 0}, "gts: labels no voxel"),
        ({"spacing": np.array([1.0, 2.0])}, "spacing: shape (2,), expected three numbers"),
        ({"spacing": np.array([1.0, 2.0, 0.0])}, "spacing: [1.0, 2.0, 0.0], expected mm"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, arrays, message):
    found = {"imgs": grey(), "gts": labels()} | arrays
    np.savez(tmp_path / "a.npz", **{name: array for name, array in found.items() if array is not None})
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path)


def claiming(shape, dtype="|u1", payload=b"\0" * 64, version=(1, 0)):
    """The bytes of an array whose header claims a shape."""
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    write = (
        np.lib.format.write_array_header_1_0 if version == (1, 0) else np.lib.format.write_array_header_2_0
    )
    write(file, header)
    return file.getvalue() + payload


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (claiming((1 << 20, 1 << 10, 1 << 10)), "expected 1 to 4294967296 bytes; divide it"),
        (claiming((100, 100, 100)), "has not the size that its header says"),
        (claiming((-1, 4, 4)), "shape (-1, 4, 4)"),
        (claiming((4, 4, 4), version=(2, 0)), "not an array of numbers"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "not an array of numbers"),
        (b"no", "not an array of numbers"),
    ],
)
def test_hostile_headers_are_refused_before_memory_is_spent(tmp_path, raw, message):
    np.savez(tmp_path / "a.npz", imgs=grey())
    with zipfile.ZipFile(tmp_path / "a.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gts.npy", raw)
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path)


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, imgs=grey(), gts=labels())
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2 + 600] ^= 255  # in gts: the checksum of its member tells
    for raw in (good[:-40], bytes(flipped), b"", b"text"):
        path.write_bytes(raw)
        with pytest.raises(DataError, match=r"a\.npz: not a readable .npz file"):
            read(tmp_path)


def test_a_wrong_layout_or_option_is_described(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    with pytest.raises(DataError, match=r"expected NAME\.npz, found nothing"):
        load_source("npz", root).clips()
    np.savez(root / "a.npz", imgs=grey(), gts=labels())
    np.savez(root / ".b.npz", imgs=grey(), gts=labels())
    assert len(load_source("npz", root).clips()) == 1
    np.savez(root / "c.npz", imgs=np.stack([grey()] * 3, -1), gts=labels())
    (message,) = skipped("npz", root, tmp_path / "out", window="auto")
    assert "c.npz, imgs: holds colours, which have no window" in message
    for option, value in {"window": 3, "spacing_order": "yxz", "ignore": "0", "patient": "x"}.items():
        with pytest.raises(DataError, match=f"{option} must be"):
            load_source("npz", root, **{option: value})
