"""Timing of cases side by side: all repeated in turn in one process, so that a noisy machine
treats them alike; what is reported are medians and ratios of medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(
    cases: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each repeat of each case, the cases taking turns."""
    for _ in range(warm_up):
        for run in cases.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, run in cases.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def record(
    suite: str, case: str, peer: str, ours: list[float], peers: list[float]
) -> dict[str, object]:
    """One line of the results: ours beside a peer, with every sample."""
    ours_s, peer_s = statistics.median(ours), statistics.median(peers)
    return {
        "suite": suite,
        "case": case,
        "peer": peer,
        "ours_s": ours_s,
        "peer_s": peer_s,
        "ratio": peer_s / ours_s,
        "floor_s": None,
        "floor_share": None,
        "ours_samples": ours,
        "peer_samples": peers,
    }
