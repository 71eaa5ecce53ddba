"""Training: the loop, its schedules and optimiser, evaluation, checkpoints and metrics."""

from sketchrnn_fast.training.checkpoints import CheckpointError, load_model
from sketchrnn_fast.training.evaluation import Evaluation, evaluate
from sketchrnn_fast.training.loop import Result, TrainingError, train
from sketchrnn_fast.training.optimiser import Optimiser

__all__ = [
    "CheckpointError",
    "Evaluation",
    "Optimiser",
    "Result",
    "TrainingError",
    "evaluate",
    "load_model",
    "train",
]
