"""The native recurrent kernels' threads and memory.

Rows are shared out among threads, and where they are few, the columns of each product. Neither may
show in a forward result, nor may the other rows of the batch.
"""

from __future__ import annotations

import gc
import threading

import pytest
import torch
from cells import (
    FLOAT64,
    Case,
    Cell,
    Variant,
    assert_equal,
    each_cell,
    each_direction_with_everything,
    make_case,
    random_loss,
    run_op,
)
from tolerances import assert_close

from sketchrnn_fast import _native

pytestmark = pytest.mark.usefixtures("on_native_kernels")
FLOAT32 = torch.float32
each_count = pytest.mark.parametrize("count", [1, 2, 3, 4])
each_dtype = pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)


def outputs(cell: Cell, case: Case) -> list[torch.Tensor]:
    hidden, final = run_op(cell, case)
    return [hidden, *final]


def gradients(cell: Cell, case: Case) -> list[torch.Tensor]:
    case = case.requiring_gradients()
    return list(torch.autograd.grad(random_loss(*run_op(cell, case)), case.leaves))


def case_of_rows(
    cell: Cell, variant: Variant, rows: int, dtype: torch.dtype = FLOAT32, units: int = 33
) -> Case:
    return make_case(cell, variant, T=5, B=rows, X=3, N=units, H=19, E=3, dtype=dtype)


# Rows fewer than threads, fewer than a team needs, and enough for teams of one thread.
each_number_of_rows = pytest.mark.parametrize("rows", [1, 2, 7, 17, 40])


@pytest.mark.usefixtures("threads")
@each_cell
@each_direction_with_everything
@each_number_of_rows
@each_dtype
def test_forward_results_are_the_same_for_any_number_of_threads(
    cell: Cell, variant: Variant, rows: int, dtype: torch.dtype
) -> None:
    case = case_of_rows(cell, variant, rows, dtype)
    torch.set_num_threads(1)
    expected = outputs(cell, case)
    for count in (2, 3, 4):
        torch.set_num_threads(count)
        assert_equal(outputs(cell, case), expected)


@pytest.mark.usefixtures("threads")
@each_cell
@each_direction_with_everything
@each_number_of_rows
def test_gradients_with_any_number_of_threads_agree_with_one_thread(
    cell: Cell, variant: Variant, rows: int
) -> None:
    case = case_of_rows(cell, variant, rows, FLOAT64)
    torch.set_num_threads(1)
    expected = gradients(cell, case)
    for count in (2, 3, 4):
        torch.set_num_threads(count)
        for grad, wanted in zip(gradients(cell, case), expected, strict=True):
            assert_close(grad, wanted, FLOAT64, "gradient")


@pytest.mark.usefixtures("threads")
@each_cell
@each_direction_with_everything
@each_count
def test_gradients_are_the_same_in_every_run_with_as_many_threads(
    cell: Cell, variant: Variant, count: int
) -> None:
    torch.set_num_threads(count)
    for rows in (7, 40):
        case = case_of_rows(cell, variant, rows)
        expected = gradients(cell, case)
        for _ in range(3):
            assert_equal(gradients(cell, case), expected)


@each_cell
@each_direction_with_everything
@each_dtype
def test_a_row_alone_has_the_results_that_it_has_in_the_batch(
    cell: Cell, variant: Variant, dtype: torch.dtype
) -> None:
    case = case_of_rows(cell, variant, 40, dtype)
    assert case.lengths is not None
    assert case.static is not None
    hidden, *final = outputs(cell, case)
    for first, end in [(0, 1), (13, 14), (5, 11), (39, 40)]:
        rows = slice(first, end)
        options = case.options._replace(row_offset=case.options.row_offset + first)
        alone = case._replace(
            x=case.x[:, rows],
            static=case.static[rows],
            state=tuple(part[rows] for part in case.state),
            lengths=case.lengths[rows],
            options=options,
        )
        expected = [hidden[:, rows], *(part[rows] for part in final)]
        assert_equal(outputs(cell, alone), expected)


@pytest.mark.usefixtures("threads")
@each_cell
@pytest.mark.parametrize("count", [1, 2])
def test_calls_from_two_python_threads_at_once_do_not_disturb_each_other(
    cell: Cell, count: int
) -> None:
    torch.set_num_threads(count)
    cases = [case_of_rows(cell, Variant(False, True, 2, 0.7), rows, units=65) for rows in (20, 33)]
    expected = [outputs(cell, case) + gradients(cell, case) for case in cases]
    failures: list[BaseException] = []
    together = threading.Barrier(len(cases))

    def run(case: Case, wanted: list[torch.Tensor]) -> None:
        try:
            together.wait()
            for _ in range(10):
                assert_equal(outputs(cell, case) + gradients(cell, case), wanted)
        except BaseException as failure:
            failures.append(failure)

    runners = [
        threading.Thread(target=run, args=arguments)
        for arguments in zip(cases, expected, strict=True)
    ]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert not failures


# ---- Memory ----


@pytest.fixture
def empty_pool() -> int:
    """The pool keeps no blocks; gives how many bytes are still taken by others."""
    gc.collect()
    _native.release_memory()
    taken, kept = _native.memory_use()
    assert kept == 0
    return int(taken)


def large_case(cell: Cell) -> Case:
    """Its results and what it saves are large enough for the pool."""
    return make_case(cell, Variant(keep_prob=0.7), T=40, B=50, N=250, dtype=FLOAT32)


@each_cell
def test_a_results_memory_goes_back_to_the_pool_when_nothing_refers_to_it(
    cell: Cell, empty_pool: int
) -> None:
    hidden, _ = run_op(cell, large_case(cell))
    size = hidden.numel() * 4
    taken, kept = _native.memory_use()
    assert taken - empty_pool >= size
    part = hidden[3:5]
    expected = part.clone()
    del hidden
    assert _native.memory_use()[0] == taken  # the part holds it
    _native.release_memory()
    assert torch.equal(part, expected)
    del part
    taken, kept = _native.memory_use()
    assert taken == empty_pool
    assert kept <= 2 * size
    _native.release_memory()
    assert _native.memory_use() == (empty_pool, 0)


@each_cell
def test_memory_is_bounded_over_repeated_calls(cell: Cell, empty_pool: int) -> None:
    case = large_case(cell).requiring_gradients()
    totals = []
    for _ in range(6):
        torch.autograd.grad(random_loss(*run_op(cell, case)), case.leaves)
        assert _native.memory_use()[0] == empty_pool
        totals.append(sum(_native.memory_use()))
    assert totals[-1] == totals[1]
    _native.release_memory()
    assert _native.memory_use() == (empty_pool, 0)


@each_cell
def test_what_is_saved_goes_back_to_the_pool_with_the_graph(cell: Cell, empty_pool: int) -> None:
    case = large_case(cell).requiring_gradients()
    hidden, final = run_op(cell, case)
    held = _native.memory_use()[0]
    saved_bytes = held - empty_pool - hidden.numel() * 4
    assert saved_bytes >= 5 * hidden.numel() * 4  # the gates and c, at least
    loss = hidden.sum()
    del hidden, final
    loss.backward()
    assert _native.memory_use()[0] == empty_pool
