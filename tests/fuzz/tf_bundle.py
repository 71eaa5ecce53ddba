"""Fuzzes the readers of TensorFlow's checkpoints: table, bundle and what is made of them.

An input is the index, whose size stands in its first four bytes, and then the data. Checksums are
taken as right, or nothing behind them would ever be reached.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sketchrnn_fast.interop"]):
    from sketchrnn_fast.interop import bundle, table
    from sketchrnn_fast.interop.bundle import data_file, index_file
    from sketchrnn_fast.interop.errors import ModelFileError
    from sketchrnn_fast.interop.imported import Imported
    from sketchrnn_fast.interop.magenta_checkpoint import read_checkpoint, write_checkpoint

import torch
from fuzzing import fuzz

from sketchrnn_fast import ModelConfig, SketchRNN, TrainConfig

SIZES = {
    "enc_rnn_size": 2,
    "dec_rnn_size": 2,
    "z_size": 2,
    "num_mixture": 1,
    "hyper_num_units": 2,
    "hyper_embedding_size": 2,
}
FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
PREFIX = FOLDER / "vector"


def read(content: bytes) -> None:
    size = struct.unpack("<I", content[:4].ljust(4, b"\0"))[0]
    index_file(PREFIX).write_bytes(content[4 : 4 + size])
    data_file(PREFIX).write_bytes(content[4 + size :])
    read_checkpoint(PREFIX)


def seeds() -> Iterator[bytes]:
    for cells in ("lstm", "layer_norm", "hyper"):
        for conditional in (False, True):
            sizes = {**SIZES, "enc_model": cells, "dec_model": cells, "conditional": conditional}
            model = SketchRNN(ModelConfig(**sizes))
            with tempfile.TemporaryDirectory() as folder:
                prefix = write_checkpoint(Imported(model, TrainConfig(), 3), Path(folder))
                index = index_file(prefix).read_bytes()
                yield struct.pack("<I", len(index)) + index + data_file(prefix).read_bytes()


if __name__ == "__main__":
    torch.set_num_threads(1)
    table.masked_crc32c = bundle.masked_crc32c = lambda content: 0  # type: ignore[assignment]
    fuzz(read, seeds(), ModelFileError)
