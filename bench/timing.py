"""Timing of cases side by side: all repeated in turn in one process, so that a noisy machine
treats them alike; what is reported are medians and ratios of medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

PAUSE_S = 0.05


def interleaved(
    cases: Mapping[str, Callable[[], object]],
    repeats: int,
    warm_up: int = 1,
    rehearse: bool = False,
) -> dict[str, list[float]]:
    """Seconds of each repeat of each case, the cases taking turns.

    Args:
        warm_up: how often each case runs before the first turn.
        rehearse: each turn of a case begins with a pause and a run that is not timed, so that cases
            of milliseconds find neither threads of the case before still spinning nor its data in
            the caches.
    """
    for _ in range(warm_up):
        for run in cases.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, run in cases.items():
            if rehearse:
                time.sleep(PAUSE_S)
                run()
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def record(
    suite: str,
    case: str,
    peer: str,
    ours: list[float],
    peers: list[float],
    floor: list[float] | None = None,
    unit: str = "s",
) -> dict[str, object]:
    """One line of the results: ours beside a peer, with every sample.

    Args:
        ours, peers: samples of equal number, the n-th of both taken next to each other.
        floor: samples of the matrix products alone (`floor`), taken in the same turns.
        unit: of the samples, and the ending of the names `ours_s` and `peer_s`.
    """
    ours_median, peer_median = statistics.median(ours), statistics.median(peers)
    ratios = [peer / mine for mine, peer in zip(ours, peers, strict=True)]
    p20, _, _, p80 = statistics.quantiles(ratios, n=5, method="inclusive")
    floor_s = None if floor is None else statistics.median(floor)
    return {
        "suite": suite,
        "case": case,
        "peer": peer,
        "unit": unit,
        f"ours_{unit}": ours_median,
        f"peer_{unit}": peer_median,
        "ratio": peer_median / ours_median,
        "ratio_p20": p20,
        "ratio_p80": p80,
        "floor_s": floor_s,
        "floor_share": None if floor_s is None else floor_s / ours_median,
        "ours_samples": ours,
        "peer_samples": peers,
        "floor_samples": floor,
    }
