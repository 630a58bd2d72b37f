"""Series that pydicom wrote, segmentations by pydicom and highdicom, and what must not be read or told."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MPEG2MPML, DeflatedExplicitVRLittleEndian, JPEGLSLossless, RTStructureSetStorage

from data.clip import DataError
from data.media import frames_at
from data.sources import load_source
from tests.data.sources.converted import convert_from, skipped
from tests.data.sources.dicom_files import (
    COLUMNS,
    PATIENT,
    ROWS,
    SLICES,
    cine,
    image,
    masks_of,
    save,
    segmentation,
    stored,
    uid,
    write_set,
)

FILES = Path(__file__).parents[1] / "files" / "dicom"
HU = np.stack([stored(k) for k in range(SLICES)]) * 2.0 - 1024


def read(root, **options):
    (clip,) = load_source("dicom", root, **options).clips()
    return clip.read()


def shown(video):
    return np.stack(list(frames_at(video)))[..., 0]


def is_windowed(pictures, values, low, high):
    expected = np.clip((values - low) / (high - low), 0, 1) * 255
    return np.abs(pictures - expected).max() <= 0.501


def test_a_segmentation_by_highdicom_lies_on_the_slices_it_was_drawn_on(tmp_path):
    (clip,) = convert_from("dicom", FILES, tmp_path, window=[100, 1000]).values()
    z, y, x = np.mgrid[:5, :9, :11]
    expected = [(z >= 1) & (z <= 3) & (y >= 2) & (y < 6) & (x >= 1 + z) & (x < 7), (z >= 3) & (y > x)]
    assert [np.array_equal(clip.masks[i], mask) for i, mask in zip([1, 2], expected, strict=True)] == [
        True,
        True,
    ]
    assert clip.meta["extra"]["categories"] == ["Liver", "Lesion"]
    assert clip.meta["object_types"] == ["manual", "auto"]
    assert clip.meta["extra"]["spacing_mm"] == [2.5, 0.8, 0.7]
    assert is_windowed(shown(read(FILES, window=[100, 1000])), 100 * z + 10 * y + x - 24.0, -400, 600)


@pytest.mark.parametrize("plane", ["axial", "sagittal", "oblique"])
@pytest.mark.parametrize("by", ["both", "reference", "position"])
def test_masks_are_on_their_slices_in_the_order_of_space(tmp_path, by, plane):
    write_set(tmp_path / "set", by, plane=plane)
    (clip,) = convert_from("dicom", tmp_path / "set", tmp_path / "out").values()
    assert list(clip.masks) == [1, 2]
    for i, mask in enumerate(masks_of(), 1):
        assert np.array_equal(clip.masks[i], mask)
    assert is_windowed(shown(read(tmp_path / "set", window=[0, 3000])), HU, -1500, 1500)


def test_nothing_of_the_patient_enters_the_shards(tmp_path):
    root = tmp_path / "set" / PATIENT["PatientName"]
    write_set(root)
    (clip,) = convert_from("dicom", tmp_path / "set", tmp_path / "out").values()
    assert re.fullmatch("series-[0-9a-f]{20}", clip.meta["key"])
    assert re.fullmatch("[0-9a-f]{16}", clip.meta["extra"]["patient"])
    secrets = [*PATIENT.values(), "Doe", "Jane", "20200229", *map(uid, ("study", "ct", "ct 0", "place ct"))]
    for path in (tmp_path / "out").iterdir():
        raw = path.read_bytes().lower()
        assert not [secret for secret in secrets if secret.lower().encode() in raw]
    assert "0815" not in repr(read(tmp_path / "set").meta)


def test_series_of_a_patient_belong_together_and_share_a_pseudonym(tmp_path):
    write_set(tmp_path / "a", name="one", study="s1")
    write_set(tmp_path / "b", name="two", study="s2")

    def other(images, segments):
        for found in (*images, segments):
            found.PatientID = "MRN4711"

    write_set(tmp_path / "c", name="three", study="s3", change=other)
    clips = load_source("dicom", tmp_path).clips()
    assert [clip.group for clip in clips] == ["MRN0815", "MRN0815", "MRN4711"]
    names = [clip.read().meta["patient"] for clip in clips]
    assert names[0] == names[1] != names[2]
    for group, count in {"study": 3, "series": 3, "patient": 2}.items():
        assert len({clip.group for clip in load_source("dicom", tmp_path, group=group).clips()}) == count


def test_several_segmentations_of_a_series_are_numbered_through(tmp_path):
    write_set(tmp_path, masks=masks_of()[:1])
    images = [image(k) for k in range(SLICES)]
    save(segmentation(images, masks_of(3)[1:], "position", [4, 9]), tmp_path / "seg" / "b.dcm")
    video = read(tmp_path)
    assert video.object_ids == (1, 2, 3) and video.meta["categories"] == ["organ 1", "organ 4", "organ 9"]
    (tmp_path / "seg" / "a.dcm").unlink()
    assert read(tmp_path).object_ids == (4, 9)


@pytest.mark.parametrize("colour", [False, True])
def test_many_frames_in_a_file_are_a_video(tmp_path, colour):
    found = cine(colour=colour)
    save(found, tmp_path / "us.dcm")
    other = cine(frames=2)  # of the same series
    other.SOPInstanceUID = uid("other")
    save(other, tmp_path / "other.dcm")
    save(segmentation([found], masks_of(), "reference"), tmp_path / "seg.dcm")
    video = read(tmp_path, window=[128, 256])
    assert video.fps == 25 and len(video.frame_index) == SLICES
    pixels = np.frombuffer(found.PixelData, np.uint8)[: SLICES * ROWS * COLUMNS * (3 if colour else 1)]
    pixels = pixels.reshape(SLICES, ROWS, COLUMNS, -1)
    if colour:
        assert np.array_equal(np.stack(list(frames_at(video))), pixels)
    else:
        assert is_windowed(shown(video), pixels[..., 0], 0, 256)
    save(found, tmp_path / "us2.dcm")
    with pytest.raises(DataError, match="us2.dcm: is us.dcm again; remove one"):
        read(tmp_path)


def test_windows_come_from_numbers_the_volume_or_the_files(tmp_path):
    def with_window(images, segments, centre=(300, 40)):
        for k, found in enumerate(images):
            found.WindowCenter, found.WindowWidth = [centre[k % len(centre)], 40], [900, 80]

    write_set(tmp_path, change=lambda i, s: with_window(i, s, (300,)))
    low, high = np.percentile(HU, [0.5, 99.5])
    for window, bounds in {"auto": (low, high), "file": (-150, 750), "bone": (-500, 1300)}.items():
        assert is_windowed(shown(read(tmp_path, window=window)), HU, *bounds)
    write_set(tmp_path, change=with_window)
    with pytest.raises(DataError, match="has windows that differ from slice to slice; set window=auto"):
        read(tmp_path, window="file")
    write_set(tmp_path)
    with pytest.raises(DataError, match="has no usable window"):
        read(tmp_path, window="file")


def test_low_numbers_may_be_bright_and_padding_is_black_and_not_counted(tmp_path):
    def invert(images, segments):
        for found in images:
            found.PhotometricInterpretation = "MONOCHROME1"

    write_set(tmp_path, change=invert)
    assert is_windowed(shown(read(tmp_path, window=[0, 3000])), -HU, -1500, 1500)
    assert is_windowed(shown(read(tmp_path)), -HU, *np.percentile(-HU, [0.5, 99.5]))

    def pad(images, segments):
        for k, found in enumerate(images):
            values = stored(k)
            values[:, :4] = -2000
            found.PixelData, found.PixelPaddingValue = values.tobytes(), -2000

    write_set(tmp_path, change=pad)
    pictures = shown(read(tmp_path))
    assert not pictures[..., :4].any()
    assert is_windowed(pictures[..., 4:], HU[..., 4:], *np.percentile(HU[..., 4:], [0.5, 99.5]))


def test_slices_that_are_missing_or_doubled_are_refused(tmp_path):
    write_set(tmp_path / "gap")
    (tmp_path / "gap" / "scan" / "0").unlink()  # slice 1
    with pytest.raises(
        DataError, match=r"lies 5 mm from .*, slices of this series usually 2\.5; restore missing files"
    ):
        read(tmp_path / "gap")
    assert "lies on no slice" in load_error(tmp_path / "gap", uneven="keep")

    def double(images, segments):
        images[3].ImagePositionPatient = images[2].ImagePositionPatient

    write_set(tmp_path / "double", "reference", change=double)
    assert "lies where" in load_error(tmp_path / "double", uneven="keep")
    write_set(
        tmp_path / "kept",
        "reference",
        change=lambda i, s: setattr(i[4], "ImagePositionPatient", [-30, 12, 18.0]),
    )
    assert "uneven=keep" in load_error(tmp_path / "kept")
    assert len(read(tmp_path / "kept", uneven="keep").frame_index) == SLICES


def load_error(root, **options):
    with pytest.raises(DataError) as caught:
        shown(read(root, **options))
    return str(caught.value)


def of_image(**values):
    """Set elements of the third slice; None removes one."""
    return lambda images, segments: put(images[2], values)


def of_segmentation(**values):
    return lambda images, segments: put(segments, values)


def of_frame(keyword, inner, value):
    def change(images, segments):
        setattr(getattr(segments.PerFrameFunctionalGroupsSequence[0], keyword)[0], inner, value)

    return change


def put(found, values):
    for keyword, value in values.items():
        if value is None:
            delattr(found, keyword)
        else:
            setattr(found, keyword, value)


def compressed(syntax):
    def change(images, segments):
        images[2].file_meta.TransferSyntaxUID = syntax
        images[2]["PixelData"].is_undefined_length = True
        images[
            2
        ].PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x04\0\0\0abcd\xfe\xff\xdd\xe0\0\0\0\0"

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_image(Rows=8), "has pictures of several sizes"),
        (of_image(ImageOrientationPatient=[0, 1, 0, 0, 0, 1]), "lies otherwise than"),
        (of_image(PixelSpacing=[0.9, 0.7]), "lies otherwise than"),
        (of_image(ImagePositionPatient=None), "has no usable ImagePositionPatient"),
        (of_image(SamplesPerPixel=3), "mixes kinds of pictures"),
        (of_image(BurnedInAnnotation="YES"), "set burned_in=keep"),
        (of_image(PixelData=b"\0" * 100), "decoding failed"),
        (of_image(PhotometricInterpretation="PALETTE COLOR"), "mixes kinds"),
        (
            compressed(JPEGLSLossless),
            "is compressed as JPEG-LS Lossless Image Compression, which pydicom cannot",
        ),
        (compressed(MPEG2MPML), "it has no plugin for it"),
        (of_segmentation(SegmentationType="FRACTIONAL"), "is a FRACTIONAL segmentation, only BINARY"),
        (of_segmentation(Rows=8, Columns=12), "is 8x12, its series 9x11"),
        (of_segmentation(NumberOfFrames=5), "has not the 5 frames that it says"),
        (of_segmentation(NumberOfFrames=2**20 + 1), "are no pictures that can be read"),
        (of_segmentation(PixelData=b"\0\0"), "has not the 6 frames"),
        (of_segmentation(SegmentSequence=[]), "belongs to segment 1, which is not described"),
        (
            of_frame("PlanePositionSequence", "ImagePositionPatient", [-30, 12, 8.0]),
            "lies on no slice of its series, 1 mm",
        ),
        (of_frame("PlanePositionSequence", "ImagePositionPatient", [-29, 12, 7.0]), "lies on no slice"),
        (
            of_frame("PlanePositionSequence", "ImagePositionPatient", [-30, 12, 7.0]),
            "refers to another slice",
        ),
        (
            of_frame("PlaneOrientationSequence", "ImageOrientationPatient", [-1, 0, 0, 0, 1, 0]),
            "is turned against",
        ),
        (of_frame("SegmentIdentificationSequence", "ReferencedSegmentNumber", 2), "is on this slice twice"),
        (of_segmentation(PerFrameFunctionalGroupsSequence=None), "reading the segmentation failed"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    write_set(tmp_path, change=change)
    assert message in load_error(tmp_path)


def test_a_file_that_is_deflated_or_cut_off_is_named_and_the_rest_is_read(tmp_path):
    write_set(tmp_path / "set")
    packed = image(0, "packed")
    packed.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    save(packed, tmp_path / "set" / "packed.dcm")
    whole = (tmp_path / "set" / "scan" / "1").read_bytes()
    (tmp_path / "set" / "cut.dcm").write_bytes(whole[:300])
    (tmp_path / "set" / "odd.dcm").write_bytes(whole[:138] + b"\x05" + whole[139:])
    messages = skipped("dicom", tmp_path / "set", tmp_path / "out")
    assert ["cut.dcm: damaged", "odd.dcm: damaged"] == [m.split("set/")[1][:16] for m in messages[:2]]
    assert len(messages) == 3 and "packed.dcm: is deflated as a whole" in messages[2]


def test_a_segmentation_of_a_series_that_is_not_there_is_named(tmp_path):
    write_set(
        tmp_path,
        change=lambda images, found: put(found.ReferencedSeriesSequence[0], {"SeriesInstanceUID": "1.2"}),
    )
    (clip,) = load_source("dicom", tmp_path).clips()
    with pytest.raises(DataError, match="a.dcm: the series that it segments is not there"):
        clip.read()
    write_set(tmp_path, change=of_segmentation(ReferencedSeriesSequence=None))  # its frame of reference tells
    assert read(tmp_path).object_ids == (1, 2)


def test_a_wrong_layout_or_option_is_described(tmp_path, monkeypatch, caplog):
    (tmp_path / "DICOMDIR").write_bytes(b"x" * 200)
    (tmp_path / "note.txt").write_text("no")
    with pytest.raises(DataError, match="expected DICOM files, found DICOMDIR, note.txt"):
        load_source("dicom", tmp_path).clips()
    contours = Dataset()
    contours.file_meta = image().file_meta
    put(contours, {"SOPClassUID": RTStructureSetStorage, "SOPInstanceUID": "1.5"})
    put(contours, {"StudyInstanceUID": "1.6", "SeriesInstanceUID": "1.7"})
    save(contours, tmp_path / "contours.dcm")
    save(image(), tmp_path / "0.dcm")
    with pytest.raises(
        DataError, match=r"found 1 series of pictures and none; contours \(RTSTRUCT\) are not read"
    ):
        load_source("dicom", tmp_path).clips()
    write_set(tmp_path, name="other")
    assert len(load_source("dicom", tmp_path).clips()) == 1
    assert "1 series without segmentation left out" in caplog.text
    for option, value in {"window": "x", "group": "site", "uneven": "no", "burned_in": True}.items():
        with pytest.raises(DataError, match=f"{option} must be"):
            load_source("dicom", tmp_path, **{option: value})
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"pip install 'sam2-train\[medical\]'"):
        load_source("dicom", tmp_path).clips()[0].read()
