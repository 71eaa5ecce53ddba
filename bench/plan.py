"""What a suite is given: how much to measure, where, and a way to take times and show progress.

A suite is a module in this folder with a function `run(plan) -> Iterable[Record]`, a docstring
whose first line says what it measures, and its name in `SUITES` of `run`; what a generator has
given before it fails is kept. It takes its times through
`Plan.measure`, so that all suites share the clock, the turns and the display, and makes its records
with `records`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import Progress
from timing import Clock, Effort, clock_of, interleaved

Record = dict[str, Any]

CPU = torch.device("cpu")


class SuiteError(Exception):
    """A suite cannot run here, told in one sentence."""


class Scale(NamedTuple):
    """How large a run is.

    Attributes:
        name: quick (small sizes, seconds: does everything work), tour (the usual sizes, fewer
            peers and turns) or full.
        effort: the turns of a measurement, unless its suite says otherwise.
    """

    name: str
    effort: Effort


QUICK = Scale("quick", Effort(least=2, most=2, seconds=0.0))
TOUR = Scale("tour", Effort(least=2, most=7, seconds=3.0))
FULL = Scale("full", Effort(least=3, most=11, seconds=6.0))


@dataclass(frozen=True)
class Plan:
    """One run of the benchmarks.

    Attributes:
        device: where the tensors are.
        magenta, magenta_python: a checkout of Magenta and a Python that has TensorFlow, or None.
        sketches: the log root of a training run to draw with, or None.
        console: where sentences go.
        display: shows what is being measured, or None.
    """

    scale: Scale
    device: torch.device = CPU
    magenta: Path | None = None
    magenta_python: Path | None = None
    sketches: Path | None = None
    console: Console = field(default_factory=lambda: Console(stderr=True))
    display: Progress | None = None

    @property
    def quick(self) -> bool:
        return self.scale.name == "quick"

    @property
    def full(self) -> bool:
        return self.scale.name == "full"

    @property
    def clock(self) -> Clock:
        return clock_of(self.device)

    def on(self, device: torch.device) -> Plan:
        """The same plan with tensors elsewhere."""
        return dataclasses.replace(self, device=device)

    def with_effort(self, effort: Effort) -> Plan:
        """The same plan with other turns."""
        return dataclasses.replace(self, scale=self.scale._replace(effort=effort))

    def say(self, sentence: str) -> None:
        """A line beside the progress: what is left out, and why."""
        self.console.print(sentence, highlight=False, soft_wrap=True)

    def show(self, what: str) -> None:
        """What goes on, where no times are taken through `measure`."""
        if self.display is not None:
            self.display.update(self.display.task_ids[0], description=what)

    def measure(
        self,
        what: str,
        cases: Mapping[str, Callable[[], object]],
        *,
        warm_up: int = 1,
        rehearse: bool = False,
        effort: Effort | None = None,
    ) -> dict[str, list[float]]:
        """Seconds of each turn of each case (`timing.interleaved`), shown as `what`."""
        task = None if self.display is None else self.display.add_task(what, total=None)

        def turn(share: float) -> None:
            if self.display is not None and task is not None:
                self.display.update(task, total=1.0, completed=share)

        try:
            return interleaved(
                cases,
                self.scale.effort if effort is None else effort,
                clock=self.clock,
                warm_up=warm_up,
                rehearse=rehearse,
                turn=turn,
            )
        finally:
            if self.display is not None and task is not None:
                self.display.remove_task(task)
