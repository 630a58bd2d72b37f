"""Command lines made of settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
import typer
from typer.testing import CliRunner

from sam2.cli.eval import app
from sam2.cli.eval_options import options_of
from sam2.training.evaluation_config import TASKS
from sam2.training.option import Option

OF_RECIPES = ("archive", "launcher", "cluster")  # a verb works here and now
RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"})


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What several have."""

    PANEL: ClassVar[str | None] = "Shared things"

    place: Annotated[str, Option("PLACE", "Where.", is_named=False)]
    how_often: Annotated[int | None, Option("N", "How often.", name="times")] = None
    is_quick: Annotated[bool, Option(None, "Not slowly.", name="quick")] = False
    hidden: int = 3


@dataclass(frozen=True, kw_only=True)
class Own(Shared):
    """What one has."""

    PANEL: ClassVar[str | None] = None

    file: Annotated[Path | None, Option("FILE", "Which file.")] = None
    kind: Annotated[Literal["a", "b"] | None, Option("KIND", "a or b.")] = None

    def __post_init__(self) -> None:
        if self.how_often == 13:
            raise ValueError("how_often is 13")


def called(*words: str) -> tuple[int, str, list[Own]]:
    made: list[Own] = []
    verb = typer.Typer(add_completion=False)

    @verb.command()
    @options_of(Own)
    def command(settings: Own) -> None:
        """Do it."""
        made.append(settings)

    result = RUNNER.invoke(verb, list(words))
    return result.exit_code, result.output, made


def test_what_is_not_said_is_as_the_settings_have_it() -> None:
    assert called("here") == (0, "", [Own(place="here")])


def test_every_option_reaches_its_field() -> None:
    words = ["here", "--times", "4", "--quick", "--file", "/x", "--kind", "b"]
    assert called(*words)[2] == [Own(place="here", how_often=4, is_quick=True, file=Path("/x"), kind="b")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["here", "--kind", "c"], "error: kind: expected one of a, b; got 'c'"),
        (["here", "--times", "13"], "error: how_often is 13"),
        (["here", "--times", "often"], "Invalid value for '--times'"),
        (["here", "--hidden", "4"], "No such option"),
        ([], "Missing argument 'PLACE'"),
    ],
)
def test_what_cannot_be_meant_ends_with_2(words: list[str], message: str) -> None:
    code, output, made = called(*words)
    assert code == 2 and message in output and not made


def test_help_has_a_heading_for_what_is_shared() -> None:
    output = called("--help")[1]
    assert "Do it." in output and "Where." in output
    own, _, shared = output.partition("Shared things")
    assert "Which file." in own and "a or b." in own and "--hidden" not in output
    assert "How often." in shared and "--quick" in shared and "--no-quick" not in shared


@pytest.mark.parametrize(
    ("verb", "kind"), [*zip(("run", "interactive", "image"), TASKS.values(), strict=True)]
)
def test_verbs_have_the_settings_of_recipes(verb: str, kind: type) -> None:
    shown = RUNNER.invoke(app, [verb, "--help"]).output
    for field in fields(kind):
        word = {"checkpoint": "CHECKPOINT", "image_size": "--size"}.get(
            field.name, "--" + field.name.replace("_", "-")
        )
        assert (word in shown) == (field.name not in OF_RECIPES), field.name
