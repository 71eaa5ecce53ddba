"""Sampling from a model: counts, seeds, z, units, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from small_models import assert_same_drawing, make_model
from tolerances import assert_close

from sketchrnn_fast import generation

pytestmark = pytest.mark.usefixtures("sampler_backend")

each_model = pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dec_model": "layer_norm"},
        {"dec_model": "hyper"},
        {"conditional": False},
    ],
    ids=["lstm", "layer_norm", "hyper", "unconditional"],
)


@each_model
@pytest.mark.parametrize("mode", ["magenta", "js"])
def test_sketch_i_is_the_same_whatever_the_count(changes: dict[str, Any], mode: str) -> None:
    model = make_model(**changes)
    seven = generation.sample(model, 7, seed=3, mode=mode, temperature=0.7)
    assert len({len(sketch) for sketch in seven}) > 1
    three = generation.sample(model, 3, seed=5, mode=mode, temperature=0.7)
    for found, expected in zip(three, seven[2:5], strict=True):
        assert_same_drawing(found, expected)


def test_more_sketches_than_one_batch_continue_its_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    expected = generation.sample(model, 7, seed=1)
    monkeypatch.setattr("sketchrnn_fast.ops.sampler_reference.BATCH", 3)
    for found, wanted in zip(generation.sample(model, 7, seed=1), expected, strict=True):
        assert_same_drawing(found, wanted)


def test_seeds_wrap_around_the_int64_range() -> None:
    model = make_model()
    before = generation.sample(model, 3, seed=2**63 - 1)
    after = generation.sample(model, 2, seed=-(2**63))
    for found, expected in zip(after, before[1:], strict=True):
        assert_same_drawing(found, expected)


def test_given_z_decides_the_drawing_together_with_the_seed() -> None:
    model = make_model()
    z = generation.prior(model, 4, seed=9)
    drawn = generation.sample(model, 4, seed=9)
    for found, expected in zip(generation.sample(model, 4, seed=9, z=z), drawn, strict=True):
        assert_same_drawing(found, expected)
    other = generation.sample(model, 4, seed=9, z=z + 1)
    assert any(
        a.shape != b.shape or not np.allclose(a, b) for a, b in zip(other, drawn, strict=True)
    )


def test_the_prior_is_standard_normal_and_by_seed() -> None:
    model = make_model()
    z = generation.prior(model, 2000, seed=-5)
    assert z.shape == (2000, 6)
    assert stats.kstest(z.numpy().ravel(), "norm").pvalue > 1e-4
    assert torch.equal(generation.prior(model, 5, seed=0), generation.prior(model, 8, seed=-3)[3:])


def test_sketches_are_stroke_3_in_data_units() -> None:
    model = make_model()
    small = generation.sample(model, 5, seed=2)
    model.scale_factor.fill_(40.0)
    for sketch, expected in zip(generation.sample(model, 5, seed=2), small, strict=True):
        assert sketch.dtype == np.float32
        assert sketch.shape[1] == 3
        assert set(sketch[:, 2]) <= {0.0, 1.0}
        np.testing.assert_allclose(sketch[:, :2], 40 * expected[:, :2], rtol=1e-6)


def test_temperature_zero_is_greedy_and_ignores_the_seed() -> None:
    model = make_model()
    z = generation.prior(model, 1).expand(3, -1)
    drawings = [
        *generation.sample(model, 3, z=z, temperature=0.0, seed=1),
        *generation.sample(model, 3, z=z, greedy=True, seed=2),
    ]
    for drawing in drawings[1:]:
        assert_same_drawing(drawing, drawings[0])


def test_max_len_bounds_the_drawing() -> None:
    model = make_model()
    with torch.no_grad():
        model.output.linear.bias[2] = -100.0
    assert [len(sketch) for sketch in generation.sample(model, 3)] == [20] * 3
    assert [len(sketch) for sketch in generation.sample(model, 3, max_len=4)] == [4] * 3


def test_sampling_leaves_the_training_mode_and_torchs_generator_alone() -> None:
    model = make_model().train()
    state = torch.get_rng_state()
    first = generation.sample(model, 2, seed=1)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    for found, expected in zip(generation.sample(model.eval(), 2, seed=1), first, strict=True):
        assert_same_drawing(found, expected)
    assert not model.training


def test_encode_gives_the_posterior_means_of_sketches_in_data_units() -> None:
    model = make_model(enc_model="layer_norm")
    model.scale_factor.fill_(10.0)
    sketches = [np.random.default_rng(n).normal(size=(n, 3)) * 10 for n in (4, 1, 7)]
    for sketch in sketches:
        sketch[:, 2] = 0
        sketch[-1, 2] = 1
    means = generation.encode(model, sketches)
    assert means.shape == (3, 6)
    for mean, sketch in zip(means, sketches, strict=True):
        strokes = torch.zeros(1, len(sketch) + 1, 5)
        strokes[0, 0, 2] = 1
        strokes[0, 1:, :2] = torch.from_numpy(sketch[:, :2] / 10)
        strokes[0, 1:, 2] = torch.from_numpy(1 - sketch[:, 2])
        strokes[0, 1:, 3] = torch.from_numpy(sketch[:, 2])
        expected = model.eval().encode(strokes, torch.tensor([len(sketch)])).mean[0]
        assert_close(mean, expected, torch.float32)


def test_encoding_leaves_every_modules_training_mode_alone() -> None:
    model = make_model().train()
    model.decoder.eval()
    modes = [module.training for module in model.modules()]
    assert len(set(modes)) == 2
    generation.encode(model, [np.ones((2, 3))])
    assert [module.training for module in model.modules()] == modes


BAD_ARGUMENTS = [
    ({"count": 0}, "count is 0; it must be a whole number from 1 to 2147483647"),
    ({"count": 2.5}, "count is 2.5; it must be a whole number from 1 to 2147483647"),
    ({"max_len": 0}, "max_len is 0; it must be a whole number from 1 to 1048576"),
    ({"max_len": 2**20 + 1}, "max_len is 1048577; it must be a whole number from 1 to 1048576"),
    ({"seed": 1.5}, f"seed is 1.5; it must be a whole number from {-(2**63)} to {2**64 - 1}"),
    ({"z": np.zeros((2, 6))}, "z is a ndarray; it takes a tensor [2, 6], one row a sketch"),
    ({"temperature": -0.1}, "temperature is -0.1; it must be a number of at least 0"),
    ({"temperature": float("nan")}, "temperature is nan; it must be a number of at least 0"),
    ({"temperature": float("inf")}, "temperature is inf; it must be a number of at least 0"),
    ({"mode": "hot"}, "mode is 'hot'; it takes magenta or js"),
    ({"z": torch.zeros(2, 5)}, "z has shape [2, 5]; it takes [2, 6], one row a sketch"),
    ({"z": torch.zeros(3, 6)}, "z has shape [3, 6]; it takes [2, 6], one row a sketch"),
]


@pytest.mark.parametrize(("changes", "sentence"), BAD_ARGUMENTS)
def test_a_bad_argument_is_one_clear_sentence(changes: dict[str, Any], sentence: str) -> None:
    arguments = {"count": 2, **changes}
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        generation.sample(make_model(), **arguments)


def test_an_unconditional_model_takes_no_z_and_encodes_nothing() -> None:
    model = make_model(conditional=False)
    with pytest.raises(ValueError, match=r"^z was given, but this model is unconditional$"):
        generation.sample(model, 2, z=torch.zeros(2, 6))
    with pytest.raises(ValueError, match="this model is unconditional: it has no encoder"):
        generation.encode(model, [np.ones((2, 3))])
