"""What the three recurrent ops have in common: their registration with PyTorch.

Each op is a pair of opaque custom ops, `sketchrnn_fast::<name>` and
`sketchrnn_fast::<name>_backward`, with functional schemas. PyTorch sees shapes (for
`torch.compile`) and the link between the two (for autograd); what happens inside belongs to the
backend, whose name travels with the call, so that a backward pass runs on the backend of its
forward pass. Everything that the backward pass needs is an input or an output of the forward op.

A second pair, `sketchrnn_fast::<name>_bidirectional` and its backward op, runs over one x in both
directions, which have weights, states and seeds of their own: a backend may run them at the same
time. It is the same code, over one call for each direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sketchrnn_fast.ops import backends
from sketchrnn_fast.ops.recurrent_call import Call, Implementation, ResultGradients, Results
from sketchrnn_fast.ops.recurrent_checks import (
    check_dropout,
    check_input,
    check_length_values,
    check_lengths,
    shape_text,
)
from sketchrnn_fast.reference.lstm import Options
from sketchrnn_fast.reference.sequence import compute_dtype

# The fields of `Call`, in order.
_CALL_SCHEMA = (
    "Tensor x, Tensor? static_input, Tensor[] weights, Tensor[] state, Tensor? lengths, "
    "Tensor? seed, bool reverse, float forget_bias, float keep_prob, int row_offset, str backend"
)


@dataclass(frozen=True)
class RecurrentOp:
    """A recurrent op.

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
        """Define the custom ops with PyTorch and register the reference backend."""
        backends.register(self.name, "reference", reference)
        for directions in (1, 2):
            _TorchOp(self, directions).define()

    def empty_state(self, x: Tensor, weights: Any) -> list[Tensor]:
        """A state for x's rows, its values not set; cell states are at least float32."""
        return [
            x.new_empty(
                (x.shape[1], width),
                dtype=compute_dtype(x.dtype) if name.startswith("c") else x.dtype,
            )
            for name, width in zip(self.state_names, self.state_widths(weights), strict=True)
        ]

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
        """Run in one direction."""
        states = None if state is None else (state,)
        (result,) = self._run(x, (weights,), states, static_input, lengths, seed, options)
        return result

    def bidirectional(
        self,
        x: Tensor,
        weights: tuple[Any, Any],
        states: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None = None,
        *,
        static_input: Tensor | None = None,
        lengths: Tensor | None = None,
        seed: Tensor | None = None,
        options: Options = Options(),
    ) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
        """Run over one x in both directions, which the backend may do at the same time.

        Arguments and errors as those of the op of one direction, but for what is said here.

        Args:
            weights, states: of the first direction and of the second.
            seed: int64 [2], a key for each direction; needed if options.keep_prob < 1.
            options: those of the first direction; the second walks the other way.

        Returns:
            For each direction hidden [T, B, N] and the final state.
        """
        for what, given in (("weights", weights), ("states", states)):
            if given is not None and len(given) != 2:
                raise ValueError(
                    f"{self.name}_bidirectional: {what} is a tuple of {len(given)}; it takes two, "
                    "one a direction"
                )
        return self._run(x, weights, states, static_input, lengths, seed, options)

    def _run(
        self,
        x: Tensor,
        weights: tuple[Any, ...],
        states: tuple[tuple[Tensor, ...], ...] | None,
        static_input: Tensor | None,
        lengths: Tensor | None,
        seed: Tensor | None,
        options: Options,
    ) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
        """Check the arguments, choose the backend, and run the op."""
        directions = len(weights)
        x, static_input, weights, states = self._autocast(x, static_input, weights, states)
        width = check_input(self.name, x, static_input)
        for of_one in weights:
            self._check_weights(x, static_input, width, of_one)
        for of_one, state in zip(weights, states or (), strict=False):
            self._check_state(x, of_one, state)
        check_lengths(self.name, x, lengths)
        check_dropout(self.name, x, seed, options, directions)
        if states is None:
            states = tuple(
                tuple(part.zero_() for part in self.empty_state(x, of_one)) for of_one in weights
            )
        else:
            states = tuple(self._stored(x, state) for state in states)
        all_weights = [weight for of_one in weights for weight in of_one]
        all_state = [part for state in states for part in state]
        tensors = (x, *all_weights, *all_state, *([] if static_input is None else [static_input]))
        save = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        op = _TorchOp(self, directions)
        results = getattr(torch.ops.sketchrnn_fast, op.name)(
            x.contiguous(),
            None if static_input is None else static_input.contiguous(),
            [weight.contiguous() for weight in all_weights],
            [part.contiguous() for part in all_state],
            None if lengths is None else lengths.contiguous(),
            seed,
            *options,
            backends.select(self.name, x.device),
            save,
        )
        return [(hidden, tuple(final)) for hidden, final, _ in op.results(results)]

    def _autocast(
        self,
        x: Tensor,
        static_input: Tensor | None,
        weights: tuple[Any, ...],
        states: tuple[tuple[Tensor, ...], ...] | None,
    ) -> tuple[Tensor, Tensor | None, tuple[Any, ...], tuple[tuple[Tensor, ...], ...] | None]:
        """The arguments in the dtype of `torch.autocast`, where that is on; cell states stay
        float32.

        `register_autocast` would cast the cell states too.
        """
        kind = x.device.type  # of which not every one, `meta` for instance, knows of autocast
        if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
            return x, static_input, weights, states
        dtype = torch.get_autocast_dtype(kind)

        def cast(tensor: Tensor) -> Tensor:
            # As torch's own ops: float64 stays, which is asked for where precision matters.
            lower = tensor.is_floating_point() and tensor.dtype != torch.float64
            return tensor.to(dtype) if lower else tensor

        return (
            cast(x),
            None if static_input is None else cast(static_input),
            tuple(type(of_one)(*map(cast, of_one)) for of_one in weights),
            None
            if states is None
            else tuple(
                tuple(
                    part if name.startswith("c") else cast(part)
                    for name, part in zip(self.state_names, state, strict=True)
                )
                for state in states
            ),
        )

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
                    f"{name}: {field} has shape {shape_text(weight)}; with {width} inputs and "
                    f"w_hh {shape_text(weights.w_hh)} it takes {list(shape)}"
                )
        for tensor in (*weights, *([] if static_input is None else [static_input])):
            if tensor.dtype != x.dtype or tensor.device != x.device:
                raise TypeError(
                    f"{name}: x is {x.dtype} on {x.device}, but a weight or static_input is "
                    f"{tensor.dtype} on {tensor.device}; they must agree"
                )

    def _check_state(self, x: Tensor, weights: Any, state: tuple[Tensor, ...]) -> None:
        expected = [(x.shape[1], width) for width in self.state_widths(weights)]
        if [tuple(part.shape) for part in state] != expected:
            raise ValueError(
                f"{self.name}: the state ({', '.join(self.state_names)}) has shapes "
                f"{', '.join(shape_text(part) for part in state)}; "
                f"it takes {', '.join(str(list(shape)) for shape in expected)}"
            )
        for name, part in zip(self.state_names, state, strict=True):
            if part.device != x.device or not part.is_floating_point():
                raise TypeError(
                    f"{self.name}: {name} of the state is {part.dtype} on {part.device}; "
                    f"it takes floating point on {x.device}, as x is"
                )

    def _stored(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The state as the ops take it: hidden parts in x's dtype, cell states at least float32."""
        wide = compute_dtype(x.dtype)
        return tuple(
            part.to(wide if name.startswith("c") else x.dtype)
            for name, part in zip(self.state_names, state, strict=True)
        )


@dataclass(frozen=True)
class _TorchOp:
    """A recurrent op of one direction, or of both, as PyTorch knows it: its two custom ops.

    Results, and what the backward op takes of them, stand direction by direction.
    """

    op: RecurrentOp
    directions: int

    @property
    def name(self) -> str:
        return self.op.name if self.directions == 1 else f"{self.op.name}_bidirectional"

    def define(self) -> None:
        state = ", ".join("Tensor" for _ in self.op.state_names)
        results = ", ".join([f"Tensor, {state}, Tensor"] * self.directions)
        forward = torch.library.custom_op(
            f"sketchrnn_fast::{self.name}",
            self._forward,
            mutates_args=(),
            schema=f"({_CALL_SCHEMA}, bool save) -> ({results})",
        )
        given = ", ".join(
            f"Tensor? grad_hidden{which}, Tensor[] grad_state{which}, Tensor hidden{which}, "
            f"Tensor saved{which}"
            for which in ("", "_2")[: self.directions]
        )
        backward = torch.library.custom_op(
            f"sketchrnn_fast::{self.name}_backward",
            self._backward,
            mutates_args=(),
            schema=f"({given}, {_CALL_SCHEMA}, bool grad_x_wanted) -> Tensor[]",
        )
        forward.register_fake(self._forward_fake)
        backward.register_fake(self._backward_fake)
        forward.register_autograd(self._differentiate, setup_context=self._save_for_backward)

    def results(self, tensors: Sequence[Any]) -> list[Results]:
        """The forward op's results, or their gradients, by direction."""
        return [
            Results(hidden, final, saved)
            for hidden, *final, saved in _parts(tensors, self.directions)
        ]

    # The forward op -------------------------------------------------------------------------

    def _forward(self, *arguments: Any) -> tuple[Tensor, ...]:
        *fields, save = arguments
        call = Call(*fields)
        check_length_values(self.op.name, call.lengths, call.x.shape[0])
        run = backends.implementation(self.op.name, call.backend).forward
        with _without_autocast(call.x):
            return _flat(run(call.of_each(self.directions), save))

    def _forward_fake(self, *arguments: Any) -> tuple[Tensor, ...]:
        *fields, save = arguments
        call = Call(*fields)
        return _flat([self._empty_results(one, save) for one in call.of_each(self.directions)])

    def _empty_results(self, call: Call, save: bool) -> Results:
        time_steps, rows, _ = call.x.shape
        final = self.op.empty_state(call.x, self.op.weights_type(*call.weights))
        shape = backends.implementation(self.op.name, call.backend).saved_shape(call)
        saved = call.x.new_empty(shape if save else (0,), dtype=compute_dtype(call.x.dtype))
        return Results(call.x.new_empty((time_steps, rows, final[0].shape[1])), final, saved)

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
        kept = [tensor for hidden, _, saved in self.results(output) for tensor in (hidden, saved)]
        ctx.save_for_backward(*kept, call.lengths, call.seed, *call.inputs)

    def _differentiate(self, ctx: Any, *grad_results: Tensor | None) -> Any:
        if not ctx.save_needed:
            raise RuntimeError(f"{self.op.name} was called with save=False, so it has no gradient")
        saved_tensors = ctx.saved_tensors  # once: a checkpoint gives them no second time
        kept = saved_tensors[: 2 * self.directions]
        lengths, seed, *inputs = saved_tensors[2 * self.directions :]
        x, static_input, weights, state = _unpack(ctx, inputs)
        call = Call(x, static_input, weights, state, lengths, seed, *ctx.plain)
        given: list[Any] = []
        for one, grads, (hidden, saved) in zip(
            call.of_each(self.directions),
            self.results(grad_results),
            _parts(kept, self.directions),
            strict=True,
        ):
            final = self.op.empty_state(x, self.op.weights_type(*one.weights))
            given += [
                None if grads.hidden is None else grads.hidden.contiguous(),
                [
                    part.zero_() if grad is None else grad.contiguous()
                    for part, grad in zip(final, grads.final, strict=True)
                ],
                hidden,
                saved,
            ]
        backward = getattr(torch.ops.sketchrnn_fast, f"{self.name}_backward")
        grad_x, *others = _unpack(ctx, backward(*given, *call, ctx.needs_input_grad[0]))
        first = grad_x if ctx.needs_input_grad[0] else None
        return (first, *others, *[None] * (len(ctx.plain) + 3))

    def _backward(self, *arguments: Any) -> list[Tensor]:
        given, (*fields, grad_x_wanted) = self._split(arguments)
        call = Call(*fields)
        run = backends.implementation(self.op.name, call.backend).backward
        with _without_autocast(call.x):
            found = run(
                call.of_each(self.directions),
                [Results(hidden, (), saved) for _, _, hidden, saved in given],
                [ResultGradients(grad_hidden, grad_state) for grad_hidden, grad_state, *_ in given],
                grad_x_wanted,
            )
        grads = self._joined(found, call)
        if not grad_x_wanted:
            grads[0] = grads[0].new_empty(0)
        return [
            grad.to(tensor.dtype).contiguous()
            for grad, tensor in zip(grads, call.inputs, strict=True)
        ]

    def _backward_fake(self, *arguments: Any) -> list[Tensor]:
        _, (*fields, grad_x_wanted) = self._split(arguments)
        x, *others = Call(*fields).inputs
        first = torch.empty_like(x) if grad_x_wanted else x.new_empty(0)
        return [first, *map(torch.empty_like, others)]

    def _split(self, arguments: Sequence[Any]) -> tuple[list[Sequence[Any]], Sequence[Any]]:
        """The backward op's arguments: four a direction, and the rest."""
        count = 4 * self.directions
        return _parts(arguments[:count], self.directions), arguments[count:]

    def _joined(self, found: Sequence[Sequence[Tensor]], call: Call) -> list[Tensor]:
        """The gradients of `call.inputs` from those of each direction; these are used up."""
        if self.directions == 1:
            return list(found[0])
        shared = 1 if call.static_input is None else 2
        weights = shared + len(call.weights) // 2
        one, two = found
        sums = [grad.add_(other) for grad, other in zip(one[:shared], two[:shared], strict=True)]
        return [
            *(*sums, *one[shared:weights], *two[shared:weights]),
            *(*one[weights:], *two[weights:]),
        ]


def _without_autocast(x: Tensor) -> torch.autocast:
    """A backend's own arithmetic has the dtypes that it chose."""
    return torch.autocast(x.device.type, enabled=False)


def _flat(results: Sequence[Results]) -> tuple[Tensor, ...]:
    return tuple(tensor for hidden, final, saved in results for tensor in (hidden, *final, saved))


def _parts(sequence: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """The sequence in so many parts of equal length."""
    size = len(sequence) // count
    return [sequence[i * size : (i + 1) * size] for i in range(count)]


def _unpack(
    ctx: Any, tensors: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None, list[Tensor], list[Tensor]]:
    """x, static_input, weights and state (or their gradients) from the order of `Call.inputs`."""
    x, *rest = tensors
    static_input = rest.pop(0) if ctx.has_static else None
    return x, static_input, rest[: ctx.weight_count], rest[ctx.weight_count :]
