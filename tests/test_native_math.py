"""The kernels' exp, log, sigmoid and tanh: their error, their special values, and their tails.

An error counts in units in the last place of the exact result, or passes below an absolute bound:
at most 2 units or 1e-6 for float32, 4 units or 1e-15 for float64. Measured over every float32
(pytest -m slow tests/test_native_math.py): exp 1.01 units, log 0.85 units; sigmoid 9e-8 and tanh
3.1e-7, absolute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from sketchrnn_fast import _native

Array = NDArray[Any]

EXACT: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "log": np.log,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
BOUNDS = {np.float32: (2.0, 1e-6), np.float64: (4.0, 1e-15)}

functions = pytest.mark.parametrize("name", EXACT)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def assert_within_bounds(found: Array, exact: Array) -> None:
    """Finite results against exact ones of a wider type; the others must agree exactly."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = exact.astype(found.dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    found, exact, rounded = found[finite], exact[finite], rounded[finite]
    units, absolute = BOUNDS[found.dtype.type]
    error = np.abs(found.astype(exact.dtype) - exact)
    bound = np.maximum(units * np.spacing(np.abs(rounded)).astype(exact.dtype), absolute)
    assert np.isfinite(found).all()
    worst = np.argmax(error / bound) if error.size else 0
    assert (error <= bound).all(), f"{found[worst]} where {exact[worst]} is exact"


def assert_right_for_patterns(name: str, patterns: Array) -> None:
    """The function of the float32 numbers that have these bit patterns."""
    x = patterns.view(np.float32)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64))
    assert_within_bounds(_native.vector_function(name, x), exact)


@functions
def test_float32_is_within_the_bounds_over_the_whole_range(name: str) -> None:
    assert_right_for_patterns(name, np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32))


@pytest.mark.slow
@functions
def test_every_float32_is_within_the_bounds(name: str) -> None:
    count = 2**22
    for first in range(0, 2**32, count):
        assert_right_for_patterns(name, np.arange(first, first + count, dtype=np.uint32))


def sampled_float64(name: str) -> Array:
    """Numbers over the whole range of float64, denormal ones too, and over the function's own."""
    generator = np.random.default_rng(0)
    patterns = generator.integers(0, 2**64, 2000, dtype=np.uint64)
    anywhere = patterns.view(np.float64)
    width = {"exp": 750, "log": 3, "sigmoid": 40, "tanh": 20}[name]
    own = generator.uniform(-width, width, 2000)
    return np.concatenate([anywhere[np.isfinite(anywhere)], own, own * 1e-3, 1 + own * 1e-9])


def exact_float64(name: str, x: float) -> mpmath.mpf:
    with mpmath.workprec(2200):  # sigmoid adds 1 to numbers as small as e^-710
        value = mpmath.mpf(x)
        if name == "log":
            return mpmath.log(value)
        if abs(value) > 1000:  # beyond all thresholds, where mpmath would take long
            value = mpmath.sign(value) * 1000
        return {"exp": mpmath.exp, "tanh": mpmath.tanh}.get(
            name, lambda v: 1 / (1 + mpmath.exp(-v))
        )(value)


@functions
def test_float64_is_within_the_bounds(name: str) -> None:
    x = sampled_float64(name)
    if name == "log":
        x = x[x > 0]
    found = _native.vector_function(name, x)
    units, absolute = BOUNDS[np.float64]
    for value, result in zip(x.tolist(), found.tolist(), strict=True):
        exact = exact_float64(name, value)
        rounded = float(exact)
        if not np.isfinite(rounded):
            assert result == rounded
            continue
        bound = max(units * np.spacing(abs(rounded)), absolute)
        assert abs(mpmath.mpf(result) - exact) <= bound, f"{name}({value}) = {result}"


INFINITY, NAN = np.inf, np.nan
SPECIAL = [
    ("exp", 0.0, 1.0),
    ("exp", -INFINITY, 0.0),
    ("exp", INFINITY, INFINITY),
    ("exp", -1e30, 0.0),
    ("exp", 1e30, INFINITY),
    ("log", 1.0, 0.0),
    ("log", 0.0, -INFINITY),
    ("log", -0.0, -INFINITY),
    ("log", INFINITY, INFINITY),
    ("log", -1.0, NAN),
    ("log", -1e-40, NAN),
    ("log", -INFINITY, NAN),
    ("sigmoid", 0.0, 0.5),
    ("sigmoid", -INFINITY, 0.0),
    ("sigmoid", INFINITY, 1.0),
    ("tanh", 0.0, 0.0),
    *((name, NAN, NAN) for name in EXACT),
]


@dtypes
@pytest.mark.parametrize(("name", "x", "expected"), SPECIAL)
def test_special_values(name: str, x: float, expected: float, dtype: Any) -> None:
    found = _native.vector_function(name, np.full(3, x, dtype))
    np.testing.assert_array_equal(found, np.full(3, expected, dtype))


@dtypes
def test_tanh_approaches_one_and_does_not_pass_it(dtype: Any) -> None:
    x = np.concatenate([np.linspace(0, 30, 100_001), [1e30, np.inf]]).astype(dtype)
    for sign in (-1, 1):
        found = sign * _native.vector_function("tanh", sign * x)
        assert (found <= 1).all()
        assert_within_bounds(found, np.tanh(x.astype(np.longdouble)))


@dtypes
def test_denormal_numbers_are_not_lost(dtype: Any) -> None:
    least = np.finfo(dtype).smallest_subnormal
    denormals = np.array([least, 3 * least, np.finfo(dtype).tiny / 2], dtype)
    exact = np.log(denormals.astype(np.longdouble))
    np.testing.assert_allclose(_native.vector_function("log", denormals), exact, rtol=1e-6)
    found = _native.vector_function("exp", np.log(denormals[1:]))
    assert (found > 0).all()
    assert (found < np.finfo(dtype).tiny).all()


@dtypes
def test_exp_flushed_is_exp_with_zeros_for_its_denormal_results(dtype: Any) -> None:
    least = {np.float32: -87.0, np.float64: -708.0}[dtype]
    x = np.concatenate([np.linspace(-800, 88, 100_001), [least, -np.inf, np.nan]]).astype(dtype)
    expected = np.where(x < least, dtype(0), _native.vector_function("exp", x))
    np.testing.assert_array_equal(_native.vector_function("exp_flushed", x), expected)


@dtypes
@functions
@pytest.mark.parametrize("length", range(41))
def test_an_elements_result_does_not_depend_on_its_place(
    length: int, name: str, dtype: Any
) -> None:
    x = np.linspace(0.1, 5, 41).astype(dtype)
    whole = _native.vector_function(name, x)
    found = _native.vector_function(name, x[:length])
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, whole[:length])


def test_strided_values_are_read_as_they_are() -> None:
    x = np.linspace(0.1, 5, 20, dtype=np.float32)
    whole = _native.vector_function("log", x)
    np.testing.assert_array_equal(_native.vector_function("log", x[::-3]), whole[::-3])


def test_a_bad_argument_is_one_clear_sentence() -> None:
    with pytest.raises(
        ValueError, match=r"^vector_function: name is cos; there are exp, exp_flushed, log, "
    ):
        _native.vector_function("cos", np.zeros(3, np.float32))
    for values, what in (
        (np.zeros(3, np.int32), "int32 and 1"),
        (np.zeros((2, 3)), "float64 and 2"),
    ):
        with pytest.raises(ValueError, match=f"^vector_function: values has dtype {what} dim"):
            _native.vector_function("exp", values)
