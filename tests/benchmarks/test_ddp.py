"""The arithmetic of benchmarks/ddp.py, and the table of docs/parallel.md that comes from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ddp_model import FABRIC, Fabric, all_reduce_s, predict, state_table, trainable

ROOT = Path(__file__).parents[2]
IDEAL = Fabric("ideal", 8, nvlink=100.0, network=10.0, nvlink_s=0.0, network_s=0.0, efficiency=1.0)


def test_within_a_machine_a_ring_sends_almost_twice_the_gradient():
    assert all_reduce_s(800.0, 8, IDEAL) == pytest.approx(2 * 7 / 8 * 800 / 100)
    assert all_reduce_s(800.0, 1, IDEAL) == 0


def test_between_machines_every_gpu_sends_its_share_through_its_own_card():
    inside = 2 * 7 / 8 * 800 / 100
    assert all_reduce_s(800.0, 16, IDEAL) == pytest.approx(inside + 2 * 1 / 2 * 100 / 10)
    assert all_reduce_s(800.0, 512, IDEAL) == pytest.approx(inside + 2 * 63 / 64 * 100 / 10)


def test_what_travels_longer_than_the_backward_pass_is_not_hidden():
    quick, slow = (predict(step, 800.0, 8.0, 8, IDEAL) for step in (1e3, 3.0))
    assert quick.hidden == pytest.approx(1e3 / (1e3 + 0.14)) and quick.open == pytest.approx(1e3 / 1014)
    assert slow.hidden == pytest.approx(3 / (3 + 14 - 2))


def test_the_page_says_what_the_models_say():
    page = (ROOT / "docs" / "parallel.md").read_text()
    assert all(line in page for line in state_table().splitlines()[2:])
    assert 4 * 4 * trainable("sam2.1_l") / 1e9 == pytest.approx(3.6, abs=0.05)
    travel = [1e3 * all_reduce_s(4 * trainable("sam2.1_b+"), gpus, FABRIC) for gpus in (8, 64, 512)]
    assert travel[0] == pytest.approx(1.8, abs=0.1) and travel[1:] == pytest.approx([4, 4], abs=0.4)
