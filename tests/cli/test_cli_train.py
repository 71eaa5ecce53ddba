"""`train` as scripts and people use it: signals, exit codes, and the commands that it names."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from drawings import TINY_MODEL
from training.runs import last_step, poison_steps

TINY = [f"--{name}={value}" for name, value in TINY_MODEL.items()]
STANDARD = ["--data_set=polygons.npz", "--batch_size=8", "--pictures=4"]
PROGRAM = [sys.executable, "-m", "sketchrnn_fast", "train", *TINY, *STANDARD]


def arguments(data_dir: Path, log_root: Path, *more: str) -> list[str]:
    return ["--data_dir", str(data_dir), "--log_root", str(log_root), *more]


def start(data_dir: Path, log_root: Path, *more: str) -> subprocess.Popen[str]:
    """An endless run in a process of its own, which has done its first steps."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments(data_dir, log_root, "--log_every=1", "--log=plain", *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("step 1/")
    return process


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_saves_and_names_the_command_to_go_on_with(
    command, data_dir: Path, tmp_path: Path, name: str, code: int
) -> None:
    log_root = tmp_path / "a run"
    process = start(data_dir, log_root)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate()
    assert process.returncode == code
    step = last_step(log_root)
    first, second, go_on = err.strip().splitlines()
    assert first == "stopping after this step; Ctrl-C again leaves at once"
    assert second == f"{name}: stopped after step {step}, which is saved"
    named = shlex.split(go_on.removeprefix("go on with:"))
    assert named[0] == "sketchrnn-fast"
    code, out, err = command(*named[1:], "--num_steps", str(step + 2), "--pictures=0")
    assert (code, err) == (0, "")
    assert f"done: {step + 2} steps" in out


def test_a_second_interrupt_leaves_at_once(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that never ends, so that only the second signal can."""
    endless = tmp_path / "endless.py"
    endless.write_text(
        "import sys\n"
        "from sketchrnn_fast.training.step import Step\n"
        "take = Step.batch\n"
        "def batch(self, step):\n"
        "    while step == 2:\n"
        "        pass\n"
        "    return take(self, step)\n"
        "Step.batch = batch\n"
        "from sketchrnn_fast.cli import main\n"
        "main()\n"
    )
    monkeypatch.setattr(
        sys.modules[__name__], "PROGRAM", [sys.executable, endless, "train", *TINY, *STANDARD]
    )
    process = start(data_dir, tmp_path / "run")
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "\n"
    assert process.stderr.readline().startswith("stopping after this step")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == -signal.SIGINT
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_goes_on_when_nobody_reads_its_output_any_more(
    data_dir: Path, tmp_path: Path
) -> None:
    process = start(data_dir, tmp_path / "run", "--num_steps=9", "--pictures=0")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait() == 0
    assert last_step(tmp_path / "run") == 9


def test_the_summary_names_the_best_checkpoint_and_commands_that_work(
    command, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log_root = tmp_path / "my run"
    code, out, err = command(
        *("train", *TINY, *STANDARD, "--num_steps=4", "--save_every=2"),
        *arguments(data_dir, log_root),
    )
    assert (code, err) == (0, "")
    lines = dict(
        line.split(":", 1) for line in out.splitlines() if not line.startswith(("step", "done"))
    )
    best = Path(lines["the best"].strip())
    state = json.loads((log_root / "checkpoints/step-4/training_state.json").read_text())
    assert best == log_root / "checkpoints" / f"step-{state['best_step']}"
    assert f"best validation cost {state['best_cost']:.4f} at step {state['best_step']}" in out
    for name in ("draw with it", "evaluate it", "train longer"):
        program, *words = shlex.split(lines[name])
        assert program == "sketchrnn-fast"
        code, printed, err = command(*words)
        assert (code, err) == (0, ""), name
        assert printed
    assert last_step(log_root) == 8


def test_a_diverged_run_ends_with_3_and_one_sentence(
    command, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_steps(monkeypatch, lambda step: step == 3)
    base = ("train", *TINY, *STANDARD, *arguments(data_dir, tmp_path / "run"))
    code, out, err = command(*base, "--num_steps=4", "--save_every=2")
    assert code == 3
    assert err.startswith("error: step 4: the loss is finite, but the gradient of ")
    assert err.count("\n") == 1
    assert "sketches of the batch: " in out
    code, out, err = command(
        *("train", "--resume_training", "--num_steps=4", "--on-nan=skip", "--pictures=0"),
        *arguments(data_dir, tmp_path / "run"),
    )
    assert (code, err) == (0, "")
    assert "done: 4 steps (1 of them skipped)" in out


def test_a_run_out_of_patience_ends_with_0_and_says_so(
    command, data_dir: Path, tmp_path: Path
) -> None:
    base = ("train", *TINY, *STANDARD, *arguments(data_dir, tmp_path / "run"), "--pictures=0")
    still = ("--learning_rate=1e-30", "--min_learning_rate=0", "--save_every=1", "--patience=1")
    code, out, err = command(*base, *still, "--num_steps=50")
    assert (code, err) == (0, "")
    assert "stopped early: the last 1 evaluations were no better" in out
    assert "--resume_training --patience 2" in out


def test_a_log_root_in_use_ends_with_5(command, data_dir: Path, tmp_path: Path) -> None:
    process = start(data_dir, tmp_path / "run")
    code, _, err = command("train", *TINY, *STANDARD, *arguments(data_dir, tmp_path / "run"))
    process.kill()
    process.communicate()
    assert code == 5
    assert f"is in use by another run (process {process.pid} on " in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--log=pretty", "log is 'pretty'; it takes plain or rich"),
        ("--on-nan=ignore", "on_nan is 'ignore'; it takes stop or skip"),
        ("--keep=-1", "keep is -1; it must be at least 0"),
        ("--patience=-1", "patience is -1; it must be at least 0"),
        ("--log_every=0", "log_every is 0; it must be at least 1"),
    ],
)
def test_a_bad_option_is_refused_before_any_work(
    command, data_dir: Path, tmp_path: Path, option: str, message: str
) -> None:
    code, _, err = command("train", *STANDARD, option, *arguments(data_dir, tmp_path / "run"))
    assert (code, err) == (2, f"error: {message}\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [None, "step-7\n", "../../etc\n", b"\xff\xfe"])
def test_resuming_what_is_no_run_of_ours_ends_in_one_sentence(
    command, data_dir: Path, tmp_path: Path, content: str | bytes | None
) -> None:
    folder = tmp_path / "foreign" / "checkpoints"
    folder.mkdir(parents=True)
    (tmp_path / "foreign" / "vector-500.index").write_bytes(b"\0" * 10)
    if content is not None:
        (folder / "last").write_bytes(content if isinstance(content, bytes) else content.encode())
    code, _, err = command(
        "train", "--resume_training", *STANDARD, *arguments(data_dir, tmp_path / "foreign")
    )
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "checkpoint" in err
