"""sketchrnn-fast: Sketch-RNN and its recurrent cells as a fast kernel library.

Everything is imported when it is first used, so that the command line answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sketchrnn_fast import data, generation, interop, nn, ops, render, strokes, training
    from sketchrnn_fast.config import ConfigError, ModelConfig, TrainConfig
    from sketchrnn_fast.nn import SketchRNN
    from sketchrnn_fast.ops import backend

__version__ = "0.1.0"

_MODULES = ("data", "generation", "interop", "nn", "ops", "render", "strokes", "training")
_NAMES = {
    "ConfigError": "sketchrnn_fast.config",
    "ModelConfig": "sketchrnn_fast.config",
    "TrainConfig": "sketchrnn_fast.config",
    "SketchRNN": "sketchrnn_fast.nn",
    "backend": "sketchrnn_fast.ops",
}

__all__ = [
    "ConfigError",
    "ModelConfig",
    "SketchRNN",
    "TrainConfig",
    "backend",
    "data",
    "generation",
    "interop",
    "nn",
    "ops",
    "render",
    "strokes",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"sketchrnn_fast.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'sketchrnn_fast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
