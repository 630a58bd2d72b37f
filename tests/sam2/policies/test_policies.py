"""Policies by name and by file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from sam2.policies import (
    REFERENCE,
    Policy,
    PolicyError,
    content_of,
    find_policy,
    name_of,
    policy_names,
)
from sam2.policies.samurai import Samurai
from sam2.shipped import shipped


def test_every_shipped_file_is_a_policy_with_the_defaults_of_its_class():
    ours = "bounded confidence_gated dam4sam pruned reference sam2long samurai strided".split()
    assert set(ours) <= set(policy_names())
    for name in policy_names():
        policy = find_policy(name)
        assert policy == type(policy)(), f"configs/policy/{name}.yaml and the class disagree"
        lines = (shipped("configs") / "policy" / f"{name}.yaml").read_text().splitlines()
        assert lines[0].startswith("# ") and 2 <= len(lines) <= 25
    assert find_policy("reference") == REFERENCE


def test_a_file_of_ones_own_sets_thresholds(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("_target_: sam2.policies.samurai.Samurai\nalpha: 0.3\nmin_object: -.inf\n")
    assert find_policy(path) == find_policy(str(path)) == Samurai(alpha=0.3, min_object=float("-inf"))


def test_a_class_of_ones_own_needs_no_edit_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "house_policies.py").write_text(
        "from dataclasses import dataclass\nfrom sam2.policies import Policy\n"
        "@dataclass(frozen=True)\nclass Forgetful(Policy):\n    often: int = 2\n"
    )
    (tmp_path / "forgetful.yaml").write_text("_target_: house_policies.Forgetful\noften: 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    policy = find_policy(tmp_path / "forgetful.yaml")
    assert isinstance(policy, Policy) and policy.often == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "samuray",
            r"no memory policy is called 'samuray'; did you mean samurai\? known: bounded, confidence",
        ),
        ("SAM2Long", r"did you mean sam2long\?"),
        ("zzz", r"no memory policy is called 'zzz'; known: bounded"),
        ("gone.yaml", r"there is no file gone\.yaml; policies by name: bounded"),
        ("folder/samurai", r"there is no file folder/samurai"),
        ("..", r"no memory policy is called '\.\.'"),
    ],
)
def test_names_that_do_not_exist_are_answered_with_the_closest(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PolicyError, match=message):
        find_policy(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpha: 0.3", r"bad\.yaml: expected `_target_: package\.module\.Class`"),
        ("- 1", r"bad\.yaml: expected"),
        ("a: [", r"bad\.yaml is no YAML"),
        ("_target_: sam2.policies.samurai.Samurai\nalfa: 1", r"no threshold 'alfa'; did you mean alpha\?"),
        ("_target_: sam2.policies.Policy\nx: 1", r"Policy has no threshold 'x'; it has none"),
        ("_target_: sam2.policies.samurai.Samurai\nalpha: 7", r"bad\.yaml: Samurai\.alpha is 7"),
        ("_target_: sam2.policies.samurai.Samurai\nalpha: 1e-3x", r"Samurai\.alpha is '1e-3x'"),
        (
            "_target_: os.system\ncommand: ls",
            r"'os\.system' is no memory policy; subclass sam2\.policies\.Policy",
        ),
        ("_target_: sam2.types.Memory", r"'sam2\.types\.Memory' is no memory policy"),
        ("_target_: sam2.policies.gone.Gone", r"cannot import _target_ 'sam2\.policies\.gone\.Gone'"),
        (
            "_target_: ..policies.Policy",
            r"_target_ is '\.\.policies\.Policy', expected package\.module\.Class",
        ),
        ("_target_: Policy", r"_target_ is 'Policy', expected"),
        ("_target_: !!python/object:os.system {}", r"bad\.yaml is no YAML"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(text, message, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(PolicyError, match=message):
        find_policy(path)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.yml"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 1 << 30)
    with pytest.raises(PolicyError, match=r"huge\.yml has 1073741824 bytes"):
        find_policy(path)


def test_a_policy_is_named_by_what_it_says(tmp_path):
    for name in policy_names():
        policy = find_policy(name)
        assert name_of(policy) == name
        content = content_of(policy)
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        again = find_policy(tmp_path / "mine.yaml")
        assert content_of(again) == content and name_of(again) == name
    (tmp_path / "mine.yaml").write_text("_target_: sam2.policies.samurai.Samurai\nalpha: 0.31\n")
    other = find_policy(tmp_path / "mine.yaml")
    assert name_of(other) == "Samurai" and content_of(other)["alpha"] == 0.31
