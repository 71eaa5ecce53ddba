"""What a person sees of a run: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Display:
    """Shows the progress of a run of `total` steps from `step` on."""

    def __init__(self, console: Console, step: int, total: int) -> None:
        self._console = console
        self._total = total
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("", total=total, completed=step)
        self._figures = Text()
        # The figures have a line of their own, so that a narrow terminal shows all of both.
        self._live = Live(Group(self._progress, self._figures), console=console)

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def advance(self, step: int) -> None:
        """A step was done."""
        self._progress.update(self._task, completed=step)

    def training(self, record: dict[str, Any]) -> None:
        """Show the figures of a batch."""
        figures = (
            f"cost {record['cost']:.4f}  reconstruction {record['reconstruction']:.4f}  "
            f"kl {record['kl']:.4f}  lr {record['learning_rate']:.6f}  "
            f"kl weight {record['kl_weight']:.4f}  {record['sketches_per_second']:.0f} sketches/s"
        )
        if self._console.is_terminal:
            self._figures.plain = figures
        else:
            self._print(f"step {record['step']}/{self._total}  {figures}")

    def evaluation(self, record: dict[str, Any], is_best: bool) -> None:
        """Show the figures of a split."""
        self._print(
            f"step {record['step']}  {record['split']}: cost {record['cost']:.4f}  "
            f"reconstruction {record['reconstruction']:.4f}  kl {record['kl']:.4f}"
            f"{'  (best so far)' if is_best else ''}"
        )

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)
