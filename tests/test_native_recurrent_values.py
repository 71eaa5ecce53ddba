"""Unusual numbers in the native recurrent kernels: NaN, infinity, very large and small ones.

And memory that holds NaN before a call: all that is given out must be written, and nothing must be
read before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from cells import (
    FLOAT64,
    VARIANTS,
    Case,
    Cell,
    Results,
    Variant,
    assert_equal,
    each_cell,
    each_direction_with_everything,
    each_variant,
    make_case,
    results,
    run_op,
)
from tolerances import assert_close

from sketchrnn_fast import _native
from sketchrnn_fast.ops import native

pytestmark = pytest.mark.usefixtures("on_native_kernels")
FLOAT32 = torch.float32
NAN = float("nan")
each_dtype = pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)


def odd_case(
    cell: Cell, variant: Variant = VARIANTS["everything"], dtype: torch.dtype = FLOAT32
) -> Case:
    return make_case(cell, variant, T=5, B=9, X=3, N=17, H=7, E=3, dtype=dtype)


# ---- Memory ----


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """All tensors that the backend allocates hold NaN."""
    from_pool = native.empty

    def empty(*arguments: Any) -> torch.Tensor:
        return from_pool(*arguments).fill_(NAN)

    def empty_like(tensor: torch.Tensor) -> torch.Tensor:
        return torch.full_like(tensor, NAN)

    class Torch:
        """The module, with another `empty_like`."""

        def __getattr__(self, name: str) -> Any:
            return empty_like if name == "empty_like" else getattr(torch, name)

    monkeypatch.setattr(native, "empty", empty)
    monkeypatch.setattr(native, "torch", Torch())


@each_cell
@each_variant
@each_dtype
def test_every_element_of_every_result_is_written(
    cell: Cell, variant: Variant, dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    case = odd_case(cell, variant, dtype)
    expected = results(cell, case)
    request.getfixturevalue("poisoned")
    found = results(cell, case)
    assert all(part.isfinite().all() for part in found.tensors)
    assert_equal(found.tensors, expected.tensors)


@each_cell
@pytest.mark.usefixtures("poisoned")
def test_every_element_is_written_where_no_row_takes_a_step(cell: Cell) -> None:
    case = odd_case(cell)._replace(lengths=torch.zeros(9, dtype=torch.int64))
    assert all(part.isfinite().all() for part in results(cell, case).tensors)


@each_cell
@pytest.mark.usefixtures("poisoned")
def test_what_is_saved_holds_nothing_unwritten_where_all_rows_are_whole(cell: Cell) -> None:
    case = odd_case(cell, VARIANTS["dropout"])
    *_, saved = getattr(torch.ops.sketchrnn_fast, cell.name)(
        case.x,
        None,
        list(case.weights),
        list(case.state),
        None,
        case.seed,
        *case.options,
        "native",
        True,
    )
    assert saved.isfinite().all()


def poison_kept_blocks() -> int:
    """Fill all blocks that the pool keeps with NaN; gives their number."""
    huge_page = 1 << 21
    poisoned, fresh = [], []
    # The largest first, so that each block is found by its own size.
    for size in range(16 * huge_page, 0, -huge_page):
        while True:
            _, before = _native.memory_use()
            array = _native.empty_float32((size - 64) // 4)
            _, after = _native.memory_use()
            if after == before:
                fresh.append(array)
                break
            array.fill(NAN)
            poisoned.append(array)
    assert _native.memory_use()[1] == 0
    count = len(poisoned)
    poisoned.clear()  # before the fresh ones: of two blocks, the pool takes the one it kept longer
    return count


@each_cell
@each_direction_with_everything
def test_scratch_from_the_pool_is_not_read_before_it_is_written(
    cell: Cell, variant: Variant
) -> None:
    case = make_case(cell, variant, T=8, B=100, X=3, N=250, H=33, E=7, dtype=FLOAT32)
    _native.release_memory()
    expected = results(cell, case)
    assert poison_kept_blocks() > 2
    found = results(cell, case)
    _native.release_memory()
    assert_equal(found.tensors, expected.tensors)


@pytest.fixture
def filled_allocations() -> Iterator[None]:
    """What malloc gives is full of bytes 0xFE, numbers about -1.7e38; only glibc can."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        pytest.skip("the C library is not glibc")
    m_perturb = -6
    assert library.mallopt(m_perturb, 1) == 1
    yield
    library.mallopt(m_perturb, 0)


@pytest.mark.usefixtures("threads")
@each_cell
@each_variant
@each_dtype
@pytest.mark.parametrize("count", [1, 3])
def test_scratch_from_malloc_is_not_read_before_it_is_written(
    cell: Cell,
    variant: Variant,
    dtype: torch.dtype,
    count: int,
    request: pytest.FixtureRequest,
) -> None:
    torch.set_num_threads(count)
    case = odd_case(cell, variant, dtype)
    expected = results(cell, case)
    request.getfixturevalue("filled_allocations")
    assert (torch.empty(1001) < -1e38).all()
    assert_equal(results(cell, case).tensors, expected.tensors)


# ---- NaN and infinity ----


def put_into_x(value: float, t: int = 2, row: int = 4) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        x = case.x.clone()
        x[t, row, 1] = value
        return case._replace(x=x)

    return change


def put_into_state(value: float, part: int, row: int = 4) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        state = [tensor.clone() for tensor in case.state]
        state[part][row, 1] = value
        return case._replace(state=tuple(state))

    return change


def put_into_weight(name: str, value: float) -> Callable[[Case], Case]:
    def change(case: Case) -> Case:
        weight = getattr(case.weights, name).clone()
        weight[0, 5] = value
        return case._replace(weights=case.weights._replace(**{name: weight}))

    return change


CHANGES = {
    "nan_in_x": put_into_x(NAN),
    "nan_in_h": put_into_state(NAN, 0),
    "nan_in_c": put_into_state(NAN, 1),
    "nan_in_w_hh": put_into_weight("w_hh", NAN),
    "nan_in_w_xh": put_into_weight("w_xh", NAN),
    "infinite_x": put_into_x(float("inf")),
    "infinite_c": put_into_state(-float("inf"), 1),
}
each_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@each_cell
@each_direction_with_everything
@each_change
@each_dtype
def test_what_is_not_finite_goes_where_it_goes_in_the_reference(
    cell: Cell, variant: Variant, change: Callable[[Case], Case], dtype: torch.dtype
) -> None:
    """Without lengths, because in the reference NaN times zero is NaN past a row's end as well."""
    case = change(odd_case(cell, variant, dtype))._replace(lengths=None)
    found, expected = results(cell, case), results(cell, case, "reference")
    for index, (part, wanted) in enumerate(zip(found.tensors, expected.tensors, strict=True)):
        finite = wanted.isfinite()
        assert_equal([part.isfinite()], [finite])
        kind = cell.kind if index < len(found.outputs) else "gradient"
        if finite.any():
            assert_close(part[finite], wanted[finite], dtype, kind)


@each_cell
@each_direction_with_everything
@each_dtype
def test_nan_in_one_row_stays_in_that_row(cell: Cell, variant: Variant, dtype: torch.dtype) -> None:
    case = odd_case(cell, variant, dtype)._replace(lengths=torch.tensor([3, 0, 5] * 3))
    row, others = 5, [0, 1, 2, 3, 4, 6, 7, 8]  # a whole row
    clean, found = results(cell, case), results(cell, put_into_x(NAN, 2, row)(case))

    def by_row(of: Results) -> list[torch.Tensor]:
        """All results that belong to rows, rows first."""
        assert of.gradients.static is not None
        in_time = [of.outputs[0].transpose(0, 1), of.gradients.x.transpose(0, 1)]
        return [*in_time, *of.outputs[1:], of.gradients.static, *of.gradients.state]

    for part, wanted in zip(by_row(found), by_row(clean), strict=True):
        assert torch.equal(part[others], wanted[others])
        assert part[row].isnan().any()
    assert all(grad.isnan().any() for grad in found.gradients.weights)


@each_cell
@each_direction_with_everything
def test_nan_in_the_state_of_a_row_that_takes_no_step_goes_to_its_final_state_alone(
    cell: Cell, variant: Variant
) -> None:
    clean = odd_case(cell, variant)._replace(lengths=torch.tensor([3, 0, 5] * 3))
    case = clean
    for part in range(len(clean.state)):
        case = put_into_state(NAN, part)(case)  # of row 4
    found, expected = results(cell, case), results(cell, clean)
    for part, given in zip(found.outputs[1:], case.state, strict=True):
        assert torch.equal(part[4].isnan(), given[4].isnan())
        part[4] = given[4].nan_to_num(0.0)
    for part, given in zip(expected.outputs[1:], case.state, strict=True):
        part[4] = given[4].nan_to_num(0.0)
    assert_equal(found.tensors, expected.tensors)


@each_cell
@each_direction_with_everything
@each_dtype
def test_nothing_past_a_rows_end_reaches_a_result(
    cell: Cell, variant: Variant, dtype: torch.dtype
) -> None:
    case = odd_case(cell, variant, dtype)
    assert case.lengths is not None
    past = (torch.arange(5)[:, None] >= case.lengths)[..., None]
    assert past.any()
    clean = case.requiring_gradients()
    unclean = case._replace(x=case.x.masked_fill(past, NAN)).requiring_gradients()
    (hidden, final), (expected, expected_final) = run_op(cell, unclean), run_op(cell, clean)
    assert_equal([hidden, *final], [expected, *expected_final])
    # Not even the gradient of the zeros that stand there.
    grads = [torch.randn_like(part) for part in (hidden, *final)]
    unclean_grads = [grads[0].masked_fill(past, NAN), *grads[1:]]
    found = torch.autograd.grad([hidden, *final], unclean.leaves, unclean_grads)
    wanted = torch.autograd.grad([expected, *expected_final], clean.leaves, grads)
    assert_equal(list(found), list(wanted))


# ---- Very large and very small numbers ----


def scaled(**factors: float) -> Callable[[Case], Case]:
    """The case with some of its tensors times a factor; `state` and `static` are names too."""

    def change(case: Case) -> Case:
        for name, factor in factors.items():
            if name == "state":
                case = case._replace(state=tuple(part * factor for part in case.state))
            elif name in ("x", "static"):
                case = case._replace(**{name: getattr(case, name) * factor})
            else:
                weight = getattr(case.weights, name) * factor
                case = case._replace(weights=case.weights._replace(**{name: weight}))
        return case

    return change


SCALES = {
    "large_x": scaled(x=1e30),
    "large_static_input": scaled(static=1e30),
    "large_state": scaled(state=1e30),
    "state_in_the_hundreds": scaled(state=400.0),
    "large_weights": scaled(w_hh=1e30, w_xh=1e30),
    "small_x": scaled(x=1e-30),
    "small_static_input": scaled(static=1e-30),
    "small_state": scaled(state=1e-30),
    "small_weights": scaled(w_hh=1e-30, w_xh=1e-30),
    # No smaller, so that gradients stay normal numbers: denormal ones have few digits to agree in.
    "small_everywhere": scaled(x=1e-20, static=1e-20, state=1e-20, w_hh=1e-10, w_xh=1e-10),
    # With three times that, rounding is enlarged so much at each step that the reference's own
    # float32 has an error of 1e-5.
    "saturated_gates": scaled(x=300.0, w_hh=10.0),
    "nearly_saturated_gates": scaled(x=15.0),
}


@each_cell
@each_direction_with_everything
@pytest.mark.parametrize("change", SCALES.values(), ids=SCALES)
@each_dtype
def test_very_large_and_very_small_numbers_give_the_references_values(
    cell: Cell, variant: Variant, change: Callable[[Case], Case], dtype: torch.dtype
) -> None:
    case = change(odd_case(cell, variant, dtype))
    found, expected = results(cell, case), results(cell, case, "reference")
    for index, (part, wanted) in enumerate(zip(found.tensors, expected.tensors, strict=True)):
        finite = wanted.isfinite()
        assert_equal([part.isfinite() & finite], [finite])
        kind = cell.kind if index < len(found.outputs) else "gradient"
        assert_close(part[finite], wanted[finite], dtype, kind, f"result {index}")
