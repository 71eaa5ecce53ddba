"""Fuzzing the readers of data with Atheris: one target a format.

    python tests/fuzz/data_readers.py svg -max_total_time=600 FOLDER

Whatever the bytes, a reader gives drawings that hold together, or a `DatasetError`. Any other
exception, a hang (-timeout) or too much memory (-rss_limit_mb) is a finding; libFuzzer writes the
input to a file and says so. FOLDER keeps what was found interesting; without it, seeds are used
once. The options are libFuzzer's.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sketchrnn_fast.data", "svgelements"]):
    import svgelements  # noqa: F401  (the reader imports it when it is first called)

    from sketchrnn_fast.data import DatasetError, arrays, json_lines, quickdraw_bin, svg
    from sketchrnn_fast.data.chunks import MOST_COORDINATE, Chunk
    from sketchrnn_fast.data.parts import Recipe, finish
    from sketchrnn_fast.data.simplification import Simplification

import numpy as np

RECIPE = Recipe("auto", Simplification(), "int16", 1, None, False, True)


def check(chunk: Chunk) -> None:
    """Everything that a conversion would do with a chunk holds."""
    drawings = chunk.drawings
    assert len(drawings) == len(chunk.places) == len(chunk.codes) == len(chunk.is_raw)
    assert len(chunk.places) + len(chunk.problems) + chunk.unrecognized <= chunk.records
    assert drawings.lengths.sum() == len(drawings.points)
    assert (drawings.lengths > 0).all()
    assert not len(chunk.codes) or 0 <= chunk.codes.min() <= chunk.codes.max() < len(chunk.names)
    assert (np.abs(drawings.points[:, :2]) <= MOST_COORDINATE).all()
    sketches, *_ = finish(chunk, RECIPE)
    assert sketches.points.dtype == np.int16
    assert sketches.lengths.sum() == len(sketches.points)


def read_bin(path: Path) -> None:
    for start, stop in quickdraw_bin.ranges(path, 1000):
        check(quickdraw_bin.read(path, start, stop, "", True))


def read_json(path: Path) -> None:
    for start, stop in json_lines.ranges(path, 1000):
        check(json_lines.read(path, start, stop, "", True))


def read_svg(path: Path) -> None:
    check(svg.read([path], [""]))


def read_npz(path: Path) -> None:
    """Whole files, and, as no mutation gets past their checksums, single arrays in good files."""
    content = path.read_bytes()
    if not content.startswith(b"PK"):
        with contextlib.suppress(DatasetError):
            array = path.with_suffix(".npy")
            array.write_bytes(content)
            check(arrays.read(array, None, ""))
        with zipfile.ZipFile(path, "w") as archive:
            for split in ("train", "valid", "test"):
                archive.writestr(f"{split}.npy", content)
    for split in arrays.split_names(path) or (None,):
        check(arrays.read(path, split, ""))


def seeds(name: str) -> list[bytes]:
    """A few good files of each format, to begin from."""
    if name == "bin":
        head = b"\x01\0\0\0\0\0\0\0CH\x01\0\0\0\0"
        return [head + b"\x02\0\x02\0\x01\x02\x03\x04\x01\0\x05\x06", head + b"\0\0"]
    if name == "json":
        return [
            b'{"word":"cat","recognized":true,"drawing":[[[1,2],[3,4],[0,9]]]}\n',
            b'{"drawing":[[[1.5,2],[3,4]],[[5],[6]]]}\n[[1,2,0],[3,4,1]]\n',
            b'{"strokes":[[1,2,1,0,0],[0,0,0,0,1]]}\n{"lines":[[[1,2],[3,4]]]}',
        ]
    if name == "svg":
        return [
            b'<svg xmlns="http://www.w3.org/2000/svg"><path transform="rotate(3) scale(2 3)" '
            b'd="M1 2L3 4C5 6 7 8 9 0s1 2 3 4Q1 2 3 4t1 2A5 6 7 1 0 8 9h1v2H3V4z"/></svg>',
            b'<svg><defs><g id="a"><polyline points="0,0 1,1"/></g></defs><use href="#a" x="1"/>'
            b'<rect x="1" width="2" height="3" rx="1"/><circle r="4"/><line x1="1mm"/></svg>',
        ]
    array = np.array([[1, 2, 0], [3, 4, 1]], np.int16)
    stream = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        from sketchrnn_fast.data import write_npz, write_sketches

        file = Path(folder) / "a.npz"
        write_npz(file, {split: [array, array[:1]] for split in ("train", "valid", "test")})
        found = [file.read_bytes()]
        write_sketches(file, [array])
        found.append(file.read_bytes())
    np.savez(stream, **dict.fromkeys(("train", "valid", "test"), np.stack([array, array])))
    found.append(stream.getvalue())
    for file_content in list(found):
        with zipfile.ZipFile(io.BytesIO(file_content)) as archive:
            found += [archive.read(member) for member in archive.namelist()[:1]]
    return found


TARGETS: dict[str, Callable[[Path], None]] = {
    "bin": read_bin,
    "json": read_json,
    "svg": read_svg,
    "npz": read_npz,
}


def main() -> None:
    name = sys.argv.pop(1)
    target = TARGETS[name]
    memory = Path("/dev/shm")  # where it is, files are written to memory
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    file = folder / f"input.{'jsonl' if name == 'json' else name}"
    corpus = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if not corpus:
        corpus = [str(folder / "corpus")]
        sys.argv.append(corpus[0])
    Path(corpus[0]).mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds(name)):
        (Path(corpus[0]) / f"seed-{number}").write_bytes(content)

    def one_input(content: bytes) -> None:
        file.write_bytes(content)
        try:
            target(file)
        except DatasetError:
            pass

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
