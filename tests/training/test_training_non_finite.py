"""A loss or gradient that is not finite stops the run with a report, or costs one update."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from training.conftest import MODEL, TRAIN
from training.runs import Run, last_step, poison_steps, records

from sketchrnn_fast.data import load
from sketchrnn_fast.nn import Losses, SketchRNN
from sketchrnn_fast.training import DivergedError, Optimiser, divergence, load_model
from sketchrnn_fast.training.step import Step

pytestmark = pytest.mark.usefixtures("without_curves")

OPTIONS: dict[str, Any] = {"num_steps": 6, "save_every": 2, "log_every": 1}


def reports(log_root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (log_root / divergence.FILE).read_text().splitlines()]


def poison_terms(monkeypatch: pytest.MonkeyPatch, step: int, **values: float) -> None:
    """Give terms of the loss of one step another value, as an overflow in the forward pass."""
    compute = Step.gradient

    def gradient(self: Step, batch: Any, at: int) -> Losses:
        found = compute(self, batch, at)
        if at == step:
            terms = {name: getattr(found, name) * value for name, value in values.items()}
            return found._replace(**terms)
        return found

    monkeypatch.setattr(Step, "gradient", gradient)


def test_a_gradient_that_is_not_finite_stops_the_run_with_a_report(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_steps(monkeypatch, lambda step: step == 3)
    screen = io.StringIO()
    with pytest.raises(DivergedError) as error:
        run(console=Console(file=screen, width=200), **OPTIONS)
    assert error.value.exit_code == 3
    name = next(iter(dict(SketchRNN(MODEL).named_parameters())))
    for words in (f"step 4: the loss is finite, but the gradient of {name} is not", "of step 2"):
        assert words in str(error.value)
    (report,) = reports(tmp_path / "run")
    assert report["step"] == 4
    assert report["gradients"][0]["name"] == name
    assert report["gradients"][0]["not_finite"] == 1
    assert len(report["gradients"]) == 10
    sizes = [one["largest"] for one in report["gradients"][1:]]
    assert sizes == sorted(sizes, reverse=True)
    assert all(math.isfinite(value) for value in report["terms"].values())
    assert name in screen.getvalue()
    assert "sketches of the batch" in screen.getvalue()
    assert last_step(tmp_path / "run") == 2
    assert max(record["step"] for record in records(tmp_path / "run")) == 3


def test_the_report_names_the_sketches_of_the_batch(
    run: Run, tmp_path: Path, polygons_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_steps(monkeypatch, lambda step: step == 3)
    with pytest.raises(DivergedError):
        run(**OPTIONS)
    (report,) = reports(tmp_path / "run")
    splits = load(["polygons.npz"], polygons_folder)
    model = SketchRNN(replace(MODEL, max_seq_len=splits.max_seq_len))
    step = Step(model, Optimiser(model.parameters(), 1.0), splits.train, TRAIN)
    assert report["sketches"] == step.batch(3).indices.tolist()
    assert len(set(report["sketches"])) == TRAIN.batch_size


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"pen": math.nan, "total": math.nan}, r"the loss is not finite \(pen nan, total nan\)"),
        (
            {"offset": math.inf, "total": math.inf},
            r"the loss is not finite \(offset -?inf",
        ),
        ({"total": math.nan}, r"the loss is not finite \(total nan\)"),
    ],
)
def test_the_report_names_the_term(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, float],
    reason: str,
) -> None:
    poison_terms(monkeypatch, 2, **values)
    with pytest.raises(DivergedError, match=f"step 3: {reason}"):
        run(**OPTIONS)
    (report,) = reports(tmp_path / "run")
    assert isinstance(report["terms"]["total"], str)


def test_skipping_drops_the_update_and_counts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", **{**OPTIONS, "num_steps": 2}).log_root
    poison_steps(monkeypatch, lambda step: step in (2, 3))
    result = run(on_nan="skip", **{**OPTIONS, "num_steps": 4})
    assert result.state.skipped == 2
    assert result.state.step == 4
    assert [report["step"] for report in reports(tmp_path / "run")] == [3, 4]
    training = [record for record in records(tmp_path / "run") if record["split"] == "train"]
    assert [record["step"] for record in training] == [1, 2]
    last = result.log_root / "checkpoints" / "step-4"
    for name, tensor in load_model(last).state_dict().items():
        assert torch.equal(tensor, load_model(whole).state_dict()[name])


def test_the_run_after_a_stop_goes_on_with_skipping(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_steps(monkeypatch, lambda step: step == 3)
    with pytest.raises(DivergedError):
        run(**OPTIONS)
    result = run(resume=True, on_nan="skip", **OPTIONS)
    assert (result.state.step, result.state.skipped) == (6, 1)
    training = [record for record in records(tmp_path / "run") if record["split"] == "train"]
    assert [record["step"] for record in training] == [1, 2, 3, 5, 6]
    assert [record["skipped"] for record in training] == [0, 0, 0, 1, 1]


def test_a_run_that_only_skips_has_diverged_too(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divergence, "MOST_IN_A_ROW", 3)
    poison_steps(monkeypatch, lambda step: step >= 2)
    with pytest.raises(DivergedError, match=r"step 6: .* as in the 3 steps before"):
        run(on_nan="skip", num_steps=20, save_every=2)


@pytest.fixture
def one_step(polygons_folder: Path) -> Step:
    splits = load(["polygons.npz"], polygons_folder)
    torch.manual_seed(0)
    model = SketchRNN(MODEL)
    return Step(model, Optimiser(model.parameters(), 0.01), splits.train, TRAIN)


def test_gradients_that_clipping_makes_small_are_finite_however_large(one_step: Step) -> None:
    losses = one_step.gradient(one_step.batch(0), 0)
    for parameter in one_step.optimiser.parameters:
        parameter.grad = torch.full_like(parameter, 3e38)
    assert one_step.is_finite(losses)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_element_that_is_not_finite_is_found_in_any_gradient(
    one_step: Step, value: float
) -> None:
    losses = one_step.gradient(one_step.batch(0), 0)
    assert one_step.is_finite(losses)
    for parameter in one_step.optimiser.parameters:
        assert parameter.grad is not None
        last = parameter.grad.view(-1)[-1]
        before = last.clone()
        last.fill_(value)
        assert not one_step.is_finite(losses)
        last.copy_(before)


def test_the_figures_of_the_gradients_are_their_norm_and_the_share_that_is_clipped(
    one_step: Step,
) -> None:
    one_step.gradient(one_step.batch(0), 0)
    gradients = np.concatenate(
        [
            one.grad.flatten().numpy()
            for one in one_step.optimiser.parameters
            if one.grad is not None
        ]
    )
    norm, clip_fraction = one_step.gradient_figures()
    assert float(norm) == pytest.approx(np.linalg.norm(gradients.astype(np.float64)), rel=1e-5)
    assert float(clip_fraction) == pytest.approx(np.mean(np.abs(gradients) > 0.01))
    assert 0 < float(clip_fraction) < 1
