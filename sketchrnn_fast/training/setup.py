"""What comes before the first step: checks of log root, data and configuration, and the model."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from sketchrnn_fast.config import ModelConfig, TrainConfig
from sketchrnn_fast.data import DatasetError, Splits, load
from sketchrnn_fast.files import check_takes_files, sweep
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.philox import derive_seed
from sketchrnn_fast.training import checkpoints, divergence, metrics, pictures
from sketchrnn_fast.training.checkpoints import CheckpointError, TrainingState
from sketchrnn_fast.training.errors import TrainingError, WriteError, writing
from sketchrnn_fast.training.optimiser import Optimiser
from sketchrnn_fast.training.seeds import Place

CURVES = "curves.png"

# What may change when a run is resumed: it alters no step that is still to come.
CHANGEABLE = ("num_steps", "save_every", "log_every", "keep", "patience", "on_nan")


def check_log_root(log_root: Path, resume: bool) -> None:
    """Refuse a log root that is a file, or that holds a run which is not to be resumed."""
    for folder in (log_root, *log_root.parents):
        if folder.exists() and not folder.is_dir():
            raise TrainingError(f"log_root is {log_root}, but {folder} is a file, not a folder")
    if not resume and (log_root / checkpoints.FOLDER / "last").exists():
        raise TrainingError(
            f"log_root {log_root} holds a run already; add --resume_training to go on with it, or "
            "choose another log_root"
        )


def make_log_root(log_root: Path) -> None:
    """Make the folder of a new run.

    Raises:
        WriteError: it cannot be made.
    """
    with writing(log_root):
        log_root.mkdir(parents=True, exist_ok=True)


def clear_up(log_root: Path) -> None:
    """Clear away what a kill left half done in a log root, which is locked.

    Raises:
        WriteError: that cannot be done.
    """
    with writing(log_root):
        for folder in _folders(log_root):
            sweep(folder)
        checkpoints.mend(log_root / checkpoints.FOLDER)


def _folders(log_root: Path) -> list[Path]:
    return [log_root, log_root / checkpoints.FOLDER, log_root / pictures.FOLDER]


def check_can_write(log_root: Path) -> None:
    """Refuse a log root in which something could not be written later; it is left as it is.

    Raises:
        WriteError: a folder takes no new entries, or a file is in the way or may not be written.
    """
    for folder in _folders(log_root):
        with writing(folder):
            if folder.exists():
                check_takes_files(folder)
    for name in (metrics.FILE, divergence.FILE, CURVES):
        file = log_root / name
        if file.exists() and not (file.is_file() and os.access(file, os.W_OK)):
            raise WriteError(f"{file} cannot be written: it is no file, or may not be changed")


def load_splits(config: TrainConfig, data_dir: Path | None, max_seq_len: int | None) -> Splits:
    """Load the data of a run and check that it can be trained on."""
    splits = load(config.data_set, data_dir, max_seq_len)
    if len(splits.train) < config.batch_size:
        raise DatasetError(
            f"the train split has {len(splits.train)} sketches and batch_size is "
            f"{config.batch_size}; a batch takes different sketches"
        )
    return splits


def check_resumable(log_root: Path, model_config: ModelConfig, train_config: TrainConfig) -> None:
    """Refuse to resume a run with other hyper-parameters."""
    saved_model, saved_train = checkpoints.read_config(checkpoints.find(log_root, "last"))
    for saved, given in ((saved_model, model_config), (saved_train, train_config)):
        for name, value in saved.__dict__.items():
            if name not in CHANGEABLE and getattr(given, name) != value:
                raise TrainingError(
                    f"{name} is {getattr(given, name)!r}, but the run in {log_root} has {value!r}; "
                    f"on resuming only {', '.join(CHANGEABLE)} may change"
                )


def resume(log_root: Path, model: SketchRNN, optimiser: Optimiser) -> TrainingState:
    """As `checkpoints.resume`; where the last checkpoint is damaged, the error names the others.

    Raises:
        TrainingError: the last checkpoint cannot be gone on from.
    """
    try:
        return checkpoints.resume(log_root, model, optimiser)
    except CheckpointError as error:
        others = checkpoints.others(log_root)
        if not others:
            raise
        raise TrainingError(
            f"{error}; to go on from an earlier one, write {' or '.join(others)} into "
            f"{log_root / checkpoints.FOLDER / 'last'}"
        ) from None


def check_same_data(log_root: Path, model: SketchRNN, splits: Splits) -> None:
    """Refuse to resume a run with data of another scale factor."""
    of_run, of_data = float(model.scale_factor), float(torch.tensor(splits.scale_factor))
    if of_run != of_data:
        raise TrainingError(
            f"the data has the scale factor {of_data:g}, but the run in {log_root} was made with "
            f"{of_run:g}: this is not the data that it was started on"
        )


def build_model(
    model_config: ModelConfig, train_config: TrainConfig, splits: Splits, device: str
) -> SketchRNN:
    """A new model with the weights of the run's seed and the scale factor of its data."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(train_config.seed, 0, Place.INITIALISATION))
        try:
            model = SketchRNN(model_config)
        except RuntimeError as error:  # so torch says that memory cannot be had
            raise TrainingError(
                f"a model with dec_rnn_size {model_config.dec_rnn_size} and enc_rnn_size "
                f"{model_config.enc_rnn_size} cannot be made here: {str(error).splitlines()[0]}"
            ) from None
    model.scale_factor.fill_(splits.scale_factor)
    return model.to(device)
