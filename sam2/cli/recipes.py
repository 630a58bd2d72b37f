"""`sam2 recipes`: what the shipped recipes are for, read from their first lines."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

FIELDS = ("Goal", "Needs", "Run", "Expect", "Change")


def header(recipe: Path) -> dict[str, str]:
    """The story at the top of a recipe: `# Goal    ...` and so on, continued lines joined."""
    story: dict[str, str] = {}
    current = ""
    for line in recipe.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        word, _, rest = line[1:].strip().partition(" ")
        if word in FIELDS:
            current, story[word] = word, rest.strip()
        elif current:
            story[current] += f" {line[1:].strip()}"
    return story


def show() -> None:
    """Print name, goal and needs of every shipped recipe."""
    from sam2.shipped import shipped

    table = Table(box=None, pad_edge=False)
    for heading in ("recipe", "goal", "needs"):
        table.add_column(heading)
    for recipe in sorted(shipped("recipes").glob("*.yaml")):
        story = header(recipe)
        table.add_row(recipe.stem, story.get("Goal", ""), story.get("Needs", ""))
    Console().print(table)
