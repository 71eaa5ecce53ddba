"""One run at a time writes to a log root; a dead process keeps no lock."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from training.runs import Run, signal_in_step

from sketchrnn_fast.training import Interrupted, InUseError, WriteError
from sketchrnn_fast.training.lock import FILE, locked


@contextmanager
def holder(log_root: Path) -> Iterator[int]:
    """Another process that holds the log root for the block, or until it is killed."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        with locked(log_root):
            os.write(writing, b"held")
            signal.pause()
    assert os.read(reading, 4) == b"held"
    try:
        yield process
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(reading)
        os.close(writing)


def test_a_log_root_in_use_is_refused_and_the_message_says_by_whom(
    run: Run, tmp_path: Path
) -> None:
    log_root = tmp_path / "run"
    log_root.mkdir()
    with holder(log_root) as process:
        with pytest.raises(InUseError, match=rf"in use by another run \(process {process} on"):
            run(log_root)
        assert InUseError.exit_code == 5
        assert [path.name for path in log_root.iterdir()] == [FILE]
    assert run(log_root).state.step == 6


def test_a_run_that_goes_on_cannot_be_resumed_beside_itself(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_root = run(num_steps=3).log_root
    before = {path: path.stat().st_mtime_ns for path in (log_root / "checkpoints").iterdir()}
    with holder(log_root), pytest.raises(InUseError):
        run(resume=True)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_killed_process_keeps_no_lock(run: Run, tmp_path: Path) -> None:
    log_root = tmp_path / "run"
    log_root.mkdir()
    with holder(log_root):
        pass
    assert (log_root / FILE).exists()
    assert run(log_root).state.step == 6
    assert not (log_root / FILE).exists()


def test_the_lock_is_given_back_however_a_run_ends(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        signal_in_step(patch, 1)
        with pytest.raises(Interrupted):
            run()
    assert not (tmp_path / "run" / FILE).exists()
    run(resume=True)


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    message = r"cannot be locked .* No locks available"
    with pytest.raises(WriteError, match=message), locked(tmp_path):
        pass
