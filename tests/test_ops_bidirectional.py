"""The recurrent ops of both directions as PyTorch sees them, on each backend.

What they share with the ops of one direction is tested with those (`test_ops_recurrent.py`).
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from cells import (
    CELLS,
    FLOAT64,
    BothCases,
    Cell,
    Variant,
    assert_equal,
    each_cell,
    each_direction_with_everything,
    each_variant,
    loss_of_both,
    make_both,
    random_loss,
    run_both,
    run_each,
)
from tolerances import assert_close

from sketchrnn_fast import nn, ops

TINY = {"T": 3, "B": 3, "X": 2, "N": 3, "H": 2, "E": 2}
on_each_backend = pytest.mark.usefixtures("backend")


def registered(cell: Cell, suffix: str = "") -> Any:
    return getattr(torch.ops.sketchrnn_fast, f"{cell.name}_bidirectional{suffix}")


def forward_arguments(case: BothCases, backend: str, save: bool = True) -> tuple[Any, ...]:
    first, second = case
    return (
        first.x,
        first.static,
        [*first.weights, *second.weights],
        [*first.state, *second.state],
        first.lengths,
        case.seeds,
        *first.options,
        backend,
        save,
    )


def backward_arguments(
    case: BothCases, results: tuple[torch.Tensor, ...], backend: str, wanted: bool
) -> tuple[Any, ...]:
    """Random gradients of the results; without those of hidden where x's is not wanted either."""
    size = len(results) // 2
    given: list[Any] = []
    for hidden, *final, saved in (results[:size], results[size:]):
        grads = [torch.randn_like(part) for part in (hidden, *final)]
        given += [grads[0] if wanted else None, grads[1:], hidden, saved]
    return (*given, *forward_arguments(case, backend)[:-1], wanted)


@on_each_backend
@each_cell
@each_variant
def test_both_directions_equal_each_alone_with_their_gradients(
    cell: Cell, variant: Variant
) -> None:
    case = make_both(cell, variant, N=9).requiring_gradients()
    found, expected = run_both(cell, case), run_each(cell, case)
    for (hidden, final), (wanted, wanted_final) in zip(found, expected, strict=True):
        assert_equal([hidden, *final], [wanted, *wanted_final])
    grads = torch.autograd.grad(loss_of_both(found), case.leaves)
    wanted_grads = torch.autograd.grad(loss_of_both(expected), case.leaves)
    for index, (grad, wanted) in enumerate(zip(grads, wanted_grads, strict=True)):
        assert_close(grad, wanted, FLOAT64, "gradient", f"gradient of leaf {index}")


@on_each_backend
@each_cell
@each_direction_with_everything
def test_gradcheck_of_both_directions(cell: Cell, variant: Variant) -> None:
    case = make_both(cell, variant, **TINY).requiring_gradients()

    def function(*leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = run_both(cell, case.with_leaves(leaves))
        return tuple(part for hidden, final in results for part in (hidden, *final))

    assert torch.autograd.gradcheck(function, case.leaves)


@each_cell
@each_direction_with_everything
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck_of_the_forward_op(
    cell: Cell, variant: Variant, dtype: torch.dtype, backend: str
) -> None:
    # As in test_ops_recurrent.py: what lies past the entries that are saved is never written.
    lengths = torch.full((4,), 4)
    both = make_both(cell, variant, dtype=dtype)
    case = BothCases(*(one._replace(lengths=lengths) for one in both)).requiring_gradients()
    torch.library.opcheck(registered(cell).default, forward_arguments(case, backend))


@each_cell
def test_opcheck_of_the_forward_op_with_nothing_saved_and_no_options(
    cell: Cell, backend: str
) -> None:
    arguments = list(forward_arguments(make_both(cell, dtype=torch.float32), backend, save=False))
    arguments[5] = None  # the seed
    torch.library.opcheck(registered(cell).default, tuple(arguments))


@each_cell
@each_direction_with_everything
@pytest.mark.parametrize("wanted", [True, False], ids=["all", "few"])
def test_opcheck_of_the_backward_op(
    cell: Cell, variant: Variant, wanted: bool, backend: str
) -> None:
    case = make_both(cell, variant, dtype=torch.float32)
    results = registered(cell)(*forward_arguments(case, backend))
    arguments = backward_arguments(case, results, backend, wanted)
    torch.library.opcheck(registered(cell, "_backward").default, arguments)


@each_cell
@pytest.mark.parametrize("wanted", [True, False], ids=["all", "few"])
def test_gradients_share_no_memory_and_have_the_shapes_of_what_they_belong_to(
    cell: Cell, wanted: bool, backend: str
) -> None:
    case = make_both(cell, Variant(lengths=True, static_size=2), T=1)
    assert case.first.lengths is not None
    case.first.lengths.zero_()  # so that gradients of the state pass through
    results = registered(cell)(*forward_arguments(case, backend))
    arguments = backward_arguments(case, results, backend, wanted)
    found = registered(cell, "_backward")(*arguments)
    assert [grad.shape for grad in found[1:]] == [leaf.shape for leaf in case.leaves[1:]]
    assert found[0].shape == (case.first.x.shape if wanted else (0,))
    tensors = [tensor for tensor in (*found, *results, *case.leaves) if tensor.numel()]
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)


@on_each_backend
@each_cell
@each_direction_with_everything
@pytest.mark.parametrize("used", [0, 1])
def test_a_loss_of_one_direction_gives_the_other_no_gradient(
    cell: Cell, variant: Variant, used: int
) -> None:
    case = make_both(cell, variant).requiring_gradients()
    found = torch.autograd.grad(random_loss(*run_both(cell, case)[used]), case.leaves)
    expected = torch.autograd.grad(
        random_loss(*run_each(cell, case)[used]), case.leaves, materialize_grads=True
    )
    for grad, wanted in zip(found, expected, strict=True):
        assert_close(grad, wanted, FLOAT64, "gradient")


@on_each_backend
@each_cell
def test_a_missing_state_is_zeros_and_half_precision_keeps_its_dtypes(cell: Cell) -> None:
    case = make_both(cell, dtype=torch.bfloat16).requiring_gradients()
    first, second = case
    found = cell.bidirectional(first.x, (first.weights, second.weights))
    for (hidden, final), one in zip(found, case, strict=True):
        expected, _ = cell.op(one.x, one.weights, options=one.options)
        assert torch.equal(hidden, expected)
        assert hidden.dtype == final[0].dtype == torch.bfloat16
        assert final[1].dtype == torch.float32
    grads = torch.autograd.grad(loss_of_both(found), [first.x, *first.weights, *second.weights])
    assert all(grad.dtype == torch.bfloat16 and grad.isfinite().all() for grad in grads)


@on_each_backend
def test_backward_of_a_call_that_saved_nothing_is_refused(backend: str) -> None:
    cell = CELLS["lstm"]
    case = make_both(cell).requiring_gradients()
    hidden, *_ = registered(cell)(*forward_arguments(case, backend, save=False))
    with pytest.raises(RuntimeError, match="called with save=False, so it has no gradient"):
        hidden.sum().backward()


def test_a_seed_for_one_direction_is_one_clear_sentence() -> None:
    cell = CELLS["lstm"]
    first, second = make_both(cell, Variant(keep_prob=0.5))
    sentence = (
        "lstm: keep_prob is 0.5, so dropout needs a seed: an int64 tensor of 2 elements on cpu"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        cell.bidirectional(
            first.x, (first.weights, second.weights), seed=first.seed, options=first.options
        )


def test_arguments_of_the_second_direction_are_checked_too() -> None:
    cell = CELLS["lstm"]
    first, second = make_both(cell)
    weights = second.weights._replace(bias=torch.zeros(3, dtype=FLOAT64))
    with pytest.raises(ValueError, match=r"^lstm: bias has shape \[3\]; "):
        cell.bidirectional(first.x, (first.weights, weights))
    states = (first.state, second.state[:1])
    with pytest.raises(ValueError, match=r"^lstm: the state \(h, c\) has shapes"):
        cell.bidirectional(first.x, (first.weights, second.weights), states)


@pytest.mark.parametrize("count", [1, 3])
def test_weights_and_states_are_two(backend: str, count: int) -> None:
    layer = nn.LSTM(3, 4, bidirectional=True)
    weights = [cell.weights for cell in layer.cells]
    x, state = torch.zeros(2, 5, 3), (torch.zeros(5, 4), torch.zeros(5, 4))
    for given, states in ((tuple((weights * 2)[:count]), None), (tuple(weights), (state,) * count)):
        with pytest.raises(ValueError, match=rf"is a tuple of {count}; it takes two, one a direc"):
            ops.lstm_bidirectional(x, given, states)
