"""What the benchmarks count and where they write it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from benchmarks.harness import Table, tensor_bytes

KIB = torch.zeros(256)  # 1024 bytes


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass(frozen=True)
class Box:
    inside: Any


class Slotted:
    __slots__ = ("inside",)

    def __init__(self, inside: Any) -> None:
        self.inside = inside


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: [[x]],
        lambda x: {"a": {3: x}},
        lambda x: deque([x]),
        lambda x: Pair(None, x),
        Box,
        Slotted,
        lambda x: Box(Slotted(Pair([x], {"b": x}))),
    ],
)
def test_tensors_are_found_wherever_they_are_held(wrap):
    assert tensor_bytes(wrap(KIB)) == 1024


def test_a_view_counts_as_all_that_it_keeps_alive_and_only_once():
    whole = torch.zeros(4, 256)
    assert tensor_bytes([whole[0]], whole[1], whole.expand(2, 4, 256)) == 4096
    array = np.zeros((4, 256), np.float32)
    assert tensor_bytes(array[0], torch.from_numpy(array)) == 4096


def test_things_that_hold_themselves_are_counted_once():
    loop: list[Any] = [KIB]
    loop.append(loop)
    assert tensor_bytes(loop, loop) == 1024


def test_weights_are_no_state():
    assert tensor_bytes(Box(torch.nn.Linear(8, 8))) == 0


def test_rows_go_to_the_end_of_their_own_table(tmp_path):
    file = tmp_path / "RESULTS.md"
    one, two = Table("One", ("a",)), Table("Two", ("b", "c"))
    for table, row in ((one, "| 1 |"), (two, "| 2 |"), (one, "| 3 |")):
        table.append(row, file)
    assert file.read_text().split("\n") == [
        "# Measured",
        "",
        "## One",
        "",
        "| date | commit | hardware | versions | a |",
        "|---|---|---|---|---|",
        "| 1 |",
        "| 3 |",
        "",
        "## Two",
        "",
        "| date | commit | hardware | versions | b | c |",
        "|---|---|---|---|---|---|",
        "| 2 |",
        "",
    ]
    assert one.row(["7"]).count("|") == 6
