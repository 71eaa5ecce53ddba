"""Runs whose steps are static, and which runs take steps from CUDA graphs."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from drawings import write_polygons
from training.runs import Run, assert_same_run, last_step, records
from training.static_steps import (
    DATASET,
    TRAIN,
    make_step,
    poison,
)

from sketchrnn_fast.data import load
from sketchrnn_fast.data.conversion import convert
from sketchrnn_fast.training import (
    DivergedError,
    Interrupted,
    TrainingError,
    checkpoints,
    graphs,
    loop,
)
from sketchrnn_fast.training.distributed import Ranks
from sketchrnn_fast.training.graphs import CapturedStep, StaticStep, choose_step
from sketchrnn_fast.training.step import Step


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
    chosen = choose_step(step.model, step.optimiser, DATASET, TRAIN, False)
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
    of_run = {"dataset": DATASET, "config": TRAIN, "average": step.average, **changes}

    def choose(wanted: bool) -> Step:
        return choose_step(step.model, step.optimiser, cuda_graphs=wanted, **of_run)

    with pytest.raises(TrainingError, match=f"^cuda_graphs is on, but {re.escape(message)}"):
        choose(True)
    chosen = choose(False)
    assert type(chosen) is Step
    assert chosen.average is step.average
    assert chosen.ranks is changes.get("ranks", chosen.ranks)


def test_on_cuda_graphs_are_taken_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nowhere else: what has never run on a GPU is no default."""
    step = make_step(Step, "lstm")
    step.model.scale_factor = _OnCuda()  # type: ignore[assignment]
    monkeypatch.setattr(graphs, "CapturedStep", StaticStepNotMade)

    def choose(wanted: bool) -> type[Any]:
        return type(choose_step(step.model, step.optimiser, DATASET, TRAIN, wanted))

    assert choose(True) is StaticStepNotMade
    assert choose(False) is Step


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
