"""Thresholds out of bounds are refused by name."""

from __future__ import annotations

import math

import pytest

from sam2.policies import PolicyError
from sam2.policies.bounded import Bounded
from sam2.policies.confidence_gated import ConfidenceGated
from sam2.policies.dam4sam import DAM4SAM
from sam2.policies.pruned import Pruned
from sam2.policies.sam2long import SAM2Long
from sam2.policies.samurai import Samurai
from sam2.policies.strided import Strided


@pytest.mark.parametrize(
    ("policy", "thresholds", "message"),
    [
        (Strided, {"stride": 0}, r"Strided\.stride is 0; it must be a whole number of at least 1"),
        (Strided, {"stride": 2.5}, r"Strided\.stride is 2\.5; it must be a whole number"),
        (Strided, {"stride": True}, r"Strided\.stride is True"),
        (Bounded, {"max_prompted": 0}, r"Bounded\.max_prompted is 0"),
        (Bounded, {"max_pointers": "8"}, r"Bounded\.max_pointers is '8'"),
        (
            ConfidenceGated,
            {"min_iou": 1.5},
            r"ConfidenceGated\.min_iou is 1\.5; it must be a number of at most 1",
        ),
        (
            ConfidenceGated,
            {"min_object": math.nan},
            r"ConfidenceGated\.min_object is nan; it must be a number$",
        ),
        (ConfidenceGated, {"min_object": "1e-3"}, r"min_object is '1e-3'"),
        (Pruned, {"min_similarity": -2}, r"Pruned\.min_similarity is -2; it must be a number from -1 to 1"),
        (Pruned, {"max_age": 0}, r"Pruned\.max_age is 0"),
        (SAM2Long, {"paths": 0}, r"SAM2Long\.paths is 0; it must be a whole number from 1 to 16"),
        (SAM2Long, {"least_weight": -1}, r"SAM2Long\.least_weight is -1"),
        (Samurai, {"alpha": 1.1}, r"Samurai\.alpha is 1\.1"),
        (Samurai, {"stable_frames": None}, r"Samurai\.stable_frames is None"),
        (DAM4SAM, {"anchors": -1}, r"DAM4SAM\.anchors is -1"),
        (DAM4SAM, {"box_share": 2}, r"DAM4SAM\.box_share is 2"),
    ],
)
def test_a_threshold_out_of_bounds_is_refused_by_name(policy, thresholds, message):
    with pytest.raises(PolicyError, match=message):
        policy(**thresholds)
