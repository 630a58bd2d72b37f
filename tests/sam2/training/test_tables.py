"""Tables on a terminal of 80 columns say all that they have to say."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from sam2.training.benchmark_report import tables
from sam2.training.sweeps.ended import Finished, table_of_runs


def printed(table: Table) -> list[str]:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


def test_runs_of_a_sweep_that_differ_at_the_end_of_a_path_can_be_told_apart() -> None:
    runs = [
        (f"checkpoint=/{'far/' * 12}seed-{k}.pt prompt=mask", Finished(Path(f"runs/{k}"), {"J&F": 50.0 + k}))
        for k in range(2)
    ]
    lines = printed(table_of_runs(runs))
    first_column = "".join(line.split("│")[1].strip() for line in lines if line.startswith("│"))
    assert "seed-1.pt" in first_column and "seed-0.pt" in first_column
    assert first_column.index("seed-1.pt") < first_column.index("seed-0.pt"), "the better one is first"


def published(*sources: str) -> list[str]:
    rows = [{"model": f"model-{k}", "J&F": 70.0 + k, "source": source} for k, source in enumerate(sources)]
    speed = dict.fromkeys(
        (
            *("fps", "model_fps", "p50_ms", "p95_ms", "peak_memory_gb"),
            *("state_growth_mb", "process_growth_mb", "device_growth_mb", "growth_videos"),
        )
    )
    results = {
        **{"J&F": 71.5, "visibility": {}, "calibration": {}, "by": {}, "published": rows},
        "run": {"official": True, "model": "model-1", "speed": speed},
    }
    return printed(tables(results)[-1])


def test_a_source_that_all_published_numbers_have_is_said_once() -> None:
    lines = published("a paper", "a paper", "a paper")
    assert [line for line in lines if "a paper" in line] == [lines[-1]]
    assert lines[-1].strip() == "source: a paper"
    assert [line.split() for line in lines if "model-1" in line] == ["│ model-1 │ 71.0 │ 71.5 │".split()]


def test_published_numbers_of_several_sources_each_have_theirs() -> None:
    lines = published("a paper", "a page")
    assert sum("a paper" in line for line in lines) == sum("a page" in line for line in lines) == 1
    assert all("model-" in line for line in lines if "a pa" in line)
