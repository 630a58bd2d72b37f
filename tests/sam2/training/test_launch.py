"""Ranks are started, watched and ended together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam2.training.launch import LaunchError, run_ranks


def ranks(tmp_path: Path, body: str, count: int = 2) -> None:
    """Run `body` as every rank; `rank` and `folder` are set there."""
    head = "import os, sys, time\nfrom pathlib import Path\n"
    head += f"rank, folder = int(os.environ['RANK']), Path({str(tmp_path)!r})\n"
    run_ranks([sys.executable, "-c", head + body], count, lambda rank: tmp_path / f"rank-{rank}.txt")


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has waited for yet does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def test_every_rank_learns_its_number_and_they_share_an_address(tmp_path: Path) -> None:
    keys = ["RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"]
    ranks(tmp_path, f"(folder / f'{{rank}}').write_text(' '.join(os.environ[k] for k in {keys}))", count=3)
    found = [(tmp_path / str(rank)).read_text().split() for rank in range(3)]
    assert [row[:5] for row in found] == [[str(r), str(r), "0", "3", "127.0.0.1"] for r in range(3)]
    assert len({row[5] for row in found}) == 1


def test_the_failure_of_one_rank_ends_the_others_and_repeats_its_last_words(tmp_path: Path) -> None:
    body = "(folder / f'{rank}').write_text(str(os.getpid()))\n"
    body += "if rank == 1:\n    print('no more disk')\n    sys.exit(7)\ntime.sleep(60)"
    began = time.monotonic()
    with pytest.raises(
        LaunchError, match="rank 1 of 2 ended with exit code 7; it said:\nno more disk"
    ) as caught:
        ranks(tmp_path, body)
    assert caught.value.code == 7
    assert time.monotonic() - began < 30
    if (tmp_path / "0").exists():
        wait_until_gone(int((tmp_path / "0").read_text()))


def test_a_killed_rank_counts_as_a_shell_would_count_it(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="exit code 137"):
        ranks(tmp_path, "if rank == 0: os.kill(os.getpid(), 9)")


def test_of_a_rank_that_went_away_and_one_that_lost_it_the_first_is_named(tmp_path: Path) -> None:
    body = """if True:
        import signal
        import torch
        import torch.distributed as dist
        from sam2.training.failures import verdict
        dist.init_process_group("gloo")
        dist.barrier()
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a run does, which only remembers it
        try:
            dist.all_reduce(torch.zeros(1))
        except Exception as error:
            found = verdict(error)
            (folder / "said").write_text(found.text)
            sys.exit(found.code)
    """
    with pytest.raises(LaunchError, match="rank 1 of 2 ended with exit code 137"):
        ranks(tmp_path, body)
    said = (tmp_path / "said").read_text()
    assert said.startswith("error: another rank of the run went away") and "\n" not in said


@pytest.mark.parametrize("code", [1, 88])
def test_a_rank_that_lost_another_is_named_where_none_ended_badly_before(tmp_path: Path, code: int) -> None:
    with pytest.raises(LaunchError, match=rf"rank {int(code == 1)} of 2 ended with exit code {code}"):
        ranks(tmp_path, f"sys.exit(88 if rank == 0 else {code if code == 1 else 0})")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_rank_outlives_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    code = f"""if True:
        import sys
        from pathlib import Path
        from sam2.training.launch import die_with_parent, run_ranks
        folder = Path({str(tmp_path)!r})
        if len(sys.argv) == 1:
            run_ranks([sys.executable, __file__, "rank"], 2, lambda rank: folder / f"rank-{{rank}}.txt")
        else:
            import os, time
            die_with_parent()
            (folder / os.environ["RANK"]).write_text(str(os.getpid()))
            time.sleep(60)
    """
    script = tmp_path / "script.py"
    script.write_text(code)
    with subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL) as parent:
        deadline = time.monotonic() + 30
        pids: list[int] = []
        while len(pids) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
            pids = [
                int(text) for r in "01" if (tmp_path / r).exists() and (text := (tmp_path / r).read_text())
            ]
        assert len(pids) == 2
        os.kill(parent.pid, number)
        for pid in pids:
            wait_until_gone(pid)
    assert parent.returncode != 0
