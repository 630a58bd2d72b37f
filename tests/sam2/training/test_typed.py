"""Mappings become typed settings, and mistakes become sentences."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from data.storage.place import Url
from sam2.training.compose import compose, parse
from sam2.training.typed import ConfigError, Plugin, flatten, from_mapping, to_plain


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    lr: float = 1.0
    trunk_lr: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.lr < 0:
            raise ValueError(f"lr is {self.lr}; it must be 0 or more")


@dataclass(frozen=True)
class Outer:
    steps: int
    optim: Inner = Inner()
    more: dict[str, Inner] = field(default_factory=dict)
    several: tuple[Inner, ...] = ()
    name: str = ""
    is_on: bool = False
    colour: Colour = Colour.RED
    mode: Literal["auto", "32"] = "auto"
    devices: int | Literal["auto"] = "auto"
    folder: Path | None = None
    words: list[str] = field(default_factory=list)
    logger: Inner | Plugin = Inner()


@dataclass(frozen=True)
class Empty:
    pass


class Target:
    def __init__(self, patience: int, goal: str = "") -> None:
        self.patience, self.goal = patience, goal


HERE = __name__


def outer(**values: Any) -> Outer:
    return from_mapping(Outer, {"steps": 1, **values})


def test_every_kind_of_value_finds_its_type(tmp_path: Path) -> None:
    made = outer(
        optim={"lr": 2, "trunk_lr": None, "betas": [0.5, 0.6]},
        more={"a": {"lr": 3}},
        several=[{"lr": 4}],
        name=7,
        is_on=True,
        colour="blue",
        mode=32,
        devices=2,
        folder=str(tmp_path),
        words=["x", "y"],
    )
    assert made == Outer(
        steps=1,
        optim=Inner(2.0, None, (0.5, 0.6)),
        more={"a": Inner(3.0)},
        several=(Inner(4.0),),
        name="7",
        is_on=True,
        colour=Colour.BLUE,
        mode="32",
        devices=2,
        folder=tmp_path,
        words=["x", "y"],
    )
    assert isinstance(made.optim.lr, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optim": {"trunk_Lr": 1}}, "unknown key 'optim.trunk_Lr'; did you mean 'trunk_lr'?"),
        ({"optm": {}}, "unknown key 'optm'; did you mean 'optim'?"),
        ({"betas": [1, 2]}, "unknown key 'betas'; did you mean 'optim.betas'?"),
        ({"optim": {"zzzzzz": 1}}, "unknown key 'optim.zzzzzz'; known here: lr, trunk_lr, betas"),
        ({"more": {"a": {"lrr": 1}}}, "unknown key 'more.a.lrr'; did you mean 'lr'?"),
        ({"several": [{"LR": 1}]}, r"unknown key 'several\[0\].LR'; did you mean 'lr'?"),
        ({"optim": {"lr": "fast"}}, "optim.lr: expected a number, got 'fast'"),
        ({"optim": {"lr": None}}, "optim.lr: expected a number, got None"),
        ({"optim": {"lr": float("nan")}}, "optim.lr: expected a number, got nan"),
        ({"optim": {"lr": -1}}, "optim: lr is -1.0; it must be 0 or more"),
        ({"optim": {"betas": [0.9]}}, r"optim.betas: expected a list of 2, got 1"),
        ({"optim": 3}, "optim: expected a group of settings, got 3"),
        ({"steps": 1.5}, "steps: expected an integer, got 1.5"),
        ({"steps": True}, "steps: expected an integer, got True"),
        ({"is_on": 1}, "is_on: expected true or false, got 1"),
        ({"mode": "aut"}, "mode: expected one of auto, 32; got 'aut'; did you mean 'auto'?"),
        ({"colour": "green"}, "colour: expected one of red, blue; got 'green'"),
        ({"devices": "many"}, "devices: expected an integer or one of auto, got 'many'"),
        ({"words": "x"}, "words: expected a list such as"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message.replace('?', '[?]')}"):
        outer(**values)


@pytest.mark.parametrize(("key", "kind"), [("name", "text"), ("folder", "a path")], ids=["text", "a path"])
@pytest.mark.parametrize(("value", "text"), [(float("nan"), "nan"), (True, "true"), (1.5, "1.5")])
def test_a_name_that_yaml_takes_for_something_else_has_its_remedy(
    key: str, kind: str, value: object, text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        outer(**{key: value})
    said = f"{key}: expected {kind}, got {value}; in quotes it is {kind}: "
    assert str(caught.value) == f"""{said}'{key}="{text}"'"""


def test_the_remedy_for_such_a_name_works_on_a_command_line() -> None:
    assert compose(parse(["smoke", 'run_id="nan"']))["run_id"] == "nan"


def test_a_key_that_must_be_given_is_missed() -> None:
    with pytest.raises(ConfigError, match=r"missing key 'steps' \(an integer\)"):
        from_mapping(Outer, {})


def test_a_whole_number_in_scientific_notation_is_an_integer() -> None:
    assert outer(steps=1e4).steps == 10_000


def test_plain_values_survive_a_file_and_come_back_equal() -> None:
    made = outer(
        optim={"lr": 5e-6}, several=[{}], colour="blue", logger={"_target_": f"{HERE}.Target", "patience": 3}
    )
    assert outer(**yaml.safe_load(yaml.safe_dump(to_plain(made)))) == made


def test_a_plug_in_is_checked_against_its_signature_and_built() -> None:
    made = outer(logger={"_target_": f"{HERE}.Target", "patience": 3, "goal": "x"}).logger
    assert isinstance(made, Plugin)
    built = made.build()
    assert (type(built).__name__, built.patience, built.goal) == ("Target", 3, "x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"_target_": f"{HERE}.Target", "patiense": 3},
            "unknown key 'logger.patiense'; did you mean 'patience'?",
        ),
        ({"_target_": f"{HERE}.Target"}, "missing key 'logger.patience'"),
        ({"_target_": f"{HERE}.Nothing"}, "logger: cannot import _target_"),
        ({"_target_": "no_such_module.Thing"}, "logger: cannot import _target_"),
        ({"_target_": "Target"}, "logger: cannot import _target_"),
        ({"_target_": f"{HERE}.HERE"}, "logger: _target_ .* is not a class or a function"),
    ],
)
def test_a_plug_in_that_does_not_fit_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", "[?]")):
        outer(logger=arguments)


def test_flattening_gives_dotted_keys() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [1, 2], "e": {}}


@dataclass(frozen=True)
class Place:
    root: Url | Path | None = None


@pytest.mark.parametrize("address", ["s3://bucket/a", "https://host/a?b=c", "pipe:cat {0..3}.tar"])
def test_an_address_is_no_path_and_survives_a_round_trip_through_yaml(address: str) -> None:
    found = from_mapping(Place, {"root": address})
    assert found.root == address and isinstance(found.root, Url)
    plain = yaml.safe_load(yaml.safe_dump(to_plain(found)))
    assert plain == {"root": address} and from_mapping(Place, plain) == found
    assert from_mapping(Place, {"root": "a/b"}).root == Path("a/b").absolute()
    assert from_mapping(Place, {"root": None}).root is None
    with pytest.raises(ConfigError, match="root: expected an address or a path, got 3"):
        from_mapping(Place, {"root": 3})
