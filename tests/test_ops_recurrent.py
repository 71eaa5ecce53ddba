"""The three recurrent ops as PyTorch sees them, on the reference backend."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from cells import (
    CELLS,
    FLOAT64,
    Case,
    Cell,
    Variant,
    each_cell,
    each_direction_with_everything,
    each_variant,
    make_case,
    random_loss,
    run_op,
    run_reference,
)
from tolerances import assert_close

import sketchrnn_fast
from sketchrnn_fast.ops import Options

TINY = {"T": 3, "B": 3, "X": 2, "N": 3, "H": 2, "E": 2}


@pytest.fixture(autouse=True)
def on_the_reference_backend() -> Any:
    with sketchrnn_fast.backend("reference"):
        yield


def registered(name: str) -> Any:
    return getattr(torch.ops.sketchrnn_fast, name)


def forward_arguments(case: Case, save: bool = True) -> tuple[Any, ...]:
    return (
        case.x,
        case.static,
        list(case.weights),
        list(case.state),
        case.lengths,
        case.seed,
        *case.options,
        "reference",
        save,
    )


@each_cell
@each_variant
def test_the_op_equals_the_reference_with_its_gradients(cell: Cell, variant: Variant) -> None:
    case = make_case(cell, variant, N=9).requiring_gradients()
    hidden, final = run_op(cell, case)
    expected_hidden, expected_final = run_reference(cell, case)
    for part, wanted in zip([hidden, *final], [expected_hidden, *expected_final], strict=True):
        assert_close(part, wanted, FLOAT64)
    grads = torch.autograd.grad(random_loss(hidden, final), case.leaves)
    expected = torch.autograd.grad(random_loss(expected_hidden, expected_final), case.leaves)
    for index, (grad, wanted) in enumerate(zip(grads, expected, strict=True)):
        assert_close(grad, wanted, FLOAT64, "gradient", f"gradient of leaf {index}")


@each_cell
@each_direction_with_everything
def test_gradcheck_of_the_op(cell: Cell, variant: Variant) -> None:
    case = make_case(cell, variant, **TINY).requiring_gradients()

    def function(*leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden, final = run_op(cell, case.with_leaves(leaves))
        return hidden, *final

    assert torch.autograd.gradcheck(function, case.leaves)


@each_cell
@each_direction_with_everything
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck_of_the_forward_op(cell: Cell, variant: Variant, dtype: torch.dtype) -> None:
    case = make_case(cell, variant, dtype=dtype).requiring_gradients()
    torch.library.opcheck(registered(cell.name).default, forward_arguments(case))


@each_cell
def test_opcheck_of_the_forward_op_with_nothing_saved_and_no_options(cell: Cell) -> None:
    case = make_case(cell, dtype=torch.float32)._replace(seed=None)
    torch.library.opcheck(registered(cell.name).default, forward_arguments(case, save=False))


@each_cell
@each_direction_with_everything
def test_opcheck_of_the_backward_op(cell: Cell, variant: Variant) -> None:
    case = make_case(cell, variant, dtype=torch.float32)
    arguments = forward_arguments(case)
    hidden, *final, saved = registered(cell.name)(*arguments)
    grads = [torch.randn_like(part) for part in (hidden, *final)]
    torch.library.opcheck(
        registered(f"{cell.name}_backward").default,
        (grads[0], grads[1:], hidden, saved, *arguments[:-1]),
    )


@each_cell
@pytest.mark.parametrize("save", [False, True])
def test_results_share_no_memory_with_each_other_or_with_arguments(cell: Cell, save: bool) -> None:
    case = make_case(cell, Variant(lengths=True, static_size=2), T=1)
    assert case.lengths is not None
    case.lengths.zero_()  # so that the final state equals the initial one
    results = registered(cell.name)(*forward_arguments(case, save))
    tensors = [tensor for tensor in (*results, *case.leaves) if tensor.numel()]
    memory = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    assert len(memory) == len(tensors)


@each_cell
def test_nothing_is_saved_where_no_gradient_is_wanted(cell: Cell) -> None:
    case = make_case(cell)
    *_, saved = registered(cell.name)(*forward_arguments(case, save=False))
    assert saved.numel() == 0
    *_, saved = registered(cell.name)(*forward_arguments(case, save=True))
    assert saved.numel() > 0


@each_cell
def test_backward_of_a_call_that_saved_nothing_is_refused(cell: Cell) -> None:
    case = make_case(cell).requiring_gradients()
    hidden, *_ = registered(cell.name)(*forward_arguments(case, save=False))
    with pytest.raises(RuntimeError, match="called with save=False, so it has no gradient"):
        hidden.sum().backward()


@each_cell
def test_two_backward_passes_give_the_same_gradients(cell: Cell) -> None:
    case = make_case(cell, Variant(False, True, 2, 0.7)).requiring_gradients()
    loss = random_loss(*run_op(cell, case))
    first = torch.autograd.grad(loss, case.leaves, retain_graph=True)
    second = torch.autograd.grad(loss, case.leaves)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


@each_cell
def test_inputs_need_not_be_contiguous(cell: Cell) -> None:
    case = make_case(cell, Variant(False, True, 2, 0.7))

    def spread(tensor: torch.Tensor) -> torch.Tensor:
        """The same values with strides of another order and with gaps."""
        wide = tensor.new_full((*tensor.shape[::-1], 2), float("nan"))
        view = wide[..., 0].permute(*reversed(range(tensor.dim())))
        view.copy_(tensor)
        return view

    scattered = case.with_leaves([spread(leaf).requires_grad_() for leaf in case.leaves])
    assert not any(leaf.is_contiguous() for leaf in scattered.leaves)
    plain = case.requiring_gradients()
    results, expected = run_op(cell, scattered), run_op(cell, plain)
    # An expanded gradient is not contiguous either.
    grads = torch.autograd.grad(results[0].sum() + results[1][0].sum(), scattered.leaves)
    wanted = torch.autograd.grad(expected[0].sum() + expected[1][0].sum(), plain.leaves)
    assert torch.equal(results[0], expected[0])
    for grad, expected_grad in zip(grads, wanted, strict=True):
        assert torch.equal(grad, expected_grad)


@each_cell
def test_a_missing_state_is_zeros(cell: Cell) -> None:
    case = make_case(cell)
    zeros = case._replace(state=tuple(map(torch.zeros_like, case.state)))
    expected, _ = run_op(cell, zeros)
    found, _ = run_op(cell, case._replace(state=None))
    assert torch.equal(found, expected)


@each_cell
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_keeps_a_float32_cell_state_and_finite_gradients(
    cell: Cell, dtype: torch.dtype
) -> None:
    case = make_case(cell, Variant(False, True, 2, 0.7), N=9, dtype=dtype).requiring_gradients()
    hidden, final = run_op(cell, case._replace(state=None))
    assert hidden.dtype == final[0].dtype == dtype
    assert final[1].dtype == torch.float32
    hidden, final = run_op(cell, case)
    grads = torch.autograd.grad(random_loss(hidden, final), case.leaves)
    exact = case.to(FLOAT64).requiring_gradients()
    exact_grads = torch.autograd.grad(random_loss(*run_reference(cell, exact)), exact.leaves)
    for leaf, grad, wanted in zip(case.leaves, grads, exact_grads, strict=True):
        assert grad.dtype == leaf.dtype
        assert_close(grad, wanted, dtype, "gradient")


@each_cell
@pytest.mark.filterwarnings("ignore:var_mean")  # torch warns of an empty tensor's variance
def test_a_batch_of_no_rows_gives_empty_results(cell: Cell) -> None:
    case = make_case(cell, Variant(lengths=True, static_size=2), B=0).requiring_gradients()
    hidden, final = run_op(cell, case)
    assert hidden.shape == (4, 0, 5)
    assert final[0].shape == (0, 5)
    grads = torch.autograd.grad(hidden.sum(), case.weights[:2])
    assert all((grad == 0).all() for grad in grads)


# ---- Bad arguments ----


def lstm_call(**changes: Any) -> Any:
    """A call of the LSTM with T=4, B=4, X=3, S=2, N=5 and some arguments replaced."""
    case = make_case(CELLS["lstm"], Variant(static_size=2), dtype=torch.float32)
    return lambda: run_op(CELLS["lstm"], case._replace(**changes))


def weights(**changes: torch.Tensor) -> Any:
    case = make_case(CELLS["lstm"], Variant(static_size=2), dtype=torch.float32)
    return case.weights._replace(**changes)


DROPOUT = Options(keep_prob=0.5)
BAD_ARGUMENTS = [
    (
        lstm_call(x=torch.zeros(4, 3)),
        ValueError,
        "lstm: x has shape [4, 3]; it takes [T, B, X] with at least one step",
    ),
    (
        lstm_call(x=torch.zeros(0, 4, 3)),
        ValueError,
        "lstm: x has shape [0, 4, 3]; it takes [T, B, X] with at least one step",
    ),
    (
        lstm_call(x=torch.zeros(4, 4, 3, dtype=torch.int64)),
        TypeError,
        "lstm: x is torch.int64; it takes a floating-point tensor",
    ),
    (
        lstm_call(static=torch.zeros(3, 2)),
        ValueError,
        "lstm: static_input has shape [3, 2]; it takes [B, S] with B = 4 as x has",
    ),
    (
        lstm_call(x=torch.zeros(4, 4, 7)),
        ValueError,
        "lstm: the input is 9 wide (x and static_input together), but w_xh takes 5",
    ),
    (
        lstm_call(state=(torch.zeros(4, 5), torch.zeros(4, 6))),
        ValueError,
        "lstm: the state (h, c) has shapes [4, 5], [4, 6]; it takes [4, 5], [4, 5]",
    ),
    (
        lstm_call(state=(torch.zeros(4, 5),)),
        ValueError,
        "lstm: the state (h, c) has shapes [4, 5]; it takes [4, 5], [4, 5]",
    ),
    (
        lstm_call(weights=weights(bias=torch.zeros(20, dtype=FLOAT64))),
        TypeError,
        "lstm: x is torch.float32 on cpu, but a weight or static_input is torch.float64 on cpu; "
        "they must agree",
    ),
    (
        lstm_call(weights=weights(bias=torch.zeros(1))),
        ValueError,
        "lstm: bias has shape [1]; with 5 inputs and w_hh [5, 20] it takes [20]",
    ),
    (
        lstm_call(weights=weights(w_hh=torch.zeros(5, 5))),
        ValueError,
        "lstm: w_hh has shape [5, 5]; with 5 inputs and w_hh [5, 5] it takes [5, 20]",
    ),
    (
        lstm_call(lengths=torch.zeros(4, dtype=torch.int32)),
        ValueError,
        "lstm: lengths is torch.int32 [4] on cpu; it takes int64 [4] on cpu",
    ),
    (
        lstm_call(lengths=torch.zeros(3, dtype=torch.int64)),
        ValueError,
        "lstm: lengths is torch.int64 [3] on cpu; it takes int64 [4] on cpu",
    ),
    (
        lstm_call(lengths=torch.tensor([0, 4, 5, 1])),
        ValueError,
        "lstm: lengths go from 0 to 5; x has 4 steps, so they must lie between 0 and 4",
    ),
    (
        lstm_call(lengths=torch.tensor([0, 4, -1, 1])),
        ValueError,
        "lstm: lengths go from -1 to 4; x has 4 steps, so they must lie between 0 and 4",
    ),
    *(
        (
            lstm_call(options=Options(keep_prob=value)),
            ValueError,
            f"lstm: keep_prob is {value}; it takes a probability to keep, above 0 and up to 1",
        )
        for value in (0.0, -0.1, 1.1, float("nan"))
    ),
    *(
        (
            lstm_call(options=DROPOUT, seed=seed),
            ValueError,
            "lstm: keep_prob is 0.5, so dropout needs a seed: an int64 tensor of one element on "
            "cpu",
        )
        for seed in (None, torch.tensor([1.0]), torch.tensor([1, 2]))
    ),
]


@pytest.mark.parametrize(("call", "error", "sentence"), BAD_ARGUMENTS)
def test_a_bad_argument_is_one_clear_sentence(
    call: Any, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
        call()


@each_cell
def test_every_op_names_itself_and_its_state_in_errors(cell: Cell) -> None:
    case = make_case(cell)
    names = "h, c, h_hyper, c_hyper" if cell.name == "hyper_lstm" else "h, c"
    with pytest.raises(ValueError, match=rf"^{cell.name}: the state \({names}\) has shapes"):
        run_op(cell, case._replace(state=case.state[:1]))
