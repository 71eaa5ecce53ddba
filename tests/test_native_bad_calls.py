"""The native module called directly with arguments that do not fit: a sentence, never a crash."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sketchrnn_fast import _native

T, B, X, N = 3, 2, 4, 5


def arguments(**changes: Any) -> _native.RecurrentArguments:
    given: dict[str, Any] = {
        "x": torch.zeros(T, B, X),
        "static_input": None,
        "weights": [torch.zeros(X, 4 * N), torch.zeros(N, 4 * N), torch.zeros(4 * N)],
        "state": [torch.zeros(B, N), torch.zeros(B, N)],
        "lengths": None,
        "seed": None,
        "reverse": False,
        "forget_bias": 1.0,
        "keep_prob": 1.0,
        "row_offset": 0,
    }
    return _native.RecurrentArguments(**{**given, **changes})


def results() -> _native.RecurrentResults:
    final = [torch.zeros(B, N), torch.zeros(B, N)]
    return _native.RecurrentResults(torch.zeros(T, B, N), final, None)


def forward(**changes: Any) -> None:
    _native.recurrent_forward("lstm", [arguments(**changes)], [results()], 1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"x": None}, "lstm: x is of type NoneType; it must be a torch tensor"),
        ({"x": torch.zeros(0, B, X)}, "lstm: x has no steps"),
        ({"x": torch.zeros(T, B, X, device="meta")}, "lstm: x is not on a CPU"),
        ({"weights": [None, None, None]}, "lstm: a weight is of type NoneType"),
        (
            {"static_input": torch.zeros(3)},
            r"lstm: static_input has shape \[3\]; it takes \[B, S\]",
        ),
        ({"lengths": torch.zeros(B, dtype=torch.complex64)}, "lstm: lengths is another type"),
        ({"keep_prob": 0.5}, "lstm: seed is of type NoneType; it must be a torch tensor"),
        (
            {"keep_prob": 0.5, "seed": torch.zeros(0, dtype=torch.int64)},
            r"lstm: seed is int64 \[0\]; it must be int64 \[1\]",
        ),
        ({"row_offset": 2**40}, f"lstm: row_offset is {2**40}; its rows must lie between"),
    ],
)
def test_a_bad_argument_is_one_clear_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{sentence}"):
        forward(**changes)


def test_backward_without_what_was_saved_is_refused() -> None:
    zeros = [torch.zeros(B, N), torch.zeros(B, N)]
    weights = [torch.zeros(X, 4 * N), torch.zeros(N, 4 * N), torch.zeros(4 * N)]
    gradients = _native.RecurrentGradients(None, None, weights, zeros)
    with pytest.raises(ValueError, match=r"^lstm: saved is missing$"):
        _native.recurrent_backward("lstm", [arguments()], [results()], [results()], [gradients], 1)


@pytest.mark.parametrize("count", [0, 3])
def test_a_number_of_calls_other_than_one_or_two_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"^lstm: there are {count} calls; it takes one or two$"):
        _native.recurrent_forward("lstm", [arguments()] * count, [results()] * count, 1)


def test_calls_without_results_or_of_two_types_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^lstm: 2 calls have 1 results$"):
        _native.recurrent_forward("lstm", [arguments(), arguments()], [results()], 1)
    shapes = ((X, 4 * N), (N, 4 * N), (4 * N,))
    wide: dict[str, Any] = {
        "x": torch.zeros(T, B, X, dtype=torch.float64),
        "weights": [torch.zeros(shape, dtype=torch.float64) for shape in shapes],
        "state": [torch.zeros(B, N, dtype=torch.float64)] * 2,
    }
    with pytest.raises(ValueError, match=r"^lstm: both calls must be of one type$"):
        _native.recurrent_forward(
            "lstm", [arguments(), arguments(**wide)], [results(), results()], 1
        )
