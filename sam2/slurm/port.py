"""A port that is free on this machine: `python -P -m sam2.slurm.port`, run on a job's first node when it starts."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 15000


def free_port() -> int:
    """A port on which nobody listens, below those that the kernel gives to outgoing connections."""
    try:
        above = int(_RANGE.read_text().split()[0])
    except OSError:  # not Linux
        above = 32768
    candidates = range(_LOWEST, above)
    for port in random.SystemRandom().sample(candidates, min(100, len(candidates))):
        if _is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    print(free_port())
