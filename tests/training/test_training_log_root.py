"""What cannot be written is told before any work, and what a kill left is cleared away."""

from __future__ import annotations

import ctypes
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from drawings import TINY_MODEL
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training.runs import Run, assert_same_run

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.training import loop, pictures
from sketchrnn_fast.training.display import choose_console

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


def obey_permissions() -> None:
    """For a child that runs as root: what a folder forbids, it forbids root too."""
    if os.geteuid() == 0:
        assert ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE) == 0


def train_obeying(data_dir: Path, log_root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    sizes = [f"--{name}={value}" for name, value in TINY_MODEL.items()]
    steps = ("--batch_size=8", "--num_steps=2", "--data_set=polygons.npz")
    return subprocess.run(
        [
            *(sys.executable, "-m", "sketchrnn_fast", "train", *sizes, *steps, *more),
            *("--data_dir", str(data_dir), "--log_root", str(log_root)),
        ],
        capture_output=True,
        text=True,
        preexec_fn=obey_permissions,
        check=False,
    )


def test_a_folder_that_is_read_only_is_told_in_a_sentence_before_any_work(
    run: Run, tmp_path: Path, polygons_folder: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    log_root = run(tmp_path / "run", num_steps=2).log_root
    (log_root / "checkpoints").chmod(0o555)
    before = sorted(path.name for path in log_root.rglob("*"))
    for root, name, more in (
        (closed / "run", closed / "run", ()),
        (log_root, log_root / "checkpoints", ("--resume_training", "--num_steps=4")),
    ):
        done = train_obeying(polygons_folder, root, *more)
        assert done.stderr == f"error: {name} cannot be written: Permission denied\n"
        assert (done.returncode, done.stdout) == (4, "")
    (log_root / "checkpoints").chmod(0o755)
    assert not list(closed.iterdir())
    assert sorted(path.name for path in log_root.rglob("*")) == before


def test_what_a_kill_left_of_files_is_cleared_away_and_other_files_stay(
    run: Run, tmp_path: Path, without_curves: None
) -> None:
    log_root = run(num_steps=3).log_root
    (log_root / "pictures").mkdir()
    left = [
        log_root / ".metrics.jsonl.0123456789abcdef0123456789abcdef",
        log_root / "checkpoints" / ".last.0123456789abcdef0123456789abcdef",
        log_root / "pictures" / ".samples-00000003.png.0123456789abcdef0123456789abcdef",
    ]
    theirs = [
        log_root / ".gitignore",
        log_root / "checkpoints" / "notes.txt",
        log_root / "checkpoints" / "step-3-copy" / "model.safetensors",
    ]
    theirs[-1].parent.mkdir()
    for path in (*left, *theirs):
        path.write_text("")
    run(resume=True)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in theirs)


def test_the_newest_checkpoints_are_kept_besides_the_best_and_the_last(
    run: Run, monkeypatch: pytest.MonkeyPatch, without_curves: None
) -> None:
    evaluate = loop.evaluate
    # Of valid 5, 1 (the best), 6, 7 and 8; after the first two, which improve, comes one of test.
    costs = iter([5.0, 0.0, 1.0, 0.0, 6.0, 7.0, 8.0])

    def falling_then_rising(*arguments: Any, **options: Any) -> Any:
        result = evaluate(*arguments, **options)
        object.__setattr__(result, "cost", next(costs))
        return result

    monkeypatch.setattr(loop, "evaluate", falling_then_rising)
    log_root = run(num_steps=5, save_every=1, keep=1).log_root
    names = sorted(path.name for path in (log_root / "checkpoints").iterdir())
    assert names == ["best", "last", "step-2", "step-4", "step-5"]
    assert (log_root / "checkpoints" / "best").read_text() == "step-2\n"


# ---- Pictures and the display ----


@pytest.mark.parametrize("conditional", [True, False])
def test_each_evaluation_leaves_pictures_in_the_log_root_and_in_tensorboard(
    run: Run, conditional: bool
) -> None:
    log_root = run(pictures=5, conditional=conditional).log_root
    names = ["reconstructions", "samples"] if conditional else ["samples"]
    files = sorted(path.name for path in (log_root / "pictures").iterdir())
    assert files == [f"{name}-{step:08d}.png" for name in names for step in (3, 6)]
    events = EventAccumulator(str(log_root))
    events.Reload()
    assert events.Tags()["images"] == [name.capitalize() for name in reversed(names)]
    for name in names:
        for image in events.Images(name.capitalize()):
            file = log_root / "pictures" / f"{name}-{image.step:08d}.png"
            assert image.encoded_image_string == file.read_bytes()
            with Image.open(file) as picture:
                assert (image.width, image.height) == picture.size
                low, high = picture.convert("L").getextrema()
            assert low < 64
            assert high == 255


def test_what_keeps_a_picture_from_being_drawn_is_told_and_the_run_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_sampler(*_: Any, **__: Any) -> None:
        raise UserError("there is no sampler here")

    monkeypatch.setattr(pictures.generation, "sample", no_sampler)
    screen = io.StringIO()
    run(pictures=2, console=Console(file=screen, width=200))
    assert "step 3  no pictures: there is no sampler here" in screen.getvalue()


class Broken(io.StringIO):
    """A terminal that was closed."""

    def write(self, _: str) -> int:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_run_goes_on_unseen_when_its_terminal_is_gone(
    run: Run, tmp_path: Path, is_terminal: bool, without_curves: None
) -> None:
    options = {"num_steps": 4, "log_every": 1}
    console = Console(file=Broken(), force_terminal=is_terminal)
    run(tmp_path / "unseen", console=console, **options)
    run(tmp_path / "seen", **options)
    assert_same_run(tmp_path / "seen", tmp_path / "unseen")


def test_the_log_is_plain_or_rich_whatever_the_terminal() -> None:
    assert not choose_console("plain").is_terminal
    assert choose_console("rich").is_terminal
    with pytest.raises(UserError, match="log is 'pretty'; it takes plain or rich"):
        choose_console("pretty")
