"""Lists of sketches as .npz: what is written comes back, and what does not fit is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sketchrnn_fast.data import DatasetError, read_sketches, write_sketches


def test_a_list_of_sketches_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "drawn.npz"
    sketches = [np.full((n, 3), [n, -n, n % 2], np.float32) for n in (3, 0, 1, 5, 0)]
    write_sketches(path, sketches)
    found = read_sketches(path)
    assert len(found) == 5
    for one, expected in zip(found, sketches, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, expected)
    before = path.read_bytes()
    write_sketches(path, sketches)
    assert path.read_bytes() == before


def test_numpy_reads_a_list_of_sketches_without_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "drawn.npz"
    sketches = [np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32) for n in (4, 2)]
    write_sketches(path, sketches)
    with np.load(path, allow_pickle=False) as file:
        assert sorted(file) == ["lengths", "points"]
        parts = np.split(file["points"], np.cumsum(file["lengths"])[:-1])
    for one, expected in zip(parts, sketches, strict=True):
        np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (
            {"train": np.ones(3)},
            " has no points; a list of sketches has points and lengths, and it",
        ),
        ({"points": np.ones((3, 3))}, " has no lengths; a list of sketches has points and"),
        (
            {"points": np.ones((3, 2)), "lengths": np.array([3])},
            ": its points have shape [3, 2]; it takes [P, 3]",
        ),
        (
            {"points": np.ones((3, 3)), "lengths": np.array([1.0, 2.0])},
            ": its lengths are not one or more numbers of points",
        ),
        (
            {"points": np.ones((3, 3)), "lengths": np.array([-1, 4])},
            ": its lengths are not one or more numbers of points",
        ),
        (
            {"points": np.ones((3, 3)), "lengths": np.array([1, 1])},
            ": its lengths make 2 points, but it has 3",
        ),
        (
            {"points": np.array([None, 1], object), "lengths": np.array([1, 1])},
            ", points: it is an object array; it must be one of numbers",
        ),
        (
            {"points": np.array([[0, 0, 1], [1e300, 0, 0]]), "lengths": np.array([1, 0, 1])},
            ", sketch 2, point 0 has the offset (1e+300, 0.0); it must be finite in float32",
        ),
        (
            {"points": np.full((3, 3), np.nan), "lengths": np.array([3])},
            ", sketch 0, point 0 has the offset (nan, nan); it must be finite in float32",
        ),
        (
            {"points": np.array([[0, 0, 1], [0, 0, 0], [0, 0, 2]]), "lengths": np.array([1, 2])},
            ", sketch 1, point 1 has the pen 2; it must be 0 or 1",
        ),
        (
            {"points": np.array([[0, 0, np.nan]]), "lengths": np.array([1])},
            ", sketch 0, point 0 has the pen nan; it must be 0 or 1",
        ),
    ],
)
def test_a_list_of_sketches_that_does_not_fit_is_one_clear_sentence(
    tmp_path: Path, arrays: dict[str, Any], sentence: str
) -> None:
    path = tmp_path / "drawn.npz"
    np.savez(path, **arrays)
    with pytest.raises(DatasetError, match=f"^{re.escape(f'{path}{sentence}')}"):
        read_sketches(path)


def test_a_damaged_list_of_sketches_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "drawn.npz"
    with pytest.raises(DatasetError, match=r"does not exist; a list of sketches is an \.npz file$"):
        read_sketches(path)
    write_sketches(path, [np.ones((9, 3))])
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(DatasetError):
            read_sketches(path)
