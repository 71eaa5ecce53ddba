"""Fuzzer of the reader of .ndjson and .jsonl files; `fuzzing` says how to run it."""

import atheris

with atheris.instrument_imports(include=["sketchrnn_fast.data"]):
    from readers.chunks import check, input_file

    from sketchrnn_fast.data import DatasetError, json_lines

from fuzzing import fuzz

FILE = input_file(".jsonl")
SEEDS = (
    b'{"word":"cat","recognized":true,"drawing":[[[1,2],[3,4],[0,9]]]}\n',
    b'{"drawing":[[[1.5,2],[3,4]],[[5],[6]]]}\n[[1,2,0],[3,4,1]]\n',
    b'{"strokes":[[1,2,1,0,0],[0,0,0,0,1]]}\n{"lines":[[[1,2],[3,4]]]}',
)


def target(content: bytes) -> None:
    FILE.write_bytes(content)
    for start, stop in json_lines.ranges(FILE, 1000):
        check(json_lines.read(FILE, start, stop, "", True))


if __name__ == "__main__":
    fuzz(target, SEEDS, DatasetError)
