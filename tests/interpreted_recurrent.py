"""The recurrent ops on Triton kernels, in Triton's interpreter, against the reference in float64.

Run by test_triton_recurrent.py in processes with TRITON_INTERPRET=1, one a form of the kernels,
which SKETCHRNN_FAST_TRITON_FORM names.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cells import CELLS, VARIANTS, Case, Cell, Variant, make_case, random_loss, run_reference
from cells import run_op as run
from tolerances import assert_close

import sketchrnn_fast
from sketchrnn_fast.kernels import hyper_lstm, lstm, sequence, tuning
from sketchrnn_fast.ops.backends import BackendError

FORM = os.environ[tuning.FORM_VARIABLE]
each_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
EVERYTHING, REVERSED = VARIANTS["everything"], VARIANTS["everything_in_reverse"]
SIZES_OF_HYPER = {"H": 24, "E": 3}

# T, B, N: one row, rows that do not fill a tile, more than a tile, widths beside a power of two.
SIZES = [(1, 1, 16), (17, 5, 16), (2, 33, 96)]
LONG = [(17, 33, 96), (17, 33, 64), (1, 3, 512), (2, 7, 250)]


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Fresh memory holds NaN, so that what is read before it is written shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    assert torch.empty(2).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def check(cell: Cell, case: Case, dtype: torch.dtype) -> None:
    """Outputs, states and every gradient of the op on Triton, against the reference in float64."""
    case = case.requiring_gradients()
    with sketchrnn_fast.backend("triton"):
        hidden, final = run(cell, case)
    assert hidden.dtype == dtype
    grads = torch.autograd.grad(random_loss(hidden, final), case.leaves)
    exact = case.with_leaves([leaf.detach().double().requires_grad_() for leaf in case.leaves])
    exact_hidden, exact_final = run_reference(cell, exact)
    wanted = torch.autograd.grad(random_loss(exact_hidden, exact_final), exact.leaves)
    for part, expected in zip([hidden, *final], [exact_hidden, *exact_final], strict=True):
        assert_close(part, expected, dtype, cell.kind)
    kind = "hyper gradient" if cell.kind == "hyper" else "gradient"
    for index, (grad, expected) in enumerate(zip(grads, wanted, strict=True)):
        assert grad.dtype == dtype or index >= len(grads) - len(final)
        assert_close(grad, expected, dtype, kind, f"gradient of leaf {index}")


@each_cell
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_it_equals_the_reference_with_its_gradients(cell: Cell, variant: Variant) -> None:
    T = 2 if cell.name == "hyper_lstm" else 4
    check(cell, make_case(cell, variant, T=T, B=9, N=12, dtype=torch.float32), torch.float32)


@each_cell
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("variant", [EVERYTHING, REVERSED], ids=["forward", "reverse"])
def test_odd_sizes(cell: Cell, size: tuple[int, int, int], variant: Variant) -> None:
    T, B, N = size
    case = make_case(cell, variant, T=T, B=B, N=N, **SIZES_OF_HYPER, dtype=torch.float32)
    check(cell, case, torch.float32)


@pytest.mark.slow
@each_cell
@pytest.mark.parametrize("size", LONG, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_large_sizes(cell: Cell, size: tuple[int, int, int], dtype: torch.dtype) -> None:
    T, B, N = size
    check(cell, make_case(cell, EVERYTHING, T=T, B=B, N=N, **SIZES_OF_HYPER, dtype=dtype), dtype)


@each_cell
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("variant", [EVERYTHING, REVERSED], ids=["forward", "reverse"])
def test_half_precision_storage(cell: Cell, dtype: torch.dtype, variant: Variant) -> None:
    check(cell, make_case(cell, variant, T=3, B=9, N=64, **SIZES_OF_HYPER, dtype=dtype), dtype)


@each_cell
def test_it_is_reproducible_to_the_bit(cell: Cell) -> None:
    case = make_case(cell, EVERYTHING, T=3, B=9, N=20, dtype=torch.float32).requiring_gradients()
    results = []
    for _ in range(2):
        with sketchrnn_fast.backend("triton"):
            hidden, final = run(cell, case)
        results.append([hidden, *final, *torch.autograd.grad(hidden.sum(), case.leaves)])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@each_cell
def test_rows_do_not_depend_on_the_batch_that_they_are_in(cell: Cell) -> None:
    case = make_case(cell, EVERYTHING, T=3, B=12, N=20, dtype=torch.float32)
    with sketchrnn_fast.backend("triton"):
        whole, _ = run(cell, case)
        part, _ = run(
            cell,
            case._replace(
                x=case.x[:, 4:].contiguous(),
                static=case.static[4:] if case.static is not None else None,
                state=tuple(part[4:] for part in case.state),
                lengths=case.lengths[4:] if case.lengths is not None else None,
                options=case.options._replace(row_offset=case.options.row_offset + 4),
            ),
        )
    assert torch.equal(whole[:, 4:], part)


@each_cell
def test_nan_in_a_row_stays_in_that_row(cell: Cell) -> None:
    case = make_case(cell, VARIANTS["dropout"], T=3, B=10, N=20, dtype=torch.float32)
    with sketchrnn_fast.backend("triton"):
        clean, _ = run(cell, case)
        case.x[1, 3] = float("nan")
        hidden, final = run(cell, case)
    others = [row for row in range(10) if row != 3]
    assert hidden[1:, 3].isnan().all()
    assert final[0][3].isnan().all()
    assert torch.equal(hidden[:, others], clean[:, others])
    assert torch.equal(hidden[0], clean[0])


@each_cell
def test_what_lies_past_a_rows_end_is_never_used(cell: Cell) -> None:
    case = make_case(cell, EVERYTHING, T=4, B=10, N=20, dtype=torch.float32).requiring_gradients()
    assert case.lengths is not None
    past = torch.arange(4)[:, None] >= case.lengths
    poisoned = case.x.detach().clone()
    poisoned[past] = float("nan")
    poisoned_case = case._replace(x=poisoned.requires_grad_())
    with sketchrnn_fast.backend("triton"):
        hidden, final = run(cell, case)
        other, other_final = run(cell, poisoned_case)
    assert torch.equal(hidden, other)
    assert torch.equal(hidden[past], torch.zeros_like(hidden[past]))
    grads = torch.autograd.grad(random_loss(hidden, final), case.leaves)
    others = torch.autograd.grad(random_loss(other, other_final), poisoned_case.leaves)
    for grad, other_grad in zip(grads, others, strict=True):
        assert torch.equal(grad, other_grad)


@each_cell
def test_opcheck(cell: Cell) -> None:
    case = make_case(cell, EVERYTHING, T=2, B=3, N=8, dtype=torch.float32).requiring_gradients()
    # All rows last: what is saved of steps past an end is never written, and differs from call to
    # call.
    case = case._replace(lengths=torch.full((3,), 2))
    arguments = (
        *(case.x, case.static, list(case.weights), list(case.state), case.lengths, case.seed),
        *(*case.options, "triton", True),
    )
    torch.library.opcheck(getattr(torch.ops.sketchrnn_fast, cell.name).default, arguments)


@each_cell
def test_no_row_and_no_gradient_wanted(cell: Cell) -> None:
    with sketchrnn_fast.backend("triton"):
        empty = make_case(cell, EVERYTHING, T=2, B=0, N=8, dtype=torch.float32)
        empty = empty.requiring_gradients()
        hidden, _ = run(cell, empty)
        assert hidden.shape == (2, 0, 8)
        for grad in torch.autograd.grad(hidden.sum(), empty.leaves):
            assert not grad.any()
        case = make_case(cell, EVERYTHING, T=2, B=3, N=8, dtype=torch.float32)
        hidden, _ = run(cell, case)
    expected, _ = run_reference(cell, case.to(torch.float64))
    assert_close(hidden, expected, torch.float32, cell.kind)


@each_cell
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_state_of_another_dtype_is_converted(cell: Cell, dtype: torch.dtype) -> None:
    case = make_case(cell, EVERYTHING, T=2, B=3, N=8, dtype=dtype)
    wide = case._replace(state=tuple(part.float() for part in case.state)).requiring_gradients()
    with sketchrnn_fast.backend("triton"):
        expected, _ = run(cell, case)
        hidden, final = run(cell, wide)
    assert torch.equal(hidden, expected)
    assert [part.dtype for part in final] == [dtype, torch.float32] * (len(final) // 2)
    grads = torch.autograd.grad(random_loss(hidden, final), wide.state)
    assert all(grad.dtype == torch.float32 for grad in grads)


@each_cell
def test_float64_is_refused(cell: Cell) -> None:
    with (
        sketchrnn_fast.backend("triton"),
        pytest.raises(BackendError, match=r"takes float32, bfloat16 and float16, and x is"),
    ):
        run(cell, make_case(cell))


@each_cell
def test_both_directions_at_once(cell: Cell) -> None:
    one = make_case(cell, VARIANTS["dropout"], T=3, B=5, N=12, dtype=torch.float32)
    two = make_case(cell, VARIANTS["dropout"], T=3, B=5, N=12, dtype=torch.float32, seed=1)
    seeds = torch.cat([one.seed, two.seed])
    weights, states = (one.weights, two.weights), (one.state, two.state)
    with sketchrnn_fast.backend("triton"):
        found = cell.bidirectional(one.x, weights, states, seed=seeds, options=one.options)
    two = two._replace(x=one.x, options=one.options._replace(reverse=True))
    for (hidden, _), case in zip(found, (one, two), strict=True):
        expected, _ = run_reference(cell, case.to(torch.float64))
        assert_close(hidden, expected, torch.float32, cell.kind)


# The persistent form with its programs side by side --------------------------------------------

PROGRAMS = 4


def _side_by_side(kernel: Any) -> Any:
    """The interpreter runs programs one after another, which would wait for ever at the barrier: so
    here each is a process, and their tensors lie in shared memory."""

    def program(number: int, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        counter, _, _, *others = arguments
        run = type(kernel).run
        run(kernel, counter, number, PROGRAMS, *others, grid=(1,), warmup=False, **keywords)

    def run(*arguments: Any, grid: Any, warmup: bool, **keywords: Any) -> None:
        assert grid == (PROGRAMS,)
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                argument.share_memory_()
        context = multiprocessing.get_context("fork")
        processes = [
            context.Process(target=program, args=(number, arguments, keywords))
            for number in range(PROGRAMS)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=240)
        alive = [process for process in processes if process.is_alive()]
        for process in alive:
            process.kill()
        assert not alive, "programs wait for each other for ever"
        assert all(process.exitcode == 0 for process in processes)

    return run


@pytest.mark.skipif(FORM != "persistent", reason="the other forms have no grid barrier")
@each_cell
def test_programs_that_run_side_by_side_compute_what_the_reference_does(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four programs, several tiles of rows and columns each, forward and backward."""
    monkeypatch.setattr(lstm, "persistent_programs", lambda *_: PROGRAMS)
    monkeypatch.setattr(hyper_lstm, "processors", lambda _: PROGRAMS)
    plan = tuning.plan_for(cell.name, 32, torch.float32, "interpreter")
    if cell.name != "hyper_lstm":  # two tiles of columns, and so two groups of rows
        forward, backward = plan.forward._replace(columns=64), plan.backward._replace(columns=16)
        plan = plan._replace(forward=forward, backward=backward)
    monkeypatch.setattr(tuning, "plan_for", lambda *_: plan)
    for kernel in (
        sequence.persistent_forward_kernel,
        sequence.persistent_backward_kernel,
        hyper_lstm.hyper_forward_kernel,
        hyper_lstm.hyper_backward_kernel,
    ):
        monkeypatch.setattr(kernel, "run", _side_by_side(kernel))
    # Rows for two turns of every group: a tile has 16 of the products' rows and 8 of the others.
    case = make_case(cell, REVERSED, T=2, B=67, N=32, **SIZES_OF_HYPER, dtype=torch.float32)
    check(cell, case, torch.float32)
