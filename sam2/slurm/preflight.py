"""See that all a run needs is in place, in every task of its job: `srun python -P -m sam2.slurm.preflight RUN_DIR`.

What needs no torch is looked at first and told within seconds; then the tasks add up one number over the network that
training will use. All tasks end together; the first finds speak for all, with what was found, where, and what to do.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sam2.slurm import last_word
from sam2.slurm.checks import Task, examine, judge, wanted_by
from sam2.slurm.meeting import MeetingError, meet
from sam2.slurm.probe import ProbeError, add_up

_PATIENCE_S = 20.0
_FAILED = 1


def main(argv: Sequence[str]) -> int:
    """Look, tell, and return the exit code.

    Args:
        argv: the run directory; `--patience SECONDS` waits longer for tasks that start late.
    """
    code = _FAILED
    try:
        code = _looked(argv)
    finally:
        last_word.leave(code)
    return code


def _looked(argv: Sequence[str]) -> int:
    began = time.monotonic()
    task, run_dir = Task.of(os.environ), Path(argv[0])
    patience_s = float(argv[2]) if argv[1:2] == ["--patience"] else _PATIENCE_S
    wanted = wanted_by(run_dir)
    try:
        problems = meet(task, examine(task, wanted, run_dir), judge, patience_s)
        if problems:
            _tell(task, problems)
            return _FAILED
        found = add_up(task, wanted)
    except (MeetingError, ProbeError) as error:
        _say(f"{task.host}, task {task.rank}: {error}")
        return _FAILED
    if task.rank == 0:
        _say(
            f"{task.world} task{'s' * (task.world > 1)}, {found}: all well ({time.monotonic() - began:.1f} s)"
        )
    return 0


def _tell(task: Task, problems: Sequence[str]) -> None:
    """Once for all tasks."""
    for problem in problems if task.rank == 0 else ():
        _say(problem)


def _say(text: str) -> None:
    print(f"preflight: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
