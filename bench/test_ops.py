"""The op benchmarks under pytest-benchmark, to guard against regressions on one machine.

    pytest bench/ --benchmark-autosave                        before a change
    pytest bench/ --benchmark-compare --benchmark-compare-fail=median:10%     after it

`--sizes decoder` takes the whole model's sizes. The cases, the inputs and the checks are those of
`python bench/run.py ops`.
"""

from __future__ import annotations

import layers
import ops
import peers
import pytest
import torch
from floor import floor
from layers import KEEP_PROB, OPS, Sizes
from peers import Peer
from peers.torch_eager import EAGER
from peers.torch_lstm import TORCH_LSTM
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.fixture(autouse=True)
def equal_inputs() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("op", OPS)
def test_our_layer(benchmark: BenchmarkFixture, op: str, sizes: Sizes) -> None:
    inputs = layers.make_inputs(op, sizes)
    layers.check_ours(op, sizes, inputs)
    benchmark.group = f"{op} {sizes}"
    benchmark(layers.ours, op, inputs, KEEP_PROB)


@pytest.mark.parametrize("op", OPS)
def test_the_floor_of_a_layer(benchmark: BenchmarkFixture, op: str, sizes: Sizes) -> None:
    benchmark.group = f"{op} {sizes}"
    benchmark(floor(op, sizes))


@pytest.mark.parametrize(
    ("op", "peer"),
    [(op, peer) for op in OPS for peer in (EAGER, TORCH_LSTM) if op in peer.computes],
    ids=lambda value: value.name if isinstance(value, Peer) else value,
)
def test_a_peer_of_a_layer(benchmark: BenchmarkFixture, op: str, peer: Peer, sizes: Sizes) -> None:
    one_pass = peers.start(peer, op, sizes, layers.make_inputs(op, sizes))
    benchmark.group = f"{op} {sizes}"
    benchmark(one_pass)


def test_our_mixture_density(benchmark: BenchmarkFixture, sizes: Sizes) -> None:
    inputs = ops.checked_mixture_inputs(sizes.steps, torch.device("cpu"))
    benchmark.group = f"mixture_density, {sizes.steps} rows"
    benchmark(ops.our_mixture_density, inputs)


def test_eager_mixture_density(benchmark: BenchmarkFixture, sizes: Sizes) -> None:
    inputs = ops.checked_mixture_inputs(sizes.steps, torch.device("cpu"))
    benchmark.group = f"mixture_density, {sizes.steps} rows"
    benchmark(ops.eager_mixture_density, inputs)
