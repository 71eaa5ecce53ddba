"""Starts the ranks of a run as torchrun does: one process each, told by the environment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
_MOST_SECONDS = 120.0


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


@contextmanager
def started(size: int, arguments: Sequence[object]) -> Iterator[list[subprocess.Popen[str]]]:
    """`size` processes of this Python with these arguments; none outlives the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    try:
        for rank in range(size):
            environment = {
                **os.environ,
                **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)},
                **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
                "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(TESTS)]),
            }
            processes.append(
                subprocess.Popen(
                    [sys.executable, *map(str, arguments)],
                    env=environment,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def ended(process: subprocess.Popen[str]) -> Ended:
    """Wait for a process."""
    out, err = process.communicate(timeout=_MOST_SECONDS)
    return Ended(process.returncode, out, err)


def run_ranks(size: int, arguments: Sequence[object]) -> list[Ended]:
    """Start the ranks and wait for all of them."""
    with started(size, arguments) as processes:
        return [ended(process) for process in processes]
