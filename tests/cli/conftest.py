"""Fixtures of the command line's tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from drawings import TINY_MODEL, write_polygons

from sketchrnn_fast.cli import main

TINY = [f"--{name}={value}" for name, value in TINY_MODEL.items()]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run the command line in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sketchrnn-fast", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", os.environ.get("COLUMNS", "200"))
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capfd.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="package")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_polygons(tmp_path_factory.mktemp("data") / "polygons.npz").parent


@pytest.fixture(scope="package")
def trained(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log root of a short run, made as a user would."""
    log_root = tmp_path_factory.mktemp("runs") / "tiny"
    subprocess.run(
        [
            *(sys.executable, "-m", "sketchrnn_fast", "train", *TINY),
            *("--data_dir", str(data_dir), "--log_root", str(log_root)),
            *("--hparams", "data_set=[polygons.npz],batch_size=8,num_steps=4,save_every=2"),
        ],
        check=True,
        cwd=data_dir,
    )
    return log_root
