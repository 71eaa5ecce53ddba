"""Which split a sketch falls into, and which sketches repeat others, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.npz import SPLITS
from sketchrnn_fast.philox import derive_seed

Share = int | float

_ROUNDS = 4
# Hashes that are sorted at once.
_DEDUPLICATED_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class SplitSizes:
    """How many sketches each split gets: a count (int), a share (float), or what is left (None)."""

    train: Share | None = None
    valid: Share | None = 0.05
    test: Share | None = 0.05

    def check(self) -> None:
        """Refuse sizes that cannot be.

        Raises:
            DatasetError: a count is negative, a share outside of 0 to 1, or they exceed 1 in all.
        """
        shares = 0.0
        for name in SPLITS:
            size = getattr(self, name)
            if size is None:
                continue
            most = 1.0 if isinstance(size, float) else float("inf")
            if not 0 <= size <= most:
                raise DatasetError(
                    f"{name} is {size}; it takes a count, or a share between 0.0 and 1.0"
                )
            shares += size if isinstance(size, float) else 0.0
        if shares > 1 + 1e-9:
            raise DatasetError(
                f"the shares of the splits are {shares:g} in all; at most 1.0 is left"
            )

    def counts(self, total: int) -> tuple[int, int, int]:
        """Sketches of train, valid and test, of `total` that there are.

        Raises:
            DatasetError: there are not as many.
        """
        sizes = [getattr(self, name) for name in SPLITS]
        counts = [
            0 if size is None else int(size * total + 1e-6) if isinstance(size, float) else size
            for size in sizes
        ]
        open_splits = [k for k, size in enumerate(sizes) if size is None]
        shares = [size for size in sizes if isinstance(size, float)]
        if not open_splits and len(shares) == len(SPLITS) and sum(shares) > 1 - 1e-9:
            open_splits = [0]  # shares of a whole leave nothing to rounding
        left = total - sum(counts)
        if left < 0:
            raise DatasetError(
                f"there are {total} sketches; train, valid and test were to have "
                f"{', '.join(str(count) for count in counts)}"
            )
        if open_splits:
            counts[open_splits[0]] += left
        return counts[0], counts[1], counts[2]


def permuted(seed: int, places: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Where a random permutation of 0 … total - 1 puts these places.

    A Feistel network over the least even number of bits that hold `total`, walked until it falls
    below it (Black and Rogaway 2002): the permutation needs no memory, whatever its size.
    """
    half = max(1, ((max(total - 1, 1)).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    keys = [np.uint64(derive_seed(seed, step, 0) & (2**64 - 1)) for step in range(_ROUNDS)]
    values = places.astype(np.uint64)
    outside = np.arange(len(values))
    while len(outside):
        left, right = values[outside] >> np.uint64(half), values[outside] & mask
        for key in keys:
            left, right = right, left ^ (_scramble(right ^ key) & mask)
        values[outside] = left << np.uint64(half) | right
        outside = outside[values[outside] >= np.uint64(total)]
    return values.astype(np.int64)


def _scramble(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scrambled: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return scrambled


def mark_repeats(
    hashes: Callable[[], Iterator[NDArray[np.uint64]]],
    total: int,
    is_repeat: NDArray[np.bool_],
    at_once: int = _DEDUPLICATED_AT_ONCE,
) -> None:
    """Mark every hash that an earlier one equals.

    The range of hashes is cut so that about `at_once` fall into each part; each part is sorted on
    its own, so memory does not grow with the number of hashes.

    Args:
        hashes: gives them in order, in chunks, each time that it is called.
        total: how many they are.
        is_repeat: bool `[total]`, all false; may be mapped from a file.
    """
    parts = max(1, -(-total // at_once))
    for part in range(parts):
        values, places = [], []
        before = 0
        for chunk in hashes():
            # The top 32 bits, scaled to the number of parts.
            mine = ((chunk >> np.uint64(32)) * np.uint64(parts)) >> np.uint64(32) == part
            chosen = np.flatnonzero(mine)
            values.append(chunk[chosen])
            places.append(chosen + before)
            before += len(chunk)
        if not values:
            continue
        found, place = np.concatenate(values), np.concatenate(places)
        order = np.argsort(found, kind="stable")
        found = found[order]
        repeats = np.flatnonzero(found[1:] == found[:-1]) + 1
        is_repeat[place[order[repeats]]] = True
