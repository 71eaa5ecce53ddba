"""The built-in dataset: letters, symbols and short words in Hershey's single-stroke fonts.

Training can start from it with no download. It is made, not shipped: the glyphs come from the
PyPI package `Hershey-Fonts`, and every variation from Philox, so that the same numbers come out
on every machine. The arithmetic is addition, multiplication, division and rounding only; no sine,
whose last digit depends on the machine.

Each sketch is a drawing (a glyph or a word), stretched, sheared, rotated and shaken, on a grid of
4 units for one of Hershey's. Its origin is the left end of the line that it is written on, at half
the height of a capital; y points down, as in QuickDraw.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.npz import SPLITS, read_npz, write_npz
from sketchrnn_fast.philox import Stream, philox4x32, uniform
from sketchrnn_fast.strokes import positions_within

if TYPE_CHECKING:
    from HersheyFonts import HersheyFonts

NAME = "hershey"
# Part of the cache file's name: raise it whenever the sketches change.
VERSION = 1
SEED = 0
COUNTS = {"train": 20_000, "valid": 1_000, "test": 1_000}
MAX_POINTS = 64

# The mix, as shares of the sketches: plain letters, letters in script, words, any glyph.
SHARES = (0.50, 0.10, 0.20, 0.20)
PLAIN_FONTS = ("futural", "rowmans")
SCRIPT_FONTS = ("scripts",)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
WORDS = (
    "an as at be by do go he hi if in is it me my no of oh on or so to up us we yes not and the "
    "all any arm art ask bad bat bed big bit box boy bus but buy can car cat cow cup cut day did "
    "dog dot dry ear eat egg end eye fan far few fit fix fly for fox fun get got hat hen her him "
    "his hit hot how ice ill ink its jam jar job joy key kid lap leg let lid lie lip lot low man "
    "map may men mix mud net new nod now nut oak oil old one our out owl own pan pay pen pet pie "
    "pig pin pot put ran rat raw red rib row rug run sad sat saw say sea see set she sit six sky "
    "son sun tea ten tie tin tip toe top toy try two use van vet war was way web wet who why win "
    "yet you zip zoo kiwi lily hill tall tree life love time fire wild line"
)

# Sizes in units of Hershey's glyphs, whose capitals are 21 high around y = -1.5.
_GRID = 4.0
_MIDDLE = -1.5
_LONGEST_SEGMENT = 12.0

# The variation, each drawn evenly from its range around 0 (or 1), noise from a triangle.
_STRETCH = 0.15  # each axis by 1 ± this
_SHEAR = 0.20
_HALF_TURN_TANGENT = 0.07  # of half the angle: ± 8 degrees
_NOISE = 0.35

# The time words of the counter: what varies a sketch, and what shakes its points.
_SKETCH_TIME = 0
_POINT_TIME = 1
# More sketches than asked for are made, because the rare exact repetitions are left out.
_SPARE = 256

_Line = list[tuple[float, float]]


# --------------------------------------------------------------------------------------------
# Cache


def sketches(cache_dir: str | os.PathLike[str] | None = None) -> dict[str, list[NDArray[Any]]]:
    """The dataset, from the cache where it is there: split -> int16 `[N, 3]` arrays.

    A cache file that cannot be read is made anew. Where the cache cannot be written, a warning
    says so and the dataset is kept in memory only.
    """
    folder = Path(cache_dir) if cache_dir is not None else cache_folder()
    path = folder / f"{NAME}-v{VERSION}.npz"
    if path.exists():
        try:
            cached = read_npz(path)
            if {split: len(cached[split]) for split in SPLITS} == COUNTS:
                return cached
            problem = "it does not hold the sketches that it should"
        except DatasetError as error:
            problem = str(error)
        warnings.warn(f"the cached dataset {path} is made anew: {problem}", stacklevel=2)
    made = make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_npz(path, made)
    except OSError as error:
        warnings.warn(
            f"the built-in dataset cannot be kept in {folder} ({error.strerror or error}); "
            "it will be made anew next time",
            stacklevel=2,
        )
    return made


def cache_folder() -> Path:
    """The environment variable SKETCHRNN_FAST_CACHE, or the platform's folder for caches."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("SKETCHRNN_FAST_CACHE") or user_cache_dir("sketchrnn-fast"))


# --------------------------------------------------------------------------------------------
# Sketches from drawings


@dataclass(frozen=True, eq=False)
class _Drawings:
    """Drawings end to end: absolute points in Hershey's units, `[P, 2]`, and pens `[P]`."""

    points: NDArray[np.float64]
    pens: NDArray[np.int16]
    lengths: NDArray[np.int64]
    # Drawings of one kind are neighbours: kind k ends before `kind_ends[k]`.
    kind_ends: NDArray[np.int64]


def make(seed: int = SEED) -> dict[str, list[NDArray[Any]]]:
    """Make the dataset: split -> int16 `[N, 3]` arrays, `COUNTS` of them, no two equal.

    Takes about a second; a pure function of the seed.
    """
    wanted = sum(COUNTS.values())
    drawings = _all_drawings()
    unique: dict[bytes, NDArray[Any]] = {}
    for sketch in _vary(drawings, np.arange(wanted + _SPARE), seed):
        unique.setdefault(sketch.tobytes(), sketch)
    made = iter(unique.values())
    return {split: [next(made) for _ in range(COUNTS[split])] for split in SPLITS}


def _vary(drawings: _Drawings, rows: NDArray[np.int64], seed: int) -> list[NDArray[np.int16]]:
    """One varied drawing for each row; the row is all that its numbers depend on."""
    draws = uniform(
        philox4x32(np.arange(2), _SKETCH_TIME, rows[:, None], Stream.AUGMENTATION, seed)
    ).reshape(len(rows), 8)
    chosen = _choose(drawings, draws[:, 0], draws[:, 1])
    lengths = drawings.lengths[chosen]
    starts = np.cumsum(drawings.lengths) - drawings.lengths
    position = positions_within(lengths)
    source = np.repeat(starts[chosen], lengths) + position

    around = draws[:, 2:6].astype(np.float64) * 2 - 1
    x_scale, y_scale, shear, turn = np.repeat(np.stack(_affine(around), axis=1), lengths, axis=0).T
    x = drawings.points[source, 0] * x_scale
    y = drawings.points[source, 1] * y_scale
    x = x + shear * y
    # A turn by the angle whose half has the tangent t: its cosine and sine are fractions of t.
    cosine, sine = (1 - turn * turn) / (1 + turn * turn), 2 * turn / (1 + turn * turn)
    placed = np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1)

    noise = uniform(
        philox4x32(position, _POINT_TIME, np.repeat(rows, lengths), Stream.AUGMENTATION, seed)
    ).astype(np.float64)
    placed += _NOISE * (noise[:, :2] + noise[:, 2:] - 1)
    return _to_sketches(np.rint(placed * _GRID), drawings.pens[source], lengths)


def _choose(
    drawings: _Drawings, kind_draw: NDArray[np.float32], draw: NDArray[np.float32]
) -> NDArray[np.int64]:
    """A drawing for each pair of uniforms: first its kind by the mix, then evenly in the kind."""
    kind = np.searchsorted(np.cumsum(SHARES[:-1]), kind_draw, side="right")
    first = np.concatenate([[0], drawings.kind_ends[:-1]])
    within = draw.astype(np.float64) * (drawings.kind_ends - first)[kind]
    chosen: NDArray[np.int64] = first[kind] + within.astype(np.int64)
    return chosen


def _affine(around: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """x scale, y scale, shear, and the tangent of half the turn, from `[n, 4]` in (-1, 1)."""
    return (
        1 + _STRETCH * around[:, 0],
        1 + _STRETCH * around[:, 1],
        _SHEAR * around[:, 2],
        _HALF_TURN_TANGENT * around[:, 3],
    )


def _to_sketches(
    points: NDArray[np.float64], pens: NDArray[np.int16], lengths: NDArray[np.int64]
) -> list[NDArray[np.int16]]:
    rows = np.empty((len(points), 3), np.int16)
    starts = np.cumsum(lengths) - lengths
    offsets = np.diff(points, axis=0, prepend=0.0)
    offsets[starts] = points[starts]
    rows[:, :2] = offsets
    rows[:, 2] = pens
    return np.split(rows, starts[1:])


# --------------------------------------------------------------------------------------------
# Drawings from fonts


def _all_drawings() -> _Drawings:
    """Every glyph and word of the mix that has 2 to `MAX_POINTS` points, kind by kind."""
    from HersheyFonts import HersheyFonts

    font = HersheyFonts()
    kinds = (
        _texts(font, PLAIN_FONTS, LETTERS),
        _texts(font, SCRIPT_FONTS, LETTERS),
        _texts(font, PLAIN_FONTS + SCRIPT_FONTS, WORDS.split()),
        _texts(font, font.default_font_names, None),
    )
    lines: list[NDArray[np.float64]] = []
    lines_of_drawing: list[int] = []
    kind_ends = []
    for kind in kinds:
        for drawing in kind:
            lines += drawing
            lines_of_drawing.append(len(drawing))
        kind_ends.append(len(lines_of_drawing))
    line_lengths = np.array([len(line) for line in lines])
    line_counts = np.array(lines_of_drawing)
    first_lines = np.cumsum(line_counts) - line_counts
    pens = np.zeros(line_lengths.sum(), np.int16)
    pens[np.cumsum(line_lengths) - 1] = 1
    return _Drawings(
        np.concatenate(lines),
        pens,
        np.add.reduceat(line_lengths, first_lines),
        np.array(kind_ends),
    )


def _texts(
    font: HersheyFonts, font_names: Sequence[str], texts: Sequence[str] | None
) -> Iterator[list[NDArray[np.float64]]]:
    """The lines of each text in each font; of every glyph where no texts are given."""
    for font_name in font_names:
        font.load_default_font(font_name)
        for text in sorted(font.all_glyphs) if texts is None else texts:
            lines = [line for glyph in _glyphs(font, text) for line in _join(glyph)]
            drawing = [_subdivide(np.array(line)) - (0, _MIDDLE) for line in lines]
            if 2 <= sum(map(len, drawing)) <= MAX_POINTS:
                yield drawing


def _glyphs(font: HersheyFonts, text: str) -> Iterator[list[_Line]]:
    """The lines of each glyph of a text, placed one after another along the line."""
    left = 0.0
    for character in text:
        yield [
            [(left + x, y) for x, y in line] for line in font.strokes_for_text(character) if line
        ]
        left += font.all_glyphs[character].char_width


def _join(lines: Sequence[_Line]) -> list[_Line]:
    """Join a line to the one before it where they touch, turned round where that is what it takes.

    The fonts lift the pen at many corners where a hand would go on.
    """
    joined: list[_Line] = []
    for line in lines:
        before = joined[-1] if joined else []
        if before and before[-1] not in (line[0], line[-1]) and before[0] in (line[0], line[-1]):
            before.reverse()
        if before and before[-1] == line[-1] and before[-1] != line[0]:
            line = line[::-1]
        if before and before[-1] == line[0]:
            before += line[1:]
        else:
            joined.append(list(line))
    return joined


def _subdivide(line: NDArray[Any]) -> NDArray[np.float64]:
    """Cut segments longer than `_LONGEST_SEGMENT` into equal parts; drop repeated points."""
    steps = np.diff(line.astype(np.float64), axis=0)
    steps = steps[(steps != 0).any(axis=1)]
    squared = (steps * steps).sum(axis=1)
    parts = np.searchsorted((np.arange(1, 16) * _LONGEST_SEGMENT) ** 2, squared) + 1
    cut = np.repeat(steps / parts[:, None], parts, axis=0)
    return np.concatenate([line[:1], line[0] + np.cumsum(cut, axis=0)])
