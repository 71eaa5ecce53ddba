"""The CUDA sampler's own source, run on the CPU, against the reference in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from cuda_on_cpu.decoders import (
    CELLS,
    ENDED,
    FAILED,
    LIMIT,
    STORAGES,
    UNKNOWN,
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

from sketchrnn_fast.ops.decoder_weights import DecoderWeights
from sketchrnn_fast.ops.sampler import Sampler
from sketchrnn_fast.reference.sampler import Temperature

PLACES = [("lstm", True), ("lstm", False), ("layer_norm", True), ("layer_norm", False)]
PLACES += [("hyper", False)]


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> SamplerOnCPU:
    return SamplerOnCPU(tmp_path_factory.mktemp("cuda_on_cpu"))


def assert_same_sketches(drawn: Drawn, expected: Drawn, cell: str) -> None:
    assert drawn.lengths == expected.lengths
    assert drawn.outcomes == expected.outcomes
    for row in range(len(expected.lengths)):
        if expected.lengths[row] > 0:
            found, wanted = drawn.sketch(row), expected.sketch(row)
            kind = "hyper" if cell == "hyper" else "value"
            assert_close(found, wanted, torch.float32, kind, f"sketch {row}")
            np.testing.assert_array_equal(found[:, 2], wanted[:, 2])
        # What lies past the end is left alone.
        assert np.isnan(drawn.points[row, drawn.lengths[row] :]).all()


def assert_equal_bits(drawn: Drawn, expected: Drawn) -> None:
    assert (drawn.lengths, drawn.outcomes) == (expected.lengths, expected.outcomes)
    np.testing.assert_array_equal(drawn.points, expected.points)


def check(sampler: SamplerOnCPU, decoder: Decoder, request: Request, grid: Grid) -> Drawn:
    drawn = sampler.draw(decoder, request, grid)
    assert_same_sketches(drawn, draw_by_reference(decoder, request), decoder.cell)
    return drawn


@pytest.mark.parametrize("z_size", [0, 6], ids=["unconditional", "conditional"])
@pytest.mark.parametrize(("cell", "resident"), PLACES)
def test_it_draws_what_the_reference_draws(
    sampler: SamplerOnCPU, cell: str, z_size: int, resident: bool
) -> None:
    decoder = random_decoder(cell, z_size=z_size)
    request = random_request(decoder, 9, 20)
    drawn = check(sampler, decoder, request, Grid(slots=4, stage_rows=3, resident=resident))
    assert set(drawn.outcomes) == {ENDED, LIMIT}


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("cell", CELLS)
def test_it_draws_what_the_cpu_engine_draws(
    sampler: SamplerOnCPU, cell: str, storage: torch.dtype
) -> None:
    decoder = random_decoder(cell)
    request = random_request(decoder, 9, 12, prefixes=True)
    assert decoder.start is not None
    assert decoder.start_bias is not None
    weights = DecoderWeights(
        cell,
        decoder.weights,
        decoder.forget_bias,
        (decoder.start, decoder.start_bias),
        (decoder.head, decoder.head_bias),
    )
    engine = Sampler(weights, storage=str(storage).removeprefix("torch."), backend="native")
    expected = engine.draw(
        request.seeds,
        z=request.z,
        prefixes=[prefix.numpy() for prefix in request.prefixes or []],
        limit=request.limit,
        temperature=request.temperature,
    )
    outcomes = [ENDED if ended else LIMIT for ended in expected.ended]
    drawn = sampler.draw(decoder, request, Grid.of(cell), storage)
    assert_same_sketches(drawn, Drawn(expected.points, expected.lengths.tolist(), outcomes), cell)


@pytest.mark.parametrize("cell", CELLS)
def test_greedy_takes_the_likeliest(sampler: SamplerOnCPU, cell: str) -> None:
    decoder = random_decoder(cell)
    check(sampler, decoder, random_request(decoder, 4, 12, Temperature(0.0)), Grid.of(cell))


@pytest.mark.parametrize("cell", CELLS)
def test_temperature_may_be_that_of_sketch_rnn_js(sampler: SamplerOnCPU, cell: str) -> None:
    decoder = random_decoder(cell)
    request = random_request(decoder, 4, 12, Temperature(0.4, "js"))
    check(sampler, decoder, request, Grid.of(cell))


@pytest.mark.parametrize("cell", CELLS)
def test_prefixes_of_any_length_are_kept_and_drawn_on(sampler: SamplerOnCPU, cell: str) -> None:
    decoder = random_decoder(cell)
    request = random_request(decoder, 9, 7, prefixes=True)
    drawn = check(sampler, decoder, request, Grid.of(cell))
    for row, prefix in enumerate(request.prefixes or []):
        assert drawn.lengths[row] >= len(prefix)
        np.testing.assert_array_equal(drawn.points[row, : len(prefix)], prefix.numpy())


# Some blocks without a hyper unit or a column of the head; one unit; one block; units of 33 lanes.
@pytest.mark.parametrize(
    ("units", "mixtures", "grid"),
    [
        (40, 2, Grid(blocks=2, threads=32, slots=9, stage_rows=9)),
        (17, 1, Grid(blocks=13, threads=32)),
        (1, 1, Grid(blocks=1, threads=64)),
        (33, 3, Grid(blocks=1, threads=96, slots=1, stage_rows=1)),
    ],
)
@pytest.mark.parametrize("cell", CELLS)
def test_odd_sizes(sampler: SamplerOnCPU, cell: str, units: int, mixtures: int, grid: Grid) -> None:
    decoder = random_decoder(cell, units=units, mixtures=mixtures)
    grid = replace(grid, resident=cell != "hyper")
    check(sampler, decoder, random_request(decoder, 9, 6), grid)


@pytest.mark.parametrize("cell", CELLS)
def test_a_sketch_depends_on_its_own_seed_and_z_only(sampler: SamplerOnCPU, cell: str) -> None:
    """The same bits whatever else is drawn, in what order, in how many slots, from what memory."""
    decoder = random_decoder(cell)
    request = random_request(decoder, 7, 12, prefixes=True)
    everything = sampler.draw(decoder, request, Grid.of(cell))
    slots = [Grid.of(cell, slots=n, stage_rows=rows) for n, rows in ((1, 1), (2, 1), (7, 7))]
    for grid in (*slots, Grid.of(cell, threads=96), Grid(resident=False)):
        assert_equal_bits(sampler.draw(decoder, request, grid), everything)
    order = [5, 2, 6]
    some = sampler.draw(decoder, request.only(order), Grid.of(cell))
    for row, of_all in enumerate(order):
        assert some.lengths[row] == everything.lengths[of_all]
        np.testing.assert_array_equal(some.points[row], everything.points[of_all])


@pytest.mark.parametrize(("cell", "resident"), PLACES)
def test_a_drawing_goes_on_from_launch_to_launch(
    sampler: SamplerOnCPU, cell: str, resident: bool
) -> None:
    decoder = random_decoder(cell)
    request = random_request(decoder, 7, 12, prefixes=True)
    grid = Grid(resident=resident)
    whole = sampler.draw(decoder, request, grid)
    for rounds in (1, 5):
        assert_equal_bits(
            sampler.draw(decoder, request, grid, launches=60 // rounds, rounds=rounds), whole
        )


@pytest.mark.parametrize("cell", CELLS)
def test_a_drawing_that_is_stopped_tells_how_far_it_came(sampler: SamplerOnCPU, cell: str) -> None:
    decoder = random_decoder(cell)
    request = random_request(decoder, 3, 12)
    whole = sampler.draw(decoder, request, Grid.of(cell))
    drawn = sampler.draw(decoder, request, Grid.of(cell), rounds=4)  # a beginning and three points
    for row, (length, outcome) in enumerate(zip(drawn.lengths, drawn.outcomes, strict=True)):
        assert outcome in (whole.outcomes[row], UNKNOWN)
        assert length == min(3, whole.lengths[row])
        np.testing.assert_array_equal(drawn.sketch(row), whole.sketch(row)[:3])
    assert UNKNOWN in drawn.outcomes


@pytest.mark.parametrize("storage", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize(("cell", "resident"), PLACES)
def test_narrow_storage_rounds_the_matrices_of_a_step_and_nothing_else(
    sampler: SamplerOnCPU, cell: str, resident: bool, storage: torch.dtype
) -> None:
    decoder = random_decoder(cell)
    request = random_request(decoder, 4, 12)
    drawn = sampler.draw(decoder, request, Grid(resident=resident), storage)
    assert_same_sketches(drawn, draw_by_reference(decoder.rounded(storage), request), cell)


@pytest.mark.parametrize("cell", CELLS)
def test_numbers_that_are_none_fail_that_sketch_only(sampler: SamplerOnCPU, cell: str) -> None:
    decoder = random_decoder(cell)
    request = random_request(decoder, 5, 8)
    expected = sampler.draw(decoder, request, Grid.of(cell))
    assert request.z is not None
    request.z[2, 0] = float("nan")
    drawn = sampler.draw(decoder, request, Grid.of(cell))
    assert (drawn.lengths[2], drawn.outcomes[2]) == (0, FAILED)
    for row in (0, 1, 3, 4):
        np.testing.assert_array_equal(drawn.sketch(row), expected.sketch(row))


def test_weights_that_are_no_numbers_fail_every_sketch(sampler: SamplerOnCPU) -> None:
    for cell in CELLS:
        decoder = random_decoder(cell)
        decoder.weights.w_hh[3, 5] = float("nan")
        drawn = sampler.draw(decoder, random_request(decoder, 5, 8), Grid.of(cell))
        assert drawn.outcomes == [FAILED] * 5
        assert max(drawn.lengths) <= 1


def test_means_that_are_infinite_fail_at_their_step(sampler: SamplerOnCPU) -> None:
    decoder = random_decoder("lstm", z_size=0)
    decoder.head_bias[3 + decoder.mixtures :] = float("inf")
    decoder.head_bias[2] = -1e9
    request = random_request(decoder, 3, 8, prefixes=True)
    drawn = sampler.draw(decoder, request, Grid())
    assert drawn.outcomes == [FAILED] * 3
    assert drawn.lengths == [0, 1, 2]


@pytest.mark.parametrize("cell", ["lstm", "layer_norm"])
def test_large_means_do_not_spoil_the_norms(sampler: SamplerOnCPU, cell: str) -> None:
    """Gates far from zero, whose variance a sum of squares would lose."""
    decoder = random_decoder(cell)
    decoder.weights.w_xh[2] += 30.0  # the pen-down column
    check(sampler, decoder, random_request(decoder, 3, 5), Grid.of(cell))


# Multiprocessors, and bytes of shared memory that a block may have.
GPUS = {
    "A100": (108, 166912),
    "RTX 3090": (82, 101376),
    "RTX 4090": (128, 101376),
    "H100": (132, 232448),
    "B200": (148, 232448),
    "RTX 5090": (170, 101376),
}


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("cell", CELLS)
def test_the_published_sizes_fit_every_gpu(
    sampler: SamplerOnCPU, cell: str, storage: torch.dtype, gpu: str
) -> None:
    multiprocessors, shared_limit = GPUS[gpu]
    hyper = {"hyper_units": 256, "embedding": 32} if cell == "hyper" else {}
    sizes = {"units": 512, "z_size": 128, "mixtures": 20, "count": 1000, **hyper}
    plan = sampler.plan(
        cell, storage, multiprocessors=multiprocessors, shared_limit=shared_limit, **sizes
    )
    assert plan is not None
    assert plan.blocks <= multiprocessors
    assert plan.shared_bytes <= shared_limit
    assert plan.slots >= 32
    assert bool(plan.resident) == (cell != "hyper")


def test_what_does_not_fit_is_streamed_or_refused(sampler: SamplerOnCPU) -> None:
    sizes = {"z_size": 128, "mixtures": 20, "count": 1000}
    gpu = {"multiprocessors": 132, "shared_limit": 232448}
    large = sampler.plan("layer_norm", torch.float32, units=4096, **sizes, **gpu)
    assert large is not None
    assert not large.resident
    assert large.shared_bytes <= gpu["shared_limit"]
    assert sampler.plan("layer_norm", torch.float32, units=65536, **sizes, **gpu) is None
    one = sampler.plan("lstm", torch.float32, units=512, **{**sizes, "count": 1}, **gpu)
    assert one is not None
    assert (one.slots, one.stage_rows, one.resident) == (1, 1, 1)
