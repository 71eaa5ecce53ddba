"""Sketches in `.npz` files: Magenta's datasets, and plain lists of sketches.

A dataset has `train`, `valid` and `test`, each an object array of sketches. A list of sketches, as
the commands that draw write it, has their points laid end to end and their lengths: number arrays
alone, which NumPy reads without `allow_pickle`.

Reading never runs a pickle (`unpickle.py`) and never sets memory aside for a claim that the bytes
at hand do not back. Writing is atomic and makes what Magenta reads, whatever NumPy writes today.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike, NDArray

from sketchrnn_fast.data.dataset import check_values
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.unpickle import (
    PickledArray,
    is_shape,
    numbers_from_bytes,
    unpickle_array,
)
from sketchrnn_fast.files import write_atomically

SPLITS = ("train", "valid", "test")

# Drawings deflate to a third; nothing drawn comes near one part in 200.
_MOST_INFLATION = 200
_ALWAYS_ALLOWED_BYTES = 1 << 20
# What NumPy writes. Of the others, zipfile inflates more than it is asked for.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MOST_SHARED_BYTES = 1 << 28


# --------------------------------------------------------------------------------------------
# Reading


def read_npz(path: str | os.PathLike[str]) -> dict[str, list[NDArray[Any]]]:
    """Read the sketches of each split.

    Args:
        path: an `.npz` with `train`, `valid` and `test`, each an object array of `[N, 3]` arrays
            (pickled by Python 2 or 3, NumPy 1 or 2), or collapsed to one array `[n, L, 3]`.

    Returns:
        split -> list of arrays in the file's dtype, read-only where they are views of its bytes.
        Their columns and values are checked where they become a `SketchDataset`.

    Raises:
        DatasetError: the file is missing, not an npz, cut short, lacks a split, claims more than
            it holds, or holds anything but number arrays.
    """
    with _opened(Path(path), "a dataset") as archive:
        return {split: _read_split(Path(path), archive, split) for split in SPLITS}


def read_npz_members(
    path: str | os.PathLike[str], splits: Sequence[str], arrays: Sequence[str] = ()
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Read some splits and some number arrays of an `.npz`, whatever else it has.

    Returns:
        name -> the list of sketches of a split, or an array; and the names of all members.

    Raises:
        DatasetError: as `read_npz`; a named member is missing.
    """
    path = Path(path)
    with _opened(path, "a dataset") as archive:
        read: dict[str, Any] = {split: _read_split(path, archive, split) for split in splits}
        read.update((name, _read_numbers(path, archive, name)) for name in arrays)
        names = tuple(name.removesuffix(".npy") for name in archive.namelist())
    return read, names


def read_npy(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an `.npy` of numbers.

    Raises:
        DatasetError: it is missing, cut short, holds objects, or claims more than it has.
    """
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    try:
        return _npy_numbers(path.read_bytes())
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None


def read_sketches(path: str | os.PathLike[str]) -> list[NDArray[np.float32]]:
    """Read what `write_sketches` wrote.

    Args:
        path: an `.npz` with `points`, numbers `[P, 3]`, and `lengths`, integers `[n]`.

    Returns:
        n stroke-3 arrays; empty ones where a length is 0.

    Raises:
        DatasetError: the file is missing, not an npz, cut short, lacks an array, claims more than
            it holds, its arrays do not fit together, an offset is not finite in float32, or a pen
            is neither 0 nor 1; it names the sketch and the point.
    """
    path = Path(path)
    with _opened(path, "a list of sketches") as archive:
        points, lengths = (_read_numbers(path, archive, name) for name in ("points", "lengths"))
    if points.ndim != 2 or points.shape[1] != 3:
        raise DatasetError(f"{path}: its points have shape {list(points.shape)}; it takes [P, 3]")
    is_list = lengths.ndim == 1 and lengths.dtype.kind in "iu" and len(lengths) > 0
    if not is_list or lengths.min() < 0 or lengths.max() > len(points):
        raise DatasetError(f"{path}: its lengths are not one or more numbers of points")
    if sum(lengths.tolist()) != len(points):
        raise DatasetError(
            f"{path}: its lengths make {sum(lengths.tolist())} points, but it has {len(points)}"
        )
    lengths = lengths.astype(np.int64)
    ends = np.cumsum(lengths)[:-1]
    with np.errstate(over="ignore"):
        converted = points.astype(np.float32)
    check_values(converted, lengths, np.split(points, ends), str(path))
    return np.split(converted, ends)


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[zipfile.ZipFile]:
    """The archive; whatever is wrong with it is told as a DatasetError."""
    if not path.exists():
        raise DatasetError(f"{path} does not exist; {kind} is an .npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DatasetError:
        raise
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError):
        raise DatasetError(f"{path} is not an npz file, or it is cut short or damaged") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None


def _read_numbers(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    if f"{name}.npy" not in archive.namelist():
        raise DatasetError(
            f"{path} has no {name}; a list of sketches has points and lengths, and it has "
            f"{_members(archive)}"
        )
    try:
        return _npy_numbers(_inflate(archive, archive.getinfo(f"{name}.npy"), path.stat().st_size))
    except DatasetError as error:
        raise DatasetError(f"{path}, {name}: {error}") from None


def _npy_numbers(content: bytes) -> NDArray[Any]:
    stream = io.BytesIO(content)
    shape, fortran, dtype = read_npy_header(stream)
    if dtype.hasobject:
        raise DatasetError("it is an object array; it must be one of numbers")
    return numbers_from_bytes(content[stream.tell() :], shape, dtype, "F" if fortran else "C")


def _members(archive: zipfile.ZipFile) -> str:
    return listed([name.removesuffix(".npy") for name in archive.namelist()])


def listed(names: Sequence[str]) -> str:
    """The first names of an archive's members for a message, whatever characters they are of."""
    shown = [name if name.isprintable() else ascii(name) for name in names[:5]]
    return ", ".join(name[:40] for name in shown) or "nothing"


def _read_split(path: Path, archive: zipfile.ZipFile, split: str) -> list[NDArray[Any]]:
    if f"{split}.npy" not in archive.namelist():
        raise DatasetError(
            f"{path} has no split {split}; it must have {', '.join(SPLITS)}, and has "
            f"{_members(archive)}"
        )
    try:
        content = _inflate(archive, archive.getinfo(f"{split}.npy"), path.stat().st_size)
        return _sketches_of_npy(content)
    except DatasetError as error:
        raise DatasetError(f"{path}, split {split}: {error}") from None


def _inflate(archive: zipfile.ZipFile, member: zipfile.ZipInfo, archive_size: int) -> bytes:
    """The bytes of a member, refused before reading where its size cannot be true."""
    if member.compress_size > archive_size:
        raise DatasetError("it claims more bytes than the file has")
    if member.file_size > _ALWAYS_ALLOWED_BYTES + _MOST_INFLATION * member.compress_size:
        raise DatasetError(
            f"it inflates from {member.compress_size} to {member.file_size} bytes; "
            f"at most {_MOST_INFLATION} to 1 is accepted"
        )
    if member.compress_type not in _COMPRESSIONS:
        raise DatasetError("its compression is of another kind; npz files are stored or deflated")
    try:
        with archive.open(member) as stream:
            # Without a size, as in `archive.read`, all there is would be inflated, claimed or not.
            return stream.read(member.file_size)
    except (EOFError, zlib.error):
        raise DatasetError("its compressed bytes are cut short or damaged") from None
    except (RuntimeError, NotImplementedError) as error:
        raise DatasetError(f"it cannot be unpacked: {error}") from None


def _sketches_of_npy(content: bytes) -> list[NDArray[Any]]:
    stream = io.BytesIO(content)
    shape, fortran, dtype = read_npy_header(stream)
    body = content[stream.tell() :]
    if dtype.hasobject:
        array = unpickle_array(body)
        if array.items is None or array.shape != shape:
            raise DatasetError("its header and its pickle describe different arrays")
        return _sketches_of_objects(array, len(body))
    return _sketches_of_numbers(numbers_from_bytes(body, shape, dtype, "F" if fortran else "C"))


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, Fortran order and dtype of an npy, of objects or plain numbers.

    Raises:
        DatasetError: it has no such header.
    """
    try:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise DatasetError(f"it is of npy version {version}; 1.0 and 2.0 are read")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with warnings.catch_warnings():  # of Python 2's (3L,), and of what its parser makes of text
            warnings.simplefilter("ignore")
            shape, fortran, dtype = read(stream)
    except DatasetError:
        raise
    except Exception:  # NumPy evaluates the text, and what it raises depends on that
        raise DatasetError("its npy header cannot be read") from None
    if not is_shape(shape):
        raise DatasetError("its npy header has a shape that no array has")
    if dtype != np.dtype(object) and (dtype.kind not in "iuf" or dtype.itemsize > 8):
        raise DatasetError(f"its dtype is {dtype}; it must be an object array, integers or floats")
    return shape, fortran, dtype


def _sketches_of_numbers(array: NDArray[Any]) -> list[NDArray[Any]]:
    """One array for a whole split, as NumPy makes of sketches of equal length (quirk 11)."""
    if array.ndim != 3 or array.size == 0:
        raise DatasetError(
            f"it is an array of shape {list(array.shape)}; a split is an object array of "
            "[N, 3] arrays, or one array [sketches, N, 3]"
        )
    return list(array)


def _sketches_of_objects(array: PickledArray, pickle_bytes: int) -> list[NDArray[Any]]:
    if len(array.shape) == 3:
        return _sketches_of_numbers(_numbers(array))
    if len(array.shape) != 1:
        raise DatasetError(
            f"it is an object array of shape {list(array.shape)}; it must be one of sketches"
        )
    sketches = []
    for index, item in enumerate(array.items or []):
        if not isinstance(item, PickledArray):
            raise DatasetError(
                f"sketch {index} is a {type(item).__name__}; it must be an [N, 3] array"
            )
        sketches.append(item.numbers if item.numbers is not None else _numbers(item))
    # One array may stand for many sketches in a pickle, so a small file could name a huge set.
    total = sum(sketch.nbytes for sketch in sketches)
    if total > max(_MOST_SHARED_BYTES, 16 * pickle_bytes):
        raise DatasetError(f"its sketches are {total} bytes, made of {pickle_bytes}; refused")
    return sketches


def _numbers(array: PickledArray) -> NDArray[np.float64]:
    """The Python numbers of an object array as float64."""
    for item in array.items or []:
        if type(item) not in (int, float):
            raise DatasetError(f"an object array holds a {type(item).__name__}, not a number")
    try:
        return np.array(array.items, np.float64).reshape(array.shape)
    except OverflowError:
        raise DatasetError("an object array holds a number that no float can hold") from None


# --------------------------------------------------------------------------------------------
# Writing


def write_npz(
    path: str | os.PathLike[str],
    splits: Mapping[str, Sequence[ArrayLike]],
    arrays: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Write a dataset that Magenta reads (with `allow_pickle=True, encoding="latin1"`).

    The same sketches give the same bytes. The file appears whole or not at all.

    Args:
        path: where to; its folder must exist.
        splits: `train`, `valid` and `test`, each a sequence of `[N, 3]` arrays, kept in their
            dtype.
        arrays: further arrays of numbers, which Magenta passes over.

    Raises:
        DatasetError: a split is missing.
        OSError: the file cannot be written.
    """
    missing = [split for split in SPLITS if split not in splits]
    if missing:
        raise DatasetError(f"a dataset has {', '.join(SPLITS)}; {', '.join(missing)} is missing")
    members = {split: _npy_of_sketches(splits[split]) for split in SPLITS}
    members.update((name, _npy_of_numbers(array)) for name, array in (arrays or {}).items())
    _write(path, members)


def write_sketches(path: str | os.PathLike[str], sketches: Sequence[ArrayLike]) -> None:
    """Write a list of sketches: `points` float32 `[P, 3]`, and `lengths` int64 `[n]`.

    `numpy.load` reads it without `allow_pickle`, and
    `np.split(file["points"], np.cumsum(file["lengths"])[:-1])` makes it sketches again. The same
    sketches give the same bytes. The file appears whole or not at all.

    Args:
        path: where to; its folder must exist.
        sketches: one or more `[N, 3]` arrays.

    Raises:
        OSError: the file cannot be written.
    """
    arrays = [np.asarray(sketch, np.float32) for sketch in sketches]
    lengths = np.array([len(array) for array in arrays], np.int64)
    points = np.concatenate(arrays)
    _write(path, {"points": _npy_of_numbers(points), "lengths": _npy_of_numbers(lengths)})


def _write(path: str | os.PathLike[str], members: Mapping[str, bytes]) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, npy_bytes in members.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # its date is 1980, always
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, npy_bytes)
    write_atomically(path, content.getvalue())


def _npy_of_numbers(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    npy.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _npy_of_sketches(sketches: Sequence[ArrayLike]) -> bytes:
    # np.savez would collapse sketches of equal length, and the pickles of NumPy 2 name a module
    # that NumPy 1 lacks. In protocol 3 the name stands at the head, as text.
    array = np.empty(len(sketches), object)
    for index, sketch in enumerate(sketches):
        array[index] = np.ascontiguousarray(sketch)
    stream = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": array.shape}
    npy.write_array_header_1_0(stream, cast(Any, header))
    pickled = pickle.dumps(array, protocol=3)
    return stream.getvalue() + pickled.replace(
        b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1
    )
