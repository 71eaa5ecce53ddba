"""The op `mixture_density`: the negative log-likelihood of strokes, with its gradient.

The gradient of each row is made in the forward pass, beside the loss, where everything that it
needs is at hand; the backward pass only scales it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sketchrnn_fast.ops import backends, native
from sketchrnn_fast.reference import mixture_density as reference
from sketchrnn_fast.reference.sequence import compute_dtype

if native.INSTALLED:
    from sketchrnn_fast import _native


class Implementation(NamedTuple):
    """One backend's share in the op.

    Attributes:
        forward: from params, target, both weights, and whether the gradient is wanted, to the
            losses and the gradient (an empty tensor if it is not).
        backward: from the gradients of both losses, and the gradient that forward gave, to the
            gradient of params in the dtype of the computation.
    """

    forward: Callable[[Tensor, Tensor, Tensor, Tensor, bool], tuple[Tensor, Tensor, Tensor]]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]


def _reference_forward(
    params: Tensor, target: Tensor, offset_weight: Tensor, pen_weight: Tensor, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    offset, pen = reference.mixture_density(params, target, offset_weight, pen_weight)
    if not save:
        return offset, pen, offset.new_empty(0)
    gradient = reference.mixture_density_gradient(params, target, offset_weight, pen_weight)
    return offset, pen, gradient


def _reference_backward(grad_offset: Tensor, grad_pen: Tensor, gradient: Tensor) -> Tensor:
    pen, offset = gradient.split([3, gradient.shape[1] - 3], dim=-1)
    return torch.cat([grad_pen[:, None] * pen, grad_offset[:, None] * offset], dim=-1)


def _native_forward(
    params: Tensor, target: Tensor, offset_weight: Tensor, pen_weight: Tensor, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = compute_dtype(params.dtype)
    wide = params.to(dtype)
    offset, pen = wide.new_empty(params.shape[0]), wide.new_empty(params.shape[0])
    gradient = native.empty(params.shape, dtype) if save else None
    _native.mixture_density(
        wide,
        target.to(dtype),
        offset_weight.to(dtype),
        pen_weight.to(dtype),
        offset,
        pen,
        gradient,
        torch.get_num_threads(),
    )
    return offset, pen, wide.new_empty(0) if gradient is None else gradient


def _native_backward(grad_offset: Tensor, grad_pen: Tensor, gradient: Tensor) -> Tensor:
    grad_params = native.empty(gradient.shape, gradient.dtype)
    _native.mixture_density_backward(
        grad_offset, grad_pen, gradient, grad_params, torch.get_num_threads()
    )
    return grad_params


def _triton_forward(
    params: Tensor, target: Tensor, offset_weight: Tensor, pen_weight: Tensor, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    from sketchrnn_fast.kernels import mixture_density as kernels

    rows, dtype = params.shape[0], compute_dtype(params.dtype)
    offset, pen = (params.new_empty(rows, dtype=dtype) for _ in range(2))
    gradient = torch.empty_like(params, dtype=dtype) if save else None
    kernels.mixture_density(params, target, offset_weight, pen_weight, offset, pen, gradient)
    return offset, pen, offset.new_empty(0) if gradient is None else gradient


def _triton_backward(grad_offset: Tensor, grad_pen: Tensor, gradient: Tensor) -> Tensor:
    from sketchrnn_fast.kernels import mixture_density as kernels

    grad_params = torch.empty_like(gradient)
    kernels.mixture_density_backward(grad_offset, grad_pen, gradient, grad_params)
    return grad_params


backends.register(
    "mixture_density", "reference", Implementation(_reference_forward, _reference_backward)
)
if backends.TRITON_INSTALLED:
    backends.register(
        "mixture_density", "triton", Implementation(_triton_forward, _triton_backward)
    )
if native.INSTALLED:
    backends.register(
        "mixture_density", "native", Implementation(_native_forward, _native_backward)
    )


@torch.library.custom_op("sketchrnn_fast::mixture_density", mutates_args=())
def _mixture_density(
    params: Tensor,
    target: Tensor,
    offset_weight: Tensor,
    pen_weight: Tensor,
    backend: str,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    implementation: Implementation = backends.implementation("mixture_density", backend)
    return implementation.forward(params, target, offset_weight, pen_weight, save)


@_mixture_density.register_fake
def _(
    params: Tensor,
    target: Tensor,
    offset_weight: Tensor,
    pen_weight: Tensor,
    backend: str,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = compute_dtype(params.dtype)
    rows = params.shape[0]
    gradient = params.new_empty(params.shape if save else (0,), dtype=dtype)
    return params.new_empty(rows, dtype=dtype), params.new_empty(rows, dtype=dtype), gradient


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    # Gradients that nobody gave stay None: zeros for the third result would be as large as params.
    ctx.set_materialize_grads(False)
    ctx.params_dtype, (ctx.backend, ctx.save_needed) = inputs[0].dtype, inputs[4:]
    ctx.save_for_backward(output[2])


def _differentiate(
    ctx: Any, grad_offset: Tensor | None, grad_pen: Tensor | None, _: Tensor | None
) -> Any:
    if not ctx.save_needed:
        raise RuntimeError("mixture_density was called with save=False, so it has no gradient")
    (gradient,) = ctx.saved_tensors
    grads = [
        gradient.new_zeros(gradient.shape[0]) if grad is None else grad.contiguous()
        for grad in (grad_offset, grad_pen)
    ]
    scale = torch.ops.sketchrnn_fast.mixture_density_backward
    grad_params = scale(*grads, gradient, ctx.backend)
    return grad_params.to(ctx.params_dtype), None, None, None, None, None


# An op of its own without a derivative, so that a second derivative is refused instead of wrong.
@torch.library.custom_op("sketchrnn_fast::mixture_density_backward", mutates_args=())
def _mixture_density_backward(
    grad_offset: Tensor, grad_pen: Tensor, gradient: Tensor, backend: str
) -> Tensor:
    implementation: Implementation = backends.implementation("mixture_density", backend)
    return implementation.backward(grad_offset, grad_pen, gradient)


@_mixture_density_backward.register_fake
def _(grad_offset: Tensor, grad_pen: Tensor, gradient: Tensor, backend: str) -> Tensor:
    return torch.empty_like(gradient)


_mixture_density.register_autograd(_differentiate, setup_context=_save_for_backward)


def mixture_density(
    params: Tensor, target: Tensor, offset_weight: Tensor, pen_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The weighted losses of each row (equations in `reference.mixture_density`).

    Args:
        params: [R, 6K+3], floating point; the only argument with a gradient.
        target: [R, 5], stroke-5 rows, of at least float32 or of params' dtype.
        offset_weight, pen_weight: [R], factors of the two losses. A row of weight 0 has loss and
            gradient 0, whatever its parameters.

    Returns:
        Offset and pen losses in nats, each [R], in at least float32.

    Raises:
        ValueError: shapes do not fit, or an argument other than params requires a gradient.
        BackendError: the chosen backend cannot run this.
    """
    rows, width = params.shape if params.dim() == 2 else (-1, -1)
    if width < 9 or (width - 3) % 6:
        raise ValueError(
            f"mixture_density: params has shape {list(params.shape)}; "
            "it takes [R, 6K+3] for K Gaussians"
        )
    if tuple(target.shape) != (rows, 5):
        raise ValueError(
            f"mixture_density: target has shape {list(target.shape)}; it takes [{rows}, 5]"
        )
    for name, weight in (("offset_weight", offset_weight), ("pen_weight", pen_weight)):
        if tuple(weight.shape) != (rows,):
            raise ValueError(
                f"mixture_density: {name} has shape {list(weight.shape)}; it takes [{rows}]"
            )
    if target.requires_grad or offset_weight.requires_grad or pen_weight.requires_grad:
        raise ValueError("mixture_density: only params has a gradient; detach the other arguments")
    offset, pen, _ = torch.ops.sketchrnn_fast.mixture_density(
        params.contiguous(),
        target.contiguous(),
        offset_weight.contiguous(),
        pen_weight.contiguous(),
        backends.select("mixture_density", params.device),
        torch.is_grad_enabled() and params.requires_grad,
    )
    return offset, pen
