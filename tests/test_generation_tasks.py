"""Reconstruction, interpolation, completion and temperature sweeps."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from drawings import polygons
from small_models import assert_same_drawing, make_model
from tolerances import assert_close

from sketchrnn_fast import SketchRNN, generation
from sketchrnn_fast.errors import UserError

pytestmark = pytest.mark.usefixtures("sampler_backend")
SKETCHES = polygons(5)


def assert_same_drawings(found: Any, expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        assert_same_drawing(one, other)


def scaled_model(**changes: Any) -> SketchRNN:
    model = make_model(**changes)
    model.scale_factor.fill_(8.0)
    return model


# ---- Reconstruction ----


def test_a_reconstruction_is_a_sample_from_the_posterior_mean() -> None:
    model = scaled_model()
    z = generation.encode(model, SKETCHES)
    expected = generation.sample(model, 5, z=z, seed=3, temperature=0.7, mode="js")
    found = generation.reconstruct(model, SKETCHES, seed=3, temperature=0.7, mode="js")
    assert_same_drawings(found, expected)


def test_a_reconstruction_from_a_draw_of_the_posterior_is_by_seed() -> None:
    model = scaled_model()
    with torch.no_grad():
        model.posterior_presig.bias.fill_(1.0)
    mean, presig = generation.posterior(model, SKETCHES)
    z = mean + torch.exp(presig / 2) * generation.prior(model, 5, seed=4)
    found = generation.reconstruct(model, SKETCHES, z_from="sample", seed=4)
    assert_same_drawings(found, generation.sample(model, 5, z=z, seed=4))
    part = generation.reconstruct(model, SKETCHES[2:], z_from="sample", seed=6)
    assert_same_drawings(part, found[2:])


def test_more_sketches_than_a_batch_are_encoded_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    model = scaled_model()
    expected = generation.encode(model, SKETCHES)
    monkeypatch.setattr("sketchrnn_fast.generation.latent.BATCH", 2)
    assert_close(generation.encode(model, SKETCHES), expected, torch.float32)


# ---- Interpolation ----


def vectors(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_slerp_walks_the_arc_at_even_angles() -> None:
    start, end = vectors([1.0, 0.0], [0.0, 1.0])
    for t in np.linspace(0, 1, 7):
        angle = t * np.pi / 2
        expected = [np.cos(angle), np.sin(angle)]
        assert_close(generation.slerp(start, end, float(t)), expected, torch.float64)


def test_slerp_is_the_originals_on_vectors_of_any_length() -> None:
    start, end = torch.randn(2, 9, dtype=torch.float64)
    cosine = start @ end / (start.norm() * end.norm())
    omega = float(torch.arccos(cosine))
    t = 0.3
    expected = np.sin((1 - t) * omega) / np.sin(omega) * start.numpy()
    expected = expected + np.sin(t * omega) / np.sin(omega) * end.numpy()
    assert_close(generation.slerp(start, end, t), expected, torch.float64)


@pytest.mark.parametrize("between", [generation.slerp, generation.lerp])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_ends_are_exact(between: Callable[..., torch.Tensor], dtype: torch.dtype) -> None:
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        start, end = torch.randn(2, 17, generator=generator, dtype=dtype)
        assert torch.equal(between(start, end, 0.0), start)
        assert torch.equal(between(start, end, 1.0), end)
        assert between(start, end, 0.5).dtype == dtype


@pytest.mark.parametrize(
    ("start", "end"),
    [([1.0, 2.0], [2.0, 4.0]), ([1.0, 2.0], [-3.0, -6.0]), ([0.0, 0.0], [1.0, 2.0])],
    ids=["parallel", "opposite", "zero"],
)
def test_slerp_where_no_arc_is_defined_is_lerp(start: list[float], end: list[float]) -> None:
    first, second = vectors(start, end)
    for t in (0.0, 0.25, 0.5, 1.0):
        found = generation.slerp(first, second, t)
        assert torch.equal(found, generation.lerp(first, second, t))


@pytest.mark.parametrize("method", ["slerp", "lerp"])
def test_a_path_goes_through_every_z_without_repeating_it(method: str) -> None:
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    path = generation.latent_path(z, 5, method)
    assert path.shape == (9, 6)
    assert torch.equal(path[::4], z)
    assert len(path.unique(dim=0)) == 9
    assert torch.equal(generation.latent_path(z, 2, method), z)
    if method == "lerp":
        assert_close(path[1], 0.75 * z[0] + 0.25 * z[1], torch.float32)


def test_an_interpolation_is_a_sample_of_the_path() -> None:
    model = scaled_model()
    z = generation.encode(model, SKETCHES[:3])
    found = generation.interpolate(model, SKETCHES[:3], 4, temperature=0.5, seed=2)
    expected = generation.sample(model, 7, z=generation.latent_path(z, 4), temperature=0.5, seed=2)
    assert_same_drawings(found, expected)
    assert_same_drawings(generation.interpolate(model, z, 4, temperature=0.5, seed=2), expected)


# ---- Completion ----


@pytest.mark.parametrize("changes", [{}, {"dec_model": "hyper"}, {"conditional": False}])
def test_the_beginning_of_a_sample_is_completed_to_the_same_sketch(changes: dict[str, Any]) -> None:
    model = scaled_model(**changes)
    whole = generation.sample(model, 6, seed=11)
    prefixes = [sketch[: len(sketch) // 2] for sketch in whole]
    assert_same_drawings(generation.complete(model, prefixes, seed=11), whole)


def test_a_completion_begins_with_its_prefix_to_the_bit() -> None:
    model = scaled_model(conditional=False)
    model.scale_factor.fill_(7.3)
    prefixes = [sketch[:3] for sketch in SKETCHES]
    completions = generation.complete(model, prefixes, seed=1)
    for completion, prefix in zip(completions, prefixes, strict=True):
        np.testing.assert_array_equal(completion[:3], prefix)
    assert any(len(completion) > 3 for completion in completions)


def test_an_empty_prefix_may_be_an_empty_list_and_a_sketch_a_tensor_with_a_gradient() -> None:
    model = scaled_model()
    sketch = torch.tensor(SKETCHES[0], dtype=torch.float32, requires_grad=True)
    expected = generation.complete(model, [SKETCHES[0], np.zeros((0, 3))], seed=4)
    assert_same_drawings(generation.complete(model, [sketch, []], seed=4), expected)
    assert torch.equal(generation.encode(model, [sketch]), generation.encode(model, SKETCHES[:1]))


def test_integer_and_empty_prefixes_are_taken() -> None:
    model = scaled_model(conditional=False)
    prefix = np.array([[3, -4, 0], [5, 6, 1]], np.int16)
    first, second = generation.complete(model, [prefix, np.zeros((0, 3), np.int16)], seed=4)
    np.testing.assert_array_equal(first[:2], prefix)
    assert_same_drawings([second], generation.sample(model, 1, seed=5))


def test_z_of_a_completion_is_given_or_from_the_prior_or_from_the_prefix() -> None:
    model = scaled_model()
    prefixes = [sketch[:2] for sketch in SKETCHES]
    for source, z in (
        ("prior", generation.prior(model, 5, seed=3)),
        ("prefix", generation.encode(model, prefixes)),
    ):
        found = generation.complete(model, prefixes, z=source, seed=3)
        assert_same_drawings(found, generation.complete(model, prefixes, z=z, seed=3))


def test_a_prefix_of_max_len_is_returned_as_it_is() -> None:
    model = scaled_model(conditional=False)
    (found,) = generation.complete(model, [SKETCHES[0]], max_len=len(SKETCHES[0]))
    np.testing.assert_array_equal(found, SKETCHES[0])


# ---- Temperature sweep ----


@pytest.mark.parametrize("mode", ["magenta", "js"])
def test_a_sweep_keeps_z_and_seed(mode: str) -> None:
    model = scaled_model()
    temperatures = [0.0, 0.4, 1.0]
    found = generation.temperature_sweep(model, temperatures, 2, seed=5, mode=mode)
    assert len(found) == 6
    for place, temperature in enumerate(temperatures):
        expected = generation.sample(model, 2, seed=5, temperature=temperature, mode=mode)
        assert_same_drawings(found[place::3], expected)


def test_sketches_may_come_from_a_generator() -> None:
    model = scaled_model()
    for task in (generation.reconstruct, generation.interpolate, generation.complete):
        found = task(model, (sketch for sketch in SKETCHES), seed=2)  # type: ignore[operator]
        assert_same_drawings(found, task(model, SKETCHES, seed=2))  # type: ignore[operator]


# ---- Storage ----


def test_bfloat16_reaches_the_sampler_from_every_function() -> None:
    model = scaled_model()
    with torch.no_grad():  # what is likeliest stays so when rounded, and the offsets tell
        model.output.linear.weight.mul_(0.1)
    z = generation.prior(model, 2)
    tasks: list[Callable[..., Any]] = [
        lambda **storage: generation.sample(model, 2, z=z, greedy=True, **storage),
        lambda **storage: generation.reconstruct(model, SKETCHES[:2], greedy=True, **storage),
        lambda **storage: generation.interpolate(model, z, 2, greedy=True, **storage),
        lambda **storage: generation.complete(model, [SKETCHES[0][:2]], greedy=True, **storage),
        lambda **storage: generation.temperature_sweep(model, [0.0], z=z[:1], **storage),
    ]
    for task in tasks:
        exact, rounded = task(), task(storage="bfloat16")
        difference = sum(float(np.abs(a - b).max()) for a, b in zip(exact, rounded, strict=True))
        assert 0 < difference < 0.1


# ---- What is refused ----

POINT = np.zeros((1, 3), np.float32)
CONDITIONAL: list[tuple[str, dict[str, Any], str]] = [
    ("reconstruct", {"sketches": []}, "there is nothing to encode: no sketch, or one without"),
    ("reconstruct", {"sketches": [POINT[:0]]}, "there is nothing to encode: no sketch, or one"),
    ("reconstruct", {"sketches": [POINT + 2]}, "sketch 0, point 0 has the pen 2.0; it must be 0"),
    ("reconstruct", {"z_from": "mode"}, "z_from is 'mode'; it takes mean or sample"),
    ("reconstruct", {"temperature": -1}, "temperature is -1; it must be a number of at least 0"),
    ("interpolate", {"ends": [POINT]}, "z has shape [1, 1]; a path takes at least two rows"),
    ("interpolate", {"steps": 1}, "steps is 1; it counts both ends, so it must be at least 2"),
    ("interpolate", {"method": "nlerp"}, "method is 'nlerp'; it takes slerp or lerp"),
    ("interpolate", {"ends": torch.zeros(2, 5)}, "z has shape [10, 5]; it takes [10, 6]"),
    ("interpolate", {"mode": "hot"}, "mode is 'hot'; it takes magenta or js"),
    ("complete", {"prefixes": []}, "count is 0; it must be a whole number from 1 to 2147483647"),
    ("complete", {"prefixes": [POINT + np.inf]}, "prefix 0, point 0 has an offset that is not"),
    ("complete", {"prefixes": [POINT, POINT[:, 0]]}, "prefix 1 is float32 [1]; it takes numbers"),
    ("complete", {"max_len": 3}, "prefix 0 has"),
    ("complete", {"z": "data"}, "z is 'data'; it takes prior, prefix or a tensor"),
    ("complete", {"z": np.zeros((5, 6))}, "z is a ndarray; it takes prior, prefix or a tensor"),
    ("complete", {"z": torch.zeros(5, 5)}, "z has shape [5, 5]; it takes [5, 6]"),
    ("temperature_sweep", {"temperatures": []}, "temperatures is empty; there must be at least"),
    ("temperature_sweep", {"temperatures": [0.5, -1.0]}, "temperature is -1.0; it must be"),
    (
        "temperature_sweep",
        {"count": 0},
        "count is 0; it must be a whole number from 1 to 2147483647",
    ),
]
GOOD: dict[str, dict[str, Any]] = {
    "reconstruct": {"sketches": SKETCHES},
    "interpolate": {"ends": SKETCHES[:2]},
    "complete": {"prefixes": SKETCHES},
    "temperature_sweep": {"temperatures": [0.5]},
}


@pytest.mark.parametrize(("name", "changes", "sentence"), CONDITIONAL)
def test_a_bad_argument_is_one_clear_sentence(
    name: str, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}"):
        getattr(generation, name)(scaled_model(), **{**GOOD[name], **changes})


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("reconstruct", {}, "this model is unconditional: it has no encoder"),
        ("interpolate", {}, "this model is unconditional: it has no z to interpolate"),
        ("complete", {"z": "prefix"}, "this model is unconditional: it has no encoder"),
        ("complete", {"z": torch.zeros(5, 6)}, "z was given, but this model is unconditional"),
    ],
)
def test_an_unconditional_model_refuses_what_needs_z(
    name: str, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=f"^{sentence}$"):
        getattr(generation, name)(scaled_model(conditional=False), **{**GOOD[name], **changes})
