"""The checks of the recurrent ops' arguments, before any work starts.

Each takes the op's name, which its sentences begin with.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sketchrnn_fast.reference.lstm import Options


def check_input(name: str, x: Tensor, static_input: Tensor | None) -> int:
    """Check x and static_input; gives their width together."""
    if x.dim() != 3 or x.shape[0] < 1:
        raise ValueError(
            f"{name}: x has shape {shape_text(x)}; it takes [T, B, X] with at least one step"
        )
    if not x.is_floating_point():
        raise TypeError(f"{name}: x is {x.dtype}; it takes a floating-point tensor")
    if static_input is None:
        return x.shape[2]
    if static_input.dim() != 2 or static_input.shape[0] != x.shape[1]:
        raise ValueError(
            f"{name}: static_input has shape {shape_text(static_input)}; "
            f"it takes [B, S] with B = {x.shape[1]} as x has"
        )
    return x.shape[2] + static_input.shape[1]


def check_lengths(name: str, x: Tensor, lengths: Tensor | None) -> None:
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
            f"{name}: lengths is {lengths.dtype} {shape_text(lengths)} on {lengths.device}; "
            f"it takes int64 [{x.shape[1]}] on {x.device}"
        )


def check_dropout(
    name: str, x: Tensor, seed: Tensor | None, options: Options, directions: int
) -> None:
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
        seed is None
        or seed.dtype != torch.int64
        or seed.numel() != directions
        or seed.device != x.device
    ):
        elements = "one element" if directions == 1 else f"{directions} elements"
        raise ValueError(
            f"{name}: keep_prob is {keep_prob}, so dropout needs a seed: an int64 "
            f"tensor of {elements} on {x.device}"
        )


def check_length_values(name: str, lengths: Tensor | None, time_steps: int) -> None:
    # Reading values of a tensor on a GPU would wait for it, so there they are taken on trust.
    if lengths is None or lengths.device.type != "cpu" or lengths.numel() == 0:
        return
    least, most = int(lengths.min()), int(lengths.max())
    if least < 0 or most > time_steps:
        raise ValueError(
            f"{name}: lengths go from {least} to {most}; x has {time_steps} steps, "
            f"so they must lie between 0 and {time_steps}"
        )


def shape_text(tensor: Tensor) -> str:
    return str(list(tensor.shape))
