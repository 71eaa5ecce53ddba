"""Sketches as arrays: the stroke-3 and stroke-5 forms, polylines, bounds, and augmentation.

A sketch is stroke-3 unless said otherwise: `[N, 3]` rows (dx, dy, pen), each an offset from the
point before it and the first from the origin; pen 1 lifts the pen after this point, so the point
ends a line. stroke-5 is `[N, 5]` rows (dx, dy, p1, p2, p3) with a one-hot pen: down, lifted, end
of the sketch (model_spec 1.1).

Every function returns a new array and leaves its argument alone. Offsets are in the units of the
argument; integer sketches are taken, and become floats where they are scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

START_TOKEN = (0.0, 0.0, 1.0, 0.0, 0.0)


# --------------------------------------------------------------------------------------------
# Forms


def to_stroke5(sketch: ArrayLike, length: int | None = None) -> NDArray[np.float32]:
    """stroke-3 `[N, 3]` to stroke-5 float32 `[length, 5]` without the start token.

    The rows past the sketch are the end of the sketch, (0, 0, 0, 0, 1). `length` is N + 1 unless
    given; with `length` = N there is no end row (model_spec 6.1, Magenta's `to_big_strokes`).

    Raises:
        ValueError: the sketch is not `[N, 3]`, or is longer than `length`.
    """
    points = _stroke3(sketch)
    count = len(points)
    if length is None:
        length = count + 1
    if count > length:
        raise ValueError(f"the sketch has {count} points; it may have at most length = {length}")
    rows = np.zeros((length, 5), np.float32)
    rows[:count, :2] = points[:, :2]
    rows[:count, 2] = 1 - points[:, 2]
    rows[:count, 3] = points[:, 2]
    rows[count:, 4] = 1
    return rows


def pad_to_stroke5(sketches: Sequence[ArrayLike], max_len: int) -> NDArray[np.float32]:
    """stroke-3 sketches to a model's input: stroke-5 float32 `[B, max_len + 1, 5]`.

    Row 0 is the start token, then come the points, then end rows; a sketch of `max_len` points has
    no end row (model_spec 1.6).

    Raises:
        ValueError: a sketch is not `[N, 3]`, or is longer than `max_len`.
    """
    arrays = [_stroke3(sketch) for sketch in sketches]
    lengths = np.array([len(array) for array in arrays], np.int64)
    if not arrays:
        return np.zeros((0, max_len + 1, 5), np.float32)
    if lengths.max() > max_len:
        index = lengths.argmax()
        raise ValueError(
            f"sketch {index} has {lengths[index]} points; it may have at most max_len = {max_len}"
        )
    return pad_ragged_to_stroke5(np.concatenate(arrays), lengths, max_len)


def pad_ragged_to_stroke5(
    points: NDArray[Any], lengths: NDArray[np.int64], max_len: int
) -> NDArray[np.float32]:
    """`pad_to_stroke5` for sketches laid end to end: points `[P, 3]`, lengths `[B]` ≤ max_len."""
    strokes = np.zeros((len(lengths), max_len + 1, 5), np.float32)
    strokes[:, 0] = START_TOKEN
    row = np.repeat(np.arange(len(lengths)), lengths)
    time = positions_within(lengths) + 1
    strokes[row, time, :2] = points[:, :2]
    strokes[row, time, 2] = 1 - points[:, 2]
    strokes[row, time, 3] = points[:, 2]
    strokes[:, :, 4] = np.arange(max_len + 1) > lengths[:, None]
    return strokes


def to_stroke3(rows: ArrayLike) -> NDArray[Any]:
    """stroke-5 `[N, 5]` to stroke-3, up to the first row whose p3 is above 0; dtype kept.

    A first row that is already the end gives an empty sketch (the original's
    `to_normal_strokes` returns everything then; model_spec 6.1 and quirk 17).

    Raises:
        ValueError: the argument is not `[N, 5]`.
    """
    rows = np.asarray(rows)
    if rows.ndim != 2 or rows.shape[1] != 5:
        raise ValueError(f"a stroke-5 sketch has shape [N, 5]; this one has {list(rows.shape)}")
    ends = np.flatnonzero(rows[:, 4] > 0)
    return rows[: ends[0] if len(ends) else len(rows), [0, 1, 3]]


def strokes_to_lines(sketch: ArrayLike) -> list[NDArray[np.float64]]:
    """The drawn lines as absolute polylines, float64 `[n, 2]` each (model_spec 6.1).

    A line ends where the pen is lifted; points after the last lift are left out.
    """
    points = _stroke3(sketch)
    positions = np.cumsum(points[:, :2], axis=0, dtype=np.float64)
    ends = np.flatnonzero(points[:, 2] == 1) + 1
    return np.split(positions, ends)[:-1] if len(ends) else []


def lines_to_strokes(lines: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Absolute polylines `[n, 2]` to one sketch, float64; the inverse of `strokes_to_lines`.

    The first row is the first point itself; pen is 1 on the last point of each line. Lines
    without points are passed over (model_spec 6.1).
    """
    kept = [line for line in (np.asarray(line, np.float64) for line in lines) if len(line)]
    if not kept:
        return np.zeros((0, 3))
    positions = np.concatenate(kept)
    sketch = np.zeros((len(positions), 3))
    sketch[:, :2] = np.diff(positions, axis=0, prepend=np.zeros((1, 2)))
    sketch[np.cumsum([len(line) for line in kept]) - 1, 2] = 1
    return sketch


# --------------------------------------------------------------------------------------------
# Size


def bounds(sketch: ArrayLike) -> tuple[float, float, float, float]:
    """(min_x, max_x, min_y, max_y) of the points; the origin is always included (6.1)."""
    positions = np.cumsum(_stroke3(sketch)[:, :2], axis=0, dtype=np.float64)
    low = positions.min(axis=0, initial=0.0)
    high = positions.max(axis=0, initial=0.0)
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def scale_to(sketch: ArrayLike, dimension: float = 10.0) -> NDArray[Any]:
    """Scale uniformly so that the longer side of the bounds is `dimension` (6.1 `scale_bound`).

    A drawing without extent is returned unscaled. Integer sketches become floats.
    """
    points = _stroke3(sketch)
    min_x, max_x, min_y, max_y = bounds(points)
    extent = max(max_x - min_x, max_y - min_y)
    scaled = points.astype(np.result_type(points.dtype, np.float32))
    if extent > 0:
        scaled[:, :2] /= extent / dimension
    return scaled


# --------------------------------------------------------------------------------------------
# Augmentation (model_spec 1.6). Randomness comes in as uniforms in (0, 1).


def scale_randomly(
    points: ArrayLike, uniforms: NDArray[np.float32], factor: float
) -> NDArray[np.float32]:
    """Scale each axis by U[1 - factor, 1 + factor].

    Args:
        points: stroke-3 `[N, 3]`.
        uniforms: `[2]`, one for each axis, or `[N, 2]` where rows belong to different sketches.
        factor: Magenta's `random_scale_factor`; 0 leaves the sketch as it is.

    Returns:
        float32 `[N, 3]`. The scale (u - 0.5)·2·factor + 1 is made in double precision and rounded
        once, as the original's.
    """
    scaled = _stroke3(points).astype(np.float32)
    scales = (np.asarray(uniforms, np.float64) - 0.5) * 2.0 * factor + 1.0
    scaled[:, :2] *= scales.astype(np.float32)
    return scaled


def drop_points(
    sketch: ArrayLike, uniforms: NDArray[np.float32], prob: float
) -> NDArray[np.float32]:
    """Drop inner points of long lines with probability `prob`; float32 `[M, 3]`, M ≤ N.

    The offset of a dropped point goes to the last kept one before it, so the shape keeps its
    pens and its end. `uniforms` is `[N]`, one for every row.
    """
    points = _stroke3(sketch)
    return drop_points_ragged(points, np.array([len(points)]), uniforms, prob)[0]


def drop_points_ragged(
    points: ArrayLike,
    lengths: NDArray[np.int64],
    uniforms: NDArray[np.float32],
    prob: float,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """`drop_points` for sketches laid end to end.

    Args:
        points: stroke-3 rows of all sketches, `[P, 3]`, pens 0 or 1.
        lengths: int64 `[n]` with sum P.
        uniforms: `[P]`, one for every row.
        prob: Magenta's `augment_stroke_prob`.

    Returns:
        float32 `[Q, 3]`, Q ≤ P, and the lengths that the sketches have now.
    """
    # Dropping is a loop in the original, but its decision needs no loop. The loop looks at the
    # pen of the last kept row. A row is dropped only where its own pen and that of the last kept
    # row are both 0, so after a dropped row the last kept pen is 0, as is the dropped row's; and
    # after a kept row the two are one row. Either way the last kept pen is the previous row's pen
    # (1 before the first row). The run counter r is 0 where this pen or that one is 1, and counts
    # rows otherwise, dropped ones too: so r is the distance to the last such row, and r > 2
    # implies that both pens are 0.
    rows = _stroke3(points).astype(np.float32)
    starts = np.cumsum(lengths) - lengths
    lifted = rows[:, 2] == 1
    resets = lifted.copy()
    resets[1:] |= lifted[:-1]
    resets[starts[lengths > 0]] = True
    index = np.arange(len(rows))
    last_reset = np.maximum.accumulate(np.where(resets, index, 0))
    dropped = (index - last_reset > 2) & (uniforms < np.float32(prob))

    kept_before = np.concatenate([[0], np.cumsum(~dropped)])
    sums = rows[~dropped]
    # `add.at` adds one row after another, in the order and precision of the loop.
    for axis in (0, 1):
        np.add.at(sums[:, axis], kept_before[1:][dropped] - 1, rows[dropped, axis])
    return sums, kept_before[starts + lengths] - kept_before[starts]


def positions_within(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 … length - 1 of each of the items laid end to end."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _stroke3(sketch: ArrayLike) -> NDArray[Any]:
    points = np.asarray(sketch)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"a stroke-3 sketch has shape [N, 3]; this one has {list(points.shape)}")
    return points
