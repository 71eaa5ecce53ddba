"""The mixture density's loss and gradient: the original's formula, autograd, and the extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tolerances import assert_close

from sketchrnn_fast.reference.mixture_density import (
    LEAST_LOG_SIGMA,
    MOST_CORRELATION,
    mixture_density,
    mixture_density_gradient,
    split_parameters,
)

FLOAT64 = torch.float64


def make_rows(
    rows: int = 40, mixtures: int = 4, dtype: torch.dtype = FLOAT64, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random params [R, 6K+3], target [R, 5] and positive weights [R]."""
    generator = torch.Generator().manual_seed(seed)
    params = torch.randn(rows, 6 * mixtures + 3, generator=generator, dtype=FLOAT64)
    pen = torch.nn.functional.one_hot(torch.randint(0, 3, (rows,), generator=generator), 3)
    offset = torch.randn(rows, 2, generator=generator, dtype=FLOAT64)
    weights = torch.rand(2, rows, generator=generator, dtype=FLOAT64) + 0.1
    tensors = (params, torch.cat([offset, pen], -1), *weights)
    params, target, offset_weight, pen_weight = (tensor.to(dtype) for tensor in tensors)
    return params, target, offset_weight, pen_weight


def original_formula(
    params: torch.Tensor, target: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offset and pen loss of each row as the specification words them, without any care."""
    p, (x, y, *pen) = params.double().numpy(), target.double().numpy().T
    K = (p.shape[1] - 3) // 6
    logits, pi, mu1, mu2, s1, s2, corr = np.split(p, 3 + K * np.arange(6), axis=1)
    softmax_pi = np.exp(pi) / np.exp(pi).sum(1, keepdims=True)
    s1, s2, corr = np.exp(s1), np.exp(s2), np.tanh(corr)
    n1, n2, s12 = x[:, None] - mu1, y[:, None] - mu2, s1 * s2
    q = (n1 / s1) ** 2 + (n2 / s2) ** 2 - 2 * corr * n1 * n2 / s12
    r = 1 - corr**2
    density = np.exp(-q / (2 * r)) / (2 * np.pi * s12 * np.sqrt(r))
    offset = -np.log((softmax_pi * density).sum(1) + 1e-6)
    softmax_pen = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return offset, -(np.stack(pen, 1) * np.log(softmax_pen)).sum(1)


@pytest.mark.parametrize("mixtures", [1, 3, 20])
def test_the_loss_equals_the_originals_formula(mixtures: int) -> None:
    params, target, offset_weight, pen_weight = make_rows(200, mixtures)
    offset, pen = mixture_density(params, target, offset_weight, pen_weight)
    expected_offset, expected_pen = original_formula(params, target)
    assert_close(offset, expected_offset * offset_weight.numpy(), FLOAT64)
    assert_close(pen, expected_pen * pen_weight.numpy(), FLOAT64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_less_exact_dtypes_lose_float32s_precision_at_most(dtype: torch.dtype) -> None:
    params, target, offset_weight, pen_weight = make_rows(200, 20, dtype)
    offset, pen = mixture_density(params, target, offset_weight, pen_weight)
    assert offset.dtype == pen.dtype == torch.float32
    expected_offset, expected_pen = original_formula(params, target)
    assert_close(offset, expected_offset * offset_weight.double().numpy(), torch.float32)
    assert_close(pen, expected_pen * pen_weight.double().numpy(), torch.float32)


def test_the_offset_loss_is_capped_by_the_originals_epsilon() -> None:
    params, target, offset_weight, pen_weight = make_rows(5)
    target[:, :2] = 1e4
    offset, _ = mixture_density(params, target, torch.ones_like(offset_weight), pen_weight)
    assert_close(offset, np.full(5, -math.log(1e-6)), FLOAT64)


def test_gradcheck_of_the_reference() -> None:
    params, *others = make_rows(6, 3)
    assert torch.autograd.gradcheck(
        lambda params: mixture_density(params, *others), params.requires_grad_()
    )


def gradient_by_autograd(
    params: torch.Tensor, *others: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses, and the gradient of their sum."""
    params = params.detach().clone().requires_grad_()
    offset, pen = mixture_density(params, *others)
    (gradient,) = torch.autograd.grad((offset + pen).sum(), params)
    return (offset + pen).detach(), gradient


@pytest.mark.parametrize("mixtures", [1, 3, 20])
def test_the_gradient_written_out_equals_autograd(mixtures: int) -> None:
    rows = make_rows(100, mixtures)
    _, expected = gradient_by_autograd(*rows)
    assert_close(mixture_density_gradient(*rows), expected, FLOAT64, "gradient")


def test_the_gradient_of_the_pen_loss_stands_in_the_first_three_columns() -> None:
    params, target, offset_weight, pen_weight = make_rows(10)
    nothing = torch.zeros_like(offset_weight)
    pen_only = mixture_density_gradient(params, target, nothing, pen_weight)
    offset_only = mixture_density_gradient(params, target, offset_weight, nothing)
    assert (pen_only[:, 3:] == 0).all()
    assert (pen_only[:, :3] != 0).any()
    assert (offset_only[:, :3] == 0).all()
    assert (offset_only[:, 3:] != 0).all()


def test_a_soft_pen_target_has_the_gradient_of_its_own_sum() -> None:
    """A target of no pen state at all, as a padded row of zeros, costs nothing."""
    params, target, offset_weight, pen_weight = make_rows(10)
    target[:, 2:] = 0
    _, pen = mixture_density(params, target, offset_weight, pen_weight)
    gradient = mixture_density_gradient(params, target, offset_weight, pen_weight)
    assert (pen == 0).all()
    assert (gradient[:, :3] == 0).all()


EXTREMES = {
    "vanishing sigma": {"log_sigma_x": -1000.0, "log_sigma_y": -1000.0},
    "vanishing sigma of x": {"log_sigma_x": -1000.0},
    "huge sigma": {"log_sigma_x": 80.0, "log_sigma_y": 80.0},
    "correlation one": {"correlation": 50.0},
    "correlation minus one": {"correlation": -50.0},
    "all at once": {"log_sigma_x": -1000.0, "log_sigma_y": -1000.0, "correlation": -50.0},
    "certain mixture": {"pi_logits": 1e4, "pen_logits": -1e4},
}


def with_extremes(params: torch.Tensor, values: dict[str, float]) -> torch.Tensor:
    """The first Gaussian (or pen state) of every row set to extreme values."""
    params = params.clone()
    columns = split_parameters(params)
    for name, value in values.items():
        getattr(columns, name)[:, 0] = value
    return params


@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64], ids=str)
@pytest.mark.parametrize("at_the_mean", [False, True])
@pytest.mark.parametrize("values", EXTREMES.values(), ids=EXTREMES)
def test_extreme_parameters_give_finite_losses_and_gradients(
    values: dict[str, float], at_the_mean: bool, dtype: torch.dtype
) -> None:
    params, target, *weights = make_rows(30, 3, dtype)
    params = with_extremes(params, values)
    if at_the_mean:
        columns = split_parameters(params)
        target[:, 0], target[:, 1] = columns.mean_x[:, 0], columns.mean_y[:, 0]
    loss, by_autograd = gradient_by_autograd(params, target, *weights)
    gradient = mixture_density_gradient(params, target, *weights)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    assert by_autograd.isfinite().all()
    assert_close(gradient, by_autograd, dtype, "gradient")


@pytest.mark.parametrize("offset", [1e3, 1e5, -1e5])
@pytest.mark.parametrize("values", [{}, *EXTREMES.values()], ids=["ordinary", *EXTREMES])
def test_huge_offsets_give_finite_losses_and_gradients(
    values: dict[str, float], offset: float
) -> None:
    params, target, *weights = make_rows(30, 3, torch.float32)
    target[:, :2] = torch.tensor([offset, -offset])
    params = with_extremes(params, values)
    loss, by_autograd = gradient_by_autograd(params, target, *weights)
    assert loss.isfinite().all()
    assert by_autograd.isfinite().all()
    assert mixture_density_gradient(params, target, *weights).isfinite().all()


def test_no_gradient_flows_beyond_the_guards() -> None:
    params, target, *weights = make_rows(20, 1)
    columns = split_parameters(params)
    columns.log_sigma_x[:] = LEAST_LOG_SIGMA - 1
    columns.correlation[:] = MOST_CORRELATION + 1
    target[:, 0] = columns.mean_x[:, 0]
    target[:, 1] = columns.mean_y[:, 0]
    gradient = split_parameters(mixture_density_gradient(params, target, *weights))
    assert (gradient.log_sigma_x == 0).all()
    assert (gradient.correlation == 0).all()
    assert (gradient.log_sigma_y != 0).all()


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_a_row_of_weight_zero_has_loss_and_gradient_zero_whatever_it_holds(poison: float) -> None:
    params, target, offset_weight, pen_weight = make_rows(10)
    params[3:5] = poison
    offset_weight[3:5] = pen_weight[3:5] = 0
    offset, pen = mixture_density(params, target, offset_weight, pen_weight)
    loss, by_autograd = gradient_by_autograd(params, target, offset_weight, pen_weight)
    gradient = mixture_density_gradient(params, target, offset_weight, pen_weight)
    for tensor in (offset, pen, by_autograd, gradient):
        assert (tensor[3:5] == 0).all()
        assert tensor.isfinite().all()
    assert (loss[:3] != 0).all()


def test_each_weight_hides_its_own_columns_alone() -> None:
    params, target, offset_weight, pen_weight = make_rows(4)
    params[0, :3] = float("nan")
    pen_weight[0] = 0
    params[1, 3:] = float("nan")
    offset_weight[1] = 0
    offset, pen = mixture_density(params, target, offset_weight, pen_weight)
    assert offset.isfinite().all()
    assert pen.isfinite().all()
    assert mixture_density_gradient(params, target, offset_weight, pen_weight).isfinite().all()


@pytest.mark.parametrize("column", range(9))
def test_nan_in_is_nan_out(column: int) -> None:
    params, target, *weights = make_rows(4, 1)
    params[2, column] = float("nan")
    offset, pen = mixture_density(params, target, *weights)
    gradient = mixture_density_gradient(params, target, *weights)
    if column < 3:
        assert pen[2].isnan()
    elif column == 3:  # the logit of the only Gaussian: softmax of NaN
        assert offset[2].isnan()
    else:
        assert offset[2].isnan()
    assert gradient[2].isnan().any()
    others = [0, 1, 3]
    assert (offset + pen)[others].isfinite().all()
    assert gradient[others].isfinite().all()
