"""A small dataset, and runs on it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawings import TINY_MODEL, write_polygons
from rich.console import Console

from sketchrnn_fast.config import ModelConfig, TrainConfig
from sketchrnn_fast.training import Result, graphs, loop, train

MODEL = ModelConfig(**TINY_MODEL)
TRAIN = TrainConfig(data_set=("polygons.npz",), batch_size=8, num_steps=6, save_every=3)


@pytest.fixture(scope="session")
def polygons_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_polygons(tmp_path_factory.mktemp("data") / "polygons.npz").parent


@pytest.fixture
def run(polygons_folder: Path, tmp_path: Path) -> Callable[..., Result]:
    """Train a tiny model; keywords replace hyper-parameters."""

    def train_tiny(log_root: Path = tmp_path / "run", **arguments: Any) -> Result:
        options: dict[str, Any] = {
            "data_dir": polygons_folder,
            "console": Console(file=io.StringIO()),
            "pictures": 0,
        }
        for name in (*options, "resume", "max_seq_len", "device", "cuda_graphs"):
            if name in arguments:
                options[name] = arguments.pop(name)
        model = {name: arguments.pop(name) for name in list(arguments) if hasattr(MODEL, name)}
        return train(
            replace(MODEL, **model),
            replace(TRAIN, **arguments),
            log_root,
            **options,
        )

    return train_tiny


@pytest.fixture
def without_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no curves, which take longer than all else in a tiny one."""
    monkeypatch.setattr(loop, "loss_curves", lambda *_: None)


@pytest.fixture
def one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are not cut, so that sums have the order that they have in an ordinary step."""
    monkeypatch.setattr(graphs, "bucket_sizes", lambda lengths, *_: [int(lengths[-1])])
