"""What a recurrent op hands to a backend: calls, one a direction, and their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sketchrnn_fast.reference.lstm import Options


class Call(NamedTuple):
    """The arguments of a recurrent op as PyTorch passes them on.

    Of both directions: weights and state are those of the first and then those of the second, the
    seed is int64 [2], and `reverse` is the first's; the second walks the other way.
    """

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

    def of_each(self, directions: int) -> list[Call]:
        """The call of each direction by itself."""
        if directions == 1:
            return [self]
        weights, state = len(self.weights) // 2, len(self.state) // 2
        seed = self.seed
        return [
            self._replace(
                weights=self.weights[:weights],
                state=self.state[:state],
                seed=None if seed is None else seed[:1],
            ),
            self._replace(
                weights=self.weights[weights:],
                state=self.state[state:],
                seed=None if seed is None else seed[1:],
                reverse=not self.reverse,
            ),
        ]


class Results(NamedTuple):
    """What the forward pass of one direction gives."""

    hidden: Tensor  # [T, B, N]
    final: Sequence[Tensor]  # the final state
    saved: Tensor  # of the backend's `saved_shape`; empty if nothing is to be saved


class ResultGradients(NamedTuple):
    """The gradients that the backward pass of one direction starts from."""

    hidden: Tensor | None  # None for zeros
    final: Sequence[Tensor]


class Implementation(NamedTuple):
    """One backend's share in a recurrent op.

    Attributes:
        forward: from one call a direction, and whether to save for the backward pass, to the
            results of each.
        backward: from the calls, their results (the final states are left out), the gradients of
            those, and whether x's gradient is wanted, to the gradients of each call's `inputs` in
            their order, in memory of their own; x's may be empty where it is not wanted.
        saved_shape: from the call of a direction to the shape of what is saved.
    """

    forward: Callable[[Sequence[Call], bool], Sequence[Results]]
    backward: Callable[
        [Sequence[Call], Sequence[Results], Sequence[ResultGradients], bool],
        Sequence[Sequence[Tensor]],
    ]
    saved_shape: Callable[[Call], tuple[int, ...]]


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

    def run(calls: Sequence[Call], save: bool) -> list[Results]:
        return [run_one(call, save) for call in calls]

    def run_one(call: Call, save: bool) -> Results:
        hidden, final, saved = forward(*arguments(call))
        return Results(hidden, final, torch.cat(saved, dim=-1) if save else saved[0].new_empty(0))

    def run_backward(
        calls: Sequence[Call],
        results: Sequence[Results],
        grads: Sequence[ResultGradients],
        grad_x_wanted: bool,
    ) -> list[list[Tensor]]:
        return [run_one_backward(*given) for given in zip(calls, results, grads, strict=True)]

    def run_one_backward(call: Call, results: Results, grads: ResultGradients) -> list[Tensor]:
        parts = results.saved.split(saved_widths(weights_type(*call.weights)), dim=-1)
        grad_hidden = torch.zeros_like(results.hidden) if grads.hidden is None else grads.hidden
        grad_x, grad_static, grad_weights, grad_start = backward(
            grad_hidden, tuple(grads.final), results.hidden, saved_type(*parts), *arguments(call)
        )
        static = [] if grad_static is None else [grad_static]
        return [grad_x, *static, *grad_weights, *grad_start]

    def saved_shape(call: Call) -> tuple[int, ...]:
        width = sum(saved_widths(weights_type(*call.weights)))
        return (call.x.shape[0], call.x.shape[1], width)

    return Implementation(run, run_backward, saved_shape)
