"""How a setting is given on a command line: a note at a dataclass's field."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """In `field: Annotated[type, Option(...)]`; a field without one is no option.

    Attributes:
        metavar: stands for the value in help; None for a flag.
        help: one sentence.
        name: of the option, where it is not the field's.
        is_named: False: it is told by its place.
    """

    metavar: str | None
    help: str
    name: str | None = None
    is_named: bool = True
