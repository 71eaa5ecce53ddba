"""What a run writes about itself: `metrics.jsonl`, and TensorBoard events with Magenta's tags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from sketchrnn_fast.files import write_atomically

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


class Metrics:
    """Appends records to `metrics.jsonl` and to TensorBoard's events in the log root.

    Args:
        log_root: an existing folder.
        step: the updates done; later records of an interrupted run are cut away.
        parameter_count: written to TensorBoard once.
    """

    def __init__(self, log_root: Path, step: int, parameter_count: int) -> None:
        self.file = log_root / FILE
        cut_back(self.file, step)
        self._lines = self.file.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(log_root), purge_step=step + 1 if step else 0)
        if step == 0:
            self._events.add_scalar("Num_Trainable_Params", parameter_count, 0)

    def write(self, record: dict[str, Any]) -> None:
        """Write one record: at least step, split, cost, reconstruction and kl."""
        self._lines.write(json.dumps(record, allow_nan=False) + "\n")
        self._lines.flush()
        for tag, name in _TAGS[record["split"]].items():
            if record.get(name) is not None:
                self._events.add_scalar(tag, record[name], record["step"])

    def write_best(self, valid: dict[str, Any]) -> None:
        """Note the original's figure of a new best evaluation, given by its record."""
        if valid["magenta_cost"] is not None:
            self._events.add_scalar("Best_Valid_Cost", valid["magenta_cost"], valid["step"])

    def close(self) -> None:
        self._lines.close()
        self._events.close()


class NoMetrics:
    """In the place of `Metrics` on the ranks that write nothing."""

    def write(self, record: dict[str, Any]) -> None:
        pass

    def write_best(self, valid: dict[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


def _step_of(line: str) -> int:
    """The step of a record; -1 if the line is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return -1
    if not isinstance(record, dict) or record.get("split") not in list(_TAGS):
        return -1
    figures = [record.get(name) for name in ("cost", "reconstruction", "kl")]
    if not all(isinstance(figure, int | float) for figure in figures):
        return -1
    step = record.get("step")
    return step if type(step) is int else -1


def cut_back(file: Path, step: int) -> None:
    """Remove the records after `step`, and lines that are no record, such as one cut short."""
    if not file.exists():
        return
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line + "\n" for line in lines if 0 <= _step_of(line) <= step]
    write_atomically(file, "".join(kept).encode())
