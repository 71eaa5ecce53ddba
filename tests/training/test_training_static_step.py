"""A step as a CUDA graph holds it: the ordinary one, in buffers, never waiting for the device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tolerances import assert_close
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training.static_steps import (
    CELLS,
    MODEL,
    assert_same_steps,
    each_cell,
    each_objective,
    figures,
    make_step,
    poison,
)

from sketchrnn_fast.training import (
    Optimiser,
    optimiser,
)
from sketchrnn_fast.training.graphs import CapturedStep, StaticStep
from sketchrnn_fast.training.step import Step

# ---- The same steps ----


@each_cell
def test_twenty_static_steps_equal_ordinary_ones_to_the_bit(cell: str, one_size: None) -> None:
    assert_same_steps(make_step(StaticStep, cell), make_step(Step, cell), 20)


def test_the_encoderless_model_takes_static_steps_too(one_size: None) -> None:
    model = replace(MODEL, conditional=False)
    assert_same_steps(
        make_step(StaticStep, "lstm", model=model), make_step(Step, "lstm", model=model), 3
    )


@pytest.mark.parametrize("conditional", [True, False])
def test_a_model_with_classes_takes_static_steps_too(conditional: bool, one_size: None) -> None:
    model = replace(MODEL, num_classes=3, label_embedding_size=2, conditional=conditional)
    static, ordinary = (make_step(kind, "lstm", model=model) for kind in (StaticStep, Step))
    before = static.model.label_embedding.weight.detach().clone()
    assert_same_steps(static, ordinary, 3)
    assert not torch.equal(static.model.label_embedding.weight, before)


@each_cell
@each_objective
def test_a_batch_cut_to_one_of_few_lengths_has_the_ordinary_loss(cell: str, objective: str) -> None:
    static, ordinary = (
        make_step(kind, cell, objective=objective, batch_size=2) for kind in (StaticStep, Step)
    )
    assert isinstance(static, StaticStep)
    assert len(static.sizes) > 1
    used = []
    static.run = lambda size: (used.append(size), static.compute(size))  # type: ignore[assignment]
    for step in range(6):
        ordinary.model.load_state_dict(static.model.state_dict())
        found, expected = (figures(taken(step, measure=True)) for taken in (static, ordinary))
        assert_close(found, expected, torch.float32, "gradient")
    assert len(set(used)) > 1


def test_a_step_depends_on_its_number_alone_and_not_on_those_before(one_size: None) -> None:
    step, other = (make_step(StaticStep, "lstm") for _ in range(2))
    step(3)
    for module in (step, other):
        for parameter in module.optimiser.parameters:
            torch.nn.init.constant_(parameter, 0.1)
    assert figures(step(7))[:8] == figures(other(7))[:8]


# ---- No waiting ----


class _OnOneDevice(TorchDispatchMode):
    """Fails where an operation takes or gives a tensor that is not on this device."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.count = device, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        tensors = [one for one in tree_leaves((args, kwargs, result)) if torch.is_tensor(one)]
        assert all(one.device.type == self.device for one in tensors), func
        self.count += 1
        return result


@each_cell
@each_objective
def test_a_static_step_needs_no_tensors_value_and_no_other_device(
    cell: str, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tensors on `meta` have shapes and no values: what would wait for one fails, be it .item(), or
    # a shape that depends on values. Adam's fused kernel has no such form; see the next test.
    updates: list[Any] = []
    monkeypatch.setattr(optimiser, "adam", lambda *lists, **options: updates.append(options))
    model = replace(MODEL, use_input_dropout=True, use_output_dropout=True, num_classes=3)
    step = make_step(StaticStep, cell, "meta", model, objective=objective)
    assert isinstance(step, StaticStep)
    with _OnOneDevice("meta") as mode:
        step.compute(step.sizes[0])
    assert mode.count > 500
    (options,) = updates
    assert options["lr"].is_meta
    assert options["found_inf"].is_meta


def test_the_masked_loss_of_an_ordinary_step_does_need_values() -> None:
    step = make_step(Step, "lstm", "meta", objective="masked")
    with pytest.raises(NotImplementedError, match="nonzero"):
        step.gradient(step.batch(0), 0)


def test_an_update_needs_no_tensors_value() -> None:
    with FakeTensorMode():
        parameter = torch.nn.Parameter(torch.ones(3))
        adam = Optimiser([parameter], 1.0)
        parameter.grad = torch.ones(3)
        adam.step(torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.bool))


# ---- What is not finite ----


def test_after_a_step_that_is_not_finite_nothing_changes_until_it_is_retaken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = make_step(StaticStep, "lstm")
    poison(monkeypatch, lambda at: at in (2, 4))
    for at in range(2):
        step(at)
    before = [one.detach().clone() for one in step.optimiser.parameters]
    assert step.average is not None
    average = [one.clone() for one in step.average.weights]
    for at in range(2, 6):
        step(at)
    assert all(map(torch.equal, step.optimiser.parameters, before))
    assert all(map(torch.equal, step.average.weights, average))
    assert step.optimiser.steps == 2
    retaken = step.retaken()
    assert retaken is not None
    assert (retaken.step, retaken.is_finite) == (2, False)
    assert any(bool(one.grad.isnan().any()) for one in step.optimiser.parameters)  # type: ignore[union-attr]
    step.optimiser.drop()
    assert step.retaken() is None
    step(3)
    assert not any(map(torch.equal, step.optimiser.parameters, before))
    assert not any(map(torch.equal, step.average.weights, average))
    assert step.optimiser.steps == 3


# ---- On a GPU ----

on_a_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


@pytest.mark.parametrize("cell", [pytest.param(cell, marks=on_a_gpu) for cell in CELLS])
@each_objective
@pytest.mark.parametrize("batch_size", [2, 8])
def test_on_a_gpu_captured_steps_equal_those_without_capture(
    cell: str, objective: str, batch_size: int
) -> None:
    options = {"objective": objective, "batch_size": batch_size}
    captured = make_step(CapturedStep, cell, "cuda", **options)
    assert_same_steps(captured, make_step(StaticStep, cell, "cuda", **options), 40)
    assert captured._graphs  # type: ignore[attr-defined]


@pytest.mark.parametrize("cell", [pytest.param(cell, marks=on_a_gpu) for cell in CELLS])
def test_on_a_gpu_a_static_step_does_not_wait(cell: str) -> None:
    step = make_step(StaticStep, cell, "cuda")
    step(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("cell", [pytest.param(cell, marks=on_a_gpu) for cell in CELLS])
def test_on_a_gpu_captured_steps_have_the_losses_of_ordinary_ones(
    cell: str, one_size: None
) -> None:
    captured, ordinary = (make_step(kind, cell, "cuda") for kind in (CapturedStep, Step))
    for step in range(8):
        ordinary.model.load_state_dict(captured.model.state_dict())
        found, expected = (figures(taken(step, measure=True)) for taken in (captured, ordinary))
        assert_close(found, expected, torch.float32, "gradient")
