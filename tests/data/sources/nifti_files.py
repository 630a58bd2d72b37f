"""NIfTI files written by nibabel, and a patient whose voxels know where in the world they are."""

import nibabel
import numpy as np
from nibabel.eulerangles import euler2mat

SHAPE = (10, 12, 8)


def affine_of(codes="RAS", spacing=(1.0, 1.0, 3.0), angles=(0.0, 0.0, 0.0)):
    """Of SHAPE voxels whose axes point where `codes` say, turned by `angles`."""
    ornt = nibabel.orientations.axcodes2ornt(codes)
    steps = np.linalg.inv(nibabel.orientations.inv_ornt_aff(ornt, SHAPE))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = euler2mat(*angles) @ steps @ np.diag(spacing)
    assert any(angles) or nibabel.aff2axcodes(affine) == tuple(codes)
    affine[:3, 3] = (-20.0, 11.0, 5.0)
    return affine


def intensities(seed=0, dtype=np.int16):
    return np.random.default_rng(seed).integers(-900, 900, SHAPE).astype(dtype)


def blobs(seed=0, ids=(1, 4)):
    """Labels in random boxes."""
    rng, labels = np.random.default_rng(seed), np.zeros(SHAPE, np.uint8)
    for i in ids:
        low = [int(rng.integers(0, n - 4)) for n in SHAPE]
        labels[tuple(slice(at, at + int(rng.integers(2, 5))) for at in low)] = i
    return labels


def write(path, voxels, affine, kind=nibabel.Nifti1Image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = kind(voxels, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def write_pair(root, name="case", affine=None, voxels=None, labels=None):
    affine = affine_of() if affine is None else affine
    write(root / "imagesTr" / f"{name}.nii.gz", intensities() if voxels is None else voxels, affine)
    write(root / "labelsTr" / f"{name}.nii.gz", blobs() if labels is None else labels, affine)


def canonical(path):
    """nibabel's own view of a file in RAS+: values and spacing along R, A and S."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(image.dataobj), nibabel.affines.voxel_sizes(image.affine)


def as_seen(ras, axis):
    """Slices of a volume in RAS+ as radiologists look at them."""
    if axis == "axial":  # rows from front to back, columns from right to left
        return np.stack([ras[::-1, ::-1, k].T for k in range(ras.shape[2])])
    if axis == "coronal":  # rows from head to feet
        return np.stack([ras[::-1, k, ::-1].T for k in range(ras.shape[1])])
    return np.stack([ras[k, ::-1, ::-1].T for k in range(ras.shape[0])])  # columns from front to back
