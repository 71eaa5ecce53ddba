"""Nothing that was saved is lost: kills at any moment, full disks, folders that close."""

from __future__ import annotations

import errno
import os
import random
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from training.conftest import MODEL, TRAIN
from training.faults import Faults, crash, fails_with, faulty, in_child
from training.killed_run import IS_SAVING, STEP, KilledRun
from training.runs import Run, assert_same_run, last_step, records

from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import Optimiser, WriteError, checkpoints, load_model
from sketchrnn_fast.training.checkpoints import TrainingState

pytestmark = pytest.mark.usefixtures("without_curves")


# ---- A checkpoint being written ----


def save(log_root: Path, step: int, best: int) -> None:
    """Write a checkpoint whose weights tell its step."""
    model = SketchRNN(MODEL)
    model.scale_factor.fill_(step)
    optimiser = Optimiser(model.parameters(), 1.0)
    state = TrainingState(step, 1.0, best_step=best)
    checkpoints.save(log_root, model, replace(TRAIN, keep=1), optimiser, state)


def resumed_step(log_root: Path, new: int) -> int:
    """Resume as a run does; the step that it is at, whose weights must be those of the step.

    The best is the one that this state knows, or already the new one.
    """
    checkpoints.mend(log_root / "checkpoints")
    model = SketchRNN(MODEL)
    state = checkpoints.resume(log_root, model, Optimiser(model.parameters(), 1.0))
    assert float(model.scale_factor) == state.step
    assert float(load_model(log_root).scale_factor) in (state.best_step, new)
    return state.step


@pytest.fixture
def three_saved(tmp_path: Path) -> Path:
    """A log root whose last checkpoint is of step 3."""
    log_root = tmp_path / "saved"
    for step in (1, 2, 3):
        save(log_root, step, min(step, 2))
    return log_root


def points_of_saving(log_root: Path, step: int, copy: Path) -> list[str]:
    shutil.copytree(log_root, copy)
    with faulty(Faults(copy)) as faults:
        save(copy, step, step)
    assert resumed_step(copy, step) == step
    shutil.rmtree(copy)
    return faults.points


@pytest.mark.parametrize("step", [4, 3])
def test_a_kill_at_any_moment_of_saving_leaves_the_checkpoint_before_or_the_new_one(
    three_saved: Path, tmp_path: Path, step: int
) -> None:
    """Step 3 again replaces the folder that `last` names."""
    copy = tmp_path / "copy"
    points = points_of_saving(three_saved, step, copy)
    assert len(points) >= 25
    steps = []
    for at in range(len(points)):
        shutil.copytree(three_saved, copy)

        def killed(at: int = at) -> None:
            with faulty(Faults(copy, at, crash)):
                save(copy, step, step)

        assert in_child(killed) == 77, points[at]
        steps.append(resumed_step(copy, step))
        with faulty(Faults(copy)):
            save(copy, 5, 5)
        assert not list((copy / "checkpoints").glob(".*"))
        shutil.rmtree(copy)
    assert steps == sorted(steps)
    assert {steps[0], steps[-1]} == {3, step}


@pytest.mark.parametrize("step", [4, 3])
@pytest.mark.parametrize(("number", "is_full"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_a_failure_at_any_moment_of_saving_leaves_the_checkpoint_before_or_the_new_one(
    three_saved: Path, tmp_path: Path, step: int, number: int, is_full: bool
) -> None:
    copy = tmp_path / "copy"
    for at in range(len(points_of_saving(three_saved, step, copy))):
        shutil.copytree(three_saved, copy)
        with (
            faulty(Faults(copy, at, fails_with(number), is_full)) as faults,
            pytest.raises(OSError, match=os.strerror(number)),
        ):
            save(copy, step, step)
        assert resumed_step(copy, step) in (3, step), faults.points[at]
        shutil.rmtree(copy)


# ---- A run on a disk that fills up ----

OFTEN = {"save_every": 2, "log_every": 1}


@pytest.fixture
def begun(run: Run, tmp_path: Path) -> Path:
    """The log root of a run of 2 of 6 steps."""
    return run(tmp_path / "begun", num_steps=2, **OFTEN).log_root


def points_of_running(run: Run, begun: Path, copy: Path) -> int:
    """How often a resumed run turns to the file system."""
    shutil.copytree(begun, copy)
    with faulty(Faults(copy)) as faults:
        run(copy, resume=True, **OFTEN)
    (lock,) = [
        at
        for at, point in enumerate(faults.points)
        if point.startswith("remove") and point.endswith("/.lock")
    ]
    assert lock == len(faults.points) - 1  # after which nothing can fail
    return lock


def fill_up(run: Run, whole: Path, begun: Path, broken: Path, at: int) -> None:
    """A resumed run that finds no space stops with a sentence, and goes on when there is some."""
    shutil.copytree(begun, broken)
    faults = Faults(broken, at, fails_with(errno.ENOSPC), is_full=True)
    with faulty(faults), pytest.raises(WriteError, match="No space left on device") as failure:
        run(broken, resume=True, **OFTEN)
    assert failure.value.exit_code == 4, faults.points[at]
    assert "\n" not in str(failure.value)
    assert last_step(broken) in (2, 4, 6), faults.points[at]
    if (broken / "metrics.jsonl").exists():
        records(broken)  # every line is whole
    run(broken, resume=True, **OFTEN)
    assert_same_run(whole, broken)
    shutil.rmtree(broken)


def test_a_disk_that_fills_up_during_a_run_costs_no_checkpoint(
    run: Run, begun: Path, tmp_path: Path
) -> None:
    run(tmp_path / "whole", **OFTEN)
    count = points_of_running(run, begun, tmp_path / "counted")
    assert count > 80
    for at in range(0, count, 11):
        fill_up(run, tmp_path / "whole", begun, tmp_path / "broken", at)


@pytest.mark.slow
def test_a_disk_that_fills_up_at_any_moment_of_a_run_costs_no_checkpoint(
    run: Run, begun: Path, tmp_path: Path
) -> None:
    run(tmp_path / "whole", **OFTEN)
    for at in range(points_of_running(run, begun, tmp_path / "counted")):
        fill_up(run, tmp_path / "whole", begun, tmp_path / "broken", at)


# ---- Kills ----


@dataclass
class Kills:
    """What came of killing a run again and again.

    Attributes:
        kills, while_saving: how many, and how many of them while a checkpoint was being written.
        resumable: after how many the run could be resumed.
        lost: for each kill, the steps that were done and not saved.
        last_step: of the last checkpoint.
    """

    kills: int = 0
    while_saving: int = 0
    resumable: int = 0
    lost: list[int] = field(default_factory=list)
    last_step: int = 0


def kill_often(log_root: Path, data_dir: Path, kills: int) -> Kills:
    """Start or resume a run that saves after every step, and kill it soon after, `kills` times."""
    draw = random.Random(0)
    result = Kills()
    for number in range(kills):
        run = KilledRun(log_root, data_dir, resume=has_checkpoint(log_root))
        if number % 2:  # else the time runs from the beginning, and the setup may be killed
            run.wait_for_a_step()
        run.kill_after(draw.uniform(0.0, 0.4))
        step = 0
        if has_checkpoint(log_root):  # else it is started anew
            records(log_root)  # every line is whole
            step = resumable_step(log_root)
        assert step >= result.last_step
        result.kills += 1
        result.resumable += 1
        result.while_saving += run.told[IS_SAVING]
        result.lost.append(max(0, run.told[STEP] - step))
        result.last_step = step
    return result


def has_checkpoint(log_root: Path) -> bool:
    return (log_root / "checkpoints" / "last").exists()


def resumable_step(log_root: Path) -> int:
    """The step of the last checkpoint, which must be whole."""
    model_config, _ = checkpoints.read_config(checkpoints.find(log_root, "last"))
    checkpoints.mend(log_root / "checkpoints")
    model = SketchRNN(model_config)
    state = checkpoints.resume(log_root, model, Optimiser(model.parameters(), 1.0))
    assert load_model(log_root).config == model_config
    return state.step


def check_kills(run: Run, polygons_folder: Path, tmp_path: Path, kills: int) -> Kills:
    result = kill_often(tmp_path / "killed", polygons_folder, kills)
    assert result.kills == result.resumable == kills
    assert max(result.lost) <= 1
    end = result.last_step + 2
    options = {"save_every": 1, "log_every": 1, "keep": 2, "num_steps": end}
    run(tmp_path / "killed", resume=result.last_step > 0, **options)
    run(tmp_path / "whole", **options)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    return result


def test_a_run_that_is_killed_at_eight_random_moments_equals_an_uninterrupted_one(
    run: Run, polygons_folder: Path, tmp_path: Path
) -> None:
    check_kills(run, polygons_folder, tmp_path, 8)


@pytest.mark.slow
def test_a_run_that_is_killed_at_a_hundred_random_moments_equals_an_uninterrupted_one(
    run: Run, polygons_folder: Path, tmp_path: Path
) -> None:
    result = check_kills(run, polygons_folder, tmp_path, 100)
    print(result)
    assert result.while_saving >= 10
    assert result.last_step > 20
