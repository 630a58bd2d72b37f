"""Which line of a log is told: logs as jobs of SLURM 22.05 left them, shortened."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2.slurm.cause import Said, read, understand

BEGINNING = "job 17, restart 0, on n[1-2]: /runs/x\n"
WELL = "0: preflight: 2 tasks, CPU, gloo: all well (3.1 s)\n0: step 1/300  loss 75.61\n"
PREFLIGHT = """\
0: preflight: n1, task 0: the tasks cannot add up a number by gloo
srun: error: n1: task 0: Exited with exit code 1
srun: launch/slurm: _step_signal: Terminating StepId=17.0
srun: error: n2: task 1: Terminated
srun: Force Terminated StepId=17.0
"""
KILLED = """\
srun: error: n2: task 1: Killed
srun: launch/slurm: _step_signal: Terminating StepId=28.1
0: slurmstepd-n1: error: *** STEP 28.1 ON n1 CANCELLED AT 2026-11-23T07:13:49 ***
0: Traceback (most recent call last):
0: RuntimeError: [pair.cc:561] Connection closed by peer [127.0.0.1]:48031.
srun: error: n1: task 0: Exited with exit code 70
srun: Force Terminated StepId=28.1
"""
CANCELLED = """\
0: error: /runs/x is being written by process 28394 on vm
srun: error: n1: task 0: Exited with exit code 2
1: frame #51: _start + 0x21 (0x55934621d081 in /bin/python)
1:
srun: got SIGCONT
slurmstepd-n1: error: *** JOB 60 ON n1 CANCELLED AT 2026-11-23T07:22:46 ***
srun: Job step aborted: Waiting up to 12 seconds for job step to finish.
srun: forcing job termination
srun: error: n2: task 1: Killed
"""
LOST = "error: another rank of the run went away or does not answer (Broken pipe); its own last words say why"
REQUEUED = "interrupted at step 6; back into the queue\n"
STUCK = "interrupted at step 6 and not requeued: two restarts in a row made no progress\n"
TIME = "slurmstepd-n1: error: *** JOB 9 ON n1 CANCELLED AT 2026-11-23T07:35:41 DUE TO TIME LIMIT ***\n"
MEMORY = "slurmstepd: error: Detected 1 oom_kill event in StepId=9.0. Some of the step tasks have been OOM Killed.\n"


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (PREFLIGHT, "preflight: n1, task 0: the tasks cannot add up a number by gloo"),
        (WELL + KILLED, "srun: error: n2: task 1: Killed"),
        (WELL + KILLED + f"0: {LOST}\n", "srun: error: n2: task 1: Killed"),
        (WELL + f"0: {LOST}\nsrun: error: n1: task 0: Exited with exit code 88\n", LOST),
        (WELL + CANCELLED, "error: /runs/x is being written by process 28394 on vm"),
        (WELL + TIME, TIME.strip()),
        (WELL + MEMORY + "srun: error: n1: task 0: Terminated\n", MEMORY.strip()),
        (WELL + KILLED + REQUEUED, "srun: error: n2: task 1: Killed"),
        (WELL + "0: interrupted by SIGUSR1 after step 6 of 9; go on\n" + REQUEUED, REQUEUED.strip()),
        (WELL + KILLED + STUCK, STUCK.strip()),
        (WELL + f"1: LookupError: a bug\n0: {LOST}\n", "LookupError: a bug"),
        (
            WELL + "LookupError: a bug\nsrun: error: n1: task 0: Exited with exit code 70\n",
            "LookupError: a bug",
        ),
        (WELL, ""),
        ("", ""),
    ],
)
def test_why_a_job_ended_is_found_among_what_is_said_while_it_is_cleared_up(log: str, cause: str) -> None:
    assert understand(BEGINNING + log).cause == cause


def test_the_last_line_is_what_the_tasks_said_without_their_number() -> None:
    assert understand(BEGINNING + WELL + "srun: got SIGCONT\n").last == "step 1/300  loss 75.61"
    assert understand("srun: error: n2: task 1: Killed\n").last == "srun: error: n2: task 1: Killed"


def test_earlier_starts_of_a_job_say_nothing_about_the_last_one() -> None:
    said = understand(BEGINNING + PREFLIGHT + BEGINNING.replace("restart 0", "restart 12") + WELL)
    assert said == Said(12, "", "step 1/300  loss 75.61")


def test_a_job_without_a_log_says_nothing(tmp_path: Path) -> None:
    assert read(None) == read(tmp_path / "log.txt") == Said()
