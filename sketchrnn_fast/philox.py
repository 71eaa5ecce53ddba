"""Philox4x32-10 in NumPy: the project's only source of randomness on the host.

A counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", in
the convention of Random123 and of Triton's `tl.philox`): 128 random bits are a pure function of a
64-bit key and a 128-bit counter. So a draw depends on what it is for, never on what was drawn
before it, and any backend, batch order or number of processes gives the same numbers.

key     = (seed low word, seed high word)
counter = (block, t, row, stream)
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF


class Stream(IntEnum):
    """What a draw is for: the last word of the counter."""

    RECURRENT_DROPOUT = 0
    INPUT_DROPOUT = 1
    OUTPUT_DROPOUT = 2
    POSTERIOR_NOISE = 3
    AUGMENTATION = 4
    SAMPLER = 5
    SEED = 6
    BATCH_ORDER = 7


def philox4x32(
    block: ArrayLike, t: ArrayLike, row: ArrayLike, stream: ArrayLike, seed: int
) -> NDArray[np.uint32]:
    """Four random words for each counter.

    Args:
        block, t, row, stream: the counter's words, arrays that broadcast together, each in
            0 … 2³² - 1.
        seed: the key; any integer, taken modulo 2⁶⁴.

    Returns:
        uint32 of the broadcast shape with a last axis of 4.
    """
    c0, c1, c2, c3 = (
        np.asarray(word).astype(np.uint64) for word in np.broadcast_arrays(block, t, row, stream)
    )
    k0, k1 = seed & _WORD, (seed >> 32) & _WORD
    low, shift = np.uint64(_WORD), np.uint64(32)
    for _ in range(10):
        product0 = c0 * np.uint64(_MULTIPLIERS[0])
        product1 = c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (product1 >> shift) ^ c1 ^ np.uint64(k0),
            product1 & low,
            (product0 >> shift) ^ c3 ^ np.uint64(k1),
            product0 & low,
        )
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def uniform(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Random words as float32 strictly inside (0, 1): (top 23 bits + ½) / 2²³, exact in float32.

    The smallest is 2⁻²⁴, the largest 1 - 2⁻²⁴.
    """
    top = (words >> np.uint32(9)).astype(np.float32)
    return (top + np.float32(0.5)) * np.float32(2.0**-23)


def derive_seed(seed: int, step: int, place: int) -> int:
    """The seed of one place of use in one step of a run: an int64, a pure function of all three."""
    words = philox4x32(place, step & _WORD, (step >> 32) & _WORD, Stream.SEED, seed)
    value = int(words[0]) | int(words[1]) << 32
    return value - 2**64 if value >= 2**63 else value


def choose(seed: int, population: int, count: int) -> NDArray[np.int64]:
    """`count` different indices below `population`, in random order (first steps of Fisher-Yates).

    Takes time and memory of `count`, whatever the population.
    """
    if not 0 <= count <= population:
        raise ValueError(f"cannot choose {count} of {population} without replacement")
    words = philox4x32(np.arange(count), 0, 0, Stream.BATCH_ORDER, seed)
    draws = words[:, 0].astype(object) | words[:, 1].astype(object) << 32
    moved: dict[int, int] = {}
    chosen = np.empty(count, np.int64)
    for i, draw in enumerate(draws):
        j = i + (draw * (population - i) >> 64)
        chosen[i] = moved.get(j, j)
        moved[j] = moved.get(i, i)
    return chosen
