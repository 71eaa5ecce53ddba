"""Sorted tables of keys and values, as LevelDB and TensorFlow write them to a file.

    data blocks …  metaindex block  index block  footer

    block    entries, then the restart points (uint32 offsets and their number); behind it stand one
             byte, the compression (0: none), and the masked CRC-32C of block and byte
    entry    varints shared, new, length; the new bytes of the key (its first `shared` are those of
             the key before, none at a restart point); the value
    index    one entry a data block: a key not below its last, and the block's place
    place    varints offset and size
    footer   48 bytes: the places of the metaindex and the index, zeros, an 8-byte magic number

Numbers are little-endian. TensorFlow writes the indices of its checkpoints without compression; a
compressed block is refused. What is read is bounded by the file's size: no number in a file sets
aside memory.
Source: `doc/table_format.md` of LevelDB; the checksums as TensorFlow's `table_builder.cc` has them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

import google_crc32c

from sketchrnn_fast.interop.errors import ModelFileError

MOST_BYTES = 4 << 20  # the largest of the original's has 30 kB
MOST_ENTRIES = 20_000
MOST_KEY_BYTES = 1024
_FOOTER_BYTES, _TRAILER_BYTES = 48, 5
_MAGIC = 0xDB4775248B80FB57
_RESTART_INTERVAL = 16
_MASK_DELTA = 0xA282EAD8


def masked_crc32c(content: bytes) -> int:
    """The CRC-32C of some bytes, turned as LevelDB stores it."""
    crc: int = google_crc32c.value(content)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


# --------------------------------------------------------------------------------------------
# Reading


def read_table(content: bytes) -> dict[bytes, bytes]:
    """All entries of a table, in its order.

    Raises:
        ModelFileError: it is no such table, is damaged, or is larger than any of a model is.
    """
    if len(content) > MOST_BYTES:
        raise ModelFileError(
            f"it has more than {MOST_BYTES} bytes; no index of a model is so large"
        )
    if len(content) < _FOOTER_BYTES:
        raise ModelFileError("it is cut short, or no index of a TensorFlow V2 checkpoint")
    footer = content[-_FOOTER_BYTES:]
    if struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise ModelFileError("it is cut short, or no index of a TensorFlow V2 checkpoint")
    _, _, position = _place(footer, 0)
    offset, size, _ = _place(footer, position)
    entries: dict[bytes, bytes] = {}
    last = None
    for _, value in _entries(_block(content, offset, size)):
        offset, size, _ = _place(value, 0)
        for key, item in _entries(_block(content, offset, size)):
            if last is not None and key <= last:
                raise ModelFileError("its keys are not in order: it is damaged")
            if len(entries) == MOST_ENTRIES:
                raise ModelFileError(f"it has more than {MOST_ENTRIES} entries; no model has those")
            entries[key] = item
            last = key
    return entries


def read_varint(content: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, of at most 64 bits; and the place after it.

    Raises:
        ModelFileError: the bytes end before the number does, or it is longer.
    """
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(content):
            raise ModelFileError("a number in it is cut short: it is damaged")
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ModelFileError("a number in it has more than 64 bits: it is damaged")


def _place(content: bytes, position: int) -> tuple[int, int, int]:
    offset, position = read_varint(content, position)
    size, position = read_varint(content, position)
    return offset, size, position


def _block(content: bytes, offset: int, size: int) -> bytes:
    end = offset + size
    if end + _TRAILER_BYTES > len(content) - _FOOTER_BYTES:
        raise ModelFileError(
            f"it names {size} bytes from {offset} on, of {len(content)} that it has: it is damaged"
        )
    compression, crc = struct.unpack("<BI", content[end : end + _TRAILER_BYTES])
    if masked_crc32c(content[offset : end + 1]) != crc:
        raise ModelFileError(f"the checksum of its block at {offset} is wrong: it is damaged")
    if compression != 0:
        raise ModelFileError(
            f"its block at {offset} is compressed (type {compression}); TensorFlow writes the "
            "indices of checkpoints uncompressed, and those are read"
        )
    return content[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(block) < 4:
        raise ModelFileError("a block of it is cut short: it is damaged")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ModelFileError(f"a block of it names {restarts} restart points: it is damaged")
    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position)
        new, position = read_varint(block, position)
        length, position = read_varint(block, position)
        if shared > len(key) or position + new + length > end or shared + new > MOST_KEY_BYTES:
            raise ModelFileError(
                f"an entry of it takes {shared} bytes of the key before it, {new} of its own and "
                f"{length} of value: it is damaged"
            )
        key = key[:shared] + block[position : position + new]
        position += new
        yield key, block[position : position + length]
        position += length


# --------------------------------------------------------------------------------------------
# Writing


def write_table(entries: Mapping[bytes, bytes]) -> bytes:
    """The table of these entries, sorted by the bytes of their keys, in one data block.

    TensorFlow starts a second block at 256 KiB, which no model's index reaches: below that the two
    write the same bytes.
    """
    items = sorted(entries.items())
    content = bytearray()
    place = _append_block(content, items)
    metaindex_place = _append_block(content, [])
    places = metaindex_place + _append_block(content, [(_successor(items[-1][0]), place)])
    content += places.ljust(_FOOTER_BYTES - 8, b"\0") + struct.pack("<Q", _MAGIC)
    return bytes(content)


def varint(value: int) -> bytes:
    """A number as `read_varint` reads it."""
    content = bytearray()
    while value >= 0x80:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    content.append(value)
    return bytes(content)


def _successor(key: bytes) -> bytes:
    """The short key, not below this one, that LevelDB writes into the index."""
    for position, byte in enumerate(key):
        if byte != 0xFF:
            return key[:position] + bytes([byte + 1])
    return key


def _append_block(content: bytearray, items: list[tuple[bytes, bytes]]) -> bytes:
    """Write a block with its trailer; gives its place."""
    block = bytearray()
    restarts = [0]
    before = b""
    for number, (key, value) in enumerate(items):
        shared = 0
        if number % _RESTART_INTERVAL:
            while shared < min(len(before), len(key)) and before[shared] == key[shared]:
                shared += 1
        elif number:
            restarts.append(len(block))
        block += varint(shared) + varint(len(key) - shared) + varint(len(value))
        block += key[shared:] + value
        before = key
    block += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    place = varint(len(content)) + varint(len(block))
    with_type = bytes(block) + b"\0"
    content += with_type + struct.pack("<I", masked_crc32c(with_type))
    return place
