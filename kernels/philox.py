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
    keep  uint8 [T, B, N]   1 = kept

Nothing is saved for backward: the bits are made again from the seed, or kept by who made them.

Why this decomposition: inside a step of the recurrence ten rounds would be as long as the step's
own chain of dependencies; ahead of it every (t, b, q) is independent. `keep_bits` gives the eight
units of a call as the bits of one number, so that a recurrent kernel can have them packed (one byte
a call: unit u is bit u div Q of byte u mod Q) or spread over units, as here.
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


@triton.jit
def _dropout_keep_kernel(
    keep_ptr,  # uint8 [T, B, N], out
    seed_ptr,  # int64 [1]
    steps_rows,  # T · B
    rows,  # B
    units,  # N
    threshold,  # round(keep_prob · 65536)
    row_offset,  # global number of row 0
    STREAM: tl.constexpr,
    STEP_ROWS: tl.constexpr,  # pairs (t, b) of one program
    CALLS: tl.constexpr,  # calls of the generator for each pair in one program
):
    index = tl.program_id(0).to(tl.int64) * STEP_ROWS + tl.arange(0, STEP_ROWS)[:, None]
    block = tl.program_id(1) * CALLS + tl.arange(0, CALLS)[None, :]
    t = (index // rows).to(tl.int32)
    row = (index % rows + row_offset).to(tl.uint32)  # a counter word, so it may pass 2³¹
    bits = keep_bits(tl.load(seed_ptr), t, row, block, STREAM, threshold)

    blocks = tl.cdiv(units, 8)
    for lane in tl.static_range(8):
        unit = lane * blocks + block
        inside = (index < steps_rows) & (block < blocks) & (unit < units)
        kept = ((bits >> lane) & 1).to(tl.uint8)
        tl.store(keep_ptr + index * units + unit, kept, mask=inside)


def dropout_keep(
    seed: Tensor,
    time_steps: int,
    rows: int,
    units: int,
    keep_prob: float,
    stream: int = 0,
    row_offset: int = 0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Which units dropout keeps: bool [time_steps, rows, units].

    Args:
        seed: int64 [1], the key.
        keep_prob: above 0 and up to 1.
        stream: what the draw is for, the counter's last word.
        row_offset: the global number of the first row.
        device: where the mask is made; the seed's if None.
    """
    device = seed.device if device is None else device
    keep = torch.empty(time_steps, rows, units, dtype=torch.uint8, device=device)
    if keep.numel() == 0:
        return keep.view(torch.bool)
    calls = triton.cdiv(units, LANES)
    calls_tile = min(triton.next_power_of_2(calls), 64)
    step_rows_tile = 256 // calls_tile
    grid = (triton.cdiv(time_steps * rows, step_rows_tile), triton.cdiv(calls, calls_tile))
    _dropout_keep_kernel[grid](
        keep,
        seed.to(device),
        time_steps * rows,
        rows,
        units,
        round(keep_prob * 65536),
        row_offset,
        STREAM=int(stream),
        STEP_ROWS=step_rows_tile,
        CALLS=calls_tile,
    )
    return keep.view(torch.bool)
