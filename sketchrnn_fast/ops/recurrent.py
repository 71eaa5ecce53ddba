"""What the three recurrent ops have in common: their registration with PyTorch and their checks.

Each op is a pair of opaque custom ops, `sketchrnn_fast::<name>` and
`sketchrnn_fast::<name>_backward`, with functional schemas. PyTorch sees shapes (for
`torch.compile`) and the link between the two (for autograd); what happens inside belongs to the
backend, whose name travels with the call, so that a backward pass runs on the backend of its
forward pass. Everything that the backward pass needs is an input or an output of the forward op.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sketchrnn_fast.ops import backends
from sketchrnn_fast.reference.lstm import Options
from sketchrnn_fast.reference.sequence import compute_dtype

_ARGUMENTS = (
    "Tensor x, Tensor? static_input, Tensor[] weights, Tensor[] state, Tensor? lengths, "
    "Tensor? seed, bool reverse, float forget_bias, float keep_prob, int row_offset, str backend"
)


class Forward(Protocol):
    """A backend's forward walk, on weights and state as lists in the order of their types."""

    def __call__(
        self,
        x: Tensor,
        static_input: Tensor | None,
        weights: Sequence[Tensor],
        state: Sequence[Tensor],
        lengths: Tensor | None,
        seed: Tensor | None,
        options: Options,
        save: bool,
    ) -> tuple[Tensor, Sequence[Tensor], Tensor]:
        """hidden, the final state, and one tensor of `saved_shape` if `save`, else an empty one."""
        ...


class Backward(Protocol):
    """A backend's backward walk."""

    def __call__(
        self,
        grad_hidden: Tensor,
        grad_state: Sequence[Tensor],
        hidden: Tensor,
        saved: Tensor,
        x: Tensor,
        static_input: Tensor | None,
        weights: Sequence[Tensor],
        state: Sequence[Tensor],
        lengths: Tensor | None,
        seed: Tensor | None,
        options: Options,
    ) -> tuple[Tensor, Tensor | None, Sequence[Tensor], Sequence[Tensor]]:
        """The gradients of x, static_input, weights and state."""
        ...


class Implementation(NamedTuple):
    """One backend's share in a recurrent op."""

    forward: Forward
    backward: Backward
    saved_shape: Callable[[Tensor, Sequence[Tensor]], tuple[int, ...]]  # from x and the weights


@dataclass(frozen=True)
class RecurrentOp:
    """A recurrent op as PyTorch knows it.

    Attributes:
        name: the op's stem.
        weights_type: a NamedTuple of weight tensors, with `w_xh` and `w_hh` among them.
        state_names: what the state consists of; names that begin with c are cell states.
        state_widths: from the weights to the width of each part of the state.
        weight_shapes: from the input's width and the weights (of which `w_hh` gives N) to the
            shapes that the weights must have.
    """

    name: str
    weights_type: type[Any]
    state_names: tuple[str, ...]
    state_widths: Callable[[Any], tuple[int, ...]]
    weight_shapes: Callable[[int, Any], tuple[tuple[int, ...], ...]]

    def register(self, reference: Implementation) -> None:
        """Define both ops with PyTorch and register the reference backend."""
        backends.register(self.name, "reference", reference)
        state_results = ", ".join("Tensor" for _ in self.state_names)
        forward = torch.library.custom_op(
            f"sketchrnn_fast::{self.name}",
            self._forward,
            mutates_args=(),
            schema=f"({_ARGUMENTS}, bool save) -> (Tensor, {state_results}, Tensor)",
        )
        backward = torch.library.custom_op(
            f"sketchrnn_fast::{self.name}_backward",
            self._backward,
            mutates_args=(),
            schema=f"(Tensor grad_hidden, Tensor[] grad_state, Tensor hidden, Tensor saved, "
            f"{_ARGUMENTS}) -> Tensor[]",
        )
        forward.register_fake(self._forward_fake)
        backward.register_fake(self._backward_fake)
        forward.register_autograd(self._differentiate, setup_context=self._save_for_backward)

    # The forward op -------------------------------------------------------------------------

    def _forward(
        self,
        x: Tensor,
        static_input: Tensor | None,
        weights: list[Tensor],
        state: list[Tensor],
        lengths: Tensor | None,
        seed: Tensor | None,
        reverse: bool,
        forget_bias: float,
        keep_prob: float,
        row_offset: int,
        backend: str,
        save: bool,
    ) -> tuple[Tensor, ...]:
        _check_length_values(self.name, lengths, x.shape[0])
        options = Options(reverse, forget_bias, keep_prob, row_offset)
        run = backends.implementation(self.name, backend).forward
        hidden, final, saved = run(x, static_input, weights, state, lengths, seed, options, save)
        return hidden, *final, saved

    def _forward_fake(
        self,
        x: Tensor,
        static_input: Tensor | None,
        weights: list[Tensor],
        state: list[Tensor],
        lengths: Tensor | None,
        seed: Tensor | None,
        reverse: bool,
        forget_bias: float,
        keep_prob: float,
        row_offset: int,
        backend: str,
        save: bool,
    ) -> tuple[Tensor, ...]:
        time_steps, rows, _ = x.shape
        dtype = compute_dtype(x.dtype)
        widths = self.state_widths(self.weights_type(*weights))
        final = [
            x.new_empty((rows, width), dtype=dtype if name.startswith("c") else x.dtype)
            for name, width in zip(self.state_names, widths, strict=True)
        ]
        shape = backends.implementation(self.name, backend).saved_shape(x, weights)
        saved = x.new_empty(shape if save else (0,), dtype=dtype)
        return x.new_empty((time_steps, rows, widths[0])), *final, saved

    # Its derivative -------------------------------------------------------------------------

    def _save_for_backward(
        self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]
    ) -> None:
        x, static_input, weights, state, lengths, seed, *ctx.options, save = inputs
        ctx.save_needed = save
        ctx.weight_count = len(weights)
        hidden, *_, saved = output
        ctx.save_for_backward(hidden, saved, x, static_input, lengths, seed, *weights, *state)

    def _differentiate(self, ctx: Any, grad_hidden: Tensor, *grad_results: Tensor) -> Any:
        if not ctx.save_needed:
            raise RuntimeError(f"{self.name} was called with save=False, so it has no gradient")
        *grad_state, _ = grad_results
        hidden, saved, x, static_input, lengths, seed, *tensors = ctx.saved_tensors
        weights, state = tensors[: ctx.weight_count], tensors[ctx.weight_count :]
        run = getattr(torch.ops.sketchrnn_fast, f"{self.name}_backward")
        grads = run(
            grad_hidden.contiguous(),
            [grad.contiguous() for grad in grad_state],
            hidden,
            saved,
            x,
            static_input,
            weights,
            state,
            lengths,
            seed,
            *ctx.options,
        )
        grad_x, grad_static, *rest = grads
        return (
            grad_x,
            grad_static if static_input is not None else None,
            rest[: ctx.weight_count],
            rest[ctx.weight_count :],
            *[None] * 8,
        )

    def _backward(
        self,
        grad_hidden: Tensor,
        grad_state: list[Tensor],
        hidden: Tensor,
        saved: Tensor,
        x: Tensor,
        static_input: Tensor | None,
        weights: list[Tensor],
        state: list[Tensor],
        lengths: Tensor | None,
        seed: Tensor | None,
        reverse: bool,
        forget_bias: float,
        keep_prob: float,
        row_offset: int,
        backend: str,
    ) -> list[Tensor]:
        options = Options(reverse, forget_bias, keep_prob, row_offset)
        run = backends.implementation(self.name, backend).backward
        grad_x, grad_static, grad_weights, grad_start = run(
            grad_hidden,
            grad_state,
            hidden,
            saved,
            x,
            static_input,
            weights,
            state,
            lengths,
            seed,
            options,
        )
        inputs = [x, *([] if static_input is None else [static_input]), *weights, *state]
        grads = [grad_x, *([] if grad_static is None else [grad_static]), *grad_weights]
        results = [
            grad.to(tensor.dtype).contiguous()
            for grad, tensor in zip([*grads, *grad_start], inputs, strict=True)
        ]
        return results if static_input is not None else [results[0], x.new_empty(0), *results[1:]]

    def _backward_fake(
        self,
        grad_hidden: Tensor,
        grad_state: list[Tensor],
        hidden: Tensor,
        saved: Tensor,
        x: Tensor,
        static_input: Tensor | None,
        weights: list[Tensor],
        state: list[Tensor],
        *options: Any,
    ) -> list[Tensor]:
        static = x.new_empty(0) if static_input is None else torch.empty_like(static_input)
        return [torch.empty_like(x), static, *map(torch.empty_like, (*weights, *state))]

    # The call -------------------------------------------------------------------------------

    def __call__(
        self,
        x: Tensor,
        weights: Any,
        state: tuple[Tensor, ...] | None,
        static_input: Tensor | None,
        lengths: Tensor | None,
        seed: Tensor | None,
        options: Options,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Check the arguments, choose the backend, and run the op."""
        self._check(x, weights, state, static_input, lengths, seed, options)
        if state is None:
            dtype = compute_dtype(x.dtype)
            state = tuple(
                x.new_zeros((x.shape[1], width), dtype=dtype if name.startswith("c") else x.dtype)
                for name, width in zip(self.state_names, self.state_widths(weights), strict=True)
            )
        tensors = (x, *weights, *state, *([] if static_input is None else [static_input]))
        save = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        results = getattr(torch.ops.sketchrnn_fast, self.name)(
            x.contiguous(),
            None if static_input is None else static_input.contiguous(),
            [weight.contiguous() for weight in weights],
            [part.contiguous() for part in state],
            lengths,
            seed,
            *options,
            backends.select(self.name, x.device),
            save,
        )
        hidden, *final, _ = results
        return hidden, tuple(final)

    def _check(
        self,
        x: Tensor,
        weights: Any,
        state: tuple[Tensor, ...] | None,
        static_input: Tensor | None,
        lengths: Tensor | None,
        seed: Tensor | None,
        options: Options,
    ) -> None:
        name = self.name
        if x.dim() != 3 or x.shape[0] < 1:
            raise ValueError(
                f"{name}: x has shape {_shape(x)}; it takes [T, B, X] with at least one step"
            )
        if not x.is_floating_point():
            raise TypeError(f"{name}: x is {x.dtype}; it takes a floating-point tensor")
        rows, width = x.shape[1], x.shape[2]
        if static_input is not None:
            if static_input.dim() != 2 or static_input.shape[0] != rows:
                raise ValueError(
                    f"{name}: static_input has shape {_shape(static_input)}; "
                    f"it takes [B, S] with B = {rows} as x has"
                )
            width += static_input.shape[1]
        if weights.w_xh.shape[0] != width:
            raise ValueError(
                f"{name}: the input is {width} wide (x and static_input together), "
                f"but w_xh takes {weights.w_xh.shape[0]}"
            )
        for field, weight, shape in zip(
            weights._fields, weights, self.weight_shapes(width, weights), strict=True
        ):
            if tuple(weight.shape) != shape:
                raise ValueError(
                    f"{name}: {field} has shape {_shape(weight)}; "
                    f"with {width} inputs and w_hh {_shape(weights.w_hh)} it takes {list(shape)}"
                )
        if state is not None:
            widths = self.state_widths(weights)
            expected = [(rows, part_width) for part_width in widths]
            if [tuple(part.shape) for part in state] != expected:
                raise ValueError(
                    f"{name}: the state ({', '.join(self.state_names)}) has shapes "
                    f"{', '.join(_shape(part) for part in state)}; "
                    f"it takes {', '.join(str(list(shape)) for shape in expected)}"
                )
        for tensor in (*weights, *([] if static_input is None else [static_input])):
            if tensor.dtype != x.dtype or tensor.device != x.device:
                raise TypeError(
                    f"{name}: x is {x.dtype} on {x.device}, but a weight or static_input is "
                    f"{tensor.dtype} on {tensor.device}; they must agree"
                )
        if lengths is not None and (
            lengths.dtype != torch.int64
            or tuple(lengths.shape) != (rows,)
            or lengths.device != x.device
        ):
            raise ValueError(
                f"{name}: lengths is {lengths.dtype} {_shape(lengths)} on {lengths.device}; "
                f"it takes int64 [{rows}] on {x.device}"
            )
        if not 0.0 < options.keep_prob <= 1.0:
            raise ValueError(
                f"{name}: keep_prob is {options.keep_prob}; it takes a probability to keep, "
                "above 0 and up to 1"
            )
        if options.keep_prob < 1.0 and (
            seed is None
            or seed.dtype != torch.int64
            or seed.numel() != 1
            or seed.device != x.device
        ):
            raise ValueError(
                f"{name}: keep_prob is {options.keep_prob}, so dropout needs a seed: an int64 "
                f"tensor of one element on {x.device}"
            )


def _check_length_values(name: str, lengths: Tensor | None, time_steps: int) -> None:
    # Reading values of a tensor on a GPU would wait for it, so there they are taken on trust.
    if lengths is None or lengths.device.type != "cpu" or lengths.numel() == 0:
        return
    least, most = int(lengths.min()), int(lengths.max())
    if least < 0 or most > time_steps:
        raise ValueError(
            f"{name}: lengths go from {least} to {most}; x has {time_steps} steps, "
            f"so they must lie between 0 and {time_steps}"
        )


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))


def reference_implementation(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    weights_type: type[Any],
    saved_type: type[Any],
    saved_widths: Callable[[Any], tuple[int, ...]],
) -> Implementation:
    """The reference backend of a recurrent op: what is saved is packed side by side in a tensor.

    Args:
        saved_widths: from the weights to the width of each field of `saved_type`.
    """

    def run(
        x: Tensor,
        static_input: Tensor | None,
        weights: Sequence[Tensor],
        state: Sequence[Tensor],
        lengths: Tensor | None,
        seed: Tensor | None,
        options: Options,
        save: bool,
    ) -> tuple[Tensor, Sequence[Tensor], Tensor]:
        hidden, final, saved = forward(
            x, static_input, weights_type(*weights), tuple(state), lengths, seed, options
        )
        packed = torch.cat(saved, dim=-1) if save else saved[0].new_empty(0)
        return hidden, final, packed

    def run_backward(
        grad_hidden: Tensor,
        grad_state: Sequence[Tensor],
        hidden: Tensor,
        saved: Tensor,
        x: Tensor,
        static_input: Tensor | None,
        weights: Sequence[Tensor],
        state: Sequence[Tensor],
        lengths: Tensor | None,
        seed: Tensor | None,
        options: Options,
    ) -> tuple[Tensor, Tensor | None, Sequence[Tensor], Sequence[Tensor]]:
        named = weights_type(*weights)
        result: tuple[Tensor, Tensor | None, Sequence[Tensor], Sequence[Tensor]] = backward(
            grad_hidden,
            tuple(grad_state),
            hidden,
            saved_type(*saved.split(saved_widths(named), dim=-1)),
            x,
            static_input,
            named,
            tuple(state),
            lengths,
            seed,
            options,
        )
        return result

    def saved_shape(x: Tensor, weights: Sequence[Tensor]) -> tuple[int, ...]:
        return (x.shape[0], x.shape[1], sum(saved_widths(weights_type(*weights))))

    return Implementation(run, run_backward, saved_shape)
