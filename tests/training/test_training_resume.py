"""A run that is stopped anywhere and resumed equals an uninterrupted one, to the bit."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from training.runs import (
    Run,
    assert_same_run,
    last_step,
    poison_steps,
    records,
    signal_in_step,
)

from sketchrnn_fast.training import Interrupted, TrainingError, checkpoints, loop

pytestmark = pytest.mark.usefixtures("without_curves")

EVERYTHING = {
    "random_scale_factor": 0.15,
    "augment_stroke_prob": 0.2,
    "use_recurrent_dropout": True,
    "use_input_dropout": True,
    "use_output_dropout": True,
}


def stop_after_each_step(
    run: Run, log_root: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> None:
    """A run of 6 steps, interrupted in each one and resumed."""
    for step in range(6):
        with monkeypatch.context() as patch:
            signal_in_step(patch, step)
            with pytest.raises(Interrupted) as stop:
                run(log_root, resume=step > 0, **options)
        assert stop.value.step == step + 1 == last_step(log_root)
    assert run(log_root, resume=True, **options).steps == 0


@pytest.mark.parametrize("objective", ["magenta", "masked"])
@pytest.mark.parametrize("cell", ["lstm", "layer_norm", "hyper"])
def test_a_run_stopped_after_every_step_equals_an_uninterrupted_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, objective: str
) -> None:
    options = {
        **{"enc_model": cell, "dec_model": cell, "hyper_num_units": 5, "hyper_embedding_size": 3},
        **{"objective": objective, "num_steps": 6, "save_every": 4, "log_every": 1},
        **EVERYTHING,
    }
    run(tmp_path / "whole", **options)
    stop_after_each_step(run, tmp_path / "parts", monkeypatch, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    "options",
    [
        {"conditional": False, "use_input_dropout": True},
        {"random_scale_factor": 0.0},
        {"augment_stroke_prob": 0.0},
        {"use_recurrent_dropout": False},
    ],
)
def test_without_one_of_its_random_draws_a_stopped_run_still_equals_an_uninterrupted_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    options = {"num_steps": 6, "save_every": 4, "log_every": 1, **options}
    run(tmp_path / "whole", **options)
    stop_after_each_step(run, tmp_path / "parts", monkeypatch, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_what_is_drawn_at_random_changes_the_losses(run: Run, tmp_path: Path) -> None:
    """So that the tests above compare something."""
    costs = set()
    for index, (name, value) in enumerate([("seed", 0), *EVERYTHING.items()]):
        everything = {**EVERYTHING, name: not value if isinstance(value, bool) else 0}
        log_root = run(tmp_path / str(index), num_steps=1, log_every=1, **everything).log_root
        costs.add(records(log_root)[0]["cost"])
    assert len(costs) == 1 + len(EVERYTHING)


def test_an_evaluation_that_a_signal_abandons_is_made_by_the_resumed_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole")
    evaluate = loop.evaluate

    def stop_in_test_split(*arguments: Any, **options: Any) -> Any:
        if arguments[1].name.endswith("test"):
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", stop_in_test_split)
        with pytest.raises(Interrupted):
            run(tmp_path / "parts")
    assert last_step(tmp_path / "parts") == 3
    assert not (tmp_path / "parts" / "metrics.jsonl").exists()
    run(tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_skipped_steps_are_the_same_after_resuming(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"num_steps": 6, "save_every": 4, "log_every": 1, "on_nan": "skip"}
    poison_steps(monkeypatch, lambda step: step in (1, 2, 4))
    run(tmp_path / "whole", **options)
    stop_after_each_step(run, tmp_path / "parts", monkeypatch, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    logs = [(tmp_path / name / "non_finite.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]
    assert logs[0].count("\n") == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_leaves_and_the_handlers_are_as_before(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    signal_in_step(monkeypatch, 1, number)
    with pytest.raises(KeyboardInterrupt, match=f"signal {int(number)} after step 2") as stop:
        run()
    assert stop.value.signal == number
    assert last_step(tmp_path / "run") == 2
    after = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert before == after


def test_a_signal_that_the_process_ignores_stays_ignored(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signal_in_step(monkeypatch, 1, signal.SIGHUP)
        assert run().state.step == 6
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_in_another_thread_takes_no_signals(run: Run) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    thread.join()
    assert results[0].state.step == 6


def test_patience_ends_a_run_early_and_more_of_it_goes_on(run: Run, tmp_path: Path) -> None:
    """With a learning rate of next to nothing, the first evaluations are about as good."""
    options = {"save_every": 1, "num_steps": 40, "learning_rate": 1e-30, "min_learning_rate": 0.0}
    result = run(patience=2, **options)
    valid = [record for record in records(result.log_root) if record["split"] == "valid"]
    best = min(range(len(valid)), key=lambda index: valid[index]["cost"])
    assert result.stopped_early
    assert result.state.stale_evaluations == 2
    assert len(valid) == result.state.step == best + 1 + 2 < 40
    again = run(resume=True, patience=2, **options)
    assert (again.steps, again.stopped_early) == (0, True)
    longer = run(resume=True, patience=4, **options)
    assert longer.steps > 0
    run(tmp_path / "whole", patience=4, **options)
    assert_same_run(tmp_path / "whole", result.log_root)


@pytest.mark.parametrize(
    "change",
    [
        {"num_steps": 9},
        {"save_every": 2},
        {"log_every": 1},
        {"keep": 2},
        {"patience": 5},
        {"on_nan": "skip"},
    ],
)
def test_what_alters_no_step_may_change_on_resuming(run: Run, change: dict[str, Any]) -> None:
    log_root = run(num_steps=3).log_root
    run(resume=True, **{"num_steps": 6, **change})
    _, saved = checkpoints.read_config(checkpoints.find(log_root, "last"))
    (name,) = change
    assert getattr(saved, name) == change[name]


def test_everything_else_is_refused_by_name_and_the_message_says_what_may_change(
    run: Run,
) -> None:
    run(num_steps=3)
    message = (
        r"batch_size is 9, but the run in .* has 8; on resuming only num_steps, save_every, "
        "log_every, keep, patience, on_nan may change"
    )
    with pytest.raises(TrainingError, match=message):
        run(resume=True, batch_size=9)


def test_a_checkpoint_that_is_cut_short_is_named_with_those_to_go_on_from(
    run: Run, tmp_path: Path
) -> None:
    log_root = run(save_every=2, keep=3).log_root
    folder = log_root / "checkpoints"
    for name in ("model.safetensors", "optimizer.safetensors", "training_state.json"):
        file = folder / "step-6" / name
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        with pytest.raises(TrainingError, match=rf"{name} is .*write step-2 or step-4 into .*last"):
            run(resume=True, save_every=2, keep=3)
        file.write_bytes(content)
    (folder / "last").write_text("step-4\n")
    run(resume=True, save_every=2, keep=3)
    run(tmp_path / "whole", save_every=2, keep=3)
    assert_same_run(tmp_path / "whole", log_root)
