"""The native module: Philox against its published vectors, dropout against the rule, reports."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchrnn_fast import _native
from sketchrnn_fast.philox import philox4x32 as numpy_philox4x32

WORD = st.integers(0, 2**32 - 1)


# Random123, kat_vectors, philox4x32 10: counter, key (low word first), result.
KNOWN_ANSWERS = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_random123_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    words = _native.philox4x32(np.array([counter], np.uint32), key[0] | key[1] << 32)
    assert tuple(words[0].tolist()) == expected


@given(st.lists(st.tuples(WORD, WORD, WORD, WORD), max_size=5), st.integers(-(2**63), 2**64 - 1))
def test_philox_agrees_with_numpy(counters: list[tuple[int, ...]], seed: int) -> None:
    counter = np.array(counters, np.uint32).reshape(-1, 4)
    np.testing.assert_array_equal(
        _native.philox4x32(counter, seed), numpy_philox4x32(*counter.T, seed=seed)
    )


def test_philox_reads_strided_counters() -> None:
    counter = np.arange(80, dtype=np.uint32).reshape(10, 8)[::-2, ::2]
    np.testing.assert_array_equal(
        _native.philox4x32(counter, 3), _native.philox4x32(counter.copy(), 3)
    )


def test_seeds_are_taken_modulo_two_to_the_64() -> None:
    counter = np.zeros((1, 4), np.uint32)
    expected = _native.philox4x32(counter, 2**64 - 5)
    for seed in (-5, 2**65 - 5, np.int64(-5), np.uint64(2**64 - 5)):
        np.testing.assert_array_equal(_native.philox4x32(counter, seed), expected)


def dropout_by_the_rule(
    seed: int, shape: tuple[int, int, int], keep_prob: float, stream: int, row_offset: int
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The keep mask, unit by unit, as architecture.md words it."""
    time_steps, rows, units = shape
    blocks = -(-units // 8)
    threshold = round(keep_prob * 65536)
    kept = np.empty(shape, np.uint8)
    for t, b, unit in np.ndindex(time_steps, rows, units):
        lane, block = divmod(unit, blocks)
        words = numpy_philox4x32(block, t, row_offset + b, stream, seed)
        word = int(words[lane // 2])
        kept[t, b, unit] = (word >> 16 if lane % 2 else word & 0xFFFF) < threshold
    return kept


@pytest.mark.parametrize("units", [1, 7, 8, 9, 17, 64])
@pytest.mark.parametrize("keep_prob", [0.1, 0.9])
def test_dropout_follows_the_lane_rule(units: int, keep_prob: float) -> None:
    kept = _native.dropout_keep(-7, 2, 3, units, keep_prob, stream=2, row_offset=11)
    expected = dropout_by_the_rule(-7, (2, 3, units), keep_prob, stream=2, row_offset=11)
    np.testing.assert_array_equal(kept, expected)


def test_dropout_of_a_row_longer_than_one_chunk_follows_the_lane_rule() -> None:
    kept = _native.dropout_keep(5, 1, 1, 1031, 0.5)
    expected = dropout_by_the_rule(5, (1, 1, 1031), 0.5, stream=0, row_offset=0)
    np.testing.assert_array_equal(kept, expected)


def test_dropout_of_some_rows_is_a_slice_of_all_rows() -> None:
    whole = _native.dropout_keep(1, 4, 10, 20, 0.8)
    np.testing.assert_array_equal(
        _native.dropout_keep(1, 4, 3, 20, 0.8, row_offset=5), whole[:, 5:8]
    )


def test_dropout_keeps_the_asked_share() -> None:
    kept = _native.dropout_keep(0, 50, 40, 512, 0.9)
    deviation = np.sqrt(0.9 * 0.1 / kept.size)
    assert abs(kept.mean() - 0.9) < 5 * deviation


def test_dropout_with_keep_prob_one_keeps_everything() -> None:
    assert _native.dropout_keep(0, 3, 2, 100, 1.0).all()


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_dropout_of_nothing_is_empty(shape: tuple[int, int, int]) -> None:
    assert _native.dropout_keep(0, *shape, 0.5).shape == shape


COUNTER = np.zeros((1, 4), np.uint32)

BAD_ARGUMENTS = [
    (
        lambda: _native.philox4x32([[0, 0, 0, 0]], 0),  # type: ignore[arg-type]
        "philox4x32: counter is of type list; it must be a uint32 array of shape [n, 4]",
    ),
    (
        lambda: _native.philox4x32(COUNTER.astype(np.int64), 0),  # type: ignore[arg-type]
        "philox4x32: counter has dtype int64; it must be a uint32 array of shape [n, 4]",
    ),
    (
        lambda: _native.philox4x32(COUNTER[0], 0),
        "philox4x32: counter has shape (4,); it must be a uint32 array of shape [n, 4]",
    ),
    (
        lambda: _native.philox4x32(COUNTER[:, :3], 0),
        "philox4x32: counter has shape (1, 3); it must be a uint32 array of shape [n, 4]",
    ),
    (
        lambda: _native.philox4x32(COUNTER, 1.5),  # type: ignore[arg-type]
        "philox4x32: seed is of type float; it must be an integer",
    ),
    (
        lambda: _native.dropout_keep(0, -1, 1, 1, 0.5),
        "dropout_keep: time_steps is -1; it must be between 0 and 4294967296",
    ),
    (
        lambda: _native.dropout_keep(0, 1, 2**70, 1, 0.5),
        f"dropout_keep: rows is {2**70}; it must be between 0 and 4294967296",
    ),
    (
        lambda: _native.dropout_keep(0, 1, 1, 2.0, 0.5),  # type: ignore[arg-type]
        "dropout_keep: units is of type float; it must be an integer",
    ),
    (
        lambda: _native.dropout_keep(0, 2**32, 2**32, 2**32, 0.5),
        "dropout_keep: time_steps * rows * units is 4294967296 * 4294967296 * 4294967296; "
        "it must be at most 9223372036854775807",
    ),
    (
        lambda: _native.dropout_keep(0, 1, 1, 1, 0.5, stream=2**32),
        "dropout_keep: stream is 4294967296; it must be between 0 and 4294967295",
    ),
    (
        lambda: _native.dropout_keep(0, 1, 2, 1, 0.5, row_offset=2**32 - 1),
        "dropout_keep: row_offset is 4294967295; it must be between 0 and 4294967294",
    ),
    *(
        (
            lambda value=value: _native.dropout_keep(0, 1, 1, 1, value),
            f"dropout_keep: keep_prob is {value}; it must be above 0 and at most 1",
        )
        for value in (0.0, -0.5, 1.5, float("nan"), float("inf"))
    ),
    (
        lambda: _native.dropout_keep(0, 1, 1, 1, "half"),  # type: ignore[arg-type]
        "dropout_keep: keep_prob is of type str; it must be a number",
    ),
]


@pytest.mark.parametrize(("call", "sentence"), BAD_ARGUMENTS)
def test_a_bad_argument_is_one_clear_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        call()


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="needs Linux on x86-64"
)
def test_cpu_features_agree_with_the_kernel() -> None:
    text = Path("/proc/cpuinfo").read_text()
    fields = dict(re.findall(r"^(\S[^\t:]*?)\s*:\s*(.*)$", text.split("\n\n")[0], re.MULTILINE))
    kernel_flags = set(fields["flags"].split())
    features = _native.cpu_features()
    assert features["architecture"] == "x86_64"
    assert features["vendor"] == fields["vendor_id"]
    assert features["model"] == fields["model name"].strip()
    assert features["flags"] == {name: name in kernel_flags for name in features["flags"]}

    v2 = {"pni", "ssse3", "cx16", "sse4_1", "sse4_2", "popcnt", "lahf_lm"}
    v3 = v2 | {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}
    v4 = v3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
    levels = {"x86-64-v4": v4, "x86-64-v3": v3, "x86-64-v2": v2, "x86-64": set[str]()}
    expected = next(level for level, needed in levels.items() if needed <= kernel_flags)
    assert features["level"] == expected


def test_build_report_is_about_this_build() -> None:
    report = _native.build_report()
    assert report["build_type"] == "Release"
    assert report["cxx_standard"] == "C++17"
    assert bool(report["cuda_kernels"]) == bool(report["cuda_targets"])
    for name in ("compiler", "compiler_version", "pybind11_version"):
        assert report[name]
