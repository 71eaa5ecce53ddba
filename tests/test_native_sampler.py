"""The native engine of the sampler: bits, threads, memory, and calls that are no calls."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tolerances import assert_close

import sketchrnn_fast
from sketchrnn_fast import ModelConfig, SketchRNN, _native
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.interop import sketch_rnn_js
from sketchrnn_fast.ops import Drawings, NativeEngine, Sampler, Temperature

LIMIT = 25
each_cell = pytest.mark.parametrize("cell", ["lstm", "layer_norm", "hyper"])
each_storage = pytest.mark.parametrize("storage", ["float32", "bfloat16"])


@pytest.fixture(autouse=True)
def _on_native(on_native_kernels: None) -> None:
    """All of it."""


def make_model(cell: str, **changes: Any) -> SketchRNN:
    torch.manual_seed(1)
    sizes = {"dec_rnn_size": 40, "num_mixture": 5, "z_size": 7, "hyper_num_units": 20}
    model = SketchRNN(ModelConfig(**{"dec_model": cell, **sizes, **changes}))
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        if model.config.conditional:
            model.initial_state.weight.normal_()
    return model


def z_for(count: int) -> torch.Tensor:
    return torch.randn(count, 7, generator=torch.Generator().manual_seed(2))


def rows_of(drawings: Drawings, rows: slice) -> list[np.ndarray]:
    return [array[rows] for array in drawings]


# ---- The same bits, however the work is shared out ----


@each_cell
@each_storage
def test_a_drawing_has_the_same_bits_in_any_batch_and_on_any_threads(
    cell: str, storage: str
) -> None:
    sampler = Sampler(make_model(cell).decoder_weights(), storage=storage)
    seeds, z = torch.arange(1000), z_for(1000)
    expected = sampler.draw(seeds, z=z, limit=LIMIT, threads=1)
    assert len(set(expected.lengths.tolist())) > 10
    for batch, threads in ((7, 1), (100, 3), (1000, 2), (None, 4)):
        found = sampler.draw(seeds, z=z, limit=LIMIT, batch=batch, threads=threads)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    for count in (1, 7, 100):
        part = sampler.draw(seeds[:count], z=z[:count], limit=LIMIT)
        for one, other in zip(part, rows_of(expected, slice(count)), strict=True):
            np.testing.assert_array_equal(one, other)


@each_cell
def test_an_own_beginning_is_gone_on_from_to_the_bit(cell: str) -> None:
    sampler = Sampler(make_model(cell).decoder_weights())
    seeds, z = torch.arange(50), z_for(50)
    whole = sampler.draw(seeds, z=z, limit=LIMIT)
    prefixes = [sketch[: i % 7] for i, sketch in enumerate(whole.sketches())]
    again = sampler.draw(seeds, z=z, limit=LIMIT, prefixes=prefixes, batch=4)
    for one, other in zip(again, whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stream_gives_the_points_of_the_whole_drawing() -> None:
    sampler = Sampler(make_model("layer_norm").decoder_weights())
    seeds, z = torch.arange(20), z_for(20)
    whole = sampler.draw(seeds, z=z, limit=LIMIT)
    found = np.zeros_like(whole.points)
    for points in sampler.stream(seeds, z=z, limit=LIMIT, batch=6):
        for point in points:
            found[point.sketch, point.index] = point.dx, point.dy, point.pen
    np.testing.assert_array_equal(found, whole.points)


def test_samplers_draw_in_several_threads_of_python_at_once() -> None:
    sampler = Sampler(make_model("lstm").decoder_weights())
    seeds, z = torch.arange(60), z_for(60)
    expected = sampler.draw(seeds, z=z, limit=LIMIT)
    found: list[Drawings] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(sampler.draw(seeds, z=z, limit=LIMIT, threads=2))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(threads)
    for drawings in found:
        np.testing.assert_array_equal(drawings.points, expected.points)


# ---- The decoder's parameters ----


@each_cell
def test_parameters_are_those_of_the_reference_in_float64(cell: str) -> None:
    model = make_model(cell)
    strokes, z = torch.randn(12, 9, 5, generator=torch.Generator().manual_seed(3)), z_for(9)
    found = Sampler(model.decoder_weights()).parameters(strokes, z)
    wide = model.double().eval()
    with torch.no_grad(), sketchrnn_fast.backend("reference"):
        expected, _ = wide.decode(strokes.double().transpose(0, 1), z.double())
    assert_close(found, expected.float(), torch.float32, "hyper" if cell == "hyper" else "value")


@each_cell
def test_a_step_has_the_bits_of_the_op(cell: str) -> None:
    model = make_model(cell, dec_rnn_size=15, num_mixture=2, conditional=False).eval()
    decoder = model.decoder_weights()
    # A head that lets the hidden state through.
    decoder = decoder._replace(head=(torch.eye(15), torch.zeros(15)))
    strokes = torch.randn(12, 9, 5, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        hidden, _ = model.decoder(strokes)
    np.testing.assert_array_equal(Sampler(decoder).parameters(strokes), hidden)


@pytest.mark.parametrize("animal", ["bear", "bicycle", "rabbit"])
def test_published_decoders_give_the_parameters_of_the_reference(animal: str, shared: Any) -> None:
    model = sketch_rnn_js.read_model(shared / "data" / "pretrained_js" / f"{animal}.gen.json")
    sampler = Sampler(model.decoder_weights())
    drawings = sampler.draw(torch.arange(5), limit=100, temperature=Temperature(0.4, "js"))
    assert drawings.lengths.min() > 10
    strokes = torch.zeros(10, 5, 5)
    strokes[..., :2] = torch.from_numpy(drawings.points[:, :10, :2]).transpose(0, 1)
    lifted = torch.from_numpy(drawings.points[:, :10, 2]).T
    strokes[..., 2], strokes[..., 3] = 1 - lifted, lifted
    found = sampler.parameters(strokes)
    wide = model.double().eval()
    with torch.no_grad(), sketchrnn_fast.backend("reference"):
        expected, _ = wide.decode(strokes.double().transpose(0, 1), None)
    assert_close(found, expected.float(), torch.float32)


# ---- Its own manners ----


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system has no /proc")
def test_memory_of_drawings_and_decoders_is_given_back() -> None:
    decoder = make_model("hyper", dec_rnn_size=256).decoder_weights()
    seeds, z = torch.arange(200), z_for(200)

    def draw(times: int) -> None:
        for _ in range(times):
            sampler = Sampler(decoder)
            sampler.draw(seeds, z=z, limit=1)
            next(sampler.stream(seeds, z=z, limit=LIMIT))  # dropped half-way

    draw(5)
    before = resident_bytes()
    draw(40)
    # Each of the 40 decoders has 2 MiB of weights and each drawing some of rows.
    assert resident_bytes() - before < 20 * 2**20


def test_a_drawing_uses_the_threads_that_it_is_given_where_they_have_work() -> None:
    def threads_of(units: int, count: int, threads: int) -> int:
        model = make_model("lstm", dec_rnn_size=units, conditional=False)
        engine = Sampler(model.decoder_weights()).engine
        assert isinstance(engine, NativeEngine)
        run = _native.SamplerRun(engine.decoder, **{**arguments(count), "threads": threads})
        return run.threads

    assert [threads_of(512, 20, threads) for threads in (1, 2, 5)] == [1, 2, 5]
    assert threads_of(512, 1, 3) == 3
    assert threads_of(8, 1, 4) == 1


def test_a_drawing_that_was_cancelled_is_a_beginning() -> None:
    model = make_model("lstm")
    with torch.no_grad():
        model.output.linear.bias[2] -= 4.0
    sampler = Sampler(model.decoder_weights())
    seeds, z = torch.arange(300), z_for(300)
    whole = sampler.draw(seeds, z=z, limit=200)
    calls = iter([False, True])
    part = sampler.draw(seeds, z=z, limit=200, batch=50, cancelled=lambda: next(calls))
    assert 0 < part.lengths.sum() < whole.lengths.sum()
    for sketch, all_of_it in zip(part.sketches(), whole.sketches(), strict=True):
        np.testing.assert_array_equal(sketch, all_of_it[: len(sketch)])


def test_bytes_of_a_step_are_those_of_the_packed_matrices() -> None:
    config = {"dec_rnn_size": 64, "num_mixture": 10, "conditional": False}
    for storage, size in (("float32", 4), ("bfloat16", 2)):
        model = make_model("lstm", **config)
        engine = Sampler(model.decoder_weights(), storage=storage).engine
        assert isinstance(engine, NativeEngine)
        # The head's 63 columns are filled up to whole panels.
        assert engine.bytes_of_step >= size * ((64 + 5) * 256 + 64 * 63)
        assert engine.bytes_of_step <= size * ((64 + 5) * 256 + 64 * 64)
        engine.read_weights(2, 2)


def test_a_reading_sees_every_weight() -> None:
    model = make_model("lstm", conditional=False)
    weights = model.decoder_weights().map(lambda _, weight: torch.ones_like(weight))
    decoder = Sampler(weights).engine
    assert isinstance(decoder, NativeEngine)
    matrices = 45 * 160 + 40 * 33
    for threads in (1, 3):
        assert decoder.decoder.read_panels(threads, 2) == 2 * matrices


# ---- Direct calls ----


def arguments(count: int = 3, limit: int = 4) -> dict[str, Any]:
    return {
        "seeds": torch.zeros(count, dtype=torch.int64),
        "z": None,
        "prefix_points": None,
        "prefix_offsets": None,
        "softmax": 1.0,
        "sigma": 1.0,
        "greedy": False,
        "points": torch.zeros(count, limit, 3),
        "lengths": torch.zeros(count, dtype=torch.int64),
        "ended": torch.zeros(count, dtype=torch.uint8),
        "batch": count,
        "threads": 2,
    }


def native_decoder() -> _native.SamplerDecoder:
    engine = Sampler(make_model("lstm", conditional=False).decoder_weights()).engine
    assert isinstance(engine, NativeEngine)
    return engine.decoder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": torch.zeros(2, dtype=torch.int64)}, r"seeds is int64 \[2\]; it must be"),
        ({"seeds": torch.zeros(3)}, r"seeds is float32 \[3\]; it must be int64"),
        ({"z": torch.zeros(3, 7)}, "z was given"),
        ({"points": torch.zeros(3, 4)}, r"points has shape \[3, 4\]"),
        ({"points": torch.zeros(3, 0, 3)}, "the limit at least 1"),
        ({"points": torch.zeros(3, 4, 3, dtype=torch.float64)}, "points is float64"),
        ({"points": torch.zeros(3, 3, 4).transpose(1, 2)}, "points is not contiguous"),
        ({"lengths": torch.zeros(3, dtype=torch.int32)}, "lengths is"),
        ({"ended": torch.zeros(3, dtype=torch.int64)}, "ended is int64"),
        ({"batch": 0}, "batch is 0"),
        (
            {"prefix_points": torch.zeros(5, 3), "prefix_offsets": torch.tensor([0, 5, 5, 5])},
            "the prefix of sketch 0 is points 0 to 5 of 5; it has at most 4",
        ),
        (
            {"prefix_points": torch.zeros(3, 3), "prefix_offsets": torch.tensor([0, 2, 1, 3])},
            "the prefix of sketch 1 is points 2 to 1",
        ),
        (
            {"prefix_points": torch.zeros(3, 3), "prefix_offsets": torch.tensor([0, 1, 2, 4])},
            "the prefix of sketch 2 is points 2 to 4 of 3",
        ),
        (
            {"prefix_points": torch.ones(1, 3) * 0.5, "prefix_offsets": torch.tensor([0, 1, 1, 1])},
            "prefix point 0 has a pen that is neither 0 nor 1",
        ),
    ],
)
def test_calls_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _native.SamplerRun(native_decoder(), **{**arguments(), **changes})


def test_a_decoder_of_other_shapes_is_refused() -> None:
    decoder = make_model("lstm", conditional=False).decoder_weights()
    weights, (head_weight, head_bias) = list(decoder.weights), decoder.head

    def pack(some: list[torch.Tensor], *head: torch.Tensor) -> None:
        _native.SamplerDecoder("lstm", some, 1.0, None, None, *head, bfloat16=False)  # type: ignore[misc]

    for index in range(3):
        with pytest.raises(ValueError, match=r"^sampler: "):
            pack(
                [w[:-1] if i == index else w for i, w in enumerate(weights)], head_weight, head_bias
            )
    with pytest.raises(ValueError, match="head_weight has 32 columns; it takes 6 K"):
        pack(weights, head_weight[:, :-1].contiguous(), head_bias)
    with pytest.raises(ValueError, match="head_bias is"):
        pack(weights, head_weight, head_bias[:-1])
    with pytest.raises(ValueError, match="too few for hyper_lstm"):
        _native.SamplerDecoder(
            "hyper_lstm", weights, 1.0, None, None, head_weight, head_bias, bfloat16=False
        )
    with pytest.raises(ValueError, match="there is no op gru"):
        _native.SamplerDecoder(
            "gru", weights, 1.0, None, None, head_weight, head_bias, bfloat16=False
        )


def test_a_run_is_advanced_by_one_thread_at_a_time() -> None:
    count, limit = 64, 2000
    model = make_model("hyper", conditional=False)
    with torch.no_grad():
        model.output.linear.bias[2] = -1e4
    engine = Sampler(model.decoder_weights()).engine
    assert isinstance(engine, NativeEngine)
    run = _native.SamplerRun(engine.decoder, **arguments(count, limit))
    errors: list[Exception] = []

    def advance() -> None:
        try:
            run.advance(limit)
        except RuntimeError as error:
            errors.append(error)

    threads = [threading.Thread(target=advance) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 1
    assert "being advanced by another thread" in str(errors[0])


def test_parameters_that_are_not_finite_end_a_drawing_at_their_step() -> None:
    model = make_model("lstm", conditional=False)
    with torch.no_grad():  # of a Gaussian that is never chosen
        model.output.linear.bias[3] = -1e4
        model.output.linear.weight[3 + 3 * 5] = 3e38
    expected = r"^the decoder's parameters are not finite in step \d+ of sketch \d+$"
    with pytest.raises(UserError, match=expected):
        Sampler(model.decoder_weights()).draw(torch.arange(9), limit=LIMIT)
    sampler = Sampler(make_model("lstm").decoder_weights())
    with pytest.raises(UserError, match=r"^the offset drawn in step 0 of sketch 0 is not finite"):
        sampler.draw(torch.arange(9), z=z_for(9), limit=LIMIT, temperature=Temperature(3.4e38))
