"""Names and numbers of the released models."""

import dataclasses

import pytest
import torch

from sam2.model.sam2 import SAM2
from sam2.variants import VARIANTS, UnknownVariantError, resolve

OFFICIAL = ["t", "s", "b+", "l"]
# published with the weights; 2.1 adds 16,512
PARAMETERS = {"t": 38_945_986, "s": 46_043_842, "b+": 80_833_666, "l": 224_430_130}
LONG = {"t": "tiny", "s": "small", "b+": "base_plus", "l": "large"}


@pytest.mark.parametrize("version", ["2", "2.1"])
@pytest.mark.parametrize("size", OFFICIAL)
def test_every_official_spelling_means_the_same_model(size, version):
    expected = VARIANTS[f"sam{version}_{size}"]
    page = LONG[size].replace("_", "-")
    for name in [
        f"sam{version}_{size}",
        f"sam{version}_hiera_{size}",
        f"sam{version}_hiera_{size}.yaml",
        f"configs/sam{version}/sam{version}_hiera_{size}.yaml",
        f"/somewhere/else/sam{version}_hiera_{size}.yml",
        f"sam{version}_hiera_{LONG[size]}",
        f"facebook/sam{version}-hiera-{page}",
    ]:
        assert resolve(name) is expected, name


@pytest.mark.parametrize("size", OFFICIAL)
def test_the_models_have_the_published_number_of_parameters(size):
    counts = {}
    for version in ("2", "2.1"):
        with torch.device("meta"):
            model = SAM2(VARIANTS[f"sam{version}_{size}"])
        counts[version] = sum(parameter.numel() for parameter in model.parameters())
    assert counts == {"2": PARAMETERS[size], "2.1": PARAMETERS[size] + 16_512}


def test_an_unknown_name_lists_the_close_and_the_known():
    with pytest.raises(
        UnknownVariantError, match=r"'sam2\.1_hiera_xl'; did you mean sam2\.1_l.*known: sam2_t"
    ):
        resolve("sam2.1_hiera_xl")


def test_a_name_like_nothing_gets_no_guess():
    with pytest.raises(UnknownVariantError, match=r"^no model is called 'resnet50\.yaml'; known: "):
        resolve("resnet50.yaml")


def test_versions_differ_in_their_four_flags_only():
    for size in OFFICIAL:
        old, new = VARIANTS[f"sam2_{size}"], VARIANTS[f"sam2.1_{size}"]
        assert not any(dataclasses.astuple(old.version)) and all(dataclasses.astuple(new.version))
        assert dataclasses.replace(new, name=old.name, version=old.version) == old


@pytest.mark.parametrize("size", [0, -32, 100, 1000])
def test_an_image_size_off_the_stride_is_refused(size):
    with pytest.raises(ValueError, match=rf"image_size {size} is not a positive multiple of 32"):
        VARIANTS["test"].at(size)
