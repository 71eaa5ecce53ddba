"""The three recurrent ops as PyTorch sees them, on each backend."""

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

from sketchrnn_fast.ops import Options

TINY = {"T": 3, "B": 3, "X": 2, "N": 3, "H": 2, "E": 2}
on_each_backend = pytest.mark.usefixtures("backend")


def registered(name: str) -> Any:
    return getattr(torch.ops.sketchrnn_fast, name)


def forward_arguments(case: Case, backend: str, save: bool = True) -> tuple[Any, ...]:
    return (
        case.x,
        case.static,
        list(case.weights),
        list(case.state),
        case.lengths,
        case.seed,
        *case.options,
        backend,
        save,
    )


@on_each_backend
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


@on_each_backend
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
def test_opcheck_of_the_forward_op(
    cell: Cell, variant: Variant, dtype: torch.dtype, backend: str
) -> None:
    case = make_case(cell, variant, dtype=dtype).requiring_gradients()
    if backend == "native":
        # What it saves is packed; the rest, as long as rows have ended, is never written or read,
        # and would be no two times the same.
        case = case._replace(lengths=torch.full((4,), 4))
    torch.library.opcheck(registered(cell.name).default, forward_arguments(case, backend))


@each_cell
def test_opcheck_of_the_forward_op_with_nothing_saved_and_no_options(
    cell: Cell, backend: str
) -> None:
    case = make_case(cell, dtype=torch.float32)._replace(seed=None)
    torch.library.opcheck(
        registered(cell.name).default, forward_arguments(case, backend, save=False)
    )


@each_cell
@each_direction_with_everything
@pytest.mark.parametrize("wanted", [True, False], ids=["all", "few"])
def test_opcheck_of_the_backward_op(
    cell: Cell, variant: Variant, wanted: bool, backend: str
) -> None:
    """With all it takes and gives; and without a gradient of hidden, and without one of x."""
    case = make_case(cell, variant, dtype=torch.float32)
    arguments = forward_arguments(case, backend)
    hidden, *final, saved = registered(cell.name)(*arguments)
    grads = [torch.randn_like(part) for part in (hidden, *final)]
    torch.library.opcheck(
        registered(f"{cell.name}_backward").default,
        (grads[0] if wanted else None, grads[1:], hidden, saved, *arguments[:-1], wanted),
    )


@each_cell
@each_direction_with_everything
def test_a_missing_gradient_of_hidden_is_zeros(cell: Cell, variant: Variant, backend: str) -> None:
    case = make_case(cell, variant)
    arguments = forward_arguments(case, backend)
    hidden, *final, saved = registered(cell.name)(*arguments)
    grad_state = [torch.randn_like(part) for part in final]

    def gradients(grad_hidden: torch.Tensor | None) -> list[torch.Tensor]:
        back = registered(f"{cell.name}_backward")
        return list(back(grad_hidden, grad_state, hidden, saved, *arguments[:-1], True))

    found, expected = gradients(None), gradients(torch.zeros_like(hidden))
    for leaf, grad, wanted in zip(case.leaves, found, expected, strict=True):
        assert grad.shape == leaf.shape
        assert torch.equal(grad, wanted)


@on_each_backend
@each_cell
@each_direction_with_everything
def test_a_loss_of_the_final_state_alone_has_the_gradients_of_the_reference(
    cell: Cell, variant: Variant
) -> None:
    case = make_case(cell, variant).requiring_gradients()
    (_, final), (_, expected) = run_op(cell, case), run_reference(cell, case)
    nothing = final[0].new_zeros(0)
    found = torch.autograd.grad(random_loss(nothing, final), case.leaves)
    wanted = torch.autograd.grad(random_loss(nothing, expected), case.leaves)
    for index, (grad, expected_grad) in enumerate(zip(found, wanted, strict=True)):
        assert_close(grad, expected_grad, FLOAT64, "gradient", f"gradient of leaf {index}")


@on_each_backend
@each_cell
@each_direction_with_everything
def test_an_x_that_wants_no_gradient_leaves_the_others_as_they_are(
    cell: Cell, variant: Variant
) -> None:
    case = make_case(cell, variant).requiring_gradients()
    expected = torch.autograd.grad(random_loss(*run_op(cell, case)), case.leaves)
    few = case.requiring_gradients()
    few = few._replace(x=case.x.detach())
    found = torch.autograd.grad(random_loss(*run_op(cell, few)), few.leaves[1:])
    for grad, wanted in zip(found, expected[1:], strict=True):
        assert torch.equal(grad, wanted)


@each_cell
def test_the_gradient_of_an_x_that_wants_none_is_empty(cell: Cell, backend: str) -> None:
    case = make_case(cell, Variant(static_size=2))
    arguments = forward_arguments(case, backend)
    hidden, *final, saved = registered(cell.name)(*arguments)
    grads = registered(f"{cell.name}_backward")(
        hidden, final, hidden, saved, *arguments[:-1], False
    )
    assert grads[0].shape == (0,)
    assert [grad.shape for grad in grads[1:]] == [leaf.shape for leaf in case.leaves[1:]]


@each_cell
def test_gradients_share_no_memory_with_each_other_or_with_arguments(
    cell: Cell, backend: str
) -> None:
    case = make_case(cell, Variant(lengths=True, static_size=2), T=1)
    assert case.lengths is not None
    case.lengths.zero_()  # so that gradients of the state pass through
    arguments = forward_arguments(case, backend)
    hidden, *final, saved = registered(cell.name)(*arguments)
    grads = [torch.randn_like(part) for part in (hidden, *final)]
    results = registered(f"{cell.name}_backward")(
        grads[0], grads[1:], hidden, saved, *arguments[:-1], True
    )
    tensors = [*results, *grads, hidden, *final, *case.leaves]
    memory = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    assert len(memory) == len(tensors)


@each_cell
@pytest.mark.parametrize("save", [False, True])
def test_results_share_no_memory_with_each_other_or_with_arguments(
    cell: Cell, save: bool, backend: str
) -> None:
    case = make_case(cell, Variant(lengths=True, static_size=2), T=1)
    assert case.lengths is not None
    case.lengths.zero_()  # so that the final state equals the initial one
    results = registered(cell.name)(*forward_arguments(case, backend, save))
    tensors = [tensor for tensor in (*results, *case.leaves) if tensor.numel()]
    memory = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    assert len(memory) == len(tensors)


@each_cell
def test_nothing_is_saved_where_no_gradient_is_wanted(cell: Cell, backend: str) -> None:
    case = make_case(cell)
    *_, saved = registered(cell.name)(*forward_arguments(case, backend, save=False))
    assert saved.numel() == 0
    *_, saved = registered(cell.name)(*forward_arguments(case, backend, save=True))
    assert saved.numel() > 0


@each_cell
def test_backward_of_a_call_that_saved_nothing_is_refused(cell: Cell, backend: str) -> None:
    case = make_case(cell).requiring_gradients()
    hidden, *_ = registered(cell.name)(*forward_arguments(case, backend, save=False))
    with pytest.raises(RuntimeError, match="called with save=False, so it has no gradient"):
        hidden.sum().backward()


@on_each_backend
@each_cell
def test_two_backward_passes_give_the_same_gradients(cell: Cell) -> None:
    case = make_case(cell, Variant(False, True, 2, 0.7)).requiring_gradients()
    loss = random_loss(*run_op(cell, case))
    first = torch.autograd.grad(loss, case.leaves, retain_graph=True)
    second = torch.autograd.grad(loss, case.leaves)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


@on_each_backend
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


@on_each_backend
@each_cell
def test_lengths_need_not_be_contiguous(cell: Cell) -> None:
    case = make_case(cell, Variant(lengths=True))
    assert case.lengths is not None
    spread = torch.stack([case.lengths, torch.full_like(case.lengths, 99)], 1)[:, 0]
    assert not spread.is_contiguous()
    assert torch.equal(run_op(cell, case._replace(lengths=spread))[0], run_op(cell, case)[0])
    same = torch.tensor([3]).expand(4)
    expected, _ = run_op(cell, case._replace(lengths=same.contiguous()))
    assert torch.equal(run_op(cell, case._replace(lengths=same))[0], expected)


@on_each_backend
@each_cell
@pytest.mark.parametrize(
    ("x_size", "static_size"), [(0, 2), (3, 0)], ids=["static_input_alone", "static_input_of_none"]
)
def test_either_input_may_be_of_width_zero(cell: Cell, x_size: int, static_size: int) -> None:
    case = make_case(cell, Variant(static_size=static_size), X=x_size)
    case = case._replace(static=torch.ones(4, static_size, dtype=FLOAT64)).requiring_gradients()
    (hidden, final), (expected, expected_final) = run_op(cell, case), run_reference(cell, case)
    assert_close(hidden, expected, FLOAT64)
    found = torch.autograd.grad(random_loss(hidden, final), case.leaves)
    wanted = torch.autograd.grad(random_loss(expected, expected_final), case.leaves)
    for grad, expected_grad in zip(found, wanted, strict=True):
        assert_close(grad, expected_grad, FLOAT64, "gradient")


@on_each_backend
@each_cell
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_a_state_of_another_dtype_does_not_change_the_results_dtypes(
    cell: Cell, dtype: torch.dtype
) -> None:
    case = make_case(cell, dtype=dtype)
    hidden, final = run_op(cell, case._replace(state=case.to(FLOAT64).state))
    assert hidden.dtype == dtype
    assert [part.dtype for part in final] == [dtype, torch.float32] * (len(final) // 2)
    expected, _ = run_op(cell, case)
    assert torch.equal(hidden, expected)


@on_each_backend
@each_cell
def test_a_missing_state_is_zeros(cell: Cell) -> None:
    case = make_case(cell)
    zeros = case._replace(state=tuple(map(torch.zeros_like, case.state)))
    expected, _ = run_op(cell, zeros)
    found, _ = run_op(cell, case._replace(state=None))
    assert torch.equal(found, expected)


@on_each_backend
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


@on_each_backend
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
            lstm_call(options=Options(row_offset=value)),
            ValueError,
            f"lstm: row_offset is {value}; the rows that it numbers must lie between 0 and "
            "4294967295",
        )
        for value in (-1, 2**32 - 3)
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
