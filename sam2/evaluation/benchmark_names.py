"""The names of the benchmarks: one for each file of `manifests/`. Imports nothing, for the command line."""

from __future__ import annotations

from pathlib import Path

MANIFESTS = Path(__file__).parent / "manifests"


def benchmarks() -> tuple[str, ...]:
    """The names of all benchmarks."""
    return tuple(sorted(path.stem for path in MANIFESTS.glob("*.json")))


def no_benchmark(name: str) -> str:
    """What is wrong with a name that none has."""
    return f"there is no benchmark {name!r}; choose one of {', '.join(benchmarks())}, or shards:PATH"
