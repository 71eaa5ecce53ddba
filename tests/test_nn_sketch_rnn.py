"""The model's losses, dropout flags, objectives, and torch.compile."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from cells import FLOAT64, dropout_factors
from tolerances import assert_close

import sketchrnn_fast
from sketchrnn_fast import ModelConfig, SketchRNN, ops
from sketchrnn_fast.nn import LSTMCell, MixtureDensity
from sketchrnn_fast.nn.recurrent import RecurrentLayer
from sketchrnn_fast.philox import Stream
from sketchrnn_fast.reference import philox
from sketchrnn_fast.training.optimiser import Optimiser

SEED = torch.tensor([-7])
T, B, Z = 6, 4, 3
LENGTHS = torch.tensor([6, 1, 3, 5])
SMALL: dict[str, Any] = {
    "enc_rnn_size": 6,
    "dec_rnn_size": 9,
    "z_size": Z,
    "num_mixture": 2,
    "hyper_num_units": 4,
    "hyper_embedding_size": 2,
    "use_recurrent_dropout": False,
}
CELL_NAMES = ("lstm", "layer_norm", "hyper")
each_decoder = pytest.mark.parametrize("cell", CELL_NAMES)


def make_model(**changes: Any) -> SketchRNN:
    """A model in float64 with lively weights."""
    torch.manual_seed(0)
    model = SketchRNN(ModelConfig(**{**SMALL, **changes}), dtype=FLOAT64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def make_batch() -> torch.Tensor:
    """Strokes [B, T+1, 5] with the start token and padding."""
    generator = torch.Generator().manual_seed(1)
    strokes = torch.zeros(B, T + 1, 5, dtype=FLOAT64)
    strokes[..., 4] = 1
    strokes[:, 0] = torch.tensor([0, 0, 1, 0, 0])
    for row, length in enumerate(LENGTHS.tolist()):
        points = strokes[row, 1 : length + 1]
        points[:, :2] = torch.randn(length, 2, generator=generator, dtype=FLOAT64)
        lifted = torch.rand(length, generator=generator) < 0.3
        points[:, 2], points[:, 3], points[:, 4] = ~lifted, lifted, 0
    return strokes


def loss(model: SketchRNN, **arguments: Any) -> Any:
    return model.loss(make_batch(), LENGTHS, **{"seed": SEED, **arguments})


def values(losses: Any) -> list[float]:
    return [float(value.detach()) for value in losses]


@each_decoder
@pytest.mark.parametrize("kind", ["recurrent", "input", "output"])
@pytest.mark.parametrize("conditional", [True, False])
def test_each_dropout_flag_acts_in_training_mode_only(
    cell: str, kind: str, conditional: bool
) -> None:
    sizes = {"enc_model": cell, "dec_model": cell, "conditional": conditional}
    plain = make_model(**sizes)
    dropped = make_model(**sizes, **{f"use_{kind}_dropout": True, f"{kind}_dropout_prob": 0.6})
    assert values(loss(dropped))[0] != values(loss(plain))[0]
    assert values(loss(dropped)) == values(loss(dropped))
    assert values(loss(dropped)) != values(loss(dropped, seed=SEED + 1))
    assert values(loss(dropped.eval())) == values(loss(plain.eval()))


@pytest.mark.parametrize("kind", ["recurrent", "input", "output"])
def test_a_flag_that_is_off_or_a_probability_of_one_drops_nothing(kind: str) -> None:
    expected = values(loss(make_model()))
    off = make_model(**{f"use_{kind}_dropout": False, f"{kind}_dropout_prob": 0.5})
    keep_all = make_model(**{f"use_{kind}_dropout": True, f"{kind}_dropout_prob": 1.0})
    assert values(loss(off)) == expected
    # Input dropout puts z beside the strokes at every step: other roundings.
    np.testing.assert_allclose(values(loss(keep_all)), expected, rtol=1e-12)


def test_torchs_generator_governs_a_loss_without_a_seed() -> None:
    model = make_model(use_recurrent_dropout=True)
    torch.manual_seed(4)
    first, second = values(loss(model, seed=None)), values(loss(model, seed=None))
    torch.manual_seed(4)
    assert values(loss(model, seed=None)) == first
    assert first != second


def test_in_evaluation_z_is_still_drawn() -> None:
    model = make_model().eval()
    assert values(loss(model)) != values(loss(model, seed=SEED + 1))
    noise = torch.zeros(B, Z, dtype=FLOAT64)
    assert values(loss(model, noise=noise)) == values(loss(model, noise=noise, seed=SEED + 1))


def test_input_dropout_falls_on_strokes_and_z_afresh_at_each_step() -> None:
    model = make_model(use_input_dropout=True, input_dropout_prob=0.6)
    strokes, z = make_batch()[:, :-1], torch.randn(B, Z, dtype=FLOAT64)
    params, _ = model.decode(strokes, z, seed=SEED, row_offset=2)
    x = torch.cat([strokes.transpose(0, 1), z.expand(T, -1, -1)], -1)
    for t in range(T):
        for b in range(B):
            factors = dropout_factors(int(SEED), t, 2 + b, 5 + Z, 0.6, Stream.INPUT_DROPOUT)
            x[t, b] *= torch.from_numpy(factors)
    hidden, _ = ops.lstm(x, model.decoder_cell.weights, model.decoder_start(z))
    assert_close(params, model.output(hidden), FLOAT64)


def test_output_dropout_falls_on_the_output_and_not_on_the_state() -> None:
    model = make_model(use_output_dropout=True, output_dropout_prob=0.6)
    strokes, z = make_batch()[:, :-1], torch.randn(B, Z, dtype=FLOAT64)
    params, final = model.decode(strokes, z, seed=SEED)
    hidden, expected_final = ops.lstm(
        strokes.transpose(0, 1),
        model.decoder_cell.weights,
        model.decoder_start(z),
        static_input=z,
    )
    mask = philox.keep_mask(SEED, T, B, 9, 0.6, Stream.OUTPUT_DROPOUT)
    assert_close(params, model.output(hidden * mask / 0.6), FLOAT64)
    for part, expected in zip(final, expected_final, strict=True):
        assert_close(part, expected, FLOAT64)


def test_every_place_in_the_model_draws_with_a_key_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both directions of the encoder, the decoder, and the noise of z."""
    keys: list[int] = []

    def watched(run: Callable[..., Any]) -> Callable[..., Any]:
        def watch(*arguments: Any, seed: torch.Tensor, **others: Any) -> Any:
            keys.extend(seed.tolist())
            return run(*arguments, seed=seed, **others)

        return watch

    plain_normal = philox.normal
    normal = watched(lambda *arguments, seed: plain_normal(seed, *arguments))
    for name in ("op", "bidirectional_op"):
        run = staticmethod(watched(getattr(LSTMCell, name)))
        monkeypatch.setattr(LSTMCell, name, run)
    monkeypatch.setattr(philox, "normal", lambda seed, *rest: normal(*rest, seed=seed))
    loss(make_model(enc_model="lstm", dec_model="lstm"))
    assert len(keys) == len(set(keys)) == 4


@each_decoder
def test_shards_of_a_batch_have_the_losses_of_the_whole(cell: str) -> None:
    model = make_model(
        enc_model=cell,
        dec_model=cell,
        use_recurrent_dropout=True,
        use_input_dropout=True,
        use_output_dropout=True,
    )
    whole = loss(model, row_offset=3)
    strokes = make_batch()
    shards = [
        model.loss(strokes[rows], LENGTHS[rows], seed=SEED, row_offset=3 + rows.start)
        for rows in (slice(0, 2), slice(2, 4))
    ]
    for name in ("offset", "pen", "kl_raw", "pen_points"):
        mean = torch.stack([getattr(shard, name) for shard in shards]).mean()
        assert_close(mean, getattr(whole, name), FLOAT64, what=name)


def test_the_total_is_its_parts() -> None:
    losses = loss(make_model(), kl_weight=0.3)
    assert_close(losses.reconstruction, losses.offset + losses.pen, FLOAT64)
    assert_close(losses.total, losses.reconstruction + 0.3 * losses.kl, FLOAT64)
    assert losses.pen_points < losses.pen


def test_the_kl_term_by_its_formula_and_its_floor() -> None:
    model = make_model()
    mean, presig = (part.detach() for part in model.encode(make_batch(), LENGTHS))
    raw = 0.0
    for b in range(B):
        for index in range(Z):
            m, s = float(mean[b, index]), float(presig[b, index])
            raw -= 0.5 * (1 + s - m**2 - np.exp(s)) / (B * Z)
    above, below = loss(model, kl_tolerance=raw / 2), loss(model, kl_tolerance=raw * 2)
    assert_close(above.kl, raw, FLOAT64)
    assert_close(above.kl_raw, raw, FLOAT64)
    assert_close(below.kl, raw * 2, FLOAT64)
    weight = model.posterior_presig.weight
    (gradient,) = torch.autograd.grad(above.kl, weight, retain_graph=True)
    assert (gradient != 0).any()
    (gradient,) = torch.autograd.grad(below.kl, weight)
    assert (gradient == 0).all()


@each_decoder
@pytest.mark.parametrize("conditional", [True, False])
def test_the_masked_objective_leaves_out_padding_alone(cell: str, conditional: bool) -> None:
    model = make_model(dec_model=cell, conditional=conditional)
    magenta, masked = loss(model), loss(model, objective="masked")
    assert_close(masked.offset, magenta.offset, FLOAT64)
    assert masked.pen < magenta.pen
    for name in ("pen_masked", "pen_points", "kl"):
        assert_close(getattr(masked, name), getattr(magenta, name), FLOAT64, what=name)
    assert_close(masked.pen, magenta.pen_masked, FLOAT64)

    # By hand: the rows of the points and the one end row, over B · T.
    strokes = make_batch()
    z = model.encode(strokes, LENGTHS).mean if conditional else None
    noise = torch.zeros(B, Z, dtype=FLOAT64) if conditional else None
    masked = loss(model, objective="masked", noise=noise)
    params, _ = model.decode(strokes[:, :-1], z)
    logits = model.output.split(params.detach()).pen_logits
    pen = 0.0
    for b, length in enumerate(LENGTHS.tolist()):
        for t in range(min(length + 1, T)):
            state = int(strokes[b, t + 1, 2:].argmax())
            pen -= float(torch.log_softmax(logits[t, b], -1)[state]) / (B * T)
    assert_close(masked.pen, pen, FLOAT64)


def test_padding_reaches_neither_the_posterior_nor_the_masked_loss() -> None:
    model = make_model(enc_model="layer_norm", dec_model="layer_norm")
    strokes = make_batch()
    longer = torch.cat([strokes, strokes[:, -1:].expand(-1, 3, -1)], 1)
    longer[0, T + 1 :, :2], longer[0, T + 1 :, 4] = 0, 1
    longer[0, T + 1 :, 2:4] = 0
    mean, presig = model.encode(strokes, LENGTHS)
    longer_mean, longer_presig = model.encode(longer, LENGTHS)
    assert_close(longer_mean, mean, FLOAT64)
    assert_close(longer_presig, presig, FLOAT64)
    rows = slice(1, 4)  # the first has no end row without padding
    noise = torch.zeros(3, Z, dtype=FLOAT64)
    few = model.loss(strokes[rows], LENGTHS[rows], objective="masked", noise=noise)
    many = model.loss(longer[rows], LENGTHS[rows], objective="masked", noise=noise)
    assert_close(many.reconstruction * (T + 3), few.reconstruction * T, FLOAT64)


@each_decoder
@pytest.mark.parametrize("objective", ["magenta", "masked"])
def test_steps_behind_every_sketchs_end_change_neither_losses_nor_gradients(
    cell: str, objective: str
) -> None:
    strokes, lengths = make_batch()[1:], LENGTHS[1:]
    found = []
    for most_points in (None, 5, 6):
        model = make_model(enc_model=cell, dec_model=cell, use_recurrent_dropout=True).train()
        losses = model.loss(
            strokes, lengths, objective=objective, seed=SEED, most_points=most_points
        )
        losses.total.backward()
        found.append((losses, [parameter.grad for parameter in model.parameters()]))
    expected, expected_grads = found[0]
    for losses, grads in found[1:]:
        assert_close(torch.stack(losses), torch.stack(expected), FLOAT64)
        for grad, wanted in zip(grads, expected_grads, strict=True):
            assert_close(grad, wanted, FLOAT64, "gradient")


@pytest.mark.parametrize("objective", ["magenta", "masked"])
def test_cutting_a_batch_leaves_out_steps_of_the_encoder_and_of_the_masked_decoder(
    objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    run = RecurrentLayer._run

    def noted(self: RecurrentLayer, x: torch.Tensor, *arguments: Any) -> Any:
        taken.append(x.shape[0])
        return run(self, x, *arguments)

    monkeypatch.setattr(RecurrentLayer, "_run", noted)
    model = make_model()
    model.loss(make_batch()[2:3], LENGTHS[2:3], objective=objective, most_points=3)
    assert taken == [3, 4 if objective == "masked" else T]


def test_most_points_beyond_the_batch_is_refused() -> None:
    for most_points in (0, T + 1):
        with pytest.raises(ValueError, match=f"most_points is {most_points}; it takes 1 to {T}"):
            loss(make_model(), most_points=most_points)


@pytest.mark.parametrize("objective", ["magenta", "masked"])
def test_every_parameter_has_a_gradient(objective: str) -> None:
    for encoder, decoder in (("lstm", "hyper"), ("hyper", "layer_norm"), ("layer_norm", "lstm")):
        model = make_model(enc_model=encoder, dec_model=decoder)
        loss(model, objective=objective, kl_tolerance=0.0).total.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert (parameter.grad != 0).any(), name


def test_an_unconditional_model_has_no_kl_term_and_no_encoder() -> None:
    model = make_model(conditional=False)
    losses = loss(model, kl_weight=7.0)
    assert float(losses.kl) == float(losses.kl_raw) == 0.0
    assert_close(losses.total, losses.reconstruction, FLOAT64)
    assert not any("encoder" in name or "posterior" in name for name in model.state_dict())


def test_half_precision_gives_finite_losses_and_gradients() -> None:
    config = ModelConfig(**{**SMALL, "enc_model": "hyper", "dec_model": "layer_norm"})
    model = SketchRNN(config, dtype=torch.bfloat16)
    losses = model.loss(make_batch().bfloat16(), LENGTHS, seed=SEED)
    losses.total.backward()
    assert losses.total.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_state_dict_round_trip_with_the_scale_factor() -> None:
    model, other = make_model(dec_model="hyper"), make_model(dec_model="hyper")
    model.scale_factor.fill_(18.5)
    with torch.no_grad():
        other.output.linear.bias += 1
    assert values(loss(other)) != values(loss(model))
    other.load_state_dict(model.state_dict())
    assert values(loss(other)) == values(loss(model))
    assert float(other.scale_factor) == 18.5


def losses_of_training(model: SketchRNN, dtype: torch.dtype, objective: str) -> list[float]:
    """The losses of the first five steps, each with masks of its own."""
    optimiser = Optimiser(list(model.parameters()), grad_clip=1.0)
    losses = []
    for step in range(5):
        total = model.loss(
            make_batch().to(dtype), LENGTHS, kl_weight=0.5, seed=SEED + step, objective=objective
        ).total
        total.backward()
        optimiser.step(learning_rate=0.01)
        losses.append(float(total.detach()))
    return losses


@each_decoder
@pytest.mark.parametrize("objective", ["magenta", "masked"])
@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64], ids=str)
def test_training_on_native_kernels_has_the_losses_of_training_on_the_reference(
    cell: str, objective: str, dtype: torch.dtype
) -> None:
    def losses(backend: str) -> list[float]:
        model = make_model(enc_model=cell, dec_model=cell, use_recurrent_dropout=True).to(dtype)
        with sketchrnn_fast.backend(backend):
            return losses_of_training(model, dtype, objective)

    found, expected = losses("native"), losses("reference")
    assert len({round(value, 3) for value in expected}) == 5
    assert_close(found, expected, dtype, "hyper" if cell == "hyper" else "value")


# ---- torch.compile ----


def total_and_gradients(
    function: Any, model: SketchRNN
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    total = function(make_batch(), LENGTHS, SEED)
    return total, torch.autograd.grad(total, list(model.parameters()))


@pytest.mark.parametrize(
    ("encoder", "decoder", "backend"),
    [
        ("lstm", "layer_norm", "aot_eager"),
        ("hyper", "hyper", "aot_eager"),
        ("layer_norm", "lstm", "inductor"),
    ],
)
def test_the_loss_compiles_without_a_break_in_the_graph(
    encoder: str, decoder: str, backend: str
) -> None:
    model = make_model(
        enc_model=encoder,
        dec_model=decoder,
        use_recurrent_dropout=True,
        use_input_dropout=backend == "aot_eager",  # each is a generator more to compile
        use_output_dropout=True,
    )

    def function(strokes: torch.Tensor, lengths: torch.Tensor, seed: torch.Tensor) -> Any:
        with sketchrnn_fast.backend("reference"):
            return model.loss(strokes, lengths, kl_weight=0.3, seed=seed).total

    compiled = torch.compile(function, fullgraph=True, backend=backend)
    expected, expected_gradients = total_and_gradients(function, model)
    found, gradients = total_and_gradients(compiled, model)
    assert_close(found, expected, FLOAT64)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert_close(gradient, wanted, FLOAT64, "gradient")


# ---- Bad arguments ----

BAD_ARGUMENTS = [
    (
        {"objective": "other"},
        "objective is 'other'; it takes magenta or masked",
    ),
    (
        {"strokes": torch.zeros(4, 7, 3)},
        "strokes has shape [4, 7, 3]; it takes stroke-5 [B, T+1, 5] with the start token first",
    ),
    (
        {"strokes": torch.zeros(4, 1, 5)},
        "strokes has shape [4, 1, 5]; it takes stroke-5 [B, T+1, 5] with the start token first",
    ),
    (
        {"lengths": torch.zeros(3, dtype=torch.int64)},
        "lengths is torch.int64 [3]; it takes int64 [4], one a row",
    ),
    (
        {"lengths": torch.ones(4)},
        "lengths is torch.float32 [4]; it takes int64 [4], one a row",
    ),
    (
        {"noise": torch.zeros(1, 3)},
        f"noise has shape [1, 3]; it takes [4, {Z}]",
    ),
    (
        {"lengths": torch.tensor([6, 1, 7, 5])},
        "lstm: lengths go from 1 to 7; x has 6 steps, so they must lie between 0 and 6",
    ),
]


@pytest.mark.parametrize(("changes", "sentence"), BAD_ARGUMENTS)
def test_a_bad_argument_is_one_clear_sentence(changes: dict[str, Any], sentence: str) -> None:
    arguments = {"strokes": make_batch(), "lengths": LENGTHS, **changes}
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        make_model().loss(**arguments)


def test_z_belongs_to_conditional_models() -> None:
    strokes = make_batch()[:, :-1]
    with pytest.raises(ValueError, match=r"^this model is conditional: it needs z$"):
        make_model().decode(strokes, None)
    unconditional = make_model(conditional=False)
    with pytest.raises(ValueError, match=r"^this model is unconditional: it has no z$"):
        unconditional.decode(strokes, torch.zeros(B, Z, dtype=FLOAT64))
    with pytest.raises(ValueError, match=r"^this model is unconditional: it has no encoder$"):
        unconditional.encode(make_batch(), LENGTHS)


# ---- The head by itself ----


def test_the_head_flattens_and_restores_leading_axes() -> None:
    head = MixtureDensity(5, 2, dtype=FLOAT64)
    params = head(torch.randn(3, 4, 5, dtype=FLOAT64))
    target = make_batch()[:3, :4]
    assert params.shape == (3, 4, 15)
    offset, pen = head.loss(params, target)
    assert offset.shape == pen.shape == (3, 4)
    weights = torch.rand(3, 4, dtype=FLOAT64)
    weighted_offset, weighted_pen = head.loss(params, target, weights, weights**2)
    assert_close(weighted_offset, offset * weights, FLOAT64)
    assert_close(weighted_pen, pen * weights**2, FLOAT64)
    alone, _ = head.loss(params[1, 2][None], target[1, 2][None])
    assert_close(alone[0], offset[1, 2], FLOAT64)


@pytest.mark.parametrize("sizes", [(0, 2), (5, 0)])
def test_bad_sizes_of_the_head_are_refused(sizes: tuple[int, int]) -> None:
    sentence = (
        f"MixtureDensity: input_size is {sizes[0]} and num_mixture {sizes[1]}; both must be at "
        "least 1"
    )
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        MixtureDensity(*sizes)
