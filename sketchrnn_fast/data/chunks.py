"""What readers of drawings hand on: drawings, their classes, and what could not be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data.ragged import Lines, Sketches

# No drawing has coordinates like these; sums of squares of smaller ones are exact enough.
MOST_COORDINATE = 1e7


class Problem(NamedTuple):
    """A drawing that cannot be taken.

    Attributes:
        record: its place among the records of what was read, from 0 on.
        what: the rest of a sentence that begins with the name of the record.
    """

    record: int
    what: str


@dataclass(frozen=True, eq=False)
class Chunk:
    """D drawings that were read, of R records, in the order of the file.

    Attributes:
        drawings: as lines, or stroke-3 where the file has that form.
        places: which record each drawing was, int64 `[D]`.
        codes: the class of each, int32 `[D]`, an index into `names`.
        names: names of classes.
        is_raw: which are recordings with times, not yet simplified, bool `[D]`.
        records: R.
        problems: the records that are no drawings.
        unrecognized: how many were left out because the game did not recognize them.
    """

    drawings: Lines | Sketches
    places: NDArray[np.int64]
    codes: NDArray[np.int32]
    names: tuple[str, ...]
    is_raw: NDArray[np.bool_]
    records: int
    problems: list[Problem] = field(default_factory=list)
    unrecognized: int = 0
