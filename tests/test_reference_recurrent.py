"""What holds for the references of all three cells."""

from __future__ import annotations

import pytest
import torch
from cells import (
    FLOAT64,
    Case,
    Cell,
    Variant,
    each_cell,
    each_direction_with_everything,
    each_variant,
    make_case,
    random_loss,
    run_reference,
)
from tolerances import assert_close

TINY = {"T": 3, "B": 3, "X": 2, "N": 3, "H": 2, "E": 2}


@each_cell
@each_direction_with_everything
def test_gradcheck_of_the_reference(cell: Cell, variant: Variant) -> None:
    case = make_case(cell, variant, **TINY).requiring_gradients()
    assert case.lengths is not None
    assert set(case.lengths.tolist()) >= {0, TINY["T"]}

    def function(*leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden, final = run_reference(cell, case.with_leaves(leaves))
        return hidden, *final

    assert torch.autograd.gradcheck(function, case.leaves)


@each_cell
@each_variant
def test_the_derivative_written_out_equals_autograd(cell: Cell, variant: Variant) -> None:
    case = make_case(cell, variant, N=9).requiring_gradients()
    hidden, final, saved = cell.reference(*case)
    generator = torch.Generator().manual_seed(5)
    grads = [
        torch.randn(part.shape, generator=generator, dtype=FLOAT64) for part in (hidden, *final)
    ]
    expected = torch.autograd.grad((hidden, *final), case.leaves, grads)
    with torch.no_grad():
        grad_x, grad_static, grad_weights, grad_state = cell.reference_backward(
            grads[0], tuple(grads[1:]), hidden, saved, *case
        )
    static = [] if case.static is None else [grad_static]
    found = [grad_x, *static, *grad_weights, *grad_state]
    for index, (grad, wanted) in enumerate(zip(found, expected, strict=True)):
        assert_close(grad, wanted, FLOAT64, "gradient", f"gradient of leaf {index}")


@each_cell
@pytest.mark.parametrize("reverse", [False, True])
def test_what_stands_past_a_rows_end_changes_nothing(cell: Cell, reverse: bool) -> None:
    case = make_case(cell, Variant(reverse, lengths=True, static_size=2), T=5, B=5)
    assert case.lengths is not None
    past = torch.arange(5)[:, None] >= case.lengths
    assert past.any()
    poisoned = case._replace(x=torch.where(past[..., None], float("nan"), case.x))

    def results(case: Case) -> dict[str, torch.Tensor]:
        case = case.requiring_gradients()
        hidden, final = run_reference(cell, case)
        grads = torch.autograd.grad(random_loss(hidden, final), case.leaves)
        values = {f"state {index}": part for index, part in enumerate(final)}
        gradients = {f"gradient {index}": grad for index, grad in enumerate(grads)}
        return {"hidden": hidden, **values, **gradients}

    clean, dirty = results(case), results(poisoned)
    for name, expected in clean.items():
        assert torch.equal(dirty[name], expected), name
    assert (clean["hidden"][past] == 0).all()
    assert (clean["gradient 0"][past] == 0).all()  # of x


@each_cell
@pytest.mark.parametrize("reverse", [False, True])
def test_a_row_of_length_zero_keeps_its_state(cell: Cell, reverse: bool) -> None:
    case = make_case(cell, Variant(reverse, lengths=True))
    assert case.lengths is not None
    assert case.lengths[1] == 0
    hidden, final = run_reference(cell, case)
    for before, after in zip(case.state, final, strict=True):
        torch.testing.assert_close(after[1], before[1], rtol=0, atol=0)
    assert (hidden[:, 1] == 0).all()


@each_cell
@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_equal_cutting_each_row(cell: Cell, reverse: bool) -> None:
    case = make_case(cell, Variant(reverse, lengths=True, static_size=2), T=6, B=6)
    hidden, final = run_reference(cell, case)
    assert case.lengths is not None
    for b, length in enumerate(case.lengths.tolist()):
        if length == 0:
            continue
        alone = case._replace(
            x=case.x[:length, b : b + 1],
            static=None if case.static is None else case.static[b : b + 1],
            state=tuple(part[b : b + 1] for part in case.state),
            lengths=None,
        )
        hidden_alone, final_alone = run_reference(cell, alone)
        assert_close(hidden[:length, b], hidden_alone[:, 0], FLOAT64)
        for part, part_alone in zip(final, final_alone, strict=True):
            assert_close(part[b], part_alone[0], FLOAT64)


@each_cell
def test_reverse_equals_the_flipped_sequence_flipped_back(cell: Cell) -> None:
    case = make_case(cell, Variant(reverse=True))
    hidden, final = run_reference(cell, case)
    flipped = case._replace(x=case.x.flip(0), options=case.options._replace(reverse=False))
    hidden_flipped, final_flipped = run_reference(cell, flipped)
    assert_close(hidden, hidden_flipped.flip(0), FLOAT64)
    for part, expected in zip(final, final_flipped, strict=True):
        assert_close(part, expected, FLOAT64)


@each_cell
@each_direction_with_everything
def test_a_shard_of_the_batch_equals_its_rows_of_the_whole(cell: Cell, variant: Variant) -> None:
    case = make_case(cell, variant._replace(row_offset=10), B=6)
    hidden, final = run_reference(cell, case)
    rows = slice(2, 5)
    assert case.static is not None
    assert case.lengths is not None
    shard = case._replace(
        x=case.x[:, rows],
        static=case.static[rows],
        state=tuple(part[rows] for part in case.state),
        lengths=case.lengths[rows],
        options=case.options._replace(row_offset=12),
    )
    hidden_shard, final_shard = run_reference(cell, shard)
    assert_close(hidden_shard, hidden[:, rows], FLOAT64)
    for part, whole in zip(final_shard, final, strict=True):
        assert_close(part, whole[rows], FLOAT64)
    elsewhere, _ = run_reference(cell, shard._replace(options=case.options))
    assert not torch.equal(elsewhere, hidden_shard)


@each_cell
def test_dropout_changes_with_the_seed_and_is_reproducible(cell: Cell) -> None:
    case = make_case(cell, Variant(keep_prob=0.5))
    first, _ = run_reference(cell, case)
    again, _ = run_reference(cell, case)
    other, _ = run_reference(cell, case._replace(seed=case.seed + 2**40))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@each_cell
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_float32_arithmetic_on_its_inputs(cell: Cell, dtype: torch.dtype) -> None:
    case = make_case(cell, Variant(lengths=True, static_size=2, keep_prob=0.7), N=9, dtype=dtype)
    hidden, final = run_reference(cell, case)
    assert hidden.dtype == final[0].dtype == dtype
    assert final[1].dtype == torch.float32
    exact_hidden, exact_final = run_reference(cell, case.to(FLOAT64))
    assert_close(hidden, exact_hidden, dtype, cell.kind, "hidden")
    for index, (part, exact) in enumerate(zip(final, exact_final, strict=True)):
        assert_close(part, exact, part.dtype, cell.kind, f"state {index}")


@each_cell
def test_float32_is_as_close_to_float64_as_the_table_says(cell: Cell) -> None:
    case = make_case(
        cell, Variant(lengths=True, static_size=2, keep_prob=0.7), T=12, N=17, dtype=torch.float32
    ).requiring_gradients()
    exact = case.to(FLOAT64).requiring_gradients()
    hidden, final = run_reference(cell, case)
    exact_hidden, exact_final = run_reference(cell, exact)
    for part, wanted in zip([hidden, *final], [exact_hidden, *exact_final], strict=True):
        assert_close(part, wanted, torch.float32, cell.kind)
    grads = torch.autograd.grad(random_loss(hidden, final), case.leaves)
    exact_grads = torch.autograd.grad(random_loss(exact_hidden, exact_final), exact.leaves)
    for grad, wanted in zip(grads, exact_grads, strict=True):
        assert_close(grad, wanted, torch.float32, "gradient")


@each_cell
def test_nan_in_is_nan_out_for_its_row_alone(cell: Cell) -> None:
    case = make_case(cell, Variant(static_size=2))
    clean, _ = run_reference(cell, case)
    x = case.x.clone()
    x[1, 2, 0] = float("nan")
    hidden, _ = run_reference(cell, case._replace(x=x))
    assert hidden[1:, 2].isnan().all()
    rest = [0, 1, 3]
    torch.testing.assert_close(hidden[:, rest], clean[:, rest], rtol=0, atol=0)
