"""The sampler: a drawing is a function of weights, z, prefix, seed and settings, and of no more."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tolerances import TOLERANCES, assert_close

import sketchrnn_fast
from sketchrnn_fast import ModelConfig, SketchRNN, ops
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.ops import DecoderWeights, Drawings, Sampler, Temperature, sampler_reference

COUNT, LIMIT = 11, 20
SEEDS = torch.arange(COUNT) - 4
SMALL = {
    "dec_rnn_size": 16,
    "enc_rnn_size": 4,
    "z_size": 6,
    "num_mixture": 3,
    "max_seq_len": LIMIT,
    "hyper_num_units": 5,
    "hyper_embedding_size": 3,
}


def make_model(cell: str = "lstm", conditional: bool = True) -> SketchRNN:
    """A model that ends a sketch after some ten points, most within the limit."""
    torch.manual_seed(7)
    model = SketchRNN(ModelConfig(dec_model=cell, conditional=conditional, **SMALL)).eval()
    with torch.no_grad():
        model.output.linear.bias[:3] = torch.tensor([1.5, 1.0, 0.0])
        if conditional:
            model.initial_state.weight.normal_()
    return model


def z_for(model: SketchRNN, count: int = COUNT) -> torch.Tensor | None:
    if not model.config.conditional:
        return None
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(1))


each_decoder = pytest.mark.parametrize(
    ("cell", "conditional"),
    [("lstm", True), ("lstm", False), ("layer_norm", True), ("hyper", True), ("hyper", False)],
    ids=lambda value: value if isinstance(value, str) else ("cond" if value else "uncond"),
)
pytestmark = pytest.mark.usefixtures("sampler_backend")


def assert_same(found: Drawings, expected: Drawings, rows: Any = slice(None)) -> None:
    np.testing.assert_array_equal(found.lengths, expected.lengths[rows])
    np.testing.assert_array_equal(found.ended, expected.ended[rows])
    np.testing.assert_array_equal(found.points[..., 2], expected.points[rows][..., 2])
    assert_close(found.points, expected.points[rows], torch.float32, "hyper")


# ---- What is drawn ----


@each_decoder
@pytest.mark.parametrize("temperature", [Temperature(), Temperature(0.5, "js"), Temperature(0.0)])
def test_it_draws_what_the_model_and_the_reference_draw_step_by_step(
    cell: str, conditional: bool, temperature: Temperature
) -> None:
    from sketchrnn_fast.reference.sampler import generate

    model = make_model(cell, conditional)
    z = z_for(model)

    def step(stroke: torch.Tensor, state: Any) -> Any:
        with sketchrnn_fast.backend("reference"):
            state = model.decoder_cell(stroke, state, static=z)
        return model.output(state[0]), state

    with torch.no_grad():
        strokes, lengths = generate(step, model.decoder_start(z), SEEDS, LIMIT, temperature)
    drawings = Sampler(model.decoder_weights()).draw(
        SEEDS, z=z, limit=LIMIT, temperature=temperature
    )
    assert drawings.points.shape == (COUNT, LIMIT, 3)
    assert drawings.points.dtype == np.float32
    np.testing.assert_array_equal(drawings.lengths, lengths.numpy())
    for row, sketch in enumerate(drawings.sketches()):
        expected = strokes[: len(sketch), row, [0, 1, 3]].numpy()
        np.testing.assert_array_equal(sketch[:, 2], expected[:, 2])
        assert_close(sketch, expected, torch.float32, "hyper")
        assert not drawings.points[row, len(sketch) :].any()


@each_decoder
def test_the_batch_size_changes_no_drawing(cell: str, conditional: bool) -> None:
    model = make_model(cell, conditional)
    sampler, z = Sampler(model.decoder_weights()), z_for(model)
    expected = sampler.draw(SEEDS, z=z, limit=LIMIT)
    assert len(set(expected.lengths.tolist())) > 3
    for batch in (1, 3, COUNT, 1000):
        assert_same(sampler.draw(SEEDS, z=z, limit=LIMIT, batch=batch), expected)


def test_the_order_and_the_number_of_sketches_change_no_drawing() -> None:
    model = make_model()
    sampler, z = Sampler(model.decoder_weights()), z_for(model)
    assert z is not None
    expected = sampler.draw(SEEDS, z=z, limit=LIMIT)
    rows = torch.tensor([7, 2, 2, 9])
    assert_same(sampler.draw(SEEDS[rows], z=z[rows], limit=LIMIT), expected, rows.numpy())
    assert_same(sampler.draw(SEEDS.numpy(), z=z, limit=LIMIT), expected)


def test_the_number_of_threads_changes_no_drawing() -> None:
    model = make_model()
    sampler, z = Sampler(model.decoder_weights()), z_for(model)
    expected = sampler.draw(SEEDS, z=z, limit=LIMIT, threads=1)
    assert_same(sampler.draw(SEEDS, z=z, limit=LIMIT, threads=2), expected)


def test_a_sketch_ends_with_its_end_state_or_at_the_limit() -> None:
    model = make_model()
    sampler, z = Sampler(model.decoder_weights()), z_for(model)
    whole = sampler.draw(SEEDS, z=z, limit=200)
    assert whole.ended.all()
    cut = sampler.draw(SEEDS, z=z, limit=5)
    np.testing.assert_array_equal(cut.lengths, np.minimum(whole.lengths, 5))
    # One of exactly five points has drawn no end state within the limit of five.
    np.testing.assert_array_equal(cut.ended, whole.lengths < 5)
    assert 0 < cut.ended.sum() < COUNT
    for row, length in enumerate(cut.lengths):
        assert_close(cut.points[row, :length], whole.points[row, :length], torch.float32, "hyper")


# ---- Prefixes ----


@each_decoder
def test_a_sketch_given_its_own_beginning_is_the_same_sketch_again(
    cell: str, conditional: bool
) -> None:
    model = make_model(cell, conditional)
    sampler, z = Sampler(model.decoder_weights()), z_for(model)
    whole = sampler.draw(SEEDS, z=z, limit=LIMIT)
    for keep in (0.0, 0.3, 0.8, 1.0):
        prefixes = [sketch[: int(keep * len(sketch))] for sketch in whole.sketches()]
        assert_same(sampler.draw(SEEDS, z=z, limit=LIMIT, prefixes=prefixes, batch=4), whole)


def test_another_prefix_stands_as_it_is_and_changes_what_follows() -> None:
    model = make_model()
    sampler, z = Sampler(model.decoder_weights()), z_for(model)
    prefix = np.array([[0.5, -1.0, 0], [2.0, 0.25, 1], [0.0, 1.0, 0]], np.float32)
    prefixes = [prefix[: row % 4] for row in range(COUNT)]
    free = sampler.draw(SEEDS, z=z, limit=LIMIT)
    begun = sampler.draw(SEEDS, z=z, limit=LIMIT, prefixes=prefixes)
    for row, given in enumerate(prefixes):
        np.testing.assert_array_equal(begun.points[row, : len(given)], given)
        assert begun.lengths[row] >= len(given)
    assert_same(Drawings(*(part[::4] for part in begun)), free, np.s_[::4])
    assert not np.array_equal(begun.points[3::4, 3:], free.points[3::4, 3:])


def test_a_prefix_is_read_with_teacher_forcing() -> None:
    """Greedy: the point after the prefix is the likeliest by `parameters` of that prefix."""
    model = make_model("layer_norm")
    sampler, z = Sampler(model.decoder_weights()), z_for(model, 1)
    prefix = np.array([[0.5, -1.0, 0], [2.0, 0.25, 1]], np.float32)
    drawn = sampler.draw(SEEDS[:1], z=z, limit=3, prefixes=[prefix], temperature=Temperature(0.0))
    inputs = torch.tensor([[0, 0, 1, 0, 0], [0.5, -1, 1, 0, 0], [2, 0.25, 0, 1, 0]])[:, None]
    last = model.output.split(sampler.parameters(inputs, z)[-1, 0])
    best = int(last.pi_logits.argmax())
    assert_close(
        drawn.points[0, 2, :2], [last.mean_x[best], last.mean_y[best]], torch.float32, "hyper"
    )


def test_a_prefix_as_long_as_the_limit_leaves_nothing_to_draw() -> None:
    sampler = Sampler(make_model(conditional=False).decoder_weights())
    prefix = np.ones((4, 3), np.float32)
    drawn = sampler.draw(SEEDS[:2], limit=4, prefixes=[prefix, prefix * [2, 2, 0]])
    assert drawn.lengths.tolist() == [4, 4]
    assert not drawn.ended.any()
    np.testing.assert_array_equal(drawn.points[0], prefix)
    assert list(sampler.stream(SEEDS[:1], limit=4, prefixes=[prefix])) == []


def test_prefixes_may_be_tensors_with_gradients_and_empty_lists() -> None:
    sampler = Sampler(make_model(conditional=False).decoder_weights())
    point = [1.0, 2.0, 0.0]
    for prefix in (
        torch.tensor([point], requires_grad=True),
        torch.tensor([point], dtype=torch.bfloat16),
        [point],
    ):
        expected = sampler.draw(
            SEEDS[:2], limit=LIMIT, prefixes=[np.array([point]), np.zeros((0, 3))]
        )
        assert_same(sampler.draw(SEEDS[:2], limit=LIMIT, prefixes=[prefix, []]), expected)


def test_seeds_may_be_a_view_that_runs_backwards() -> None:
    sampler = Sampler(make_model(conditional=False).decoder_weights())
    expected = sampler.draw(torch.tensor([3, 2, 1, 0]), limit=LIMIT)
    assert_same(sampler.draw(np.arange(4)[::-1], limit=LIMIT), expected)


# ---- Streaming and cancelling ----


def test_the_stream_gives_every_drawn_point_once_and_in_order() -> None:
    model = make_model()
    sampler, z = Sampler(model.decoder_weights()), z_for(model)
    prefixes = [np.ones((row % 3, 3), np.float32) for row in range(COUNT)]
    expected = sampler.draw(SEEDS, z=z, limit=LIMIT, prefixes=prefixes, batch=4)
    points = np.zeros_like(expected.points)
    for row, prefix in enumerate(prefixes):
        points[row, : len(prefix)] = prefix
    lengths = np.array([len(prefix) for prefix in prefixes])
    for step in sampler.stream(SEEDS, z=z, limit=LIMIT, prefixes=prefixes, batch=4):
        assert step
        assert len({point.sketch for point in step}) == len(step) <= 4
        for sketch, index, *values in step:
            assert index == lengths[sketch]
            points[sketch, index] = values
            lengths[sketch] += 1
    assert_same(Drawings(points, lengths, expected.ended), expected)


def test_a_stream_can_be_closed_early_and_the_sampler_used_again() -> None:
    model = make_model(conditional=False)
    sampler = Sampler(model.decoder_weights())
    expected = sampler.draw(SEEDS, limit=LIMIT)
    stream = sampler.stream(SEEDS, limit=LIMIT)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert_same(sampler.draw(SEEDS, limit=LIMIT), expected)


def test_a_cancelled_draw_gives_what_it_has() -> None:
    model = make_model(conditional=False)
    with torch.no_grad():
        model.output.linear.bias[2] = -50.0
    sampler = Sampler(model.decoder_weights())
    whole = sampler.draw(SEEDS, limit=100)
    part = sampler.draw(SEEDS, limit=100, batch=COUNT, cancelled=lambda: True)
    assert 0 < part.lengths[0] < 100
    assert not part.ended.any()
    for row, length in enumerate(part.lengths):
        assert_close(part.points[row, :length], whole.points[row, :length], torch.float32, "hyper")


# ---- Parameters and storage ----


@each_decoder
def test_parameters_are_the_decoders_with_teacher_forcing(cell: str, conditional: bool) -> None:
    model = make_model(cell, conditional)
    z = z_for(model, 3)
    strokes = torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(2))
    found = Sampler(model.decoder_weights()).parameters(strokes, z)
    with torch.no_grad(), sketchrnn_fast.backend("reference"):
        expected, _ = model.decode(strokes.transpose(0, 1), z)
    assert found.shape == (7, 3, 21)
    assert not found.requires_grad
    assert_close(found, expected, torch.float32, "hyper")


@each_decoder
def test_bfloat16_storage_is_float32_arithmetic_on_rounded_matrices(
    cell: str, conditional: bool
) -> None:
    decoder = make_model(cell, conditional).decoder_weights()
    rounded = sampler_reference.rounded(decoder)
    strokes = torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(2))
    z = z_for(make_model(cell, conditional), 3)
    found = Sampler(decoder, storage="bfloat16").parameters(strokes, z)
    plain = Sampler(decoder).parameters(strokes, z)
    assert_close(found, Sampler(rounded).parameters(strokes, z), torch.float32, "hyper")
    error = float((found - plain).norm() / plain.norm())
    assert TOLERANCES[torch.float32, "hyper"] < error < 0.05


def test_the_initial_states_parts_lie_in_the_ops_order() -> None:
    for cell in ("lstm", "layer_norm", "hyper"):
        model = make_model(cell)
        decoder, z = model.decoder_weights(), z_for(model)
        assert decoder.initial is not None
        assert z is not None
        weight, bias = decoder.initial
        start = model.decoder_start(z)
        assert start is not None
        assert decoder.state_widths == tuple(part.shape[1] for part in start)
        assert_close(torch.tanh(z @ weight + bias), torch.cat(start, -1), torch.float32)
        for tensor in decoder.named().values():
            assert tensor.dtype == torch.float32
            assert tensor.is_contiguous()
            assert not tensor.requires_grad


def test_weights_of_another_dtype_are_taken() -> None:
    model = make_model("layer_norm", conditional=False)
    decoder = model.decoder_weights()
    expected = Sampler(decoder).draw(SEEDS, limit=LIMIT)
    double = decoder.map(lambda _, weight: weight.double())
    assert_same(Sampler(double).draw(SEEDS, limit=LIMIT), expected)


@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_a_sampler_does_not_change_when_its_model_does(storage: str) -> None:
    model = make_model()
    sampler, z = Sampler(model.decoder_weights(), storage=storage), z_for(model)
    expected = sampler.draw(SEEDS, z=z, limit=LIMIT)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    assert_same(sampler.draw(SEEDS, z=z, limit=LIMIT), expected)


def test_a_temperature_that_float32_does_not_hold_is_greedy() -> None:
    model = make_model("layer_norm", conditional=False)
    sampler = Sampler(model.decoder_weights())
    expected = sampler.draw(SEEDS, limit=LIMIT, temperature=Temperature(0.0))
    assert_same(sampler.draw(SEEDS, limit=LIMIT, temperature=Temperature(1e-46)), expected)
    with pytest.raises(UserError, match=r"^temperature is 1e\+39; it must be at most 3\.4"):
        sampler.draw(SEEDS, limit=LIMIT, temperature=Temperature(1e39))


# ---- What is refused ----


def poisoned(name: str, value: float = float("nan")) -> Callable[[str, torch.Tensor], torch.Tensor]:
    def change(found: str, weight: torch.Tensor) -> torch.Tensor:
        weight = weight.clone()
        if found == name:
            weight.view(-1)[-1] = value
        return weight

    return change


@each_decoder
def test_a_weight_that_is_not_finite_is_named(cell: str, conditional: bool) -> None:
    decoder = make_model(cell, conditional).decoder_weights()
    for name in decoder.named():
        for value in (float("nan"), float("-inf")):
            with pytest.raises(
                UserError, match=f"^the decoder's {name} has values that are not finite$"
            ):
                Sampler(decoder.map(poisoned(name, value)))


@each_decoder
def test_a_weight_of_a_wrong_shape_is_named(cell: str, conditional: bool) -> None:
    decoder = make_model(cell, conditional).decoder_weights()
    for name in decoder.named():
        if name in ("w_hh", "hyper_w_hh", "x_embedding"):  # the sizes of others follow from these
            continue
        smaller = decoder.map(
            lambda found, weight, name=name: weight[:-1] if found == name else weight
        )
        with pytest.raises(UserError, match=r"^the decoder's .* has shape \[.*\]; with w_hh "):
            Sampler(smaller)


def test_a_decoder_that_is_none_is_one_clear_sentence() -> None:
    decoder = make_model().decoder_weights()
    lstm = decoder.weights
    cases: list[tuple[DecoderWeights, str]] = [
        (decoder._replace(cell="gru"), "the decoder's cell is 'gru'; it takes lstm, layer_norm"),
        (decoder._replace(cell="hyper"), "the decoder's weights are LSTMWeights; the cell hyper"),
        (decoder._replace(forget_bias=float("nan")), "the decoder's forget_bias is nan; it must"),
        (decoder._replace(initial=None), "the decoder's w_xh has shape [11, 64]; with w_hh"),
        (
            decoder._replace(weights=lstm._replace(bias=lstm.bias.long())),
            "the decoder's bias is torch.int64 [64]; it takes a floating-point",
        ),
    ]
    for bad, sentence in cases:
        with pytest.raises(UserError, match=f"^{re.escape(sentence)}"):
            Sampler(bad)
    with pytest.raises(
        UserError, match=r"^storage is 'int8'; it takes float32, bfloat16, float16$"
    ):
        Sampler(decoder, storage="int8")
    with pytest.raises(ops.BackendError, match=r"names the backend 'abacus'"):
        Sampler(decoder, backend="abacus")
    with pytest.raises(UserError, match=r"^storage is float16, which only the cuda backend has"):
        Sampler(make_model().decoder_weights(), storage="float16")


@pytest.mark.parametrize("device", ["foo", "meta", "cuda:99", "cpu:x"])
def test_a_device_that_cannot_be_used_is_one_clear_sentence(device: str) -> None:
    decoder = make_model().decoder_weights()
    with pytest.raises(ops.BackendError, match=rf"^the device {device} [^\n]+$"):
        Sampler(decoder, device=device)


POINT = np.zeros((1, 3), np.float32)
BAD_CALLS: list[tuple[dict[str, Any], str]] = [
    ({"seeds": SEEDS.int()}, "seeds is torch.int32 [11]; it takes int64 [count], one a sketch"),
    ({"seeds": SEEDS[None]}, "seeds is torch.int64 [1, 11]; it takes int64 [count]"),
    ({"seeds": SEEDS.numpy().astype("u2")}, "seeds is uint16 [11]; it takes int64 [count]"),
    ({"seeds": [1, 2]}, "seeds is a list; it takes int64 [count]"),
    ({"seeds": SEEDS[:0]}, "seeds is empty; there must be at least one sketch to draw"),
    *(
        ({"limit": value}, f"limit is {value}; it must be a whole number from 1 to {2**31 - 1}")
        for value in (0, 2.5, 2**31, 2**64)
    ),
    *(
        ({"batch": value}, f"batch is {value}; it must be a whole number from 1 to {2**63 - 1}")
        for value in (0, 2.5, 2**63)
    ),
    *(
        ({"threads": value}, f"threads is {value}; it must be a whole number from 1 to {2**31 - 1}")
        for value in (0, 2.5, 2**31)
    ),
    ({"temperature": Temperature(-1.0)}, "temperature is -1.0; it must be a number of at least 0"),
    ({"temperature": Temperature(float("nan"))}, "temperature is nan; it must be a number"),
    ({"temperature": Temperature(float("inf"))}, "temperature is inf; it must be a number"),
    ({"temperature": Temperature(1.0, "hot")}, "mode is 'hot'; it takes magenta or js"),
    ({"z": None}, "z is missing; this model is conditional and takes [11, 6]"),
    ({"z": torch.zeros(11, 5)}, "z has shape [11, 5]; it takes [11, 6], one row a sketch"),
    ({"z": torch.zeros(6)}, "z has shape [6]; it takes [11, 6]"),
    ({"z": torch.full((11, 6), float("nan"))}, "z has values that are not finite"),
    ({"z": np.zeros((11, 6))}, "z is a ndarray; it takes a tensor [11, 6], one row a sketch"),
    ({"prefixes": (POINT for _ in range(11))}, "prefixes is a generator; it takes a sequence of"),
    ({"prefixes": [[[1, 2, 0], [3]]] * 11}, "prefix 0 is no array; it takes numbers of shape"),
    ({"prefixes": [POINT]}, "there are 1 prefixes for 11 seeds; it takes one a seed"),
    ({"prefixes": [POINT[:, :2]] * 11}, "prefix 0 is float32 [1, 2]; it takes numbers of shape"),
    ({"prefixes": [[["a", "b", "c"]]] * 11}, "prefix 0 is <U1 [1, 3]; it takes numbers"),
    ({"prefixes": [POINT] * 10 + [POINT - [0, 1e39, 0]]}, "prefix 10, point 0 has an offset that"),
    ({"prefixes": [POINT + 0.5] * 11}, "prefix 0, point 0 has the pen 0.5; it must be 0 or 1"),
    (
        {"prefixes": [np.zeros((LIMIT + 1, 3))] * 11},
        "prefix 0 has 21 points; with limit 20 it may have at most as many",
    ),
]


@pytest.mark.parametrize(("changes", "sentence"), BAD_CALLS)
@pytest.mark.parametrize("method", ["draw", "stream"])
def test_a_bad_argument_is_one_clear_sentence_at_the_call(
    changes: dict[str, Any], sentence: str, method: str
) -> None:
    model = make_model()
    arguments = {"seeds": SEEDS, "z": z_for(model), "limit": LIMIT, **changes}
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}"):
        getattr(Sampler(model.decoder_weights()), method)(arguments.pop("seeds"), **arguments)


def test_an_unconditional_decoder_takes_no_z() -> None:
    sampler = Sampler(make_model(conditional=False).decoder_weights())
    with pytest.raises(UserError, match=r"^z was given, but this model is unconditional$"):
        sampler.draw(SEEDS, z=torch.zeros(COUNT, 6), limit=3)


def test_strokes_for_parameters_are_checked() -> None:
    sampler = Sampler(make_model(conditional=False).decoder_weights())
    with pytest.raises(UserError, match=r"^strokes has shape \[3, 5\]; it takes stroke-5"):
        sampler.parameters(torch.zeros(3, 5))
    with pytest.raises(UserError, match=r"^strokes is a ndarray; it takes a tensor, stroke-5 \["):
        sampler.parameters(np.zeros((3, 1, 5)))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^strokes has values that are not finite$"):
        sampler.parameters(torch.full((1, 1, 5), float("inf")))


def test_parameters_that_overflow_end_in_an_error() -> None:
    decoder = make_model(conditional=False).decoder_weights()
    huge = decoder.map(
        lambda name, weight: torch.full_like(weight, 3e38) if name == "head weight" else weight
    )
    with pytest.raises(UserError, match="not finite"):
        Sampler(huge).draw(SEEDS, limit=LIMIT)


def test_parameters_of_a_prefix_are_nobodys_concern() -> None:
    decoder = make_model(conditional=False).decoder_weights()
    huge = decoder.map(
        lambda name, weight: torch.full_like(weight, 3e38) if name == "head weight" else weight
    )
    prefixes = [np.ones((7, 3), np.float32)] * COUNT
    with pytest.raises(UserError, match=r"\bstep 7\b"):
        Sampler(huge).draw(SEEDS, prefixes=prefixes, limit=LIMIT)


def test_a_result_that_no_memory_holds_is_refused() -> None:
    sampler = Sampler(make_model(conditional=False).decoder_weights())
    with pytest.raises(MemoryError, match=r"^1000000 sketches of \d+ points take \d+ bytes on cpu"):
        sampler.draw(torch.arange(10**6), limit=2**31 - 1)
