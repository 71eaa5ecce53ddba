"""Fuzzer of the reader of QuickDraw's .bin files; `fuzzing` says how to run it."""

import atheris

with atheris.instrument_imports(include=["sketchrnn_fast.data"]):
    from readers.chunks import check, input_file

    from sketchrnn_fast.data import DatasetError, quickdraw_bin

from fuzzing import fuzz

FILE = input_file(".bin")
HEAD = b"\x01\0\0\0\0\0\0\0CH\x01\0\0\0\0"
SEEDS = (HEAD + b"\x02\0\x02\0\x01\x02\x03\x04\x01\0\x05\x06", HEAD + b"\0\0" + HEAD + b"\0\0")


def target(content: bytes) -> None:
    FILE.write_bytes(content)
    for start, stop in quickdraw_bin.ranges(FILE, 1000):
        check(quickdraw_bin.read(FILE, start, stop, "", True))


if __name__ == "__main__":
    fuzz(target, SEEDS, DatasetError)
