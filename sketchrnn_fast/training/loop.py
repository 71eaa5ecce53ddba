"""The training loop (model_spec section 5.4), from nothing or from a run's last checkpoint.

`setup.py` holds what comes before it, `step.py` one step. Here is what happens around the steps:
records, evaluation, checkpoints, and how a run ends.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sketchrnn_fast.config import ModelConfig, TrainConfig
from sketchrnn_fast.data import Splits
from sketchrnn_fast.files import check_can_write
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.render import loss_curves
from sketchrnn_fast.training import checkpoints
from sketchrnn_fast.training.checkpoints import TrainingState
from sketchrnn_fast.training.display import Display
from sketchrnn_fast.training.distributed import TIMEOUT, Ranks, joined
from sketchrnn_fast.training.errors import DivergedError, Interrupted, OtherRankError
from sketchrnn_fast.training.evaluation import Evaluation, evaluate
from sketchrnn_fast.training.metrics import FILE, Metrics, NoMetrics
from sketchrnn_fast.training.optimiser import Optimiser
from sketchrnn_fast.training.schedules import kl_weight, learning_rate
from sketchrnn_fast.training.setup import (
    build_model,
    check_log_root,
    check_ranks,
    check_resumable,
    check_same_data,
    load_splits,
)
from sketchrnn_fast.training.step import PHASES, Step, StepResult
from sketchrnn_fast.training.stopping import StopRequested, StopSignals

CURVES = "curves.png"


@dataclass(frozen=True)
class Result:
    """What a run left.

    Attributes:
        state: steps done, best validation cost.
        log_root: where its checkpoints, metrics and curves are.
        steps: how many of the steps were done by this call.
        stopped_early: by patience, before `num_steps`.
    """

    state: TrainingState
    log_root: Path
    steps: int
    stopped_early: bool


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
    rank_timeout: float = TIMEOUT,
) -> Result:
    """Train a model until `num_steps` updates are done, or its patience is at an end.

    Under `torchrun`, one of its ranks: each calls this with the same arguments, the first writes.

    SIGINT, SIGTERM and SIGHUP end the step in progress, save, and leave by `Interrupted`, a
    `KeyboardInterrupt`; a second SIGINT ends the process.

    Args:
        model_config: its max_seq_len is taken from the data, as the original does.
        log_root: gets checkpoints, `metrics.jsonl`, TensorBoard events and `curves.png`.
        data_dir: where the files of `data_set` are.
        resume: go on from the last checkpoint in `log_root`; the configurations must be those of
            the run but for `setup.CHANGEABLE`.
        max_seq_len: take this instead, and leave longer sketches out.
        device: a torch device.
        console: where to show progress; the terminal if None.
        rank_timeout: seconds that a rank waits for the others.

    Raises:
        UserError: something is wrong with the configuration, the data or the log root, told
            before any work starts.
        DivergedError: a loss, a gradient or a weight is no longer finite.
        RankError: another rank has ended or does not answer.
        Interrupted: a signal ended the run.
    """
    with joined(device, rank_timeout) as ranks:
        try:
            return _train(
                ranks, model_config, train_config, log_root, data_dir, resume, max_seq_len, console
            )
        except (DivergedError, Interrupted) as error:
            ranks.wait()  # torchrun ends the others when one leaves, so first all that they write
            if ranks.is_first or isinstance(error, Interrupted):
                raise
            raise OtherRankError(str(error)) from None


def _train(
    ranks: Ranks,
    model_config: ModelConfig,
    train_config: TrainConfig,
    log_root: Path,
    data_dir: Path | None,
    resume: bool,
    max_seq_len: int | None,
    console: Console | None,
) -> Result:
    """`train` on one of the ranks."""
    with ranks.together():
        ranks.rows(train_config.batch_size)
        check_log_root(log_root, resume)
        splits = load_splits(train_config, data_dir, max_seq_len)
        model_config = replace(model_config, max_seq_len=splits.max_seq_len)
        if resume:
            check_resumable(log_root, model_config, train_config)

        model = build_model(model_config, train_config, splits, ranks.device)
        optimiser = Optimiser(model.parameters(), train_config.grad_clip)
        state = TrainingState()
        if resume:
            state = checkpoints.resume(log_root, model, optimiser)
            check_same_data(log_root, model, splits)
    first_step = state.step
    with ranks.together():
        check_ranks(ranks, model, splits, first_step)
    ranks.share_(list(model.state_dict().values()))

    metrics: Metrics | NoMetrics = NoMetrics()
    with ranks.together():
        if ranks.is_first:
            log_root.mkdir(parents=True, exist_ok=True)
            check_can_write(log_root / CURVES)
            parameter_count = sum(parameter.numel() for parameter in model.parameters())
            metrics = Metrics(log_root, state.step, parameter_count)
    if not ranks.is_first:
        console = Console(quiet=True)
    try:
        with (
            StopSignals() as signals,
            Display(console or Console(), state.step, train_config.num_steps) as display,
        ):
            run = _Run(
                model=model,
                config=train_config,
                splits=splits,
                optimiser=optimiser,
                step=Step(model, optimiser, splits.train, train_config, ranks),
                state=state,
                saved_step=state.step if resume else None,
                log_root=log_root,
                metrics=metrics,
                display=display,
                signals=signals,
                ranks=ranks,
            )
            run.to_the_end()
    finally:
        metrics.close()
    state = run.state
    return Result(state, log_root, state.step - first_step, state.step < train_config.num_steps)


@dataclass
class _Run:
    """The moving parts of a run.

    Attributes:
        step: takes steps of training.
        state: where the run stands.
        saved_step: the step of the last checkpoint, None before the first.
    """

    model: SketchRNN
    config: TrainConfig
    splits: Splits
    optimiser: Optimiser
    step: Step
    state: TrainingState
    saved_step: int | None
    log_root: Path
    metrics: Metrics | NoMetrics
    display: Display
    signals: StopSignals
    ranks: Ranks

    def to_the_end(self) -> None:
        """Go on until the run is finished, or raise `Interrupted` when a signal came."""
        self.start_interval()
        try:
            while True:
                if self.evaluation_is_due():
                    self.evaluate()
                    self.save()
                    self.start_interval()
                if self.is_finished():
                    return
                self.check_signals()
                self.advance()
        except StopRequested:
            if self.saved_step != self.state.step:
                self.save()
            assert self.signals.received is not None
            raise Interrupted(self.signals.received, self.state.step) from None

    def check_signals(self) -> None:
        """Raise `StopRequested` on every rank if a signal came on one."""
        number = self.ranks.largest(self.signals.received or 0)
        if number:
            self.signals.received = number
            self.signals.check()

    # ---- Where the run stands ----

    def evaluation_is_due(self) -> bool:
        done = self.state.step
        is_due = done % self.config.save_every == 0 or done == self.config.num_steps
        return done > 0 and is_due and self.state.evaluated_step != done

    def is_finished(self) -> bool:
        patience = self.config.patience
        is_out_of_patience = 0 < patience <= self.state.stale_evaluations
        return self.state.step >= self.config.num_steps or is_out_of_patience

    # ---- Steps ----

    def start_interval(self) -> None:
        """Count seconds and steps from here on, for the next record of training."""
        self.since, self.since_step = time.perf_counter(), self.state.step
        self.step.stopwatch.take()

    def advance(self) -> None:
        """One step, and its record where one is due."""
        done = self.state.step + 1
        is_logged = done % self.config.log_every == 0
        result = self.step(self.state.step, measure=is_logged)
        if not result.is_finite:
            raise DivergedError(f"the loss or a gradient is not finite in step {done}")
        self.state = replace(self.state, step=done)
        self.display.advance(done)
        if is_logged:
            self.record_training(result)
            self.start_interval()

    def record_training(self, result: StepResult) -> None:
        """Write the figures of the last batch, as the original does: no averaging."""
        losses, step = result.losses, result.step
        assert result.gradient_norm is not None
        assert result.clip_fraction is not None
        seconds = time.perf_counter() - self.since
        phases = self.step.stopwatch.take()
        record: dict[str, Any] = {
            "step": step + 1,
            "split": "train",
            "cost": float(losses.total.detach()),
            "reconstruction": float(losses.reconstruction.detach()),
            "kl": float(losses.kl.detach()),
            "learning_rate": learning_rate(self.config, step),
            "kl_weight": kl_weight(self.config, step),
            "gradient_norm": float(result.gradient_norm),
            "clip_fraction": float(result.clip_fraction),
            "skipped": self.state.skipped,
            "seconds": seconds,
            **{f"seconds_{phase}": phases[phase] for phase in PHASES},
            "sketches_per_second": (step + 1 - self.since_step) * self.config.batch_size / seconds,
        }
        self.metrics.write(record)
        self.display.training(record)

    # ---- Evaluation and checkpoints ----

    def evaluate(self) -> None:
        """Evaluate on valid, and on test after an improvement; then write what came out.

        A signal abandons the evaluation, of which nothing is written; the resumed run makes it.
        """
        self.check_weights()
        best = self.state.best_cost
        valid = self.evaluate_split("valid")
        is_best = best is None or valid["cost"] < best
        records = [valid, self.evaluate_split("test")] if is_best else [valid]
        self.state = replace(
            self.state,
            evaluated_step=self.state.step,
            stale_evaluations=0 if is_best else self.state.stale_evaluations + 1,
            best_cost=valid["cost"] if is_best else best,
            best_step=self.state.step if is_best else self.state.best_step,
        )
        for record in records:
            self.metrics.write(record)
            self.display.evaluation(record, is_best and record is valid)
        if is_best:
            self.metrics.write_best(valid)

    def check_weights(self) -> None:
        for name, parameter in self.model.named_parameters():
            if not bool(parameter.isfinite().all()):
                raise DivergedError(
                    f"{name} is no longer finite after step {self.state.step}; the last "
                    f"checkpoint in {self.log_root}, if there is one, is from before"
                )

    def evaluate_split(self, split: str) -> dict[str, Any]:
        """The record of a split's evaluation."""
        start = time.perf_counter()
        step = self.state.step
        dataset = getattr(self.splits, split)
        result: Evaluation = evaluate(
            self.model,
            dataset,
            self.config,
            step,
            ranks=self.ranks,
            between=self.check_signals,
        )
        if not math.isfinite(result.cost):
            raise DivergedError(
                f"the cost of {split} is {result.cost} after step {step}; the last checkpoint in "
                f"{self.log_root}, if there is one, is from before"
            )
        seconds = time.perf_counter() - start
        return {"step": step, "split": split, **result.record(), "seconds": seconds}

    def save(self) -> None:
        """Save the run as it stands, and draw its curves; the first rank does."""
        if self.ranks.is_first:
            checkpoints.save(self.log_root, self.model, self.config, self.optimiser, self.state)
            if self.state.evaluated_step is not None:
                loss_curves(self.log_root / FILE, self.log_root / CURVES)
        self.saved_step = self.state.step
