"""Run by test_philox.py in a process of its own, where TRITON_INTERPRET is set before the import.

Reads masks' arguments as JSON from standard input and writes the masks that Triton makes as an
npz file to the path that is its argument.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
import triton
import triton.language as tl

from sketchrnn_fast.kernels.philox import packed_keep_bits


@triton.jit
def words_kernel(words_ptr, counters_ptr, seed_ptr, SIZE: tl.constexpr):
    index = tl.arange(0, SIZE)
    counters = counters_ptr + 4 * index
    words = tl.philox(
        tl.load(seed_ptr),
        tl.load(counters),
        tl.load(counters + 1),
        tl.load(counters + 2),
        tl.load(counters + 3),
    )
    for w in tl.static_range(4):
        tl.store(words_ptr + 4 * index + w, words[w].to(tl.int64))


def unpacked(bits: torch.Tensor, units: int) -> torch.Tensor:
    """bool [T, B, units] from a byte a call, of which bit j is unit j · Q + q."""
    lanes = (bits[..., None, :] >> torch.arange(8, dtype=torch.uint8)[:, None]) & 1
    return lanes.flatten(-2)[..., :units].bool()


def main() -> None:
    request = json.load(sys.stdin)
    results = {}
    for name, (seed, *arguments) in request["masks"].items():
        keep = packed_keep_bits(torch.tensor([seed]), *arguments)
        results[name] = unpacked(keep, arguments[2]).numpy()
    for name, (seed, counters) in request["words"].items():
        # Triton takes int32 bit patterns as well as uint32.
        counter = torch.from_numpy(np.array(counters, np.uint32).view(np.int32))
        words = torch.empty(len(counters), 4, dtype=torch.int64)
        words_kernel[(1,)](words, counter, torch.tensor([seed]), SIZE=len(counters))
        results[name] = (words.numpy() & 0xFFFFFFFF).astype(np.uint32)
    np.savez(sys.argv[1], **results)


if __name__ == "__main__":
    main()
