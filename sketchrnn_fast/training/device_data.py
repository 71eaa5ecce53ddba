"""A split on a device, and batches made there: the numbers of `data.random_batch`, to the bit.

A batch is a fixed sequence of operations on tensors of fixed shapes and waits for nothing, so a
CUDA graph can hold it. Which sketches it has is drawn on the host (`philox.choose`), whose lengths
tell how many steps the batch needs before the device is asked.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchrnn_fast.data import SketchDataset
from sketchrnn_fast.data.batches import DROP_TIME, SCALE_TIME
from sketchrnn_fast.philox import Stream
from sketchrnn_fast.reference import philox
from sketchrnn_fast.strokes import START_TOKEN


class DeviceSketches:
    """The sketches of a split on a device.

    Args:
        dataset: its points, 12 bytes each, and its classes are copied there.
        device: where to.
    """

    def __init__(self, dataset: SketchDataset, device: torch.device) -> None:
        self._points = torch.tensor(dataset.points, device=device)
        self._starts = torch.tensor(dataset.starts, device=device)
        labels = dataset.labels(np.arange(len(dataset)))
        self._labels = torch.tensor(labels, device=device)

    def labels(self, indices: Tensor) -> Tensor:
        """The class of each of these sketches, int64 [B]; 0 where there are no classes."""
        return self._labels[indices]

    def batch(
        self,
        indices: Tensor,
        seed: Tensor,
        *,
        most_points: int,
        max_seq_len: int,
        random_scale_factor: float,
        augment_stroke_prob: float,
    ) -> tuple[Tensor, Tensor]:
        """A training batch of these sketches, augmented as `data.random_batch` does it.

        Args:
            indices: int64 [B]; no such sketch has more than `most_points` points.
            seed: int64 [1], the key of the augmentation.
            most_points: at most `max_seq_len`; the work is done for so many points of each sketch.
            max_seq_len: T.
            random_scale_factor, augment_stroke_prob: Magenta's.

        Returns:
            strokes, stroke-5 float32 [B, T+1, 5], and lengths, int64 [B].
        """
        points, lengths = self._gather(indices, most_points)
        if random_scale_factor > 0 or augment_stroke_prob > 0:
            scale, drop = _uniforms(len(indices), most_points, seed)
            if random_scale_factor > 0:
                points = _scale(points, scale, random_scale_factor)
            if augment_stroke_prob > 0:
                points, lengths = _drop(points, lengths, drop, augment_stroke_prob)
        return _to_stroke5(points, lengths, max_seq_len), lengths

    def _gather(self, indices: Tensor, most_points: int) -> tuple[Tensor, Tensor]:
        """Points [B, most_points, 3], zeros behind a sketch's end, and lengths [B]."""
        starts = self._starts[indices]
        lengths = self._starts[indices + 1] - starts
        position = torch.arange(most_points, device=indices.device)
        rows = (starts[:, None] + position).clamp(max=len(self._points) - 1)
        is_point = position < lengths[:, None]
        return torch.where(is_point[..., None], self._points[rows], 0.0), lengths


def _uniforms(sketches: int, points: int, seed: Tensor) -> tuple[Tensor, Tensor]:
    """For scaling [B, 2] and for dropping [B, points], of one call of the generator."""
    index = torch.arange(max(sketches, 1 + (points + 3) // 4), device=seed.device)
    call = index[: 1 + (points + 3) // 4]  # the first for scaling, the others for four points each
    block = (call - 1).clamp(min=0)
    time = torch.where(call == 0, SCALE_TIME, DROP_TIME)
    words = philox.philox4x32(block, time, index[:sketches, None], int(Stream.AUGMENTATION), seed)
    uniforms = philox.uniform(torch.stack(words, dim=-1))
    return uniforms[:, 0, :2], uniforms[:, 1:].flatten(1)[:, :points]


def _scale(points: Tensor, uniforms: Tensor, factor: float) -> Tensor:
    """`strokes.scale_randomly`."""
    scales = ((uniforms.double() - 0.5) * 2.0 * factor + 1.0).float()
    return torch.cat([points[..., :2] * scales[:, None], points[..., 2:]], dim=-1)


def _drop(points: Tensor, lengths: Tensor, uniforms: Tensor, prob: float) -> tuple[Tensor, Tensor]:
    """`strokes.drop_points_ragged`, which says why this decides as the original's loop does."""
    position = torch.arange(points.shape[1], device=points.device)
    is_point = position < lengths[:, None]
    lifted = points[..., 2] == 1
    resets = lifted.clone()
    resets[:, 1:] |= lifted[:, :-1]
    last_reset = torch.where(resets, position, 0).cummax(dim=1).values
    dropped = (position - last_reset > 2) & (uniforms < float(np.float32(prob)))
    kept = is_point & ~dropped

    # Of each sketch's kept points the positions, in order, then its end: between two of them lies
    # what is added up. What is not kept is written behind them, all in one place.
    slots = torch.where(kept, kept.cumsum(1) - 1, points.shape[1])
    ends = lengths[:, None].repeat(1, points.shape[1] + 1)
    bounds = ends.scatter(1, slots, position.expand_as(slots))
    bounds[:, -1] = lengths
    # Each sum goes from its first point to its last in float32, as the loop does; from -0, since
    # that leaves every number as it is.
    offsets = torch.segment_reduce(
        points[..., :2].contiguous(), "sum", offsets=bounds, axis=1, unsafe=True, initial=-0.0
    )
    pens = points[..., 2].gather(1, bounds[:, :-1].clamp(max=points.shape[1] - 1))
    return torch.cat([offsets, pens[..., None]], dim=-1), kept.sum(1)


def _to_stroke5(points: Tensor, lengths: Tensor, max_seq_len: int) -> Tensor:
    """`strokes.pad_ragged_to_stroke5`."""
    position = torch.arange(max_seq_len + 1, device=points.device)
    is_end = position > lengths[:, None]
    is_point = (position > 0) & ~is_end
    padded = torch.nn.functional.pad(points, (0, 0, 1, max_seq_len - points.shape[1]))
    offsets = torch.where(is_point[..., None], padded[..., :2], 0.0)
    lifted = torch.where(is_point, padded[..., 2], 0.0)
    drawing = torch.where(position == 0, START_TOKEN[2], torch.where(is_point, 1 - lifted, 0.0))
    states = torch.stack([drawing, lifted, is_end.float()], dim=-1)
    return torch.cat([offsets, states], dim=-1)


# A size of batch is worth a graph of its own if it is below this share of the next larger one.
_WORTHWHILE = 0.9


def bucket_sizes(lengths: NDArray[np.int64], batch_size: int, count: int) -> list[int]:
    """Numbers of points, ascending, the last that of the longest sketch.

    A batch is cut to the first of them that is enough for its longest sketch. The longest of B
    random sketches has at most L points with probability F(L)^B, where F is the share of sketches
    of at most L points. The sizes are quantiles of that, so that each serves equally often, but for
    those that would save hardly a step.

    Args:
        lengths: of all sketches, ascending.
        batch_size: B.
        count: the most sizes that there may be.
    """
    shares = (np.arange(1, count + 1) / count) ** (1 / batch_size)
    quantiles = lengths[np.ceil(shares * len(lengths)).astype(np.int64) - 1]
    sizes: list[int] = []
    for size in quantiles[::-1].tolist():
        if not sizes or size < _WORTHWHILE * sizes[0]:
            sizes.insert(0, size)
    return sizes
