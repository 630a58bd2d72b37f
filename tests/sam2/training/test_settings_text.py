"""What is written for a job is what Hydra reads there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from sam2.training.settings_text import as_yaml


def read(text: str) -> Any:
    return OmegaConf.to_container(OmegaConf.create(text))


@pytest.mark.parametrize(
    "value", ["0653e4", "1e5", "12", "1.5", "nan", "null", "yes", "1e-4", 1e-4, 1e22, 3, True]
)
def test_text_that_looks_like_a_number_stays_text(value: object) -> None:
    found = read(as_yaml({"tags": [value]}))["tags"][0]
    assert found == value and type(found) is type(value)


@given(st.text("0123456789abcdef", min_size=6, max_size=6) | st.floats(allow_nan=False))
def test_every_digest_and_every_number_comes_back(value: str | float) -> None:
    found = read(as_yaml({"tags": [value]}))["tags"][0]
    assert found == value and type(found) is type(value)
