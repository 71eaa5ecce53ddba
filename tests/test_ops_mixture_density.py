"""The op `mixture_density` as PyTorch sees it, on the reference backend."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from test_reference_mixture_density import make_rows
from tolerances import assert_close

import sketchrnn_fast
from sketchrnn_fast import ops
from sketchrnn_fast.reference import mixture_density as reference

FLOAT64 = torch.float64


@pytest.fixture(autouse=True)
def on_the_reference_backend() -> Any:
    with sketchrnn_fast.backend("reference"):
        yield


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
def test_opcheck(dtype: torch.dtype, save: bool) -> None:
    params, *others = make_rows(6, 3, dtype)
    torch.library.opcheck(
        torch.ops.sketchrnn_fast.mixture_density.default,
        (params.requires_grad_(save), *others, "reference", save),
    )


def test_two_backward_passes_give_the_same_gradient() -> None:
    params, *others = make_rows(6, 3)
    loss = sum(ops.mixture_density(params.requires_grad_(), *others)).sum()
    (first,) = torch.autograd.grad(loss, params, retain_graph=True)
    (second,) = torch.autograd.grad(loss, params)
    assert torch.equal(first, second)


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
