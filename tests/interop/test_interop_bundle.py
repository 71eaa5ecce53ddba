"""TensorFlow's V2 checkpoints: tensors as TensorFlow wrote them, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sketchrnn_fast.interop.bundle import Bundle, data_file, index_file, write_bundle
from sketchrnn_fast.interop.errors import ModelFileError
from sketchrnn_fast.interop.table import masked_crc32c, read_table, varint, write_table

CHECKPOINTS = ("lstm_lstm_cond", "layer_norm_hyper_cond", "layer_norm_layer_norm_uncond")
each_checkpoint = pytest.mark.parametrize("name", CHECKPOINTS)
ARRAYS = {"a/w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7, np.int32)}


def golden(shared: Path, name: str) -> Path:
    return shared / "golden" / f"tf_checkpoint_{name}"


@each_checkpoint
def test_every_tensor_is_what_tensorflow_wrote(shared: Path, name: str) -> None:
    bundle = Bundle(golden(shared, name) / "vector-2")
    with np.load(golden(shared, name) / "expected.npz") as expected:
        assert set(bundle) == set(expected.files)
        for key in expected.files:
            found = bundle[key]
            assert found.dtype == expected[key].dtype
            assert bundle.shapes[key] == found.shape == expected[key].shape
            np.testing.assert_array_equal(found, expected[key])


@each_checkpoint
def test_what_is_written_is_tensorflows_file_to_the_byte(
    shared: Path, name: str, tmp_path: Path
) -> None:
    source = golden(shared, name) / "vector-2"
    write_bundle(tmp_path / "vector-2", Bundle(source))
    for file in (index_file, data_file):
        assert file(tmp_path / "vector-2").read_bytes() == file(source).read_bytes()


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20),
        hnp.arrays(
            st.sampled_from([np.float32, np.float64, np.int32, np.int64]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(deadline=None)
def test_arrays_round_trip(tmp_path_factory: Any, arrays: dict[str, np.ndarray]) -> None:
    prefix = tmp_path_factory.mktemp("bundle") / "vector"
    write_bundle(prefix, arrays)
    bundle = Bundle(prefix)
    assert set(bundle) == set(arrays)
    for name, array in arrays.items():
        assert bundle[name].dtype == array.dtype
        np.testing.assert_array_equal(bundle[name], array)


def written(folder: Path, **changes: bytes) -> Path:
    """A checkpoint whose index entries are replaced."""
    prefix = folder / "vector"
    write_bundle(prefix, ARRAYS)
    entries = read_table(index_file(prefix).read_bytes())
    entries.update({name.replace("_", "/").encode(): value for name, value in changes.items()})
    index_file(prefix).write_bytes(write_table(entries))
    return prefix


def entry(
    dtype: int = 1, shape: tuple[int, ...] = (2, 3), offset: int = 0, size: int = 24, crc: int = 0
) -> bytes:
    dims = b"".join(b"\x12" + bytes([len(varint(n)) + 1]) + b"\x08" + varint(n) for n in shape)
    numbers = b"\x20" + varint(offset) + b"\x28" + varint(size)
    return (
        b"\x08" + varint(dtype) + b"\x12" + bytes([len(dims)]) + dims + numbers
        + b"\x35" + struct.pack("<I", crc)
    )  # fmt: skip


def test_a_claim_of_ten_gigabytes_in_a_kilobyte_is_refused(tmp_path: Path) -> None:
    size = 10 * 2**30
    prefix = written(tmp_path, a_w=entry(shape=(size // 4,), size=size))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 1024
    with pytest.raises(ModelFileError, match=r"has 28 bytes; 'a/w' should be the 10737418240"):
        Bundle(prefix)


def test_many_claims_on_the_same_bytes_are_refused(tmp_path: Path) -> None:
    prefix = written(tmp_path, **{f"x{n}": entry() for n in range(20)})
    with pytest.raises(ModelFileError, match="its tensors have 508 bytes, their files only 28"):
        Bundle(prefix)


def test_a_shape_that_is_not_the_size_is_refused(tmp_path: Path) -> None:
    bundle = Bundle(written(tmp_path, a_w=entry(shape=(10**6, 10**6))))
    with pytest.raises(ModelFileError, match=r"'a/w' has 24 bytes; float32 \[1000000, 1000000\]"):
        bundle["a/w"]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (entry() + b"\x3a\x00", "'a/w' is stored in slices; whole ones are read"),
        (entry() + b"\x18\x01", "'a/w' is in shard 1 of 1"),
        (entry() + b"\x40\x01", "the entry of 'a/w' in it is damaged"),
        (b"\x12\x05\x12", "a message in it is cut short"),
        (b"\x0b", "a message in it has a field of kind 3"),
        (b"\x12\x02\x12\x00" * 1 + b"\x12\x14" + b"\x12\x00" * 10, "the shape of 'a/w' in it is"),
    ],
)
def test_a_damaged_entry_is_refused(tmp_path: Path, value: bytes, sentence: str) -> None:
    with pytest.raises(ModelFileError, match=sentence):
        Bundle(written(tmp_path, a_w=value))


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (b"\x08\x01\x10\x01", "its tensors are big-endian; little-endian ones are read"),
        (b"", "it has 0 shards; 1 to 1000 are read"),
        (b"\x08\xe9\x07", "it has 1001 shards"),
    ],
)
def test_a_header_that_is_not_read_is_named(tmp_path: Path, header: bytes, sentence: str) -> None:
    prefix = written(tmp_path)
    entries = read_table(index_file(prefix).read_bytes())
    index_file(prefix).write_bytes(write_table({**entries, b"": header}))
    with pytest.raises(ModelFileError, match=sentence):
        Bundle(prefix)


def test_tensors_of_another_type_are_named_only_when_asked_for(tmp_path: Path) -> None:
    bundle = Bundle(written(tmp_path, a_w=entry(dtype=7)))
    assert int(bundle["b"]) == 7
    with pytest.raises(ModelFileError, match="'a/w' has TensorFlow's type 7; float32, float64"):
        bundle["a/w"]


def test_a_flipped_bit_of_a_tensor_is_found(tmp_path: Path) -> None:
    prefix = written(tmp_path)
    content = bytearray(data_file(prefix).read_bytes())
    content[5] ^= 1
    data_file(prefix).write_bytes(bytes(content))
    with pytest.raises(ModelFileError, match="the checksum of 'a/w' is wrong: it is damaged"):
        Bundle(prefix)["a/w"]


def test_missing_and_short_files_are_named(tmp_path: Path) -> None:
    prefix = written(tmp_path)
    data_file(prefix).write_bytes(data_file(prefix).read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="has 27 bytes; 'b' should be the 4 from 24 on"):
        Bundle(prefix)
    data_file(prefix).unlink()
    with pytest.raises(ModelFileError, match=r"data-00000-of-00001 cannot be read: No such file"):
        Bundle(prefix)
    with pytest.raises(ModelFileError, match=r"none\.index: it cannot be read: No such file"):
        Bundle(tmp_path / "none")


def test_the_checksums_in_the_index_are_of_the_tensors(tmp_path: Path) -> None:
    bundle = Bundle(written(tmp_path))
    assert bundle.entries["b"].crc == masked_crc32c(struct.pack("<i", 7))
