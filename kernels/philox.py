"""Dropout's random bits, made ahead of the recurrence.

For a sequence of T steps, B rows and N units, with Q = ⌈N / 8⌉ and

    words(t, b, q) = philox4x32-10(counter = (q, t, row_offset + b, stream), key = seed)

lane 2w is the low half of word w, lane 2w + 1 its high half, and lane j of call q belongs to unit
j · Q + q, which is kept when

    lane < round(keep_prob · 65536)

So one call serves eight units, and a vector of consecutive calls makes eight contiguous runs of
units. The generator has Random123's convention, which is that of `tl.philox` (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3"): key = (seed low word, seed high word).

Layouts, contiguous:

    seed  int64 [1]         on the device, so that a CUDA graph can change it
    keep  uint8 [T, B, Q]   bit j of byte q is unit j · Q + q; 1 = kept

Nothing is saved for backward: the bits are made again from the seed, or kept by who made them.

Why this decomposition: inside a step of the recurrence ten rounds would be as long as the step's
own chain of dependencies; ahead of it every (t, b, q) is independent. One byte a call is what a
step reads then: N / 8 bytes a row.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (what @triton.jit compiles has no annotations but tl.constexpr)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LANES = 8  # units that one call of the generator serves


@triton.jit
def keep_bits(seed, t, row, block, STREAM: tl.constexpr, threshold):
    """Which of its eight units each call keeps: bit j of the int32 result is lane j's.

    seed: int64 scalar. t int32, row uint32, block int32: tensors that broadcast together.
    threshold: round(keep_prob · 65536), an int32.
    """
    words = tl.philox(seed, block, t, row, STREAM)
    bits = tl.zeros_like(words[0]).to(tl.int32)
    for w in tl.static_range(4):
        low = (words[w] & 0xFFFF).to(tl.int32)
        high = (words[w] >> 16).to(tl.int32)
        bits |= (low < threshold).to(tl.int32) << (2 * w)
        bits |= (high < threshold).to(tl.int32) << (2 * w + 1)
    return bits


@triton.jit(do_not_specialize=["steps_rows", "rows", "threshold", "row_offset"])
def keep_bits_kernel(
    keep_ptr,  # uint8 [T, B, Q], out
    seed_ptr,  # int64 [1]
    steps_rows,  # T · B
    rows,  # B
    threshold,  # round(keep_prob · 65536)
    row_offset,  # global number of row 0
    CALLS: tl.constexpr,  # Q
    STREAM: tl.constexpr,
    STEP_ROWS: tl.constexpr,  # pairs (t, b) of one program
    BLOCK: tl.constexpr,  # calls of the generator for each pair in one program
):
    index = tl.program_id(0).to(tl.int64) * STEP_ROWS + tl.arange(0, STEP_ROWS)[:, None]
    block = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    t = (index // rows).to(tl.int32)
    row = (index % rows + row_offset).to(tl.uint32)  # a counter word, so it may pass 2³¹
    bits = keep_bits(tl.load(seed_ptr), t, row, block, STREAM, threshold)
    inside = (index < steps_rows) & (block < CALLS)
    tl.store(keep_ptr + index * CALLS + block, bits.to(tl.uint8), mask=inside)


def packed_keep_bits(
    seed: Tensor,
    time_steps: int,
    rows: int,
    units: int,
    keep_prob: float,
    stream: int = 0,
    row_offset: int = 0,
) -> Tensor:
    """Which units dropout keeps: uint8 [time_steps, rows, Q], a bit a unit, on the seed's device.

    Args:
        seed: int64 [1], the key.
        keep_prob: above 0 and up to 1.
        stream: what the draw is for, the counter's last word.
        row_offset: the global number of the first row.
    """
    calls = triton.cdiv(units, LANES)
    keep = torch.empty(time_steps, rows, calls, dtype=torch.uint8, device=seed.device)
    if keep.numel() == 0:
        return keep
    block = min(triton.next_power_of_2(calls), 64)
    step_rows = 256 // block
    grid = (triton.cdiv(time_steps * rows, step_rows), triton.cdiv(calls, block))
    with torch.cuda.device_of(seed):
        keep_bits_kernel[grid](
            keep,
            seed,
            time_steps * rows,
            rows,
            round(keep_prob * 65536),
            row_offset,
            CALLS=calls,
            STREAM=stream,
            STEP_ROWS=step_rows,
            BLOCK=block,
        )
    return keep
