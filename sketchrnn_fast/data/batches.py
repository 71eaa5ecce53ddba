"""Batches of padded stroke-5 sketches (model_spec 1.6), made without a loop over sketches.

Every random number is a pure function of (seed, row of the batch, point), so that ranks which make
different rows of one batch make the numbers that a single process would.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchrnn_fast.data.dataset import Dataset
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.philox import Stream, choose, philox4x32, uniform
from sketchrnn_fast.strokes import (
    drop_points_ragged,
    pad_ragged_to_stroke5,
    positions_within,
    scale_randomly,
)

# The time words of the counter in the stream AUGMENTATION.
SCALE_TIME = 0
DROP_TIME = 1


@dataclass(frozen=True, eq=False)
class Batch:
    """B sketches padded to T points.

    Attributes:
        strokes: stroke-5 float32 `[B, T + 1, 5]`: the start token, the points, then end rows.
        lengths: points of each sketch, int64 `[B]`; after augmentation where there was one.
        indices: which sketch of the dataset each is, int64 `[B]`.
        labels: the class of each, int64 `[B]`; 0 where there are no classes.
    """

    strokes: NDArray[np.float32]
    lengths: NDArray[np.int64]
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]


def random_batch(
    dataset: Dataset,
    batch_size: int,
    max_seq_len: int,
    *,
    seed: int,
    random_scale_factor: float,
    augment_stroke_prob: float,
    rows: slice = slice(None),
) -> Batch:
    """A training batch: sketches drawn without replacement, augmented.

    Args:
        dataset: at least `batch_size` sketches of at most `max_seq_len` points.
        batch_size: sketches in the whole batch, B.
        max_seq_len: T.
        seed: the key of this step; the batch is a pure function of it.
        random_scale_factor: each axis of each sketch is scaled by U[1 - this, 1 + this].
        augment_stroke_prob: probability of dropping a point.
        rows: makes only these rows of the batch, equal to the same rows of the whole one.

    Raises:
        DatasetError: the dataset has fewer sketches than the batch, or a longer one than T.
    """
    if len(dataset) < batch_size:
        raise DatasetError(
            f"{dataset.name} has {len(dataset)} sketches; a batch takes {batch_size} different ones"
        )
    indices = choose(seed, len(dataset), batch_size)[rows]
    batch_rows = np.arange(batch_size)[rows]
    points, lengths = _gather(dataset, indices, max_seq_len)
    if random_scale_factor > 0:
        words = philox4x32(0, SCALE_TIME, batch_rows, Stream.AUGMENTATION, seed)
        uniforms = uniform(words[:, :2])
        points = scale_randomly(points, np.repeat(uniforms, lengths, axis=0), random_scale_factor)
    if augment_stroke_prob > 0:
        uniforms = _drop_uniforms(lengths, batch_rows, seed)
        points, lengths = drop_points_ragged(points, lengths, uniforms, augment_stroke_prob)
    strokes = pad_ragged_to_stroke5(points, lengths, max_seq_len)
    return Batch(strokes, lengths, indices, dataset.labels(indices))


def batch(dataset: Dataset, indices: ArrayLike, max_seq_len: int) -> Batch:
    """The sketches of these indices as they are.

    Raises:
        DatasetError: one is longer than `max_seq_len`.
        IndexError: the dataset has no such index.
    """
    chosen = np.asarray(indices, np.int64)
    points, lengths = _gather(dataset, chosen, max_seq_len)
    strokes = pad_ragged_to_stroke5(points, lengths, max_seq_len)
    return Batch(strokes, lengths, chosen, dataset.labels(chosen))


def evaluation_batches(dataset: Dataset, batch_size: int, max_seq_len: int) -> Iterator[Batch]:
    """Every sketch once, in ascending order of length; the last batch may be smaller."""
    for start in range(0, len(dataset), batch_size):
        stop = min(start + batch_size, len(dataset))
        yield batch(dataset, np.arange(start, stop), max_seq_len)


def _gather(
    dataset: Dataset, indices: NDArray[np.int64], max_seq_len: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The points of these sketches end to end, `[P, 3]`, and their lengths."""
    points, lengths = dataset.gather(indices)
    if len(lengths) and lengths.max() > max_seq_len:
        index = indices[lengths.argmax()]
        raise DatasetError(
            f"{dataset.name}, sketch {index} has {lengths.max()} points; max_seq_len is "
            f"{max_seq_len}"
        )
    return points, lengths


def _drop_uniforms(
    lengths: NDArray[np.int64], rows: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """One uniform for each point: word point % 4 of block point // 4 of its row."""
    blocks = (lengths + 3) // 4
    words = philox4x32(
        positions_within(blocks), DROP_TIME, np.repeat(rows, blocks), Stream.AUGMENTATION, seed
    )
    first_word = 4 * (np.cumsum(blocks) - blocks)
    wanted = np.repeat(first_word, lengths) + positions_within(lengths)
    return uniform(words.reshape(-1)[wanted])
