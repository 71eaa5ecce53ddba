"""Timing of cases side by side: all in turn in one process, so that a noisy machine treats them
alike. A ratio is taken within a turn, from two times that stand next to each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

LOOK_S, MOST_LOOKS = 0.02, 100  # how long, and how often at most, a case waits for rest
AT_REST = 0.1  # the share of a core that a process at rest may use

Clock = Callable[[Callable[[], object]], float]  # runs something once, gives its seconds


class Effort(NamedTuple):
    """How often the cases take turns: at least `least` times and at most `most` times, and between
    the two until `seconds` have gone by."""

    least: int
    most: int
    seconds: float


def interleaved(
    cases: Mapping[str, Callable[[], object]],
    effort: Effort,
    *,
    clock: Clock,
    warm_up: int = 1,
    rehearse: bool = False,
    turn: Callable[[float], None] = lambda share: None,
) -> dict[str, list[float]]:
    """Seconds of each turn of each case, the cases taking turns.

    A case begins when the process rests (`settle`): what the case before left undone is not timed.

    Args:
        warm_up: how often each case runs before the first turn.
        rehearse: each turn of a case begins with a run that is not timed, so that cases of
            milliseconds do not find the data of the case before in the caches.
        turn: told after each turn which share of the work is done.
    """
    for _ in range(warm_up):
        for run in cases.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    start, turns = time.perf_counter(), 0
    while True:
        for name, run in cases.items():
            settle()
            if rehearse:
                run()
            seconds[name].append(clock(run))
        turns += 1
        gone = time.perf_counter() - start
        if turns >= effort.most or (turns >= effort.least and gone >= effort.seconds):
            return seconds
        by_turns = turns / effort.most
        by_time = gone / effort.seconds if effort.seconds else 0.0
        turn(min(turns / effort.least, max(by_turns, by_time)))


def settle() -> None:
    """Wait until no thread of this process works any more, for two seconds at most.

    Some frameworks return before they are done: XLA frees a pass's memory in another thread, for a
    fifth of a second at the sizes of `ops`, and OpenMP's threads spin for a while.
    """
    for _ in range(MOST_LOOKS):
        before = time.process_time()
        time.sleep(LOOK_S)
        if time.process_time() - before < AT_REST * LOOK_S:
            return


def clock_of(device: torch.device) -> Clock:
    """What takes the time of work on that device."""
    return event_seconds if device.type == "cuda" else wall_seconds


def wall_seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def event_seconds(run: Callable[[], object]) -> float:
    """The GPU's own time from before the run's first kernel to after its last.

    Where the host is slower than the GPU, the GPU's waiting counts: it is a part of the run.
    """
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000.0
