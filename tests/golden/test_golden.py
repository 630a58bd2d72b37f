"""The golden data is what the cases say it is: a disagreement elsewhere is then in the code under test."""

import hashlib

import pytest

from tests import golden


@pytest.mark.parametrize("name", ["train_sam2_t_image", "image_sam2.1_t_salt", "video_sam2.1_t_512_absent"])
def test_rebuilt_weights_are_the_recorded_ones(name):
    meta = golden.case(name).meta
    manifest = golden.manifest(meta["model"])
    rebuilt = golden.weights.checksum(manifest, meta["variant"], meta.get("salt") or "")
    assert rebuilt == meta["weights_sha256"]


@pytest.mark.parametrize("name", ["train_sam2.1_t_mask", "train_sam2.1_t_points"])
def test_rebuilt_frames_are_the_recorded_ones(name):
    meta = golden.case(name).meta
    [(seed, height, width)] = meta["videos"]
    frames, _ = golden.inputs.video(seed, meta["frames"], height, width)
    network_input = golden.inputs.model_frames(frames, meta["size"])
    assert hashlib.sha256(network_input.tobytes()).hexdigest() == meta["input_sha256"]
