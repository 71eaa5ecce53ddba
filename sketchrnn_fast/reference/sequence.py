"""What the recurrent references share: the walk over time, lengths, and the states before a step.

Time runs over the first axis. Row b takes part in step t while t < lengths[b]; after its end its
state stays as it is and its hidden output is zero. In reverse the walk starts at the last step, so
that a row enters, with its initial state, at its own last point.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

State = tuple[Tensor, ...]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half-precision storage computes in float32; float32 and float64 compute as they are."""
    return torch.promote_types(dtype, torch.float32)


def time_order(time_steps: int, reverse: bool) -> range:
    return range(time_steps - 1, -1, -1) if reverse else range(time_steps)


def active_rows(time_steps: int, lengths: Tensor) -> Tensor:
    """Which rows take part at each step: bool [T, B, 1]."""
    return (torch.arange(time_steps, device=lengths.device)[:, None] < lengths)[..., None]


def zero_past_end(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x [T, B, X] with zeros past each row's end, so that nothing there can reach a result."""
    if lengths is None:
        return x
    return torch.where(active_rows(x.shape[0], lengths), x, torch.zeros_like(x))


def scan(
    step: Callable[[int, State], tuple[State, State]],
    time_steps: int,
    state: State,
    lengths: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, State, State]:
    """Run `step` over time.

    Args:
        step: takes (t, state) and gives (new state, what backward needs of this step); the first
            entry of a state is its hidden part.

    Returns:
        hidden [T, B, N], the final state, and what backward needs, stacked over time.
    """
    active = None if lengths is None else active_rows(time_steps, lengths)
    hidden: list[Tensor] = []
    saved: list[State] = []
    for t in time_order(time_steps, reverse):
        new_state, saved_here = step(t, state)
        if active is None:
            hidden.append(new_state[0])
        else:
            new_state = tuple(
                torch.where(active[t], new, old) for new, old in zip(new_state, state, strict=True)
            )
            hidden.append(torch.where(active[t], new_state[0], 0.0))
        saved.append(saved_here)
        state = new_state
    if reverse:
        hidden.reverse()
        saved.reverse()
    return torch.stack(hidden), state, tuple(torch.stack(part) for part in zip(*saved, strict=True))


def scan_backward(
    step_backward: Callable[[int, State], tuple[State, State]],
    grad_hidden: Tensor,
    grad_state: State,
    lengths: Tensor | None,
    reverse: bool,
) -> tuple[State, State]:
    """Run `step_backward` against time.

    Args:
        step_backward: takes (t, gradient of the state after step t) and gives (gradient of the
            state before it, gradients of the step's products); linear in the gradient it takes.

    Returns:
        The gradient of the initial state, and the gradients of the products, stacked over time.
    """
    time_steps = grad_hidden.shape[0]
    active = None if lengths is None else active_rows(time_steps, lengths)
    grad_products: list[State] = []
    for t in reversed(time_order(time_steps, reverse)):
        incoming: State = (grad_state[0] + grad_hidden[t], *grad_state[1:])
        if active is None:
            grad_state, products = step_backward(t, incoming)
        else:
            # A row past its end contributes nothing, and its state passed through unchanged.
            incoming = tuple(torch.where(active[t], grad, 0.0) for grad in incoming)
            grad_before, products = step_backward(t, incoming)
            grad_state = tuple(
                torch.where(active[t], before, after)
                for before, after in zip(grad_before, grad_state, strict=True)
            )
        grad_products.append(products)
    if not reverse:
        grad_products.reverse()
    return grad_state, tuple(torch.stack(part) for part in zip(*grad_products, strict=True))


def before_each_step(
    after: Tensor, initial: Tensor, lengths: Tensor | None, reverse: bool
) -> Tensor:
    """The state before each step [T, B, N], from the states after each and the initial one [B, N].

    Rows past their end hold arbitrary finite values.
    """
    if not reverse:
        return torch.cat([initial[None], after[:-1]])
    following = torch.cat([after[1:], initial[None]])
    if lengths is None:
        return following
    has_following = active_rows(after.shape[0], lengths - 1)
    return torch.where(has_following, following, initial)


def weight_gradient(inputs: Tensor, grads: Tensor) -> Tensor:
    """Σ over time and rows of inputsᵀ · grads: [T, B, I] and [T, B, O] give [I, O]."""
    return inputs.flatten(0, 1).T @ grads.flatten(0, 1)
