"""A process in which nothing goes on says where it stands and ends, in time, whatever it hangs in."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sam2.training.exit_codes import HUNG
from sam2.training.stacks import write_stacks
from sam2.training.watchdog import guarded

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 1.0
SLACK_S = 8.0  # to start Python on a busy machine


@dataclass(frozen=True)
class Guarded:
    """A process under guard: what it is, where its log is and when it began."""

    process: subprocess.Popen[str]
    log: Path
    began: float

    def end(self) -> tuple[int, str]:
        """Exit code and what it said on the terminal."""
        try:
            _, said = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode, said

    @property
    def stacks(self) -> str:
        return self.log.read_text()


def guard(folder: Path, body: str, rank: int = 0, world: int = 1, timeout_s: float = TIMEOUT_S) -> Guarded:
    """Run `body`, lines of a function called `work`, under guard; it may call `alive`."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    code = f"""
import ctypes, os, sys, threading, time
from pathlib import Path
from data.alive import alive
from sam2.training.watchdog import guarded
log = Path({str(folder)!r}) / "rank-{rank}.txt"
log.touch()
def work():
{indented}
with guarded(log, {rank}, {world}, {timeout_s}):
    work()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True
    )
    return Guarded(process, folder / f"rank-{rank}.txt", time.monotonic())


def test_a_process_without_a_sign_of_life_ends_in_time_and_shows_where_it_was(tmp_path: Path) -> None:
    run = guard(tmp_path, "alive('step 12')\ntime.sleep(60)")
    code, said = run.end()
    assert code == HUNG
    assert time.monotonic() - run.began < TIMEOUT_S + SLACK_S
    assert "rank 0 on" in said and "the last was: step 12" in said and str(tmp_path) in said
    assert len(said.strip().splitlines()) == 1
    assert "in work" in run.stacks and "rank 0 on" in run.stacks
    assert "step 12" in (tmp_path / "hung.txt").read_text()


def test_code_in_c_that_keeps_pythons_lock_does_not_keep_the_process(tmp_path: Path) -> None:
    run = guard(tmp_path, "alive('step 12')\nctypes.PyDLL(None).sleep(60)")
    code, _ = run.end()
    assert code == -signal.SIGALRM
    assert time.monotonic() - run.began < TIMEOUT_S + 1 + SLACK_S
    assert "in work" in run.stacks


def test_a_disk_that_does_not_answer_does_not_keep_the_process(tmp_path: Path) -> None:
    body = "for name in ('rank-0.txt', 'hung.txt'):\n"
    body += (
        f"    path = Path({str(tmp_path)!r}) / name\n    path.unlink(missing_ok=True)\n    os.mkfifo(path)\n"
    )
    body += "time.sleep(60)"
    code, said = guard(tmp_path, body).end()
    assert code == HUNG and "hangs" in said


def test_one_rank_that_hangs_has_all_ranks_say_where_they_are(tmp_path: Path) -> None:
    busy = guard(tmp_path, "while True:\n    alive('evaluating')\n    time.sleep(0.05)", rank=0, world=2)
    stuck = guard(tmp_path, "alive('video 3')\ntime.sleep(60)", rank=1, world=2)
    ended = [rank.end() for rank in (busy, stuck)]
    assert [code for code, _ in ended] == [HUNG, HUNG]
    assert "rank 1 on" in ended[0][1] and "video 3" in ended[0][1]
    assert ended[1][1] == ""
    assert "of rank 0: evaluating" in busy.stacks and "in work" in busy.stacks and "in work" in stuck.stacks


def test_signs_of_life_keep_a_process_and_an_old_notice_does_not_end_it(tmp_path: Path) -> None:
    (tmp_path / "hung.txt").write_text("rank 1 hung in an earlier start")
    body = "for _ in range(25):\n    alive('step')\n    time.sleep(0.1)\nsys.exit(5)"
    run = guard(tmp_path, body, timeout_s=2.0)
    assert run.end() == (5, "")
    assert run.stacks == ""


def test_signs_of_other_threads_do_not_count(tmp_path: Path) -> None:
    body = "def copy_ahead():\n    while True:\n        alive('copying ahead')\n        time.sleep(0.05)\n"
    body += "threading.Thread(target=copy_ahead, daemon=True).start()\ntime.sleep(60)"
    code, said = guard(tmp_path, body).end()
    assert code == HUNG and "the last was: starting" in said


def test_an_error_on_its_way_out_has_less_time(tmp_path: Path) -> None:
    run = guard(tmp_path, "alive('ending', 1.0)\ntime.sleep(60)", timeout_s=600.0)
    assert run.end()[0] == HUNG
    assert time.monotonic() - run.began < 1 + SLACK_S + 30


def sleeping_over_a_sample(log: Path) -> None:
    from data.loader import settle

    settle(0, log)
    log.with_name("ready").touch()
    time.sleep(60)


def test_data_workers_show_where_they_are(tmp_path: Path) -> None:
    log = tmp_path / "rank-0.txt"
    log.touch()
    worker = multiprocessing.get_context("fork").Process(target=sleeping_over_a_sample, args=(log,))
    worker.start()
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        write_stacks(log, "a test")
        while "in sleeping_over_a_sample" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        assert worker.is_alive(), "the signal that asks for stacks must not end a worker"
        assert f"worker process {worker.pid}" in log.read_text() and "S (sleeping)" in log.read_text()
    finally:
        worker.kill()
        worker.join()


def test_a_process_that_would_die_of_being_asked_is_not_asked(tmp_path: Path) -> None:
    bystander = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    bystander.start()
    try:
        write_stacks(tmp_path / "rank-0.txt", "a test")
        bystander.join(0.2)
        assert bystander.is_alive()
    finally:
        bystander.kill()
        bystander.join()


def test_a_guard_leaves_the_alarm_as_it_was(tmp_path: Path) -> None:
    with guarded(tmp_path / "rank-0.txt", 0, 1, 60.0):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
