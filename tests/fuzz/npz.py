"""Fuzzer of the reader of .npz and .npy files; `fuzzing` says how to run it.

No mutation of a whole archive gets past its checksums, so what does not begin as one is put into a
good archive as an array, and read as an .npy too.
"""

import contextlib
import io
import zipfile

import atheris

with atheris.instrument_imports(include=["sketchrnn_fast.data"]):
    from readers.chunks import check, input_file

    from sketchrnn_fast.data import DatasetError, arrays, read_npz, write_npz, write_sketches

import numpy as np
from fuzzing import fuzz

NPZ, NPY = input_file(".npz"), input_file(".npy")
SPLITS = ("train", "valid", "test")


def seeds() -> list[bytes]:
    """A dataset, a list of sketches, splits that collapsed to one array, and arrays of these."""
    array = np.array([[1, 2, 0], [3, 4, 1]], np.int16)
    write_npz(NPZ, {split: [array, array[:1]] for split in SPLITS})
    files = [NPZ.read_bytes()]
    write_sketches(NPZ, [array])
    files.append(NPZ.read_bytes())
    stream = io.BytesIO()
    np.savez(stream, **{split: np.stack([array, array]) for split in SPLITS})
    files.append(stream.getvalue())
    members = []
    for content in files:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members.append(archive.read(archive.namelist()[0]))
    return [*files, *members]


def target(content: bytes) -> None:
    if content.startswith(b"PK"):
        NPZ.write_bytes(content)
    else:
        NPY.write_bytes(content)
        with contextlib.suppress(DatasetError):
            check(arrays.read(NPY, None, ""))
        with zipfile.ZipFile(NPZ, "w") as archive:
            for split in SPLITS:
                archive.writestr(f"{split}.npy", content)
    with contextlib.suppress(DatasetError):
        read_npz(NPZ)
    for split in arrays.split_names(NPZ) or (None,):
        check(arrays.read(NPZ, split, ""))


if __name__ == "__main__":
    fuzz(target, seeds(), DatasetError)
