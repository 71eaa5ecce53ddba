"""What a run writes about itself: lines of JSON, and TensorBoard events with Magenta's tags."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from sketchrnn_fast.files import WholeAppends, write_atomically
from sketchrnn_fast.training import divergence
from sketchrnn_fast.training.errors import writing
from sketchrnn_fast.training.events import Events

FILE = "metrics.jsonl"

_TRAIN_TAGS = {
    "Train_Cost": "cost",
    "Train_Reconstr_Cost": "reconstruction",
    "Train_KL_Cost": "kl",
    "Learning_Rate": "learning_rate",
    "KL_Weight": "kl_weight",
    "Gradient_Norm": "gradient_norm",
    "Clip_Fraction": "clip_fraction",
    "Time_Taken_Train": "seconds",
}
# The tags of evaluations carry the original's own figures where it has them.
_VALID_TAGS = {
    "Valid_Cost": "magenta_cost",
    "Valid_Reconstr_Cost": "magenta_reconstruction",
    "Valid_KL_Cost": "magenta_kl",
    "Time_Taken_Valid": "seconds",
}
_TEST_TAGS = {
    "Eval_Cost": "magenta_cost",
    "Eval_Reconstr_Cost": "magenta_reconstruction",
    "Eval_KL_Cost": "magenta_kl",
    "Time_Taken_Eval": "seconds",
}
_TAGS = {"train": _TRAIN_TAGS, "valid": _VALID_TAGS, "test": _TEST_TAGS}


class JsonLines:
    """Appends objects to a file, one a line: each line is written whole or not at all.

    Args:
        file: lines of a step after `step`, and lines that are no record, are cut away first.
    """

    def __init__(self, file: Path, step: int, is_record: Callable[[dict[str, Any]], bool]) -> None:
        cut_back(file, step, is_record)
        self._file = WholeAppends(file)

    def write(self, record: dict[str, Any]) -> None:
        """Write one object.

        Raises:
            OSError: it cannot be written; what was there before is as it was.
        """
        self._file.write((json.dumps(record, allow_nan=False) + "\n").encode())

    def sync(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()


class Metrics:
    """What a run writes beside its checkpoints, in the log root.

    Training and evaluation go to `metrics.jsonl` and TensorBoard's events, steps that were not
    finite to `non_finite.jsonl`.

    Args:
        log_root: an existing folder.
        step: the updates done; later records of an interrupted run are cut away.
        parameter_count: written to TensorBoard once.

    Raises:
        WriteError: the log root cannot be written.
    """

    def __init__(self, log_root: Path, step: int, parameter_count: int) -> None:
        with writing(log_root):
            self._records = JsonLines(log_root / FILE, step, _is_record)
            self._non_finite = JsonLines(log_root / divergence.FILE, step, _has_a_reason)
            self._events = Events(log_root, step)
            if step == 0:
                self._events.scalar("Num_Trainable_Params", parameter_count, 0)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in (self._records, self._non_finite, self._events):
            file.close()

    def write(self, record: dict[str, Any]) -> None:
        """Write one record: at least step, split, cost, reconstruction and kl."""
        self._records.write(record)
        for tag, name in _TAGS[record["split"]].items():
            if record.get(name) is not None:
                self._events.scalar(tag, record[name], record["step"])

    def write_best(self, valid: dict[str, Any]) -> None:
        """Note the original's figure of a new best evaluation, given by its record."""
        if valid["magenta_cost"] is not None:
            self._events.scalar("Best_Valid_Cost", valid["magenta_cost"], valid["step"])

    def write_picture(self, name: str, file: Path, step: int) -> None:
        """Show a PNG in TensorBoard."""
        self._events.picture(name.capitalize(), file, step)

    def write_non_finite(self, report: dict[str, Any]) -> None:
        """Note a report of `divergence`."""
        self._non_finite.write(report)
        self._non_finite.sync()

    def sync(self) -> None:
        """Have the disk hold the records, as before a checkpoint that stands for them."""
        for file in (self._records, self._non_finite, self._events):
            file.sync()


def _is_record(record: dict[str, Any]) -> bool:
    figures = [record.get(name) for name in ("cost", "reconstruction", "kl")]
    is_known = record.get("split") in list(_TAGS)
    return is_known and all(isinstance(figure, int | float) for figure in figures)


def _has_a_reason(record: dict[str, Any]) -> bool:
    return isinstance(record.get("reason"), str)


def read_records(
    file: Path, is_record: Callable[[dict[str, Any]], bool] = _is_record
) -> list[dict[str, Any]]:
    """The records of a file; lines that are none, such as one cut short, are left aside.

    Raises:
        OSError: the file cannot be read.
    """
    records = []
    for line in file.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        is_counted = isinstance(record, dict) and type(record.get("step")) is int
        if is_counted and record["step"] >= 0 and is_record(record):
            records.append(record)
    return records


def cut_back(file: Path, step: int, is_record: Callable[[dict[str, Any]], bool]) -> None:
    """Remove the records after `step`, and lines that are none."""
    if not file.exists():
        return
    kept = [record for record in read_records(file, is_record) if record["step"] <= step]
    content = "".join(json.dumps(record) + "\n" for record in kept).encode()
    if content != file.read_bytes():
        write_atomically(file, content)
