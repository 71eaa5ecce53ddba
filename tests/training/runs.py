"""What tests of runs share: reading what a run left, and comparing two runs to the bit."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sketchrnn_fast.training import Result, checkpoints
from sketchrnn_fast.training.step import Step, StepResult

Run = Callable[..., Result]


def records(log_root: Path) -> list[dict[str, Any]]:
    """Every line of `metrics.jsonl`, which must be whole."""
    return [json.loads(line) for line in (log_root / "metrics.jsonl").read_text().splitlines()]


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if "second" not in name}


def last_step(log_root: Path) -> int:
    return checkpoints.read_state(checkpoints.find(log_root, "last")).step


def assert_same_run(first: Path, second: Path) -> None:
    """The same losses, weights and moments, to the bit, and the same state."""
    assert [*map(without_times, records(first))] == [*map(without_times, records(second))]
    folders = [checkpoints.find(log_root, "last") for log_root in (first, second)]
    for name in ("model.safetensors", "optimizer.safetensors", "training_state.json"):
        one, other = ((folder / name).read_bytes() for folder in folders)
        assert one == other, name


def signal_in_step(
    monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM
) -> None:
    """Have this process get a signal in the middle of one step of its runs."""
    take = Step.batch

    def batch(self: Step, at: int) -> Any:
        if at == step:
            os.kill(os.getpid(), number)
        return take(self, at)

    monkeypatch.setattr(Step, "batch", batch)


def poison_steps(monkeypatch: pytest.MonkeyPatch, is_poisoned: Callable[[int], bool]) -> None:
    """Make one gradient of some steps NaN, as an overflow in a kernel would."""
    check = Step.is_finite

    def is_finite(self: Step, losses: Any) -> bool:
        if is_poisoned(self.taken):  # type: ignore[attr-defined]
            gradient = self.optimiser.parameters[0].grad
            assert gradient is not None
            gradient.view(-1)[3] = float("nan")
        return check(self, losses)

    call = Step.__call__

    def count(self: Step, step: int, **options: Any) -> StepResult:
        self.taken = step  # type: ignore[attr-defined]
        return call(self, step, **options)

    monkeypatch.setattr(Step, "__call__", count)
    monkeypatch.setattr(Step, "is_finite", is_finite)
