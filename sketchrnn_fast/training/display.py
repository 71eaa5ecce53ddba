"""What a person sees of a run: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Display:
    """Shows the progress of a run of `total` steps from `step` on."""

    def __init__(self, console: Console, step: int, total: int) -> None:
        self._console = console
        self._total = total
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total, completed=step, figures="")

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

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
            self._progress.update(self._task, figures=figures)
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
