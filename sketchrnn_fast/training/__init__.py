"""Training: the loop, its schedules and optimiser, evaluation, checkpoints and metrics."""

from sketchrnn_fast.training.checkpoints import CheckpointError, load_model
from sketchrnn_fast.training.errors import (
    DivergedError,
    Interrupted,
    InUseError,
    TrainingError,
    WriteError,
)
from sketchrnn_fast.training.evaluation import Evaluation, evaluate
from sketchrnn_fast.training.loop import Result, train
from sketchrnn_fast.training.optimiser import Optimiser

__all__ = [
    "CheckpointError",
    "DivergedError",
    "Evaluation",
    "InUseError",
    "Interrupted",
    "Optimiser",
    "Result",
    "TrainingError",
    "WriteError",
    "evaluate",
    "load_model",
    "train",
]
