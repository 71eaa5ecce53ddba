"""Fuzzer of the reader of SVG files; `fuzzing` says how to run it."""

import atheris

with atheris.instrument_imports(include=["sketchrnn_fast.data", "svgelements"]):
    import svgelements  # noqa: F401  (the reader imports it when it is first called)
    from readers.chunks import check, input_file

    from sketchrnn_fast.data import svg
    from sketchrnn_fast.data.errors import DatasetError

from fuzzing import fuzz

FILE = input_file(".svg")
SEEDS = (
    b'<svg xmlns="http://www.w3.org/2000/svg"><path transform="rotate(3) scale(2 3)" '
    b'd="M1 2L3 4C5 6 7 8 9 0s1 2 3 4Q1 2 3 4t1 2A5 6 7 1 0 8 9h1v2H3V4z"/></svg>',
    b'<svg><defs><g id="a"><polyline points="0,0 1,1"/></g></defs><use href="#a" x="1"/>'
    b'<rect x="1" width="2" height="3" rx="1"/><circle r="4"/><line x1="1mm"/></svg>',
)


def target(content: bytes) -> None:
    svg.read_lines(content)
    FILE.write_bytes(content)
    check(svg.read([FILE], [""]))


if __name__ == "__main__":
    fuzz(target, SEEDS, DatasetError)
