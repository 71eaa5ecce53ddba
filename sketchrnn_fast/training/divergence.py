"""What is told of a loss, a gradient or a weight that is not finite.

Each case is one line of `non_finite.jsonl` in the log root:

    step            the step that did not come about (its number when it had been done)
    reason          a sentence: which term, or which gradients
    terms           offset, pen, kl and total of the batch
    learning_rate, kl_weight
    gradients       the largest, by parameter: name, largest finite magnitude, elements not finite
    sketches        the batch, as indices into the train split in ascending order of length
"""

from __future__ import annotations

import math
from typing import Any

import torch

from sketchrnn_fast.config import TrainConfig
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training.schedules import kl_weight, learning_rate
from sketchrnn_fast.training.step import StepResult

FILE = "non_finite.jsonl"

# With `on_nan` skip, a run that only skips has diverged too.
MOST_IN_A_ROW = 100

_TERMS = ("offset", "pen", "kl", "total")
_MOST_GRADIENTS = 10


def step_report(result: StepResult, model: SketchRNN, config: TrainConfig) -> dict[str, Any]:
    """The report of a step whose gradients are still there."""
    terms = {name: float(getattr(result.losses, name).detach()) for name in _TERMS}
    gradients = _largest_gradients(model)
    return {
        "step": result.step + 1,
        "reason": _reason(terms, gradients),
        "terms": {name: _in_json(value) for name, value in terms.items()},
        "learning_rate": learning_rate(config, result.step),
        "kl_weight": kl_weight(config, result.step),
        "gradients": gradients[:_MOST_GRADIENTS],
        "sketches": result.indices.tolist(),
    }


def weight_report(model: SketchRNN, step: int) -> dict[str, Any] | None:
    """The report of weights that are not finite after `step` steps; None if all are."""
    names = [
        name for name, parameter in model.named_parameters() if not bool(parameter.isfinite().all())
    ]
    if not names:
        return None
    return {"step": step, "reason": f"weights are not finite: {_list(names)}", "weights": names}


def _reason(terms: dict[str, float], gradients: list[dict[str, Any]]) -> str:
    bad = [f"{name} {value}" for name, value in terms.items() if not math.isfinite(value)]
    if bad:
        return f"the loss is not finite ({', '.join(bad)})"
    names = [one["name"] for one in gradients if one["not_finite"]]
    return f"the loss is finite, but the gradient of {_list(names)} is not"


def _largest_gradients(model: SketchRNN) -> list[dict[str, Any]]:
    """Those with elements that are not finite first, then by magnitude."""
    gradients = []
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        finite = parameter.grad.isfinite()
        largest = torch.where(finite, parameter.grad, 0).abs().amax()
        gradients.append(
            {"name": name, "largest": float(largest), "not_finite": int((~finite).sum())}
        )
    return sorted(gradients, key=lambda one: (one["not_finite"], one["largest"]), reverse=True)


def _list(names: list[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


def _in_json(value: float) -> float | str:
    """JSON has no word for what is not finite."""
    return value if math.isfinite(value) else str(value)
