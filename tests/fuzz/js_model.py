"""Fuzzes the reader of sketch-rnn-js models: JSON, `.js` statements, decoders and VAEs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sketchrnn_fast.interop"]):
    from sketchrnn_fast.interop.errors import ModelFileError
    from sketchrnn_fast.interop.sketch_rnn_js import read_imported, write_model

import torch
from fuzzing import fuzz

from sketchrnn_fast import ModelConfig, SketchRNN

FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
FILE = FOLDER / "model.gen.json"


def read(content: bytes) -> None:
    FILE.write_bytes(content)
    model = read_imported(FILE).model
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def seeds() -> Iterator[bytes]:
    for conditional in (False, True):
        sizes = {"enc_rnn_size": 1, "dec_rnn_size": 1, "z_size": 1, "conditional": conditional}
        model = SketchRNN(ModelConfig(**sizes))
        with tempfile.TemporaryDirectory() as folder:
            for suffix in (".json", ".js"):
                path = Path(folder) / f"knot.gen{suffix}"
                write_model(model, path, name="knot")
                yield path.read_bytes()


if __name__ == "__main__":
    torch.set_num_threads(1)
    fuzz(read, seeds(), ModelFileError)
