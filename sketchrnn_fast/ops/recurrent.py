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
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sketchrnn_fast.ops import backends
from sketchrnn_fast.reference.lstm import Options
from sketchrnn_fast.reference.sequence import compute_dtype

# The fields of `Call`, in order.
_CALL_SCHEMA = (
    "Tensor x, Tensor? static_input, Tensor[] weights, Tensor[] state, Tensor? lengths, "
    "Tensor? seed, bool reverse, float forget_bias, float keep_prob, int row_offset, str backend"
)


class Call(NamedTuple):
    """The arguments of a recurrent op as PyTorch passes them on."""

    x: Tensor  # [T, B, X]
    static_input: Tensor | None  # [B, S]
    weights: Sequence[Tensor]  # in the order of the op's weights_type
    state: Sequence[Tensor]  # in the order of the op's state_names, each [B, ·]
    lengths: Tensor | None  # int64 [B]
    seed: Tensor | None  # int64 [1]
    reverse: bool
    forget_bias: float
    keep_prob: float
    row_offset: int
    backend: str

    @property
    def options(self) -> Options:
        return Options(self.reverse, self.forget_bias, self.keep_prob, self.row_offset)

    @property
    def inputs(self) -> list[Tensor]:
        """All that has a gradient: x, static_input if there is one, weights and state."""
        static = [] if self.static_input is None else [self.static_input]
        return [self.x, *static, *self.weights, *self.state]


class Implementation(NamedTuple):
    """One backend's share in a recurrent op.

    Attributes:
        forward: from a call, and whether to save for the backward pass, to hidden, the final
            state, and one tensor of `saved_shape` (an empty one if nothing is to be saved).
        backward: from the gradients of hidden (None for zeros) and of the final state, hidden,
            what was saved, the call, and whether x's gradient is wanted, to the gradients of
            `call.inputs` in their order; x's may be empty where it is not wanted.
        saved_shape: from the call to the shape of what is saved.
    """

    forward: Callable[[Call, bool], tuple[Tensor, Sequence[Tensor], Tensor]]
    backward: Callable[
        [Tensor | None, Sequence[Tensor], Tensor, Tensor, Call, bool], Sequence[Tensor]
    ]
    saved_shape: Callable[[Call], tuple[int, ...]]


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
            schema=f"({_CALL_SCHEMA}, bool save) -> (Tensor, {state_results}, Tensor)",
        )
        backward = torch.library.custom_op(
            f"sketchrnn_fast::{self.name}_backward",
            self._backward,
            mutates_args=(),
            schema="(Tensor? grad_hidden, Tensor[] grad_state, Tensor hidden, Tensor saved, "
            f"{_CALL_SCHEMA}, bool grad_x_wanted) -> Tensor[]",
        )
        forward.register_fake(self._forward_fake)
        backward.register_fake(self._backward_fake)
        forward.register_autograd(self._differentiate, setup_context=self._save_for_backward)

    # The forward op -------------------------------------------------------------------------

    def _forward(self, *arguments: Any) -> tuple[Tensor, ...]:
        *fields, save = arguments
        call = Call(*fields)
        _check_length_values(self.name, call.lengths, call.x.shape[0])
        run = backends.implementation(self.name, call.backend).forward
        hidden, final, saved = run(call, save)
        return hidden, *final, saved

    def _forward_fake(self, *arguments: Any) -> tuple[Tensor, ...]:
        *fields, save = arguments
        call = Call(*fields)
        time_steps, rows, _ = call.x.shape
        final = self._empty_state(call.x, self.weights_type(*call.weights))
        shape = backends.implementation(self.name, call.backend).saved_shape(call)
        saved = call.x.new_empty(shape if save else (0,), dtype=compute_dtype(call.x.dtype))
        return call.x.new_empty((time_steps, rows, final[0].shape[1])), *final, saved

    def _empty_state(self, x: Tensor, weights: Any) -> list[Tensor]:
        """A state for x's rows, its values not set; cell states are at least float32."""
        return [
            x.new_empty(
                (x.shape[1], width),
                dtype=compute_dtype(x.dtype) if name.startswith("c") else x.dtype,
            )
            for name, width in zip(self.state_names, self.state_widths(weights), strict=True)
        ]

    # Its derivative -------------------------------------------------------------------------

    def _save_for_backward(
        self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]
    ) -> None:
        # Gradients that nobody gave stay None: zeros for what was saved would be as large as it.
        ctx.set_materialize_grads(False)
        *fields, ctx.save_needed = inputs
        call = Call(*fields)
        ctx.weight_count, ctx.has_static = len(call.weights), call.static_input is not None
        ctx.plain = fields[6:]
        hidden, *_, saved = output
        ctx.save_for_backward(hidden, saved, call.lengths, call.seed, *call.inputs)

    def _differentiate(
        self, ctx: Any, grad_hidden: Tensor | None, *grad_results: Tensor | None
    ) -> Any:
        if not ctx.save_needed:
            raise RuntimeError(f"{self.name} was called with save=False, so it has no gradient")
        hidden, saved, lengths, seed, *inputs = ctx.saved_tensors
        x, static_input, weights, state = _unpack(ctx, inputs)
        final = self._empty_state(x, self.weights_type(*weights))
        grads = getattr(torch.ops.sketchrnn_fast, f"{self.name}_backward")(
            None if grad_hidden is None else grad_hidden.contiguous(),
            [
                part.zero_() if grad is None else grad.contiguous()
                for part, grad in zip(final, grad_results[:-1], strict=True)
            ],
            hidden,
            saved,
            *Call(x, static_input, weights, state, lengths, seed, *ctx.plain),
            ctx.needs_input_grad[0],
        )
        grad_x, *others = _unpack(ctx, grads)
        first = grad_x if ctx.needs_input_grad[0] else None
        return (first, *others, *[None] * (len(ctx.plain) + 3))

    def _backward(
        self,
        grad_hidden: Tensor | None,
        grad_state: list[Tensor],
        hidden: Tensor,
        saved: Tensor,
        *arguments: Any,
    ) -> list[Tensor]:
        *fields, grad_x_wanted = arguments
        call = Call(*fields)
        run = backends.implementation(self.name, call.backend).backward
        grad_x, *others = run(grad_hidden, grad_state, hidden, saved, call, grad_x_wanted)
        first = grad_x if grad_x_wanted else grad_x.new_empty(0)
        return [
            grad.to(tensor.dtype).contiguous()
            for grad, tensor in zip([first, *others], call.inputs, strict=True)
        ]

    def _backward_fake(
        self,
        grad_hidden: Tensor | None,
        grad_state: list[Tensor],
        hidden: Tensor,
        saved: Tensor,
        *arguments: Any,
    ) -> list[Tensor]:
        *fields, grad_x_wanted = arguments
        x, *others = Call(*fields).inputs
        first = torch.empty_like(x) if grad_x_wanted else x.new_empty(0)
        return [first, *map(torch.empty_like, others)]

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
        width = _check_input(self.name, x, static_input)
        self._check_weights(x, static_input, width, weights)
        if state is not None:
            self._check_state(x.shape[1], weights, state)
        _check_lengths(self.name, x, lengths)
        _check_dropout(self.name, x, seed, options)
        if state is None:
            state = tuple(part.zero_() for part in self._empty_state(x, weights))
        tensors = (x, *weights, *state, *([] if static_input is None else [static_input]))
        save = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        results = getattr(torch.ops.sketchrnn_fast, self.name)(
            x.contiguous(),
            None if static_input is None else static_input.contiguous(),
            [weight.contiguous() for weight in weights],
            [part.contiguous() for part in state],
            None if lengths is None else lengths.contiguous(),
            seed,
            *options,
            backends.select(self.name, x.device),
            save,
        )
        hidden, *final, _ = results
        return hidden, tuple(final)

    def _check_weights(
        self, x: Tensor, static_input: Tensor | None, width: int, weights: Any
    ) -> None:
        name = self.name
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
        for tensor in (*weights, *([] if static_input is None else [static_input])):
            if tensor.dtype != x.dtype or tensor.device != x.device:
                raise TypeError(
                    f"{name}: x is {x.dtype} on {x.device}, but a weight or static_input is "
                    f"{tensor.dtype} on {tensor.device}; they must agree"
                )

    def _check_state(self, rows: int, weights: Any, state: tuple[Tensor, ...]) -> None:
        expected = [(rows, width) for width in self.state_widths(weights)]
        if [tuple(part.shape) for part in state] != expected:
            raise ValueError(
                f"{self.name}: the state ({', '.join(self.state_names)}) has shapes "
                f"{', '.join(_shape(part) for part in state)}; "
                f"it takes {', '.join(str(list(shape)) for shape in expected)}"
            )


def _check_input(name: str, x: Tensor, static_input: Tensor | None) -> int:
    """Check x and static_input; gives their width together."""
    if x.dim() != 3 or x.shape[0] < 1:
        raise ValueError(
            f"{name}: x has shape {_shape(x)}; it takes [T, B, X] with at least one step"
        )
    if not x.is_floating_point():
        raise TypeError(f"{name}: x is {x.dtype}; it takes a floating-point tensor")
    if static_input is None:
        return x.shape[2]
    if static_input.dim() != 2 or static_input.shape[0] != x.shape[1]:
        raise ValueError(
            f"{name}: static_input has shape {_shape(static_input)}; "
            f"it takes [B, S] with B = {x.shape[1]} as x has"
        )
    return x.shape[2] + static_input.shape[1]


def _check_lengths(name: str, x: Tensor, lengths: Tensor | None) -> None:
    if lengths is not None and not isinstance(lengths, Tensor):
        raise TypeError(
            f"{name}: lengths is of type {type(lengths).__name__}; "
            f"it takes an int64 tensor [{x.shape[1]}]"
        )
    if lengths is not None and (
        lengths.dtype != torch.int64
        or tuple(lengths.shape) != (x.shape[1],)
        or lengths.device != x.device
    ):
        raise ValueError(
            f"{name}: lengths is {lengths.dtype} {_shape(lengths)} on {lengths.device}; "
            f"it takes int64 [{x.shape[1]}] on {x.device}"
        )


def _check_dropout(name: str, x: Tensor, seed: Tensor | None, options: Options) -> None:
    keep_prob, row_offset = options.keep_prob, options.row_offset
    if row_offset != 0 and not 0 <= row_offset <= 2**32 - max(x.shape[1], 1):
        raise ValueError(
            f"{name}: row_offset is {row_offset}; the rows that it numbers must lie between 0 and "
            f"{2**32 - 1}"
        )
    if not 0.0 < keep_prob <= 1.0:
        raise ValueError(
            f"{name}: keep_prob is {keep_prob}; it takes a probability to keep, above 0 and up to 1"
        )
    if keep_prob < 1.0 and (
        seed is None or seed.dtype != torch.int64 or seed.numel() != 1 or seed.device != x.device
    ):
        raise ValueError(
            f"{name}: keep_prob is {keep_prob}, so dropout needs a seed: an int64 "
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


def _unpack(
    ctx: Any, tensors: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None, list[Tensor], list[Tensor]]:
    """x, static_input, weights and state (or their gradients) from the order of `Call.inputs`."""
    x, *rest = tensors
    static_input = rest.pop(0) if ctx.has_static else None
    return x, static_input, rest[: ctx.weight_count], rest[ctx.weight_count :]


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

    def arguments(call: Call) -> tuple[Any, ...]:
        weights, state = weights_type(*call.weights), tuple(call.state)
        return (
            *(call.x, call.static_input, weights, state),
            *(call.lengths, call.seed, call.options),
        )

    def run(call: Call, save: bool) -> tuple[Tensor, Sequence[Tensor], Tensor]:
        hidden, final, saved = forward(*arguments(call))
        return hidden, final, torch.cat(saved, dim=-1) if save else saved[0].new_empty(0)

    def run_backward(
        grad_hidden: Tensor | None,
        grad_state: Sequence[Tensor],
        hidden: Tensor,
        saved: Tensor,
        call: Call,
        grad_x_wanted: bool,
    ) -> Sequence[Tensor]:
        parts = saved.split(saved_widths(weights_type(*call.weights)), dim=-1)
        if grad_hidden is None:
            grad_hidden = torch.zeros_like(hidden)
        grad_x, grad_static, grad_weights, grad_start = backward(
            grad_hidden, tuple(grad_state), hidden, saved_type(*parts), *arguments(call)
        )
        static = [] if grad_static is None else [grad_static]
        return [grad_x, *static, *grad_weights, *grad_start]

    def saved_shape(call: Call) -> tuple[int, ...]:
        width = sum(saved_widths(weights_type(*call.weights)))
        return (call.x.shape[0], call.x.shape[1], width)

    return Implementation(run, run_backward, saved_shape)
