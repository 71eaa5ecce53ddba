"""Philox4x32-10 in PyTorch, and the draws that the network makes from it.

The same generator as `sketchrnn_fast.philox` (which see for source and convention), on tensors of
any device: words are int64 tensors that hold 0 … 2³² - 1, since torch has no arithmetic on uint32.
The seed is an int64 tensor of one element, so that a CUDA graph can change it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sketchrnn_fast.philox import Stream

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = 0xFFFFFFFF
_GOLDEN_RATIO = 0x9E3779B97F4A7C15

# Calls made at a time, so that the words between the rounds stay in a core's cache: for a decoder's
# mask [250, 100, 512] six times faster than all at once.
_CACHED_CALLS = 8192


def philox4x32(
    block: Tensor, t: Tensor, row: Tensor, stream: int, seed: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four random words of each counter.

    Args:
        block, t, row: int64 tensors that broadcast together, the counter's words.
        stream: the counter's last word.
        seed: int64 [1] (or a shape that broadcasts with the counters), the key.
    """
    c0, c1, c2 = torch.broadcast_tensors(block, t, row)
    c3 = torch.full_like(c0, stream)
    rounds = torch.arange(_ROUNDS, device=seed.device).view(-1, *[1] * seed.dim())
    keys = [
        ((word + rounds * step) & _WORD).unbind()
        for word, step in zip((seed & _WORD, (seed >> 32) & _WORD), _KEY_STEPS, strict=True)
    ]
    for k0, k1 in zip(*keys, strict=True):
        high0, low0 = _product(c0, _MULTIPLIERS[0])
        high1, low1 = _product(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    return c0, c1, c2, c3


def _product(word: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """The high and the low word of a 64-bit product, which may wrap around int64.

    For torch.compile it is made of two 48-bit products, because it gets those wrong that wrap (it
    reckons with the ranges of numbers that come from an arange, and not with wrapping).
    """
    if not torch.compiler.is_compiling():
        product = word * multiplier
        return (product >> 32) & _WORD, product & _WORD
    upper = (word >> 16) * multiplier
    lower = (word & 0xFFFF) * multiplier
    return (upper + (lower >> 16)) >> 16, (((upper & 0xFFFF) << 16) + lower) & _WORD


def keep_mask(
    seed: Tensor,
    time_steps: int,
    rows: int,
    units: int,
    keep_prob: float,
    stream: Stream = Stream.RECURRENT_DROPOUT,
    row_offset: int = 0,
) -> Tensor:
    """Which units dropout keeps: bool [time_steps, rows, units].

    One call of the generator serves eight units. With Q = ⌈units / 8⌉ the call of block q gives
    units q, Q+q, …, 7Q+q from its eight 16-bit lanes: lane 2w is the low half of word w, lane
    2w+1 the high half. A unit is kept when its lane is below round(keep_prob · 65536).
    """
    blocks = -(-units // 8)
    index = torch.arange(max(time_steps, rows, blocks), device=seed.device)
    block, row = index[:blocks], index[:rows, None] + row_offset
    threshold = round(keep_prob * 65536)

    def mask(t: Tensor) -> Tensor:
        words = philox4x32(block, t[:, None, None], row, int(stream), seed)
        halves = [half for word in words for half in (word & 0xFFFF, word >> 16)]
        return torch.stack([half < threshold for half in halves], dim=-2).flatten(-2)[..., :units]

    steps = index[:time_steps]
    if torch.compiler.is_compiling():  # one fused kernel; pieces would only be unrolled
        return mask(steps)
    return torch.cat([mask(t) for t in steps.split(max(1, _CACHED_CALLS // max(1, rows * blocks)))])


def dropout_scale(
    seed: Tensor | None,
    time_steps: int,
    rows: int,
    units: int,
    keep_prob: float,
    dtype: torch.dtype,
    stream: Stream = Stream.RECURRENT_DROPOUT,
    row_offset: int = 0,
) -> Tensor | None:
    """The factors of inverted dropout, 0 or 1 / keep_prob [T, B, units]; None if all are kept."""
    if keep_prob == 1.0:
        return None
    if seed is None:
        raise ValueError(f"keep_prob is {keep_prob}, so dropout needs a seed; none was given")
    mask = keep_mask(seed, time_steps, rows, units, keep_prob, stream, row_offset)
    return mask.to(dtype) / keep_prob


def normal(
    seed: Tensor,
    rows: Tensor,
    size: int,
    dtype: torch.dtype,
    stream: Stream = Stream.POSTERIOR_NOISE,
) -> Tensor:
    """Standard normal draws [R, size] for the rows numbered `rows` [R], by Box-Muller.

    With Q = ⌈size / 4⌉ the call of block q gives columns q, Q+q, 2Q+q and 3Q+q. A seed of shape
    [R, 1] gives each row a key of its own.
    """
    blocks = torch.arange(-(-size // 4), device=seed.device)
    words = philox4x32(blocks, torch.zeros_like(blocks), rows[:, None], int(stream), seed)
    columns = (*box_muller(words[0], words[1]), *box_muller(words[2], words[3]))
    return torch.cat(columns, dim=-1)[:, :size].to(dtype)


def box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent standard normals, float64, from two random words."""
    radius = torch.sqrt(-2.0 * torch.log((first.double() + 0.5) * 2.0**-32))
    angle = (second.double() + 0.5) * (2.0 * math.pi * 2.0**-32)
    return radius * torch.cos(angle), radius * torch.sin(angle)


def uniform(words: Tensor) -> Tensor:
    """Random words as float32 strictly inside (0, 1): (top 23 bits + ½) / 2²³, exact in float32."""
    return ((words >> 9).float() + 0.5) * 2.0**-23


def branch(seed: Tensor, place: int) -> Tensor:
    """The seed of one place of use inside the network, from the seed of a whole step.

    A multiple of the golden ratio is added; Philox makes keys that differ in any bit independent.
    """
    step = place * _GOLDEN_RATIO % 2**64
    return seed + (step - 2**64 if step >= 2**63 else step)
