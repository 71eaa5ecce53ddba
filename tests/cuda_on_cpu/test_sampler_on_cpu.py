"""The CUDA sampler's own source, run on the CPU, against the reference in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cuda_on_cpu.decoders import (
    CELLS,
    ENDED,
    FAILED,
    LIMIT,
    STORAGES,
    Decoder,
    Drawn,
    Grid,
    Request,
    SamplerOnCPU,
    draw_by_reference,
    random_decoder,
    random_request,
)
from tolerances import assert_close

from sketchrnn_fast.reference.sampler import Temperature


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> SamplerOnCPU:
    return SamplerOnCPU(tmp_path_factory.mktemp("cuda_on_cpu"))


def assert_same_sketches(drawn: Drawn, expected: Drawn) -> None:
    assert drawn.lengths == expected.lengths
    assert drawn.outcomes == expected.outcomes
    for row in range(len(expected.lengths)):
        if expected.lengths[row] > 0:
            what = f"sketch {row}"
            assert_close(drawn.sketch(row), expected.sketch(row), torch.float32, "drawing", what)
            np.testing.assert_array_equal(drawn.sketch(row)[:, 2], expected.sketch(row)[:, 2])


def assert_equal_bits(drawn: Drawn, expected: Drawn) -> None:
    assert (drawn.lengths, drawn.outcomes) == (expected.lengths, expected.outcomes)
    np.testing.assert_array_equal(drawn.points, expected.points)


def check(sampler: SamplerOnCPU, decoder: Decoder, request: Request, grid: Grid) -> Drawn:
    drawn = sampler.draw(decoder, request, grid)
    assert_same_sketches(drawn, draw_by_reference(decoder, request))
    return drawn


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streamed"])
@pytest.mark.parametrize("z_size", [0, 6], ids=["unconditional", "conditional"])
@pytest.mark.parametrize("cell", CELLS)
def test_it_draws_what_the_reference_draws(
    sampler: SamplerOnCPU, cell: str, z_size: int, resident: bool
) -> None:
    decoder = random_decoder(cell, z_size=z_size)
    drawn = check(sampler, decoder, random_request(decoder, 7, 20), Grid(resident=resident))
    assert {ENDED, LIMIT} >= set(drawn.outcomes)
    assert ENDED in drawn.outcomes
