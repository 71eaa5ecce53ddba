"""Reading and writing .npz: every writer's form is read, and nothing else gets through."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import sys
import tracemalloc
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sketchrnn_fast.data import DatasetError, read_npz, read_sketches, write_npz

DTYPES = ("int8", "int16", "int32", "float32", "float64")


def sketches(dtype="int16", lengths=(2, 3, 5)):
    return [np.arange(3 * n).reshape(n, 3).astype(dtype) for n in lengths]


def object_array(items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def header(shape, descr="|O", fortran=False):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": descr, "fortran_order": fortran, "shape": shape}
    )
    return stream.getvalue()


def write_members(path, contents):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npz_with_train(path, train):
    """A dataset whose train split is these bytes of a .npy file."""
    good = header((1,)) + pickle.dumps(object_array(sketches()[:1]), protocol=2)
    return write_members(path, {"train": train, "valid": good, "test": good})


def assert_same(read, expected):
    assert len(read) == len(expected)
    for ours, theirs in zip(read, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert_array_equal(ours, theirs)


# --------------------------------------------------------------------------------------------
# What is read


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_ragged_pickles_of_every_dtype_protocol_and_numpy_are_read(
    dtype, protocol, module, tmp_path
):
    pickled = pickle.dumps(object_array(sketches(dtype)), protocol=protocol)
    if protocol < 4:  # a name without a length before it can be exchanged
        for name in (b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"):
            pickled = pickled.replace(name, b"c" + module + b"\n")
    path = npz_with_train(tmp_path / "a.npz", header((3,)) + pickled)
    assert_same(read_npz(path)["train"], sketches(dtype))


def python2_pickle(array):
    """What Python 2 wrote: the bytes of an array as a string, the name of a dtype as one too."""
    out = [b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02"]
    out.append(b"K\x00\x85U\x01b\x87R(K\x01K" + bytes([len(array)]) + b"\x85")
    out.append(b"cnumpy\ndtype\nq\x04U\x02O8K\x00K\x01\x87R")
    out.append(b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89](")
    for item in array:
        data = item.tobytes()
        out.append(b"h\x01h\x02K\x00\x85U\x01b\x87R(K\x01\x8a\x01" + bytes([len(item)]))
        out.append(b"K\x03\x86h\x04U\x02" + item.dtype.str[1:].encode() + b"K\x00K\x01\x87R")
        out.append(b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
        out.append(b"T" + struct.pack("<i", len(data)) + data + b"tb")
    return b"".join([*out, b"etb."])


@pytest.mark.parametrize("dtype", ["int16", "float64"])
def test_pickles_of_python_2_are_read(dtype, tmp_path):
    expected = [-1 * sketch for sketch in sketches(dtype)]  # bytes above 127
    content = header((3,)) + python2_pickle(expected)
    assert_same(read_npz(npz_with_train(tmp_path / "a.npz", content))["train"], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_split_collapsed_to_one_numeric_array_is_read(dtype, tmp_path):
    equal = sketches(dtype, (4, 4))
    path = tmp_path / "a.npz"
    np.savez_compressed(path, train=np.array(equal), valid=np.array(equal), test=np.array(equal))
    assert_same(read_npz(path)["valid"], equal)


def test_a_split_in_fortran_order_is_read(tmp_path):
    equal = sketches("int16", (4, 4))
    array = np.asfortranarray(np.array(equal))
    np.savez(tmp_path / "a.npz", train=array, valid=array, test=array)
    assert_same(read_npz(tmp_path / "a.npz")["train"], equal)


def test_a_split_collapsed_to_an_object_array_of_numbers_is_read(tmp_path):
    equal = sketches("int16", (4, 4))
    array = np.array(equal, dtype=object)
    assert array.shape == (2, 4, 3)
    np.savez(tmp_path / "a.npz", train=array, valid=array, test=array)
    assert_same(read_npz(tmp_path / "a.npz")["train"], [s.astype(float) for s in equal])


def test_big_endian_numbers_are_read(tmp_path):
    splits = dict.fromkeys(("train", "valid", "test"), sketches(">i2"))
    write_npz(tmp_path / "a.npz", splits)
    for ours, theirs in zip(read_npz(tmp_path / "a.npz")["train"], sketches(), strict=True):
        assert_array_equal(ours, theirs)


# --------------------------------------------------------------------------------------------
# What is written


def test_what_is_written_is_read_back(tmp_path):
    splits = {"train": sketches("int16"), "valid": sketches("float64"), "test": sketches("int8")}
    write_npz(tmp_path / "a.npz", splits)
    read = read_npz(tmp_path / "a.npz")
    for split in splits:
        assert_same(read[split], splits[split])


def test_sketches_of_equal_length_stay_an_object_array_that_numpy_1_can_load(tmp_path):
    splits = dict.fromkeys(("train", "valid", "test"), sketches(lengths=(4, 4)))
    write_npz(tmp_path / "a.npz", splits)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        content = archive.read("train.npy")
    named = {arg for op, arg, _ in pickletools.genops(content[128:]) if op.name == "GLOBAL"}
    assert named == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    loaded = np.load(tmp_path / "a.npz", allow_pickle=True, encoding="latin1")["train"]
    assert loaded.shape == (2,)


def test_the_same_sketches_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_npz(tmp_path / name, dict.fromkeys(("train", "valid", "test"), sketches()))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_missing_split_is_not_written(tmp_path):
    with pytest.raises(DatasetError, match="valid, test is missing"):
        write_npz(tmp_path / "a.npz", {"train": sketches()})
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------
# What is refused, each with a sentence


def refused(path, sentence):
    with pytest.raises(DatasetError, match=sentence):
        read_npz(path)


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "no.npz", r"no\.npz does not exist")


@pytest.mark.parametrize("content", [b"", b"drawings", header((1,))])
def test_a_file_that_is_no_zip_is_refused(content, tmp_path):
    (tmp_path / "a.npz").write_bytes(content)
    refused(tmp_path / "a.npz", r"a\.npz is not an npz file")


def test_a_folder_is_refused(tmp_path):
    refused(tmp_path, "cannot be read")


def test_a_missing_split_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", train=np.zeros((1, 2, 3)), test=np.zeros((1, 2, 3)))
    refused(tmp_path / "a.npz", "has no split valid; it must have train, valid, test, and has tr")


class Calls:
    """Pickles to a call of anything."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("function", [os.mkdir, eval, print, np.load, pickle.loads])
def test_a_pickle_that_calls_something_is_refused_by_name_and_not_called(
    function, protocol, tmp_path
):
    target = tmp_path / "called"
    content = pickle.dumps(Calls(function, str(target)), protocol=protocol)
    path = npz_with_train(tmp_path / "a.npz", header((1,)) + content)
    refused(path, rf"a\.npz, split train: the pickle asks for \S*\.{function.__name__};")
    assert not target.exists()


def test_a_call_hidden_among_the_sketches_is_refused(tmp_path):
    content = pickle.dumps(object_array([sketches()[0], Calls(os.getpid)]), protocol=2)
    refused(npz_with_train(tmp_path / "a.npz", header((2,)) + content), "asks for posix.getpid|nt.")


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (b"\x80\x02}.", "instruction EMPTY_DICT"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "instruction NEWOBJ"),
        (b"(S'ls'\nios\nsystem\n.", "instruction"),
        (b"\x80\x02cnumpy.core.multiarray\nscalar\n.", r"asks for numpy\.core\.multiarray\.scalar"),
        (b"\x80\x02cnumpy\nndarray\n).R.", "the pickle"),
        (b"\x80\x02cnumpy\ndtype\nK\x01b.", "sets the state of something that is no array"),
        (b"\x80\x02cnumpy\ndtype\nU\x03V99K\x00K\x01\x87R.", "dtype 'V99'; it must be of integers"),
        (b"\x80\x02cnumpy\ndtype\nU\x02M8K\x00K\x01\x87R.", "dtype 'M8'"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.", "_codecs"),
        (b"\x80\x02]K\x01a.", "holds a list; it must hold an array"),
        (b"\x80\x02", "ends before its array does"),
        (b"\x80\x02h\x07.", "broken"),
        (b"\x80\x63.", "broken"),
        (b"\xff", "instruction number 255"),
    ],
)
def test_programs_that_no_array_needs_are_refused(program, sentence, tmp_path):
    refused(npz_with_train(tmp_path / "a.npz", header((1,)) + program), sentence)


@pytest.mark.parametrize(
    "items",
    [[[1, 2, 3]], ["a drawing"], [None], [np.array([["a", "b", "c"]])], [np.array([[1j, 2, 3]])]],
)
def test_items_that_are_no_number_arrays_are_refused(items, tmp_path):
    content = header((1,)) + pickle.dumps(object_array(items), protocol=2)
    refused(npz_with_train(tmp_path / "a.npz", content), "split train: ")


@pytest.mark.parametrize("dtype", ["<U3", "complex128", "bool", "datetime64[s]", [("a", "i2")]])
def test_a_split_of_another_dtype_is_refused(dtype, tmp_path):
    array = np.zeros((1, 2, 3), dtype)
    np.savez(tmp_path / "a.npz", train=array, valid=array, test=array)
    refused(tmp_path / "a.npz", "it must be an object array, integers or floats")


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4, 3), (1, 2, 3, 1)])
def test_one_array_of_another_shape_is_refused(shape, tmp_path):
    array = np.zeros(shape, np.int16)
    np.savez(tmp_path / "a.npz", train=array, valid=array, test=array)
    refused(tmp_path / "a.npz", "it is an array of shape")


def test_a_shape_that_claims_a_billion_empty_sketches_is_refused(tmp_path):
    content = header((10**9, 0, 3), "<i2")
    refused(npz_with_train(tmp_path / "a.npz", content), "it is an array of shape")


# --------------------------------------------------------------------------------------------
# Claims that the bytes do not back are refused without setting memory aside for them


@pytest.fixture
def memory():
    """The most bytes that Python and NumPy had allocated at once."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


HUGE_CLAIMS = {
    "numeric header": header((10**9, 250, 3), "<f8"),
    "object header": header((10**12,)) + pickle.dumps(object_array(sketches()), protocol=2),
    "memo index": header((1,)) + b"\x80\x02Nr\xff\xff\xff\x7f.",
    "bytes": header((1,)) + b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",
    "text": header((1,)) + b"\x80\x02X" + struct.pack("<I", 2**31) + b".",
    "frame": header((1,)) + b"\x80\x04\x95" + struct.pack("<Q", 2**50) + b".",
    "array in a pickle": header((1,))
    + pickle.dumps(object_array(sketches()), protocol=2).replace(
        b"K\x02K\x03\x86", b"K\xffK\x03\x86"
    ),
}


@pytest.mark.parametrize("claim", HUGE_CLAIMS)
def test_huge_claims_are_refused_in_little_memory(claim, tmp_path, memory):
    path = npz_with_train(tmp_path / "a.npz", HUGE_CLAIMS[claim])
    refused(path, "split train: ")
    assert memory() < 10_000_000


def test_a_member_that_inflates_absurdly_is_refused_before_it_is_inflated(tmp_path, memory):
    bomb = header((50_000_000, 1, 1), "|i1") + bytes(50_000_000)
    path = npz_with_train(tmp_path / "a.npz", bomb)
    assert path.stat().st_size < 100_000
    del bomb
    before = memory()
    refused(path, "inflates from .* to .* bytes; at most 200 to 1")
    assert memory() == before


def compressed_zeros(path, compression, claimed):
    """A list of sketches of 300 MB of zeros, whose entry claims another size."""
    header_ = header((25_000_000, 3), "<f4")
    size = len(header_) + 300_000_000
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("lengths.npy", header((1,), "<i8") + struct.pack("<q", 75_000))
        with archive.open("points.npy", "w") as stream:
            stream.write(header_)
            for _ in range(300):
                stream.write(bytes(1_000_000))
        for split in ("train", "valid", "test"):
            archive.writestr(f"{split}.npy", b"")
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", size), struct.pack("<I", claimed)))
    return path


@pytest.mark.parametrize("method", ["DEFLATED", "BZIP2", "LZMA"])
def test_a_member_that_holds_more_than_it_claims_is_refused_in_little_memory(
    method, tmp_path, memory
):
    compression = getattr(zipfile, f"ZIP_{method}")
    path = compressed_zeros(tmp_path / "a.npz", compression, 900_000)
    assert path.stat().st_size < 400_000
    tracemalloc.reset_peak()
    with pytest.raises(DatasetError):
        read_sketches(path)
    assert memory() < 10_000_000


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_numpy_does_not_write_is_refused(compression, tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("train.npy", header((1, 2, 3), "<i2") + bytes(12))
        for split in ("valid", "test"):
            archive.writestr(f"{split}.npy", b"")
    refused(path, "split train: its compression is of another kind; npz files are stored or defl")


def npy_of_text(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "text",
    [
        *(b"{'descr': (", b"{'descr': '<f4'", b"'''", b"(((((", b"", b"\xff", b"[", b"1" * 9000),
        b"{'descr': ',', 'fortran_order': False, 'shape': (3, 3)}",
        b"{'descr': (), 'fortran_order': False, 'shape': (3, 3)}",
        b"{'descr': '\\d', 'fortran_order': False, 'shape': (3, 3)}",
        b"{'descr': {'names': 1}, 'fortran_order': False, 'shape': (3, 3)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3if 1else 2,3)}",
        b"{" * 200,
    ],
)
def test_a_damaged_header_is_refused_without_a_warning(text, tmp_path, recwarn):
    refused(npz_with_train(tmp_path / "a.npz", npy_of_text(text)), "its npy header cannot be read")
    assert not recwarn.list


def test_the_long_integers_of_python_2s_headers_are_read_without_a_warning(tmp_path, recwarn):
    text = b"{'descr': '<i2', 'fortran_order': False, 'shape': (1L, 2L, 3L)}"
    path = npz_with_train(tmp_path / "a.npz", npy_of_text(text) + bytes(12))
    assert_same(read_npz(path)["train"], [np.zeros((2, 3), np.int16)])
    assert not recwarn.list


def test_a_small_pickle_that_names_one_array_very_often_is_refused(tmp_path):
    one = np.zeros((20_000, 3), np.int16)
    content = pickle.dumps(object_array([one] * 10_000), protocol=2)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:  # stored, to pass the check of inflation
        for split in ("train", "valid", "test"):
            archive.writestr(f"{split}.npy", header((10_000,)) + content)
    refused(path, "its sketches are 1200000000 bytes, made of")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "a.npz"
    write_npz(path, dict.fromkeys(("train", "valid", "test"), sketches()))
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_short_is_refused(share, whole, tmp_path):
    (tmp_path / "a.npz").write_bytes(whole[: int(share * len(whole))])
    refused(tmp_path / "a.npz", "not an npz file, or it is cut short")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_in_the_file_is_refused_or_harmless(data, whole, tmp_path):
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.npz").write_bytes(content)
    read_or_refused(tmp_path / "a.npz")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_in_a_pickle_is_refused_or_harmless(data, tmp_path):
    content = bytearray(pickle.dumps(object_array(sketches()), protocol=2))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read_or_refused(npz_with_train(tmp_path / "a.npz", header((3,)) + bytes(content)))


def read_or_refused(path):
    """Nothing but a DatasetError may come out, and no module may be imported."""
    modules = set(sys.modules)
    with suppress(DatasetError):
        read_npz(path)
    assert set(sys.modules) == modules
