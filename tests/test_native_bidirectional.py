"""Both directions of a native recurrent op, side by side on the threads that there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cells import (
    FLOAT64,
    BothCases,
    Cell,
    Variant,
    assert_equal,
    each_cell,
    each_direction_with_everything,
    loss_of_both,
    make_both,
    run_both,
    run_each,
)
from tolerances import assert_close

from sketchrnn_fast import ops

pytestmark = pytest.mark.usefixtures("on_native_kernels", "threads")
each_count = pytest.mark.parametrize("count", [1, 2, 3, 4])
each_number_of_rows = pytest.mark.parametrize("rows", [1, 3, 20])

# Sizes that are worth a second thread even with one row (csrc/cpu/thread_shares.cpp).
SIZES = {"T": 60, "N": 65, "H": 19, "E": 3}


def case_of_rows(
    cell: Cell, variant: Variant, rows: int, dtype: torch.dtype = torch.float32
) -> BothCases:
    """The last row has its full length, the second none."""
    case = make_both(cell, variant, B=rows, dtype=dtype, **SIZES)
    if case.first.lengths is None:
        return case
    lengths = case.first.lengths.clone()
    lengths[-1] = SIZES["T"]
    return BothCases(*(one._replace(lengths=lengths) for one in case))


def outputs(results: list[tuple[torch.Tensor, tuple[torch.Tensor, ...]]]) -> list[torch.Tensor]:
    return [part for hidden, final in results for part in (hidden, *final)]


def gradients(cell: Cell, case: BothCases) -> list[torch.Tensor]:
    case = case.requiring_gradients()
    return list(torch.autograd.grad(loss_of_both(run_both(cell, case)), case.leaves))


@each_cell
@each_direction_with_everything
@each_number_of_rows
@each_count
def test_forward_results_are_those_of_each_direction_alone_bit_for_bit(
    cell: Cell, variant: Variant, rows: int, count: int
) -> None:
    case = case_of_rows(cell, variant, rows)
    torch.set_num_threads(1)
    expected = outputs(run_each(cell, case))
    torch.set_num_threads(count)
    assert_equal(outputs(run_both(cell, case)), expected)
    assert_equal(outputs(run_both(cell, case.requiring_gradients())), expected)


@each_cell
@pytest.mark.parametrize(
    "variant",
    [Variant(), Variant(static_size=2, keep_prob=0.7), Variant(lengths=True, static_size=2)],
    ids=["plain", "dropout", "lengths"],
)
@each_number_of_rows
def test_gradients_are_those_of_the_reference(cell: Cell, variant: Variant, rows: int) -> None:
    case = case_of_rows(cell, variant, rows)
    with ops.backend("reference"):
        expected = gradients(cell, case.to(FLOAT64))
    for dtype in (torch.float32, FLOAT64):
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            found = gradients(cell, case.to(dtype))
            for index, (grad, wanted) in enumerate(zip(found, expected, strict=True)):
                assert_close(grad, wanted, dtype, "gradient", f"gradient of leaf {index}")


@each_cell
@each_direction_with_everything
@each_count
def test_gradients_are_the_same_in_every_run_with_as_many_threads(
    cell: Cell, variant: Variant, count: int
) -> None:
    torch.set_num_threads(count)
    for rows in (1, 20):
        case = case_of_rows(cell, variant, rows)
        expected = gradients(cell, case)
        for _ in range(3):
            assert_equal(gradients(cell, case), expected)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_fewer_threads_than_were_asked_for_will_do(limit: int) -> None:
    """As within another parallel region, where OpenMP gives fewer."""
    program = """if True:
        import torch
        from cells import CELLS, Variant, make_both, run_both, run_each
        cell = CELLS["layer_norm_lstm"]
        case = make_both(cell, Variant(True, False, 2, 0.7), T=9, B=20, N=65)
        torch.set_num_threads(1)
        expected = run_each(cell, case)
        torch.set_num_threads(4)
        for (hidden, _), (wanted, _) in zip(run_both(cell, case), expected, strict=True):
            assert torch.equal(hidden, wanted)
    """
    environment = {**os.environ, "OMP_THREAD_LIMIT": str(limit)}
    tests = Path(__file__).parent  # where `cells` is
    subprocess.run([sys.executable, "-c", program], cwd=tests, env=environment, check=True)
