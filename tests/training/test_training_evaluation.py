"""Evaluation counts every sketch, and reports the original's figures under their own names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training.conftest import MODEL, TRAIN

from sketchrnn_fast.data import evaluation_batches, load
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import Evaluation, evaluate
from sketchrnn_fast.training.seeds import Place, place_seed


@pytest.fixture(scope="module")
def splits(polygons_folder: Path):
    return load(["polygons.npz"], polygons_folder)


@pytest.fixture(scope="module")
def model(splits) -> SketchRNN:
    torch.manual_seed(3)
    return SketchRNN(replace(MODEL, max_seq_len=splits.max_seq_len))


def figures(evaluation: Evaluation) -> np.ndarray:
    names = ("cost", "reconstruction", "kl", "reconstruction_masked", "reconstruction_points")
    return np.array([getattr(evaluation, name) for name in names])


def test_every_sketch_counts_whatever_the_batch_size(model: SketchRNN, splits) -> None:
    whole = evaluate(model, splits.valid, replace(TRAIN, batch_size=10))
    for batch_size in (1, 3, 8, 100):
        part = evaluate(model, splits.valid, replace(TRAIN, batch_size=batch_size))
        assert part.sketches == whole.sketches == 10
        np.testing.assert_allclose(figures(part), figures(whole), rtol=1e-5)


def test_the_originals_figures_leave_out_the_longest_sketches(model: SketchRNN, splits) -> None:
    config = replace(TRAIN, batch_size=4, kl_tolerance=0.0)
    result = evaluate(model, splits.valid, config)
    seed = place_seed(config.seed, 0, Place.EVALUATION, torch.device("cpu"))
    costs = []
    model.eval()
    batches = list(evaluation_batches(splits.valid, 4, splits.max_seq_len))
    for index, batch in enumerate(batches[:2]):
        losses = model.loss(
            torch.from_numpy(batch.strokes),
            torch.from_numpy(batch.lengths),
            kl_weight=config.kl_weight_start,
            kl_tolerance=0.0,
            seed=seed,
            row_offset=4 * index,
        )
        costs.append(losses.total.item())
    assert len(batches) == 3
    assert result.magenta_cost == pytest.approx(np.mean(costs), rel=1e-6)
    assert result.magenta_cost != pytest.approx(result.cost, rel=1e-3)


def test_fewer_sketches_than_a_batch_have_no_figure_of_the_originals(
    model: SketchRNN, splits
) -> None:
    result = evaluate(model, splits.valid, replace(TRAIN, batch_size=11))
    assert result.magenta_cost is None
    assert np.isfinite(result.cost)


def test_both_objectives_report_the_same_forms(model: SketchRNN, splits) -> None:
    magenta = evaluate(model, splits.valid, TRAIN)
    masked = evaluate(model, splits.valid, replace(TRAIN, objective="masked"))
    assert magenta.reconstruction_masked == masked.reconstruction_masked
    assert magenta.reconstruction_magenta == masked.reconstruction_magenta
    assert magenta.reconstruction == magenta.reconstruction_magenta
    assert masked.reconstruction == masked.reconstruction_masked
    assert magenta.reconstruction_points < magenta.reconstruction_masked
    assert magenta.reconstruction_masked < magenta.reconstruction_magenta


def test_evaluation_leaves_the_models_mode_as_it_was(model: SketchRNN, splits) -> None:
    model.train()
    model.decoder.eval()
    first = evaluate(model, splits.valid, TRAIN)
    assert model.training
    assert not model.decoder.training
    model.eval()
    assert evaluate(model, splits.valid, TRAIN) == first
    assert not model.training
