"""Philox: one generator in NumPy, PyTorch, C++ and Triton; and the host's draws from it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from sketchrnn_fast import _native
from sketchrnn_fast.philox import Stream, choose, derive_seed, philox4x32, uniform
from sketchrnn_fast.reference import philox as torch_philox

LEAST_P = 1e-4  # as in test_reference_philox.py

WORD = st.integers(0, 2**32 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)

# Random123, kat_vectors, philox4x32 10: counter, key (low word first), result.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
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

# seed, time steps, rows, units, keep_prob, stream, row_offset
MASKS: dict[str, tuple[int, int, int, int, float, int, int]] = {
    f"units_{units}": (seed, 3, 5, units, keep_prob, stream, row_offset)
    for units, seed, keep_prob, stream, row_offset in [
        (1, 5, 0.9, 0, 0),
        (7, -7, 0.5, 1, 1),
        (8, 2**63 - 1, 0.1, 2, 2**32 - 5),
        (9, -(2**63), 0.9, 0, 2**31 - 2),
        (250, -123456789123456789, 0.9, 5, 12345),
        (1031, 0xFFFFFFFF, 0.25, 0, 7),
    ]
} | {
    "all_kept": (3, 2, 2, 9, 1.0, 0, 0),
    "none": (3, 0, 2, 9, 0.5, 0, 0),
    # The first unit's lane is the threshold itself, so that the unit is not kept.
    "at_the_threshold": (5, 2, 2, 9, int(philox4x32(0, 0, 0, 0, 5)[0] & 0xFFFF) / 65536, 0, 0),
}


def test_a_lane_at_the_threshold_is_not_kept() -> None:
    assert not _native.dropout_keep(*MASKS["at_the_threshold"])[0, 0, 0]


def as_int64(key: tuple[int, int]) -> int:
    seed = key[0] | key[1] << 32
    return seed - 2**64 if seed >= 2**63 else seed


def random_counters() -> dict[str, tuple[int, list[list[int]]]]:
    """Seeds of either sign and with high words, each with random counters of 32 bits."""
    generator = np.random.default_rng(1)
    seeds = [int(seed) for seed in generator.integers(-(2**63), 2**63 - 1, 4)] + [0, -1, 2**32]
    return {
        f"words_{seed}": (seed, generator.integers(0, 2**32, (64, 4)).tolist()) for seed in seeds
    }


def torch_words(counters: NDArray[np.uint32], seed: int) -> NDArray[np.uint32]:
    """PyTorch's words for counters that share a stream, one call for each stream."""
    words = []
    for counter in counters.astype(np.int64):
        block, t, row = (torch.tensor([value]) for value in counter[:3])
        drawn = torch_philox.philox4x32(block, t, row, int(counter[3]), torch.tensor([seed]))
        words.append(torch.stack(drawn, -1)[0].numpy())
    return np.array(words, np.int64).reshape(-1, 4).astype(np.uint32)


@pytest.fixture(scope="module")
def triton_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[Any]]:
    """What Triton makes, from a process of its own: its interpreter is chosen at import."""
    if importlib.util.find_spec("triton") is None:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent("triton is not installed")
    path = tmp_path_factory.mktemp("triton") / "results.npz"
    known = {
        f"known_{index}": (as_int64(key), [counter])
        for index, (counter, key, _) in enumerate(KNOWN_ANSWERS)
    }
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("philox_in_triton.py")), str(path)],
        input=json.dumps({"masks": MASKS, "words": {**known, **random_counters()}}),
        text=True,
        check=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    with np.load(path) as results:
        return dict(results)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_numpy_and_torch_give_random123_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    assert tuple(philox4x32(*counter, seed=key[0] | key[1] << 32).tolist()) == expected
    words = torch_words(np.array([counter], np.uint32), as_int64(key))
    assert tuple(words[0].tolist()) == expected


def test_triton_gives_random123_known_answers(triton_results: dict[str, NDArray[Any]]) -> None:
    for index, (_, _, expected) in enumerate(KNOWN_ANSWERS):
        assert tuple(triton_results[f"known_{index}"][0].tolist()) == expected


@given(st.lists(st.tuples(WORD, WORD, WORD, WORD), min_size=1, max_size=4), INT64)
def test_numpy_torch_and_cpp_agree(counters: list[tuple[int, ...]], seed: int) -> None:
    array = np.array(counters, np.uint32)
    expected = philox4x32(*array.T, seed=seed)
    np.testing.assert_array_equal(torch_words(array, seed), expected)
    np.testing.assert_array_equal(_native.philox4x32(array, seed), expected)


@pytest.mark.parametrize("name", random_counters())
def test_triton_agrees_with_numpy(name: str, triton_results: dict[str, NDArray[Any]]) -> None:
    seed, counters = random_counters()[name]
    expected = philox4x32(*np.array(counters, np.uint32).T, seed=seed)
    np.testing.assert_array_equal(triton_results[name], expected)


@pytest.mark.parametrize("name", MASKS)
def test_torch_cpp_and_triton_keep_the_same_units(
    name: str, triton_results: dict[str, NDArray[Any]]
) -> None:
    seed, *arguments = MASKS[name]
    stream, row_offset = Stream(arguments[4]), arguments[5]
    expected = torch_philox.keep_mask(
        torch.tensor([seed]), *arguments[:4], stream, row_offset
    ).numpy()
    np.testing.assert_array_equal(_native.dropout_keep(seed, *arguments), expected)
    assert triton_results[name].dtype == bool
    np.testing.assert_array_equal(triton_results[name], expected)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize("target", ["sm_80", "sm_120", "gfx942"])
@pytest.mark.parametrize("row_offset", [0, 2**32 - 5])
def test_the_triton_kernel_compiles_without_a_gpu(
    target: str, row_offset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from machine_code import compile_launch, recorded

    from sketchrnn_fast.kernels import philox

    seed = torch.empty(1, dtype=torch.int64, device="meta")
    with recorded(philox) as launches:
        philox.packed_keep_bits(seed, 250, 100, 512, 0.9, row_offset=row_offset)
    (launch,) = launches
    assert compile_launch(launch, target).spills == 0


# ---- The host's draws ----


def test_uniforms_are_uniform_and_strictly_inside() -> None:
    words = philox4x32(np.arange(10000), 0, 0, 0, 7)
    draws = uniform(words).ravel()
    assert stats.kstest(draws, "uniform").pvalue > LEAST_P
    extremes = uniform(np.array([0, 2**32 - 1], np.uint32))
    assert extremes.dtype == np.float32
    assert extremes.tolist() == [2.0**-24, 1 - 2.0**-24]


def test_numpy_and_torch_make_the_same_uniforms() -> None:
    words = philox4x32(np.arange(1000), 1, 2, 3, 4)
    expected = torch_philox.uniform(torch.from_numpy(words.astype(np.int64)))
    np.testing.assert_array_equal(uniform(words), expected.numpy())


@pytest.mark.parametrize("word", range(4))
def test_the_words_are_uncorrelated_with_their_neighbours(word: int) -> None:
    words = uniform(philox4x32(np.arange(20000), 0, 0, 0, 11))
    for other in [*range(word), *range(word + 1, 4)]:
        assert stats.pearsonr(words[:, word], words[:, other]).pvalue > LEAST_P
    assert stats.pearsonr(words[1:, word], words[:-1, word]).pvalue > LEAST_P


@given(st.integers(0, 2**64 - 1), st.integers(0, 60), st.integers(0, 60))
def test_choose_takes_different_members_of_the_population(
    seed: int, count: int, others: int
) -> None:
    chosen = choose(seed, count + others, count)
    assert chosen.dtype == np.int64
    assert len(set(chosen.tolist())) == len(chosen) == count
    assert all(0 <= index < count + others for index in chosen)


def test_choose_of_everything_is_a_permutation_other_than_the_order() -> None:
    chosen = choose(0, 1000, 1000)
    assert sorted(chosen.tolist()) == list(range(1000))
    assert not np.array_equal(chosen, np.arange(1000))


def test_choose_gives_every_member_every_place_equally_often() -> None:
    picks = np.array([choose(seed, 6, 3) for seed in range(6000)])
    for place in range(3):
        assert stats.chisquare(np.bincount(picks[:, place], minlength=6)).pvalue > LEAST_P
    pairs = np.bincount(picks[:, 0] * 6 + picks[:, 1], minlength=36)
    assert stats.chisquare(pairs[pairs > 0]).pvalue > LEAST_P
    assert (pairs > 0).sum() == 30


def test_choose_from_a_large_population_is_instant_and_reaches_its_end() -> None:
    chosen = choose(3, 10**15, 1000)
    assert len(set(chosen.tolist())) == 1000
    assert chosen.max() > 9 * 10**14


@pytest.mark.parametrize(("population", "count"), [(3, 4), (0, 1), (3, -1)])
def test_choosing_more_than_there_are_is_refused(population: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"cannot choose {count} of {population} without"):
        choose(0, population, count)


def test_derived_seeds_are_int64_and_differ_by_run_step_and_place() -> None:
    seeds = [
        derive_seed(seed, step, place)
        for seed in (0, 1, -1, 2**63)
        for step in (0, 1, 2**32, 2**32 + 1)
        for place in range(4)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(-(2**63) <= seed < 2**63 for seed in seeds)
    assert min(seeds) < 0 < max(seeds)
    assert derive_seed(1, 2, 3) == derive_seed(1, 2, 3)
