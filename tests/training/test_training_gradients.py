"""A batch made in parts gives the gradient of the whole batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawings import polygons
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_close
from training.conftest import MODEL, TRAIN

from sketchrnn_fast.data import Batch, SketchDataset, random_batch
from sketchrnn_fast.nn import Losses, SketchRNN
from sketchrnn_fast.training.distributed import ALONE
from sketchrnn_fast.training.gradients import batch_gradient

ROWS = 6
KL_WEIGHT = 0.7
SEED = torch.tensor([11])
DATASET = SketchDataset.from_sketches(polygons(12), scale_factor=5.0)
EVERY_DROPOUT = {f"use_{kind}_dropout": True for kind in ("recurrent", "input", "output")}


def make_model(cell: str = "lstm", conditional: bool = True) -> SketchRNN:
    """In float64 with lively weights, so that the KL term is far from its zero."""
    torch.manual_seed(0)
    sizes = {"hyper_num_units": 4, "hyper_embedding_size": 3, "max_seq_len": DATASET.max_seq_len}
    config = replace(
        MODEL, enc_model=cell, dec_model=cell, conditional=conditional, **sizes, **EVERY_DROPOUT
    )
    model = SketchRNN(config, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def make_batch() -> Batch:
    return random_batch(
        DATASET,
        ROWS,
        DATASET.max_seq_len,
        seed=5,
        random_scale_factor=0.1,
        augment_stroke_prob=0.1,
    )


def in_parts(
    model: SketchRNN, size: int, tolerance: float, objective: str = "magenta"
) -> tuple[dict[str, torch.Tensor], Losses]:
    """The gradient by name and the losses, with `size` rows at once (0: all of them)."""
    config = replace(
        TRAIN,
        batch_size=ROWS,
        micro_batch_size=size,
        kl_tolerance=tolerance,
        objective=objective,
    )
    model.zero_grad()
    losses = batch_gradient(
        model, make_batch(), config, kl_weight=KL_WEIGHT, seed=SEED, ranks=ALONE
    )
    return {name: one.grad.clone() for name, one in model.named_parameters()}, losses


def at_once(
    model: SketchRNN, tolerance: float, objective: str = "magenta"
) -> tuple[dict[str, torch.Tensor], Losses]:
    """The same by the loss of the whole batch, whose floor autograd knows."""
    batch = make_batch()
    model.zero_grad()
    losses = model.loss(
        torch.from_numpy(batch.strokes).double(),
        torch.from_numpy(batch.lengths),
        kl_weight=KL_WEIGHT,
        objective=objective,
        kl_tolerance=tolerance,
        seed=SEED,
    )
    losses.total.backward()
    return {name: one.grad.clone() for name, one in model.named_parameters()}, losses


def assert_same(
    found: tuple[dict[str, torch.Tensor], Losses], expected: tuple[dict[str, torch.Tensor], Losses]
) -> None:
    for name, gradient in expected[0].items():
        assert_close(found[0][name], gradient, torch.float64, "gradient", name)
    for name in Losses._fields:
        one, other = getattr(found[1], name), getattr(expected[1], name)
        assert_close(one, other.detach(), torch.float64, "gradient", name)


@pytest.mark.parametrize("cell", ["lstm", "layer_norm", "hyper"])
@pytest.mark.parametrize("objective", ["magenta", "masked"])
@pytest.mark.parametrize("size", [0, 1, 2, 4, 6, 7])
def test_micro_batches_give_the_gradient_of_the_whole_batch(
    cell: str, objective: str, size: int
) -> None:
    """Every dropout on, and a last micro-batch that is smaller than the others."""
    model = make_model(cell)
    expected = at_once(model, 0.2, objective)
    assert_same(in_parts(model, size, 0.2, objective), expected)


@pytest.mark.parametrize("size", [0, 1, 4])
def test_micro_batches_of_an_unconditional_model(size: int) -> None:
    model = make_model(conditional=False)
    assert_same(in_parts(model, size, 0.2), at_once(model, 0.2))


def kl_by_row(model: SketchRNN) -> list[float]:
    batch = make_batch()
    strokes, lengths = torch.from_numpy(batch.strokes).double(), torch.from_numpy(batch.lengths)
    return [
        float(model.kl(strokes[[row]], lengths[[row]], seed=SEED, row_offset=row).detach())
        for row in range(ROWS)
    ]


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.01, 0.99), size=st.integers(1, ROWS))
def test_the_floor_falls_on_the_mean_of_the_whole_batch(share: float, size: int) -> None:
    """At any floor between the least and the greatest KL of a row, gradient included."""
    model = make_model()
    rows = kl_by_row(model)
    tolerance = min(rows) + share * (max(rows) - min(rows))
    expected, found = at_once(model, tolerance), in_parts(model, size, tolerance)
    assert_same(found, expected)
    assert float(found[1].kl) == max(float(found[1].kl_raw), tolerance)


def test_floors_of_parts_would_give_another_gradient() -> None:
    """What the last test rules out: it can tell the floor of the mean from the mean of floors."""
    model = make_model()
    rows = kl_by_row(model)
    mean = float(np.mean(rows))
    assert min(rows) < 0.99 * mean < mean < 1.01 * mean < max(rows)
    below, _ = in_parts(model, 1, 1.001 * mean)
    above, _ = in_parts(model, 1, 0.999 * mean)
    name = "posterior_presig.weight"
    assert float((below[name] - above[name]).norm()) > 0.01 * float(above[name].norm())
