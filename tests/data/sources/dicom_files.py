"""DICOM series and segmentations, written by pydicom element by element."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    SegmentationStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

ROWS, COLUMNS, SLICES = 9, 11, 5
PLANES = {  # directions of rows and columns
    "axial": [1, 0, 0, 0, 1, 0],
    "sagittal": [0, 1, 0, 0, 0, -1],
    "oblique": [0.8, 0.6, 0, 0, 0, -1],
}
PATIENT = {"PatientName": "Doe^Jane", "PatientID": "MRN0815", "PatientBirthDate": "19700131"}


def uid(name):
    return generate_uid(entropy_srcs=[name])


def stored(k, seed=0):
    return np.random.default_rng((seed, k)).integers(0, 2000, (ROWS, COLUMNS)).astype(np.int16)


def masks_of(count=2, slices=SLICES):
    """(objects, slices, rows, columns); they overlap."""
    z, y, x = np.mgrid[:slices, :ROWS, :COLUMNS]
    return np.stack([(z >= i) & (z < i + 3) & (y > x // 2 + i) & (x > 1) for i in range(count)])


def image(k=0, name="ct", plane="axial", step=2.5, study="study"):
    """Slice k of a series."""
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.SOPClassUID, found.SOPInstanceUID = CTImageStorage, uid(f"{name} {k}")
    found.StudyInstanceUID, found.SeriesInstanceUID = uid(study), uid(name)
    found.FrameOfReferenceUID, found.Modality = uid(f"place {name}"), "CT"
    found.StudyDate = "20200229"
    found.update(PATIENT)
    directions = np.array(PLANES[plane], float).reshape(2, 3)
    found.ImageOrientationPatient = PLANES[plane]
    position = np.array([-30.0, 12.0, 7.0]) + k * step * np.cross(*directions)
    found.ImagePositionPatient = [round(float(value), 4) for value in position]
    found.PixelSpacing, found.SliceThickness = [0.8, 0.7], step
    found.Rows, found.Columns, found.SamplesPerPixel = ROWS, COLUMNS, 1
    found.PhotometricInterpretation, found.PixelRepresentation = "MONOCHROME2", 1
    found.BitsAllocated, found.BitsStored, found.HighBit = 16, 16, 15
    found.RescaleSlope, found.RescaleIntercept = 2, -1024
    found.PixelData = stored(k).tobytes()
    return found


def cine(name="us", frames=SLICES, colour=False):
    """Frames of ultrasound in one file."""
    found = image(0, name)
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "SliceThickness",
    ):
        delattr(found, keyword)
    del found.RescaleIntercept
    found.SOPClassUID, found.NumberOfFrames, found.FrameTime = UltrasoundMultiFrameImageStorage, frames, 40
    found.PixelRepresentation, found.BitsAllocated, found.BitsStored, found.HighBit = 0, 8, 8, 7
    samples = 3 if colour else 1
    found.SamplesPerPixel, found.PhotometricInterpretation = samples, "RGB" if colour else "MONOCHROME2"
    found.PlanarConfiguration = 0
    shape = (frames, ROWS, COLUMNS, samples)
    found.PixelData = np.random.default_rng(1).integers(0, 256, shape, np.uint8).tobytes() + b"\0" * (
        np.prod(shape) % 2
    )
    return found


def segmentation(images, masks, by="both", numbers=None):
    """Segments (objects, slices, rows, columns) of a series; frames say where they lie by reference or position."""
    first = images[0]
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.SOPClassUID = SegmentationStorage
    found.SOPInstanceUID = uid(f"seg {first.SeriesInstanceUID} {by} {numbers}")
    found.StudyInstanceUID, found.SeriesInstanceUID = (
        first.StudyInstanceUID,
        uid(f"segs {first.SeriesInstanceUID}"),
    )
    found.FrameOfReferenceUID, found.Modality, found.SegmentationType = (
        first.FrameOfReferenceUID,
        "SEG",
        "BINARY",
    )
    found.update(PATIENT)
    referenced = Dataset()
    referenced.SeriesInstanceUID = first.SeriesInstanceUID
    referenced.ReferencedInstanceSequence = [source(one) for one in images]
    found.ReferencedSeriesSequence = [referenced]
    found.Rows, found.Columns, found.SamplesPerPixel = *masks.shape[2:], 1
    found.PhotometricInterpretation, found.PixelRepresentation = "MONOCHROME2", 0
    found.BitsAllocated, found.BitsStored, found.HighBit = 1, 1, 0
    found.SegmentSequence, frames, groups = [], [], []
    for number, rows in zip(numbers or range(1, len(masks) + 1), masks, strict=True):
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel, segment.SegmentAlgorithmType = (
            number,
            f"organ {number}",
            "MANUAL",
        )
        found.SegmentSequence.append(segment)
        for k in np.flatnonzero(rows.any((1, 2)))[::-1]:  # the order of frames does not matter
            frames.append(rows[k])
            groups.append(group(number, images, int(k), by))
    found.PerFrameFunctionalGroupsSequence, found.NumberOfFrames = groups, len(frames)
    found.PixelData = pack_bits(np.stack(frames).astype(np.uint8).ravel(), pad=True)
    return found


def source(image, frame=None):
    found = Dataset()
    found.ReferencedSOPClassUID, found.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    if frame is not None:
        found.ReferencedFrameNumber = frame
    return found


def group(number, images, k, by):
    """What a frame of a segmentation says about itself."""
    found, identity = Dataset(), Dataset()
    identity.ReferencedSegmentNumber = number
    found.SegmentIdentificationSequence = [identity]
    if by in ("both", "reference"):
        derivation = Dataset()
        one = source(images[k]) if len(images) > 1 else source(images[0], k + 1)
        derivation.SourceImageSequence = [one]
        found.DerivationImageSequence = [derivation]
    if by in ("both", "position"):
        position, plane = Dataset(), Dataset()
        position.ImagePositionPatient = images[k].ImagePositionPatient
        plane.ImageOrientationPatient = images[k].ImageOrientationPatient
        found.PlanePositionSequence, found.PlaneOrientationSequence = [position], [plane]
    return found


def save(found, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save_as(path, enforce_file_format=True)
    return path


def write_set(root, by="both", masks=None, change=lambda images, segmentation: None, **options):
    """A series in files whose names do not tell their order, and its segmentation; `change` may spoil both."""
    images = [image(k, **options) for k in range(SLICES)]
    segments = segmentation(images, masks_of() if masks is None else masks, by)
    change(images, segments)
    for k, one in enumerate(images):
        save(one, root / "scan" / f"{(7 * k + 3) % 5}")
    save(segments, root / "seg" / "a.dcm")
