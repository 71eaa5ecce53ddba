"""Steps as CUDA graphs hold them: the ordinary ones, in buffers, never waiting for the device."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawings import polygons, write_polygons
from tolerances import assert_close
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training.runs import Run, assert_same_run, last_step, records

from sketchrnn_fast.config import ModelConfig, TrainConfig
from sketchrnn_fast.data import SketchDataset, load
from sketchrnn_fast.data.conversion import convert
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.ops import backends
from sketchrnn_fast.training import (
    DivergedError,
    Interrupted,
    Optimiser,
    TrainingError,
    checkpoints,
    graphs,
    loop,
    optimiser,
)
from sketchrnn_fast.training.averaging import Average
from sketchrnn_fast.training.distributed import Ranks
from sketchrnn_fast.training.graphs import CapturedStep, StaticStep, choose_step
from sketchrnn_fast.training.step import Step, StepResult

CELLS = ("lstm", "layer_norm", "hyper")
each_cell = pytest.mark.parametrize("cell", CELLS)
each_objective = pytest.mark.parametrize("objective", ["magenta", "masked"])

MODEL = ModelConfig(
    enc_rnn_size=8,
    dec_rnn_size=16,
    z_size=4,
    num_mixture=2,
    hyper_num_units=5,
    hyper_embedding_size=3,
)
TRAIN = TrainConfig(batch_size=8)
DATASET = replace(SketchDataset.from_sketches(polygons(40)), classes=np.arange(40) % 3)


def make_step(
    kind: type[Step], cell: str, device: str = "cpu", model: ModelConfig = MODEL, **train: Any
) -> Step:
    """A step of a new model, with the same weights each time, and with an average of them."""
    config = replace(model, enc_model=cell, dec_model=cell, max_seq_len=DATASET.max_seq_len)
    torch.manual_seed(0)
    network = SketchRNN(config).to(device)
    return kind(
        network,
        Optimiser(network.parameters(), 1.0),
        DATASET,
        replace(TRAIN, **train),
        average=Average(network, 0.9),
    )


def figures(result: StepResult) -> list[float]:
    tensors = (*result.losses, result.gradient_norm, result.clip_fraction)
    return [float(one.detach()) for one in tensors if one is not None]


def assert_same_steps(first: Step, second: Step, count: int) -> None:
    """The same losses, gradients' figures, weights, moments and averages, to the bit."""
    for step in range(count):
        one, other = (taken(step, measure=True) for taken in (first, second))
        assert figures(one) == figures(other), step
        np.testing.assert_array_equal(one.indices, other.indices)
    assert first.retaken() is None
    assert second.retaken() is None
    for one, other in zip(first.optimiser.parameters, second.optimiser.parameters, strict=True):
        assert torch.equal(one, other)
        for pair in zip(first.optimiser.moments(one), second.optimiser.moments(other), strict=True):
            assert torch.equal(*pair)
    assert first.average is not None
    assert second.average is not None
    assert all(map(torch.equal, first.average.weights, second.average.weights))
    assert not any(map(torch.equal, first.average.weights, first.optimiser.parameters))


@pytest.fixture
def one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are not cut, so that sums have the order that they have in an ordinary step."""
    monkeypatch.setattr(graphs, "bucket_sizes", lambda lengths, *_: [int(lengths[-1])])


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


def poison(
    monkeypatch: pytest.MonkeyPatch, is_poisoned: Callable[[int], bool], retaken: bool = True
) -> None:
    """Make one gradient of some steps NaN; without `retaken` only in static steps."""
    check = Step.finiteness

    def finiteness(self: Any, losses: Any) -> torch.Tensor:
        if is_poisoned(self.taken):
            self.optimiser.parameters[0].grad.view(-1)[3] = float("nan")
        return check(self, losses)

    def noted(take: Callable[..., StepResult], is_noted: bool) -> Callable[..., StepResult]:
        def wrapped(self: Any, step: int, **options: Any) -> StepResult:
            self.taken = step if is_noted else -1
            return take(self, step, **options)

        return wrapped

    monkeypatch.setattr(Step, "finiteness", finiteness)
    monkeypatch.setattr(Step, "__call__", noted(Step.__call__, retaken))
    monkeypatch.setattr(StaticStep, "__call__", noted(StaticStep.__call__, True))


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


@pytest.fixture
def static(monkeypatch: pytest.MonkeyPatch, one_size: None) -> Callable[[], None]:
    """From its call on, runs take static steps."""

    def choose(*arguments: Any) -> Step:
        return StaticStep(*arguments[:4], average=arguments[6])

    return lambda: monkeypatch.setattr(loop, "choose_step", choose)


def test_a_static_run_is_the_ordinary_run_and_so_when_resumed(
    run: Run, static: Callable[[], None], tmp_path: Path, without_curves: None
) -> None:
    options = {"save_every": 4, "log_every": 3, "ema_decay": 0.9}
    run(tmp_path / "ordinary", num_steps=11, **options)
    static()
    run(tmp_path / "static", num_steps=6, **options)
    run(tmp_path / "static", num_steps=11, resume=True, **options)
    run(tmp_path / "other", num_steps=11, **options)
    assert_same_run(tmp_path / "ordinary", tmp_path / "other")
    assert last_step(tmp_path / "static") == 11


@pytest.mark.parametrize("bad", [(0,), (2, 3), (4, 8, 9, 10, 16), (17,)])
def test_a_static_run_skips_the_steps_that_the_ordinary_one_skips(
    run: Run,
    static: Callable[[], None],
    tmp_path: Path,
    without_curves: None,
    monkeypatch: pytest.MonkeyPatch,
    bad: tuple[int, ...],
) -> None:
    poison(monkeypatch, lambda step: step in bad)
    options = {"num_steps": 18, "save_every": 9, "log_every": 4, "on_nan": "skip"}
    options["ema_decay"] = 0.9
    run(tmp_path / "ordinary", **options)
    static()
    run(tmp_path / "static", **options)
    assert_same_run(tmp_path / "ordinary", tmp_path / "static")
    reports = [
        [*map(json.loads, (tmp_path / name / "non_finite.jsonl").read_text().splitlines())]
        for name in ("ordinary", "static")
    ]
    assert reports[0] == reports[1]
    assert [report["step"] - 1 for report in reports[0]] == list(bad)


def test_a_step_that_is_finite_when_it_is_retaken_counts_as_taken(
    run: Run,
    static: Callable[[], None],
    tmp_path: Path,
    without_curves: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"num_steps": 10, "save_every": 5, "log_every": 4}
    run(tmp_path / "ordinary", **options)
    poison(monkeypatch, lambda step: step in (2, 6), retaken=False)
    static()
    run(tmp_path / "static", **options)
    assert_same_run(tmp_path / "ordinary", tmp_path / "static")


def test_a_static_run_stops_at_the_step_at_which_the_ordinary_one_stops(
    run: Run,
    static: Callable[[], None],
    tmp_path: Path,
    without_curves: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poison(monkeypatch, lambda step: step == 5)
    static()
    with pytest.raises(DivergedError, match="step 6: the loss is finite, but the gradient of"):
        run(num_steps=40, save_every=3, log_every=20)
    assert last_step(tmp_path / "run") == 3


def test_a_static_run_that_only_skips_is_over_after_a_hundred_steps(
    run: Run,
    static: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poison(monkeypatch, lambda step: step >= 2)
    static()
    with pytest.raises(DivergedError, match="as in the 100 steps before"):
        run(num_steps=400, save_every=300, log_every=20, on_nan="skip")
    assert len((tmp_path / "run" / "non_finite.jsonl").read_text().splitlines()) == 101


def test_a_signal_saves_no_step_behind_one_that_was_not_finite(
    run: Run,
    static: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    without_curves: None,
) -> None:
    options = {"num_steps": 12, "save_every": 12, "log_every": 12, "on_nan": "skip"}
    poison(monkeypatch, lambda step: step == 3)
    run(tmp_path / "ordinary", **options)
    static()
    check = loop._Run.check_signals

    def stop_after_six(self: loop._Run) -> None:
        stop_after_six.calls += 1  # type: ignore[attr-defined]
        if stop_after_six.calls == 7:  # type: ignore[attr-defined]
            self.signals.received = 15
        check(self)

    stop_after_six.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(loop._Run, "check_signals", stop_after_six)
    with pytest.raises(Interrupted) as stopped:
        run(**options)
    assert stopped.value.step == 4
    state = checkpoints.read_state(checkpoints.find(tmp_path / "run", "last"))
    assert (state.step, state.skipped) == (4, 1)
    run(**options, resume=True)
    assert_same_run(tmp_path / "ordinary", tmp_path / "run")


# ---- Which steps a run takes ----


def test_on_the_cpu_steps_are_ordinary_and_graphs_refused_before_anything_is_made(
    run: Run, tmp_path: Path
) -> None:
    step = make_step(Step, "lstm")
    chosen = choose_step(step.model, step.optimiser, DATASET, TRAIN, None)
    assert type(chosen) is Step
    with pytest.raises(TrainingError, match="cuda_graphs is on, but the device is cpu"):
        run(tmp_path / "refused", cuda_graphs=True)
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": Ranks(0, 2)}, "the run has 2 ranks; CUDA graphs hold the steps of one"),
        ({"config": replace(TRAIN, micro_batch_size=4)}, "micro_batch_size is 4; CUDA graphs hold"),
        ({"dataset": "store"}, "the train split is a store, read from disk; CUDA graphs need one"),
    ],
)
def test_what_graphs_cannot_hold_is_refused_if_asked_for_and_else_taken_step_by_step(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if "dataset" in changes:
        write_polygons(tmp_path / "polygons.npz")
        convert([tmp_path / "polygons.npz"], tmp_path / "polygons")
        changes = {"dataset": load(["polygons"], tmp_path).train}
    step = make_step(Step, "lstm")
    step.model.scale_factor = _OnCuda()  # type: ignore[assignment]
    monkeypatch.setattr(graphs, "CapturedStep", StaticStepNotMade)
    monkeypatch.setattr(backends, "select", lambda *_: "triton")
    of_run = {"dataset": DATASET, "config": TRAIN, "average": step.average, **changes}

    def choose(wanted: bool | None) -> Step:
        return choose_step(step.model, step.optimiser, cuda_graphs=wanted, **of_run)

    with pytest.raises(TrainingError, match=f"^cuda_graphs is on, but {re.escape(message)}"):
        choose(True)
    for wanted in (None, False):
        chosen = choose(wanted)
        assert type(chosen) is Step
        assert chosen.average is step.average
        assert chosen.ranks is changes.get("ranks", chosen.ranks)


@each_cell
def test_on_cuda_graphs_are_the_default_where_triton_runs_every_op(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = make_step(Step, cell)
    step.model.scale_factor = _OnCuda()  # type: ignore[assignment]
    monkeypatch.setattr(graphs, "CapturedStep", StaticStepNotMade)
    on_triton = {"lstm", "layer_norm_lstm", "hyper_lstm", "mixture_density"}
    monkeypatch.setattr(
        backends, "select", lambda op, _: "triton" if op in on_triton else "reference"
    )

    def choose(wanted: bool | None) -> type[Any]:
        return type(choose_step(step.model, step.optimiser, DATASET, TRAIN, wanted))

    assert choose(None) is StaticStepNotMade
    assert choose(False) is Step
    on_triton.discard({"layer_norm": "layer_norm_lstm"}.get(cell, cell))
    on_triton.discard("hyper_lstm")
    on_triton.discard("mixture_density")
    assert choose(None) is Step
    assert choose(True) is StaticStepNotMade


class _OnCuda(torch.Tensor):
    """What looks as if it lay on a GPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")


class StaticStepNotMade:
    def __init__(self, *_: Any) -> None: ...


def test_a_length_is_captured_once_after_its_warm_up_and_replayed_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Everything of CUDA replaced: only the order of things is tested here, no capture.
    done: list[tuple[str, int]] = []

    class Graph:
        def replay(self) -> None:
            done.append(("replay", self.size))

    @contextlib.contextmanager
    def capture(graph: Any, **_: Any) -> Iterator[None]:
        before = len(done)
        yield
        graph.size = done[-1][1]
        done[before:] = [("capture", graph.size)]

    class Stream:
        def wait_stream(self, _: Any) -> None: ...

    for name, stand_in in {
        "Stream": lambda _: Stream(),
        "current_stream": lambda _: Stream(),
        "stream": lambda _: contextlib.nullcontext(),
        "graph_pool_handle": lambda: (0, 0),
        "CUDAGraph": Graph,
        "graph": capture,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(CapturedStep, "compute", lambda _, size: done.append(("run", size)))
    monkeypatch.setattr(graphs, "bucket_sizes", lambda *_: [5, 9])
    step = make_step(CapturedStep, "lstm")
    assert isinstance(step, CapturedStep)
    for size in (5, 5, 9, 5, 5, 5, 9):
        step.run(size)
    assert done == [
        *(("run", 5), ("run", 5), ("run", 9), ("run", 5)),
        *(("capture", 5), ("replay", 5), ("replay", 5), ("run", 9)),
    ]


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_a_run_from_graphs_learns_and_resumes(
    run: Run, tmp_path: Path, without_curves: None
) -> None:
    options = {"save_every": 20, "log_every": 10, "device": "cuda", "cuda_graphs": True}
    run(tmp_path / "whole", num_steps=60, **options)
    run(tmp_path / "parts", num_steps=30, **options)
    run(tmp_path / "parts", num_steps=60, resume=True, **options)
    costs = [one["cost"] for one in records(tmp_path / "whole") if one["split"] == "train"]
    assert costs[-1] < costs[0]
    assert last_step(tmp_path / "parts") == 60
