"""Datasets of sketches: reading, checking, batching, and the built-in one."""

from sketchrnn_fast.data.batches import Batch, batch, evaluation_batches, random_batch
from sketchrnn_fast.data.dataset import Dataset, SketchDataset, normalizing_scale_factor
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.loading import Splits, load
from sketchrnn_fast.data.mapped import MappedDataset
from sketchrnn_fast.data.npz import SPLITS, read_npz, read_sketches, write_npz, write_sketches
from sketchrnn_fast.data.store import Store, open_store

__all__ = [
    "SPLITS",
    "Batch",
    "Dataset",
    "DatasetError",
    "MappedDataset",
    "SketchDataset",
    "Splits",
    "Store",
    "batch",
    "evaluation_batches",
    "load",
    "normalizing_scale_factor",
    "open_store",
    "random_batch",
    "read_npz",
    "read_sketches",
    "write_npz",
    "write_sketches",
]
