"""What the verbs of `sam2 eval` have in common: options made of settings, and how mistakes are told."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import typer

from sam2.training.option import Option
from sam2.training.typed import ConfigError, from_mapping

if TYPE_CHECKING:
    from sam2.training.evaluation_config import EvaluationConfig

T = TypeVar("T")


class OptionError(ValueError):
    """Words that cannot be meant."""


def options_of(schema: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Make a command of a function of settings: each field of the dataclass with an `Option` is an option.

    A class's own options stand in help under its `PANEL`, before those that it inherits.
    """

    def decorate(function: Callable[[T], None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**given: Any) -> None:
            try:
                settings = from_mapping(schema, given)
            except ConfigError as error:
                raise failed(error, 2) from error
            function(settings)

        command.__annotations__ = {}
        command.__signature__ = inspect.Signature(list(_parameters(schema)))  # type: ignore[attr-defined]
        return command

    return decorate


def _parameters(schema: type) -> Iterator[inspect.Parameter]:
    """What typer makes options of, by falling class."""
    fields = {f.name: f for f in dataclasses.fields(schema)}
    hints = get_type_hints(schema, include_extras=True)
    for kind in schema.__mro__:
        panel = getattr(kind, "PANEL", None)
        for name in kind.__dict__.get("__annotations__", {}):
            about = next((note for note in get_args(hints[name])[1:] if isinstance(note, Option)), None)
            if name not in fields or about is None:
                continue
            value = fields[name].default
            yield inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if value is dataclasses.MISSING else value,
                annotation=Annotated[_typed(get_args(hints[name])[0]), _declared(name, about, panel)],
            )


def _declared(name: str, about: Option, panel: str | None) -> Any:
    if not about.is_named:
        return typer.Argument(metavar=about.metavar, help=about.help)
    word = "--" + (about.name or name).replace("_", "-")
    return typer.Option(word, metavar=about.metavar, help=about.help, rich_help_panel=panel)


def _typed(hint: Any) -> Any:
    """A type that typer reads; which words of a choice are known is for the settings to say."""
    arms = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return functools.reduce(operator.or_, (str if get_origin(arm) is Literal else arm for arm in arms))


def refuse_to_overwrite(files: Iterable[Path], overwrite: bool) -> None:
    """Stop at a file to write that is a folder, or is there already.

    Raises:
        OptionError: it names the file.
    """
    for path in files:
        if path.is_dir():
            raise OptionError(f"{path} is a folder, expected the name of a file to write")
        if path.exists() and not overwrite:
            raise OptionError(f"{path} exists; choose another name or add --overwrite")


def failed(error: Exception, code: int) -> typer.Exit:
    """One line for a mistake, and the exit."""
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(code)


def run_model(settings: EvaluationConfig, what: str) -> None:
    """Evaluate a model; exit with 2 for settings that make no sense, 1 for what cannot be done, 130 after Ctrl-C.

    Args:
        settings: of any kind.
        what: is left to do after Ctrl-C ("videos").
    """
    from rich.console import Console

    from sam2.training.benchmark_job import MISTAKES
    from sam2.training.evaluation_job import run_evaluation

    try:
        run_evaluation(settings, Console(highlight=False, markup=False, soft_wrap=True))
    except ConfigError as error:
        raise failed(error, 2) from error
    except MISTAKES as error:
        raise failed(error, 1) from error
    except KeyboardInterrupt as error:
        typer.echo(f"stopped; the same command goes on with the {what} that are missing", err=True)
        raise typer.Exit(130) from error


@contextmanager
def scoring() -> Iterator[None]:
    """Exit with 1 for masks that cannot be scored or files that cannot be written, 130 after Ctrl-C."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise failed(error, 1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped; nothing was written", err=True)
        raise typer.Exit(130) from error
