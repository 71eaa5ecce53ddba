"""Sorted tables: what is written is read back, and damage is one clear sentence."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchrnn_fast.interop import table
from sketchrnn_fast.interop.errors import ModelFileError
from sketchrnn_fast.interop.table import masked_crc32c, read_table, varint, write_table

keys = st.binary(max_size=40)
ENTRIES = {b"": b"header", b"a/b": b"1", b"a/c": b"", b"b": bytes(300)}


@given(st.dictionaries(keys, st.binary(max_size=60), min_size=1, max_size=60))
def test_what_is_written_is_read_back_in_order(entries: dict[bytes, bytes]) -> None:
    found = read_table(write_table(entries))
    assert found == entries
    assert list(found) == sorted(entries)


@given(st.integers(0, 2**64 - 1))
def test_varints_round_trip(value: int) -> None:
    assert table.read_varint(varint(value), 0) == (value, len(varint(value)))


def test_the_checksum_is_castagnolis_masked_as_leveldb_does() -> None:
    # The check value of CRC-32C, and LevelDB's mask written out.
    assert google_crc32c.value(b"123456789") == 0xE3069283
    expected = ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) % 2**32
    assert masked_crc32c(b"123456789") == expected


@given(st.data())
def test_a_flipped_bit_is_found_or_changes_nothing(data: st.DataObject) -> None:
    content = bytearray(write_table(ENTRIES))
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(ModelFileError):  # else it was a bit of the padding or the metaindex
        assert read_table(bytes(content)) == ENTRIES


@given(st.binary(max_size=300))
def test_no_bytes_are_more_than_refused(content: bytes) -> None:
    with pytest.raises(ModelFileError):
        read_table(content)


@given(st.integers(0, 400))
def test_a_table_cut_short_is_refused(size: int) -> None:
    content = write_table(ENTRIES)
    with pytest.raises(ModelFileError):
        read_table(content[: min(size, len(content) - 1)])


def block(content: bytes, compression: int = 0) -> bytes:
    typed = content + bytes([compression])
    return typed + struct.pack("<I", masked_crc32c(typed))


def one_block_table(entries: bytes, compression: int = 0) -> bytes:
    """A table whose one data block holds these bytes of entries, valid in all else."""
    data = block(entries + struct.pack("<II", 0, 1), compression)
    place = varint(0) + varint(len(data) - 5)
    index = block(b"\0" + varint(1) + varint(len(place)) + b"z" + place + struct.pack("<II", 0, 1))
    meta_place = varint(len(data)) + varint(8)  # not looked at
    footer = meta_place + varint(len(data)) + varint(len(index) - 5)
    return data + index + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def test_tables_built_by_hand_are_read() -> None:
    assert read_table(one_block_table(b"\0\1\1kv\1\1\1ey")) == {b"k": b"v", b"ke": b"y"}


DAMAGED = {
    "compressed": (
        one_block_table(b"\0\1\1kv", compression=1),
        r"is compressed \(type 1\); TensorFlow",
    ),
    "shared": (one_block_table(b"\1\1\1kv"), "an entry of it takes 1 bytes of the key before it"),
    "long": (one_block_table(b"\0\1\x7fkv"), "127 of value: it is damaged"),
    "twice": (one_block_table(b"\0\1\1kv\0\1\1kv"), "its keys are not in order"),
    "unsorted": (one_block_table(b"\0\1\1kv\0\1\1jv"), "its keys are not in order"),
    "wide": (one_block_table(b"\0" + b"\xff" * 10), "a number in it has more than 64 bits"),
    "short": (one_block_table(b"\0\1"), "1 of its own and 0 of value: it is damaged"),
    "huge": (bytes(table.MOST_BYTES + 1), "no index of a model is so large"),
    "empty": (b"", "it is cut short, or no index of a TensorFlow V2 checkpoint"),
}


@pytest.mark.parametrize(("content", "sentence"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_one_clear_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(ModelFileError, match=sentence):
        read_table(content)


def test_keys_that_grow_without_end_are_refused_in_little_memory() -> None:
    # Each entry is six bytes and repeats the whole key before it: keys of 1 MB in all 4 MB of file.
    entries = b"".join(varint(n) + varint(1) + b"\0a" for n in range(200_000))
    content = one_block_table(entries)
    tracemalloc.start()
    with pytest.raises(ModelFileError, match="it is damaged"):
        read_table(content)
    assert tracemalloc.get_traced_memory()[1] < 4 * len(content)
    tracemalloc.stop()


def test_a_table_of_countless_entries_is_refused() -> None:
    entries = {b"%07d" % n: b"" for n in range(table.MOST_ENTRIES + 1)}
    with pytest.raises(ModelFileError, match="entries; no model has those"):
        read_table(write_table(entries))
