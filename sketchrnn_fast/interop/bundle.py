"""TensorFlow's V2 checkpoints ("tensor bundles"), read and written without TensorFlow.

    PREFIX.index                    a sorted table (`table.py`)
    PREFIX.data-00000-of-00001      the tensors' bytes, little-endian, row-major; one file a shard

The index holds protocol buffers: under the empty key the header (1: number of shards, 2: byte
order, 3: version), under each tensor's name where it is (1: dtype, 2: shape, 3: shard, 4: offset,
5: size, 6: masked CRC-32C, 7: slices of a partitioned variable, which are refused). A tensor is
read when it is asked for, its place and size having been compared with the file's and with its
shape before, so a file can claim no more than it holds. Nothing in a checkpoint is executed; its
`.meta`, the graph, is not looked at.
Source: TensorFlow's `tensor_bundle.proto`; model_spec 7.5.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.files import write_atomically
from sketchrnn_fast.interop import table
from sketchrnn_fast.interop.errors import ModelFileError, quoted
from sketchrnn_fast.interop.table import masked_crc32c, read_table, read_varint, varint, write_table

# TensorFlow's numbers of the types that a checkpoint of Sketch-RNN may hold.
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
}
_MOST_DIMENSIONS = 8
_MOST_SHARDS = 1000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Entry:
    """Where a tensor is."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


class Bundle(Mapping[str, NDArray[Any]]):
    """The tensors of a V2 checkpoint by name, each read from the disk when it is asked for.

    Args:
        prefix: the checkpoint's path without `.index`.

    Raises:
        ModelFileError: a file is missing or damaged, or an entry names what is not in its file.
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        self.prefix = Path(prefix)
        index = index_file(self.prefix)
        try:
            entries = read_table(_read(index, table.MOST_BYTES))
            self._shards = _header(entries.pop(b"", None))
            self.entries = {
                _name(key): _entry(key, value, self._shards) for key, value in entries.items()
            }
        except ModelFileError as error:
            raise ModelFileError(f"{index}: {error}") from None
        self._check_places()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor, without reading any."""
        return {name: entry.shape for name, entry in self.entries.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Read a tensor.

        Raises:
            KeyError: there is none of that name.
            ModelFileError: its type is none of `DTYPES`, its size does not fit its shape, or its
                checksum is wrong.
        """
        entry = self.entries[name]
        file = self._data_file(entry.shard)
        dtype = DTYPES.get(entry.dtype)
        if dtype is None:
            raise ModelFileError(
                f"{file}: {quoted(name)} has TensorFlow's type {entry.dtype}; "
                f"{', '.join(kind.name for kind in DTYPES.values())} are read"
            )
        if math.prod(entry.shape) * dtype.itemsize != entry.size:
            raise ModelFileError(
                f"{file}: {quoted(name)} has {entry.size} bytes; {dtype.name} {list(entry.shape)} "
                f"takes {math.prod(entry.shape) * dtype.itemsize}"
            )
        with file.open("rb") as stream:
            stream.seek(entry.offset)
            content = stream.read(entry.size)
        if len(content) != entry.size or masked_crc32c(content) != entry.crc:
            raise ModelFileError(f"{file}: the checksum of {quoted(name)} is wrong: it is damaged")
        return np.frombuffer(content, dtype).reshape(entry.shape).copy()

    def _data_file(self, shard: int) -> Path:
        return data_file(self.prefix, shard, self._shards)

    def _check_places(self) -> None:
        """Every tensor lies in its file, and together they are no more than the files hold."""
        sizes: dict[int, int] = {}
        total = 0
        for name, entry in self.entries.items():
            file = self._data_file(entry.shard)
            if entry.shard not in sizes:
                try:
                    sizes[entry.shard] = file.stat().st_size
                except OSError as error:
                    raise ModelFileError(f"{file} cannot be read: {error.strerror}") from None
            if entry.offset + entry.size > sizes[entry.shard]:
                raise ModelFileError(
                    f"{file} has {sizes[entry.shard]} bytes; {quoted(name)} should be the "
                    f"{entry.size} from {entry.offset} on: it is cut short or damaged"
                )
            total += entry.size
        if total > sum(sizes.values()):
            raise ModelFileError(
                f"{index_file(self.prefix)}: its tensors have {total} bytes, their files only "
                f"{sum(sizes.values())}: it is damaged"
            )


def index_file(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.index")


def data_file(prefix: Path, shard: int = 0, shards: int = 1) -> Path:
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")


def write_bundle(prefix: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a checkpoint of one shard that TensorFlow reads; the index last, each file whole.

    Args:
        arrays: of the types in `DTYPES`.

    Raises:
        OSError: it cannot be written.
    """
    numbers = {dtype: number for number, dtype in DTYPES.items()}
    # Header: one shard, little-endian, written by version 1 of the format.
    entries = {b"": _field(1, 1) + _message(3, _field(1, 1))}
    content = bytearray()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        array = array.astype(array.dtype.newbyteorder("<"), order="C")
        tensor = array.tobytes()
        shape = b"".join(_message(2, _field(1, size)) for size in array.shape)
        entries[name.encode()] = (
            _field(1, numbers[array.dtype])
            + _message(2, shape)
            + (_field(4, len(content)) if content else b"")
            + _field(5, len(tensor))
            + bytes([6 << 3 | _FIXED32])
            + struct.pack("<I", masked_crc32c(tensor))
        )
        content += tensor
    write_atomically(data_file(prefix), bytes(content))
    write_atomically(index_file(prefix), write_table(entries))


# --------------------------------------------------------------------------------------------
# Protocol buffers


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The number and value of each field of a message, in order."""
    position = 0
    while position < len(content):
        tag, position = read_varint(content, position)
        number, kind = tag >> 3, tag & 7
        value: int | bytes
        if kind == _VARINT:
            value, position = read_varint(content, position)
        elif kind in (_FIXED64, _FIXED32, _BYTES):
            size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
            if size is None:
                size, position = read_varint(content, position)
            if position + size > len(content):
                raise ModelFileError("a message in it is cut short: it is damaged")
            value = content[position : position + size]
            position += size
            if kind != _BYTES:
                value = int.from_bytes(value, "little")
        else:
            raise ModelFileError(f"a message in it has a field of kind {kind}: it is damaged")
        yield number, value


def _header(content: bytes | None) -> int:
    """The number of shards."""
    if content is None:
        raise ModelFileError("it has no header; it is no index of a TensorFlow V2 checkpoint")
    values = dict(_fields(content))
    shards = values.get(1, 0)
    if values.get(2, 0) != 0:
        raise ModelFileError("its tensors are big-endian; little-endian ones are read")
    if not isinstance(shards, int) or not 1 <= shards <= _MOST_SHARDS:
        raise ModelFileError(f"it has {quoted(shards)} shards; 1 to {_MOST_SHARDS} are read")
    return shards


def _name(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise ModelFileError(f"the name {quoted(key)} in it is not UTF-8") from None


def _entry(key: bytes, content: bytes, shards: int) -> Entry:
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    shape: tuple[int, ...] = ()
    for number, value in _fields(content):
        if number in numbers and isinstance(value, int):
            numbers[number] = value
        elif number == 2 and isinstance(value, bytes):
            shape = _shape(key, value)
        elif number == 7:
            raise ModelFileError(f"{quoted(_name(key))} is stored in slices; whole ones are read")
        else:
            raise ModelFileError(f"the entry of {quoted(_name(key))} in it is damaged")
    if numbers[3] >= shards:
        raise ModelFileError(f"{quoted(_name(key))} is in shard {numbers[3]} of {shards}")
    return Entry(numbers[1], shape, numbers[3], numbers[4], numbers[5], numbers[6])


def _shape(key: bytes, content: bytes) -> tuple[int, ...]:
    sizes: list[int] = []
    for number, value in _fields(content):
        if number != 2 or not isinstance(value, bytes) or len(sizes) == _MOST_DIMENSIONS:
            raise ModelFileError(f"the shape of {quoted(_name(key))} in it is damaged")
        size = dict(_fields(value)).get(1, 0)
        if not isinstance(size, int):
            raise ModelFileError(f"the shape of {quoted(_name(key))} in it is damaged")
        sizes.append(size)
    return tuple(sizes)


def _field(number: int, value: int) -> bytes:
    return varint(number << 3 | _VARINT) + varint(value)


def _message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | _BYTES) + varint(len(content)) + content


def _read(path: Path, most: int) -> bytes:
    """A file of at most `most` bytes; one byte more of a longer one."""
    try:
        with path.open("rb") as stream:
            return stream.read(most + 1)
    except OSError as error:
        raise ModelFileError(f"it cannot be read: {error.strerror or error}") from None
