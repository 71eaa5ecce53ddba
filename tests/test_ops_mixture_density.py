"""The op `mixture_density` as PyTorch sees it, on each backend, and its kernels.

The backends are those of a CPU, or, under TRITON_INTERPRET=1, Triton: test_triton_mixture_density
runs this file that way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from test_reference_mixture_density import EXTREMES, make_rows, with_extremes
from tolerances import assert_close

import sketchrnn_fast
from sketchrnn_fast import _native, ops
from sketchrnn_fast.ops import backends
from sketchrnn_fast.ops import native as native_backend
from sketchrnn_fast.reference import mixture_density as reference

FLOAT64 = torch.float64
NAN = float("nan")

INTERPRETED = backends.interpreted(torch.device("cpu"))
KERNELS = "triton" if INTERPRETED else "native"
MANY = 100 if INTERPRETED else 1000  # rows: the interpreter is slow


@pytest.fixture(autouse=True, params=[KERNELS] if INTERPRETED else ["reference", KERNELS])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with sketchrnn_fast.backend(request.param):
        yield request.param


kernels_only = pytest.mark.parametrize("backend", [KERNELS], indirect=True)
native_only = pytest.mark.parametrize("backend", ["native"], indirect=True)


def test_the_op_equals_the_reference_with_its_gradient() -> None:
    params, *others = make_rows(50, 5)
    results = []
    for function in (ops.mixture_density, reference.mixture_density):
        leaf = params.clone().requires_grad_()
        offset, pen = function(leaf, *others)
        # Different factors for the two losses, and for each row.
        factors = torch.linspace(-1, 2, 100, dtype=FLOAT64).view(2, 50)
        (gradient,) = torch.autograd.grad((offset * factors[0] + pen * factors[1]).sum(), leaf)
        results.append((offset, pen, gradient))
    (offset, pen, gradient), (expected_offset, expected_pen, expected_gradient) = results
    assert_close(offset, expected_offset, FLOAT64)
    assert_close(pen, expected_pen, FLOAT64)
    assert_close(gradient, expected_gradient, FLOAT64, "gradient")


def test_gradcheck_of_the_op() -> None:
    params, *others = make_rows(6, 3)
    assert torch.autograd.gradcheck(
        lambda params: ops.mixture_density(params, *others), params.requires_grad_()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("save", [False, True])
def test_opcheck(dtype: torch.dtype, save: bool, backend: str) -> None:
    params, *others = make_rows(6, 3, dtype)
    torch.library.opcheck(
        torch.ops.sketchrnn_fast.mixture_density.default,
        (params.requires_grad_(save), *others, backend, save),
    )


def test_opcheck_of_the_backward_op(backend: str) -> None:
    gradient, _, grad_offset, grad_pen = make_rows(6, 3, torch.float32)
    torch.library.opcheck(
        torch.ops.sketchrnn_fast.mixture_density_backward.default,
        (grad_offset, grad_pen, gradient, backend),
    )


def test_two_backward_passes_give_the_same_gradient() -> None:
    params, *others = make_rows(6, 3)
    loss = sum(ops.mixture_density(params.requires_grad_(), *others)).sum()
    (first,) = torch.autograd.grad(loss, params, retain_graph=True)
    (second,) = torch.autograd.grad(loss, params)
    assert torch.equal(first, second)


def test_a_loss_that_nobody_differentiates_has_no_part_in_the_gradient() -> None:
    params, *others = make_rows(6, 3)
    params.requires_grad_()
    (by_offset,) = torch.autograd.grad(ops.mixture_density(params, *others)[0].sum(), params)
    (by_pen,) = torch.autograd.grad(ops.mixture_density(params, *others)[1].sum(), params)
    gradient = reference.mixture_density_gradient(params.detach(), *others)
    assert (by_offset[:, :3] == 0).all()
    assert (by_pen[:, 3:] == 0).all()
    assert_close(by_offset + by_pen, gradient, FLOAT64, "gradient")


def test_inputs_need_not_be_contiguous() -> None:
    params, *others = make_rows(6, 3)
    expected = ops.mixture_density(params, *others)
    found = ops.mixture_density(params.T.contiguous().T, others[0].T.contiguous().T, *others[1:])
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_half_precision_gives_float32_losses_and_a_gradient_of_the_params_dtype() -> None:
    params, *others = make_rows(6, 3, torch.bfloat16)
    offset, pen = ops.mixture_density(params.requires_grad_(), *others)
    assert offset.dtype == pen.dtype == torch.float32
    (gradient,) = torch.autograd.grad((offset + pen).sum(), params)
    assert gradient.dtype == torch.bfloat16
    exact = [tensor.detach().double() for tensor in (params, *others)]
    expected = reference.mixture_density_gradient(exact[0], exact[1], exact[2], exact[3])
    assert_close(gradient, expected, torch.bfloat16, "gradient")


def call(**changes: torch.Tensor) -> Any:
    names = ("params", "target", "offset_weight", "pen_weight")
    arguments = dict(zip(names, make_rows(4, 2, torch.float32), strict=True))
    return lambda: ops.mixture_density(**{**arguments, **changes})


BAD_ARGUMENTS = [
    *(
        (
            call(params=torch.zeros(shape)),
            f"mixture_density: params has shape {list(shape)}; it takes [R, 6K+3] for K Gaussians",
        )
        for shape in ((4,), (4, 3), (4, 14), (2, 2, 15))
    ),
    (
        call(target=torch.zeros(4, 3)),
        "mixture_density: target has shape [4, 3]; it takes [4, 5]",
    ),
    (
        call(target=torch.zeros(3, 5)),
        "mixture_density: target has shape [3, 5]; it takes [4, 5]",
    ),
    (
        call(offset_weight=torch.zeros(4, 1)),
        "mixture_density: offset_weight has shape [4, 1]; it takes [4]",
    ),
    (
        call(pen_weight=torch.zeros(3)),
        "mixture_density: pen_weight has shape [3]; it takes [4]",
    ),
    *(
        (
            call(**{name: torch.zeros(shape, requires_grad=True)}),
            "mixture_density: only params has a gradient; detach the other arguments",
        )
        for name, shape in (("target", (4, 5)), ("offset_weight", (4,)), ("pen_weight", (4,)))
    ),
]


@pytest.mark.parametrize(("call", "sentence"), BAD_ARGUMENTS)
def test_a_bad_argument_is_one_clear_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        call()


def test_a_second_derivative_is_refused() -> None:
    params = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)
    target, ones = torch.zeros(3, 5, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    offset, pen = ops.mixture_density(params, target, ones, ones)
    (gradient,) = torch.autograd.grad((offset + pen).sum(), params, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        (gradient**2).sum().backward()


@pytest.mark.parametrize(("mean", "log_sigma", "corr"), [(1e30, 0.0, 0.0), (1e8, -30.0, 20.0)])
def test_a_gaussian_too_far_away_has_no_gradient_instead_of_nan(
    mean: float, log_sigma: float, corr: float
) -> None:
    """Its share in the density is 0 while the factors overflow."""
    far = torch.tensor([mean, mean, log_sigma, log_sigma, corr])
    near = torch.zeros(5)
    columns = torch.stack([far, near], dim=1).flatten()
    params = torch.cat([torch.zeros(5), columns])[None].requires_grad_()
    target, one = torch.tensor([[0.1, 0.2, 1.0, 0.0, 0.0]]), torch.ones(1)
    offset, _ = ops.mixture_density(params, target, one, one)
    offset.sum().backward()
    assert torch.isfinite(params.grad).all()
    assert (params.grad[0, 5::2] == 0).all()
    assert (params.grad[0, 6::2] != 0).all()


# ---- The kernels against the reference ----


def run(
    params: torch.Tensor, *others: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both losses, and the gradient of their sum."""
    params = params.detach().clone().requires_grad_()
    offset, pen = ops.mixture_density(params, *others)
    (gradient,) = torch.autograd.grad((offset + pen).sum(), params)
    return offset.detach(), pen.detach(), gradient


def exact(*rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `run` must give, by the reference in float64."""
    params, target, *weights = (tensor.double() for tensor in rows)
    gradient = reference.mixture_density_gradient(params, target, *weights)
    return (*reference.mixture_density(params, target, *weights), gradient)


def assert_as_exact(rows: tuple[torch.Tensor, ...]) -> None:
    offset, pen, gradient = run(*rows)
    expected_offset, expected_pen, expected_gradient = exact(*rows)
    dtype = rows[0].dtype
    assert offset.dtype == pen.dtype == gradient.dtype == dtype
    assert_close(offset, expected_offset, dtype, what="offset loss")
    assert_close(pen, expected_pen, dtype, what="pen loss")
    assert_close(gradient, expected_gradient, dtype, "gradient", what="gradient")


@kernels_only
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64], ids=str)
@pytest.mark.parametrize("rows", [0, 1, 7, MANY])
@pytest.mark.parametrize("mixtures", [1, 2, 3, 5, 20, 33])
def test_the_kernels_equal_the_reference_in_float64(
    mixtures: int, rows: int, dtype: torch.dtype
) -> None:
    assert_as_exact(make_rows(rows, mixtures, dtype))


@kernels_only
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_only_how_parameters_and_gradients_are_stored(dtype: torch.dtype) -> None:
    params, *others = make_rows(30, 5, dtype)
    offset, pen, gradient = run(params, *others)
    expected_offset, expected_pen, expected_gradient = exact(params, *others)
    assert_close(offset, expected_offset, torch.float32)
    assert_close(pen, expected_pen, torch.float32)
    assert_close(gradient, expected_gradient, dtype, "gradient")


@kernels_only
def test_the_target_and_the_weights_may_be_more_exact_than_the_parameters() -> None:
    rows = make_rows(30, 5, torch.float32)
    expected = run(*rows)
    found = run(rows[0], *(tensor.double() for tensor in rows[1:]))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@kernels_only
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64], ids=str)
@pytest.mark.parametrize("mixtures", [1, 3, 20])
def test_rows_of_weight_zero_are_left_out_whatever_they_hold(
    mixtures: int, dtype: torch.dtype
) -> None:
    rows = make_rows(200, mixtures, dtype)
    params, _, offset_weight, pen_weight = rows
    generator = torch.Generator().manual_seed(1)
    offset_hidden, pen_hidden = torch.rand(2, 200, generator=generator) < 0.5
    offset_weight[offset_hidden], pen_weight[pen_hidden] = 0, 0
    expected = run(*rows)
    params[offset_hidden, 3:] = NAN
    params[pen_hidden, :3] = NAN
    offset, pen, gradient = run(*rows)
    assert all(
        torch.equal(one, other)
        for one, other in zip((offset, pen, gradient), expected, strict=True)
    )
    assert (offset[offset_hidden] == 0).all()
    assert (pen[pen_hidden] == 0).all()
    assert (gradient[offset_hidden, 3:] == 0).all()
    assert (gradient[pen_hidden, :3] == 0).all()
    assert_as_exact(rows)


@kernels_only
@pytest.mark.parametrize("column", range(9))
def test_nan_in_is_nan_out_in_that_row_alone(column: int) -> None:
    rows = make_rows(40, 1)
    expected = run(*rows)
    rows[0][17, column] = NAN
    found = run(*rows)
    assert found[1 if column < 3 else 0][17].isnan()
    mine = slice(0, 3) if column < 3 else slice(3, None)
    assert found[2][17, mine].isnan().all()
    others = torch.arange(40) != 17
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one[others], other[others])


@kernels_only
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64], ids=str)
@pytest.mark.parametrize("at_the_mean", [False, True])
@pytest.mark.parametrize("values", EXTREMES.values(), ids=EXTREMES)
def test_extreme_parameters_are_finite_and_in_float64_as_the_reference(
    values: dict[str, float], at_the_mean: bool, dtype: torch.dtype
) -> None:
    params, target, *weights = make_rows(30, 3, dtype)
    params = with_extremes(params, values)
    if at_the_mean:
        columns = reference.split_parameters(params)
        target[:, 0], target[:, 1] = columns.mean_x[:, 0], columns.mean_y[:, 0]
    rows = (params, target, *weights)
    assert all(result.isfinite().all() for result in run(*rows))
    if dtype == FLOAT64:
        assert_as_exact(rows)


@kernels_only
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64], ids=str)
@pytest.mark.parametrize("distance", [1e3, 1e5, 1e15])
@pytest.mark.parametrize("values", [{}, *EXTREMES.values()], ids=["ordinary", *EXTREMES])
def test_far_targets_cost_the_epsilon_and_have_hardly_a_gradient(
    values: dict[str, float], distance: float, dtype: torch.dtype
) -> None:
    params, target, *weights = make_rows(30, 3, dtype)
    target[:, :2] = torch.tensor([distance, -distance])
    params = with_extremes(params, values)
    offset, pen, gradient = run(params, target, *weights)
    expected = exact(params, target, *weights)
    assert_close(offset, expected[0], dtype)
    assert_close(pen, expected[1], dtype)
    assert_close(gradient, expected[2], dtype, "gradient")
    assert (gradient[:, 3:].abs() < 1e-30).all()


@kernels_only
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64], ids=str)
def test_no_gradient_flows_beyond_the_guards(dtype: torch.dtype) -> None:
    params, target, *weights = make_rows(20, 1, dtype)
    columns = reference.split_parameters(params)
    columns.log_sigma_x[:] = reference.LEAST_LOG_SIGMA - 1
    columns.correlation[:] = reference.MOST_CORRELATION + 1
    target[:, 0], target[:, 1] = columns.mean_x[:, 0], columns.mean_y[:, 0]
    gradient = reference.split_parameters(run(params, target, *weights)[2])
    assert (gradient.log_sigma_x == 0).all()
    assert (gradient.correlation == 0).all()
    assert (gradient.log_sigma_y != 0).all()


def kernels_of(backend: str) -> tuple[Any, Any]:
    """The kernels below the op, forward and backward, which fill what they are given."""
    if backend == "triton":
        from sketchrnn_fast.kernels import mixture_density as kernels

        return kernels.mixture_density, kernels.mixture_density_backward
    return (
        lambda *tensors: _native.mixture_density(*tensors, 1),
        lambda *tensors: _native.mixture_density_backward(*tensors, 1),
    )


@kernels_only
@pytest.mark.parametrize("save", [False, True])
@pytest.mark.parametrize(("rows", "mixtures"), [(1, 1), (33, 2), (33, 20), (MANY, 5)])
def test_every_element_of_every_result_is_written(
    rows: int, mixtures: int, save: bool, backend: str
) -> None:
    forward, backward = kernels_of(backend)
    params, target, offset_weight, pen_weight = make_rows(rows, mixtures, torch.float32)
    offset_weight[::3], pen_weight[::2] = 0, 0
    arguments = (params, target, offset_weight, pen_weight)
    # Guards around each result, which must stay as they are.
    results = [torch.full((size + 64,), NAN) for size in (rows, rows, params.numel())]
    offset, pen, gradient = (result[32:-32] for result in results)
    gradient = gradient.view_as(params)
    forward(*arguments, offset, pen, gradient if save else None)
    assert offset.isfinite().all()
    assert pen.isfinite().all()
    assert gradient.isfinite().all() if save else gradient.isnan().all()
    if save:
        again = torch.full((params.numel() + 64,), NAN)
        backward(offset_weight, pen_weight, gradient, again[32:-32].view_as(params))
        assert again[32:-32].isfinite().all()
        results.append(again)
    for result in results:
        assert result[:32].isnan().all()
        assert result[-32:].isnan().all()


@native_only
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64], ids=str)
def test_the_results_do_not_depend_on_the_threads_or_the_run(dtype: torch.dtype) -> None:
    rows = make_rows(2003, 20, dtype)
    rows[2][::5] = 0
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            results.append(run(*rows))
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(results[0], others, strict=True))


@kernels_only
def test_a_row_does_not_depend_on_its_neighbours() -> None:
    rows = make_rows(50, 7, torch.float32)
    expected = run(*rows)
    for first, end in ((3, 4), (10, 33)):
        found = run(*(tensor[first:end] for tensor in rows))
        assert all(
            torch.equal(one, other[first:end]) for one, other in zip(found, expected, strict=True)
        )


@native_only
def test_a_large_gradient_comes_from_the_kernels_memory_and_survives_the_next_call() -> None:
    rows = make_rows(3000, 20, torch.float32)
    assert rows[0].nbytes > native_backend._POOLED_BYTES
    kept = run(*rows)
    copies = [result.clone() for result in kept]
    run(*make_rows(3000, 20, torch.float32, seed=1))
    assert all(torch.equal(one, other) for one, other in zip(kept, copies, strict=True))


@native_only
@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("params", torch.zeros(4, 14), "params has shape [4, 14]; it must be float32 or float64"),
        ("target", torch.zeros(4, 4), "target is float32 [4, 4]; it must be float32 [4, 5]"),
        (
            "pen_weight",
            torch.zeros(4).double(),
            "pen_weight is float64 [4]; it must be float32 [4]",
        ),
        ("gradient", torch.zeros(15, 4).T, "gradient is not contiguous; it must be"),
    ],
)
def test_the_kernels_refuse_tensors_that_do_not_fit(
    name: str, wrong: torch.Tensor, sentence: str
) -> None:
    params, target, offset_weight, pen_weight = make_rows(4, 2, torch.float32)
    arguments: dict[str, Any] = {
        "params": params,
        "target": target,
        "offset_weight": offset_weight,
        "pen_weight": pen_weight,
        "offset": torch.empty(4),
        "pen": torch.empty(4),
        "gradient": torch.empty_like(params),
        "threads": 1,
    }
    with pytest.raises(ValueError, match=re.escape(f"mixture_density: {sentence}")):
        _native.mixture_density(**{**arguments, name: wrong})
