"""The training loop (model_spec section 5.4), from nothing or from a run's last checkpoint."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sketchrnn_fast.config import ModelConfig, TrainConfig
from sketchrnn_fast.data import DatasetError, Splits, load, random_batch
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.files import check_can_write
from sketchrnn_fast.nn import Losses, SketchRNN
from sketchrnn_fast.philox import derive_seed
from sketchrnn_fast.render import loss_curves
from sketchrnn_fast.training import checkpoints
from sketchrnn_fast.training.checkpoints import TrainingState
from sketchrnn_fast.training.display import Display
from sketchrnn_fast.training.evaluation import Evaluation, evaluate
from sketchrnn_fast.training.metrics import FILE, Metrics
from sketchrnn_fast.training.optimiser import Optimiser
from sketchrnn_fast.training.schedules import kl_weight, learning_rate
from sketchrnn_fast.training.seeds import Place, place_seed

LOG_EVERY = 20
CURVES = "curves.png"

# What may change when a run is resumed: it alters no step that is still to come.
CHANGEABLE = ("num_steps", "save_every")


class TrainingError(UserError):
    """A run cannot start, or cannot go on."""


@dataclass(frozen=True)
class Result:
    """What a run left.

    Attributes:
        state: steps done, best validation cost.
        log_root: where its checkpoints, metrics and curves are.
        steps: how many of the steps were done by this call.
    """

    state: TrainingState
    log_root: Path
    steps: int


def train(
    model_config: ModelConfig,
    train_config: TrainConfig,
    log_root: Path,
    *,
    data_dir: Path | None = None,
    resume: bool = False,
    max_seq_len: int | None = None,
    device: str = "cpu",
    console: Console | None = None,
) -> Result:
    """Train a model until `num_steps` updates are done.

    Args:
        model_config: its max_seq_len is taken from the data, as the original does.
        log_root: gets checkpoints, `metrics.jsonl`, TensorBoard events and `curves.png`.
        data_dir: where the files of `data_set` are.
        resume: go on from the last checkpoint in `log_root`; the configurations must be those of
            the run but for `CHANGEABLE`.
        max_seq_len: take this instead, and leave longer sketches out.
        device: a torch device.
        console: where to show progress; the terminal if None.

    Raises:
        UserError: something is wrong with the configuration, the data or the log root, told
            before any work starts; or the loss is no longer finite.
    """
    check_log_root(log_root, resume)
    splits = load_splits(train_config, data_dir, max_seq_len)
    model_config = replace(model_config, max_seq_len=splits.max_seq_len)
    if resume:
        check_resumable(log_root, model_config, train_config)

    model = build_model(model_config, train_config, splits, device)
    optimiser = Optimiser(model.parameters(), train_config.grad_clip)
    state = TrainingState()
    if resume:
        state = checkpoints.resume(log_root, model, optimiser)
        check_same_data(log_root, model, splits)
    first_step = state.step

    log_root.mkdir(parents=True, exist_ok=True)
    check_can_write(log_root / CURVES)
    parameter_count = sum(parameter.numel() for parameter in model.parameters())
    metrics = Metrics(log_root, state.step, parameter_count)
    try:
        with Display(console or Console(), state.step, train_config.num_steps) as display:
            run = _Run(model, train_config, splits, optimiser, state, log_root, metrics, display)
            state = run.to_the_end()
    finally:
        metrics.close()
    return Result(state, log_root, state.step - first_step)


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
                    f"on resuming only {' and '.join(CHANGEABLE)} may change"
                )


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


@dataclass
class _Run:
    """The moving parts of a run."""

    model: SketchRNN
    config: TrainConfig
    splits: Splits
    optimiser: Optimiser
    state: TrainingState
    log_root: Path
    metrics: Metrics
    display: Display

    def to_the_end(self) -> TrainingState:
        since, since_step = time.perf_counter(), self.state.step
        for step in range(self.state.step, self.config.num_steps):
            losses = self.update(step)
            done = step + 1
            self.state = replace(self.state, step=done)
            self.display.advance(done)
            if done % LOG_EVERY == 0:
                seconds = time.perf_counter() - since
                self.report(losses, step, seconds, done - since_step)
                since, since_step = time.perf_counter(), done
            if done % self.config.save_every == 0 or done == self.config.num_steps:
                self.evaluate_and_save()
                since, since_step = time.perf_counter(), done
        return self.state

    def update(self, step: int) -> Losses:
        """One step of the optimiser on one batch."""
        config, device = self.config, self.model.scale_factor.device
        batch = random_batch(
            self.splits.train,
            config.batch_size,
            self.splits.max_seq_len,
            seed=derive_seed(config.seed, step, Place.BATCH),
            random_scale_factor=config.random_scale_factor,
            augment_stroke_prob=config.augment_stroke_prob,
        )
        self.model.train()
        losses = self.model.loss(
            torch.from_numpy(batch.strokes).to(device),
            torch.from_numpy(batch.lengths).to(device),
            kl_weight=kl_weight(config, step),
            objective=config.objective,
            kl_tolerance=config.kl_tolerance,
            seed=place_seed(config.seed, step, Place.MODEL, device),
        )
        losses.total.backward()
        self.optimiser.step(learning_rate(config, step))
        return losses

    def report(self, losses: Losses, step: int, seconds: float, steps: int) -> None:
        """Write the figures of the last batch, as the original does: no averaging."""
        cost = float(losses.total.detach())
        if not math.isfinite(cost):
            raise TrainingError(
                f"the loss became {cost} by step {step + 1} (reconstruction "
                f"{float(losses.reconstruction.detach())}, kl {float(losses.kl.detach())}); the "
                f"last checkpoint in {self.log_root}, if there is one, is from before"
            )
        record: dict[str, Any] = {
            "step": step + 1,
            "split": "train",
            "cost": cost,
            "reconstruction": float(losses.reconstruction.detach()),
            "kl": float(losses.kl.detach()),
            "learning_rate": learning_rate(self.config, step),
            "kl_weight": kl_weight(self.config, step),
            "seconds": seconds,
            "sketches_per_second": steps * self.config.batch_size / seconds,
        }
        self.metrics.write(record)
        self.display.training(record)

    def evaluate_and_save(self) -> None:
        """Evaluate on valid, and on test after an improvement; save the last and the best."""
        self.check_weights()
        best = self.state.best_cost
        valid = self.evaluate_split("valid")
        if best is None or valid.cost < best:
            self.state = replace(self.state, best_cost=valid.cost, best_step=self.state.step)
            self.metrics.write_best(self.state.step, valid)
            self.evaluate_split("test")
        checkpoints.save(self.log_root, self.model, self.config, self.optimiser, self.state)
        loss_curves(self.log_root / FILE, self.log_root / CURVES)

    def check_weights(self) -> None:
        for name, parameter in self.model.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise TrainingError(
                    f"{name} is no longer finite after step {self.state.step}; the last "
                    f"checkpoint in {self.log_root}, if there is one, is from before"
                )

    def evaluate_split(self, split: str) -> Evaluation:
        start = time.perf_counter()
        step = self.state.step
        result = evaluate(self.model, getattr(self.splits, split), self.config, step)
        if not math.isfinite(result.cost):
            raise TrainingError(
                f"the cost of {split} is {result.cost} after step {step}; the last checkpoint in "
                f"{self.log_root}, if there is one, is from before"
            )
        record = {
            "step": step,
            "split": split,
            **result.record(),
            "seconds": time.perf_counter() - start,
        }
        self.metrics.write(record)
        best = self.state.best_cost
        is_best = split == "valid" and (best is None or result.cost < best)
        self.display.evaluation(record, is_best)
        return result
