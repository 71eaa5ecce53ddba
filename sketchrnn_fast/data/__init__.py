"""Datasets of sketches: reading, checking, batching, and the built-in one."""

from sketchrnn_fast.data.batches import Batch, batch, evaluation_batches, random_batch
from sketchrnn_fast.data.dataset import SketchDataset, normalizing_scale_factor
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.loading import Splits, load
from sketchrnn_fast.data.npz import SPLITS, read_npz, read_sketches, write_npz, write_sketches

__all__ = [
    "SPLITS",
    "Batch",
    "DatasetError",
    "SketchDataset",
    "Splits",
    "batch",
    "evaluation_batches",
    "load",
    "normalizing_scale_factor",
    "random_batch",
    "read_npz",
    "read_sketches",
    "write_npz",
    "write_sketches",
]
