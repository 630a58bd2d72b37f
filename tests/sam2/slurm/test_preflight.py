"""What a preflight finds before torch is loaded, in processes numbered as SLURM numbers tasks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from sam2.slurm import checks
from sam2.slurm.checks import Task, Wanted, examine, judge, wanted_by
from sam2.slurm.meeting import MeetingError, meet, resolve
from sam2.slurm.port import free_port
from tests.data.servers import FileServer


def task(rank: int = 0, world: int = 2, **changed: object) -> Task:
    given = {"local": 0, "nodes": world, "host": f"n{rank + 1}", "address": "127.0.0.1", "port": free_port()}
    return Task(rank=rank, world=world, **{**given, **changed})  # type: ignore[arg-type]


def together(tasks: list[Task], found: list[dict[str, object]], patience_s: float = 10) -> list[object]:
    """The verdict in each task, or what it raised."""
    heard: list[object] = [None] * len(tasks)

    def one(k: int) -> None:
        try:
            heard[k] = meet(tasks[k], found[k], judge, patience_s)
        except MeetingError as error:
            heard[k] = error

    threads = [threading.Thread(target=one, args=(k,)) for k in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return heard


def finding(host: str, *problems: str, **versions: str) -> dict[str, object]:
    return {"host": host, "versions": versions, "problems": list(problems)}


def run_dir(folder: Path, **settings: object) -> Path:
    plain = {"trainer": {"nodes": 1, "devices": 1, "accelerator": "cpu"}, "data": {}, "model": {}, **settings}
    (folder / "job").mkdir(parents=True)
    (folder / "job" / "config.yaml").write_text(yaml.safe_dump(plain))
    return folder


def test_all_tasks_hear_the_same_verdict() -> None:
    port = free_port()
    tasks = [task(rank, 3, port=port) for rank in range(3)]
    found = [finding("n1"), finding("n2", "no disk"), finding("n3", "no disk", torch="2")]
    assert together(tasks, found) == [["n2, n3: no disk"]] * 3


def test_versions_that_differ_are_named_with_their_nodes() -> None:
    found = {0: finding("n1", torch="2.15", python="3.11"), 1: finding("n2", torch="2.14", python="3.11")}
    (problem,) = judge(found)
    assert "torch is not the same everywhere: 2.15 on n1, 2.14 on n2" in problem and "cluster.venv" in problem


def test_a_port_that_is_taken_is_told_at_once() -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        with pytest.raises(
            MeetingError, match=r"port \d+ cannot be listened on: another process has it.*MASTER_PORT"
        ):
            meet(task(port=other.getsockname()[1]), finding("n1"), judge, 5)


def test_a_head_node_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lonely = task(1, port=free_port())
    with pytest.raises(
        MeetingError, match=rf"cannot reach the head node at 127.0.0.1:{lonely.port}.*firewall"
    ):
        meet(lonely, finding("n2"), judge, 0.3)


def test_tasks_that_do_not_speak_are_named() -> None:
    (problem,) = meet(task(0, 3), finding("n1"), judge, 0.3)
    assert "heard nothing from task 1, 2" in problem


def test_a_stranger_at_the_port_disturbs_nothing() -> None:
    port = free_port()
    tasks = [task(rank, 2, port=port) for rank in range(2)]
    stop = time.monotonic() + 30

    def knock() -> None:
        while time.monotonic() < stop:
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as stranger:
                    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    return
            except OSError:
                time.sleep(0.01)

    scanner = threading.Thread(target=knock)
    heard: list[object] = []
    head = threading.Thread(target=lambda: heard.extend(together(tasks[:1], [finding("n1")])))
    scanner.start()
    head.start()
    scanner.join(30)
    assert meet(tasks[1], finding("n2"), judge, 10) == []
    head.join(30)
    assert heard == [[]]


def test_a_name_that_does_not_resolve_is_told_with_the_remedy() -> None:
    began = time.monotonic()
    with pytest.raises(
        MeetingError, match=r"no-such-node\.invalid, does not resolve.*cluster\.env\.MASTER_ADDR"
    ):
        resolve("no-such-node.invalid")
    assert time.monotonic() - began < 15


def test_what_is_wanted_is_read_from_the_settings(tmp_path: Path) -> None:
    datasets = [{"root": "/a"}, {"root": "s3://b"}]
    folder = run_dir(
        tmp_path,
        trainer={"nodes": 2, "devices": 4, "accelerator": "gpu"},
        data={"root": None, "datasets": datasets, "val_root": "/v"},
        model={"name": "sam2.1_l"},
        checkpoint={"keep": 2},
    )
    assert wanted_by(folder) == Wanted(2, 4, True, ("/v", "/a"), ("s3://b",), 12 * 224e6, 2)
    assert wanted_by(tmp_path / "template") == Wanted()


def test_the_number_of_tasks_has_to_be_that_of_the_devices(tmp_path: Path) -> None:
    found = examine(task(1, 2), Wanted(2, 4, False), tmp_path)
    assert "2 tasks on 2 nodes, but trainer.nodes=2 and trainer.devices=4 ask for 8" in found["problems"][0]
    assert not examine(task(1, 8, nodes=2), Wanted(2, 4, False), tmp_path)["problems"]


@pytest.mark.parametrize(("has_driver", "visible"), [(False, None), (True, "0")])
def test_gpus_that_are_missing_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_driver: bool, visible: str | None
) -> None:
    driver = tmp_path / "version"
    if has_driver:
        driver.touch()
    monkeypatch.setattr(checks, "_DRIVER", driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    (problem,) = examine(task(1, 2), Wanted(1, 2, True, ()), tmp_path)["problems"][-1:]
    assert ("a task sees 1 GPUs and trainer.devices is 2" if has_driver else "no NVIDIA driver") in problem


def test_shards_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "000000.tar").write_bytes(bytes(1024))
    folders = tuple(str(tmp_path / name) for name in ("good", "empty", "gone"))
    empty, gone = examine(task(1, 2), Wanted(folders=folders), tmp_path)["problems"]
    assert f"{tmp_path}/empty holds no shards" in empty
    assert f"No such file or directory: {tmp_path}/gone" in gone and "this node has too" in gone


def test_servers_that_shards_cannot_be_had_from_are_named_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "index.npz").write_bytes(b"x")
    with FileServer(tmp_path).running() as server, FileServer(tmp_path, has_ranges=False).running() as plain:
        good = (f"{server.url}?token=a1", plain.url)
        assert not examine(task(1, 2), Wanted(addresses=good), tmp_path)["problems"]
        server.always["index.npz"] = 403
        silent = f"http://127.0.0.1:{free_port()}"
        addresses = (f"{server.url}?token=a1", f"{server.url}/gone", silent, plain.url)
        began = time.monotonic()
        refused, gone, nobody = examine(task(1, 2), Wanted(addresses=addresses), tmp_path)["problems"]
        assert time.monotonic() - began < checks._REACH_S
        assert not examine(task(1, 2, local=1), Wanted(addresses=addresses), tmp_path)["problems"]
    assert f"{server.url}/index.npz: refused with status 403" in refused and "a1" not in refused
    assert "gone/index.npz: there is no such file" in gone
    assert f"{silent}/index.npz: could not be read in 2 attempts" in nobody


def test_a_server_that_says_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_REACH_S", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        (problem,) = examine(task(1, 2), Wanted(addresses=(url,)), tmp_path)["problems"]
    assert "does not answer in 2 s" in problem


def test_too_little_room_for_checkpoints_is_told_with_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 5e9})
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: usage)
    (problem,) = examine(task(0, 1), Wanted(checkpoint_bytes=2.7e9, kept=1), tmp_path)["problems"]
    assert "5.00 GB free, and checkpoints need 11.00 GB" in problem and "checkpoint.keep=0" in problem
    (tmp_path / "checkpoints").mkdir()
    with (tmp_path / "checkpoints" / "last.ckpt").open("wb") as file:
        file.truncate(3_000_000_000)
    assert not examine(task(0, 1), Wanted(checkpoint_bytes=2.7e9), tmp_path)["problems"], (
        "room for the next is enough"
    )
    assert not list(tmp_path.glob(".preflight*"))


def test_a_run_directory_that_takes_no_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (problem,) = examine(task(0, 1), Wanted(), tmp_path / "file" / "run")["problems"]
    assert "nothing can be written to" in problem and "runs=" in problem


def test_the_command_needs_no_torch_for_what_is_wrong_here(tmp_path: Path) -> None:
    """And ends within seconds; the import of torch alone takes longer on many clusters."""
    folder = run_dir(tmp_path, data={"root": "/no/such/shards"})
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "SLURM_NTASKS": "1",
    }
    code = (
        "import sys; sys.modules['torch'] = None; from sam2.slurm.preflight import main; "
        f"sys.exit(main([{str(folder)!r}]))"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 1 and "No such file or directory: /no/such/shards" in done.stderr
    assert time.monotonic() - began < 10


def test_a_port_is_free_and_below_those_of_outgoing_connections() -> None:
    for _ in range(20):
        port = free_port()
        with socket.socket() as probe:
            probe.bind(("", port))
        assert 1024 < port < int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def test_findings_can_be_sent(tmp_path: Path) -> None:
    found = examine(task(0, 1), Wanted(), tmp_path)
    assert json.loads(json.dumps(found)) == found and {"python", "torch", "sam2-train"} <= set(
        found["versions"]
    )
