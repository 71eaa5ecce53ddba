"""What a person sees of a run: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
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

from sketchrnn_fast.errors import UserError

LOGS = ("plain", "rich")


def choose_console(log: str | None) -> Console:
    """The console of `--log`: lines for files and CI, or a live display; by terminal if None.

    Raises:
        UserError: it is another word.
    """
    if log is None:
        return Console()
    if log not in LOGS:
        raise UserError(f"log is {log!r}; it takes {' or '.join(LOGS)}")
    return Console(force_terminal=log == "rich")


class Display:
    """Shows the progress of a run of `total` steps from `step` on.

    When it can no longer be shown, as after the terminal was closed, the run goes on unseen.
    """

    def __init__(self, console: Console, step: int, total: int) -> None:
        self._console = console
        self._is_seen = True
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
            self._show(self._live.start)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._show(self._live.stop)

    def advance(self, step: int) -> None:
        """A step was done."""
        self._progress.update(self._task, completed=step)

    def training(self, record: dict[str, Any]) -> None:
        """Show the figures of a batch."""
        figures = (
            f"cost {record['cost']:.4f}  reconstruction {record['reconstruction']:.4f}  "
            f"kl {record['kl']:.4f}  lr {record['learning_rate']:.6f}  "
            f"kl weight {record['kl_weight']:.4f}  "
            f"gradient {record['gradient_norm']:.3g}  "
            f"{record['sketches_per_second']:.0f} sketches/s"
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

    def non_finite(self, report: dict[str, Any]) -> None:
        """Show a report of `divergence`."""
        self._print(f"step {report['step']}  {report['reason']}")
        for gradient in report.get("gradients", ()):
            self._print(
                f"  gradient of {gradient['name']}: largest {gradient['largest']:.3g}, "
                f"{gradient['not_finite']} not finite"
            )
        if "sketches" in report:
            self._print(f"  sketches of the batch: {' '.join(map(str, report['sketches']))}")

    def note(self, line: str) -> None:
        """Show a line."""
        self._print(line)

    def _print(self, line: str) -> None:
        self._show(lambda: self._console.print(line, highlight=False, markup=False, soft_wrap=True))

    def _show(self, action: Callable[[], object]) -> None:
        if not self._is_seen:
            return
        try:
            action()
        except (OSError, SystemExit):  # as rich answers a broken pipe
            self._is_seen = False
