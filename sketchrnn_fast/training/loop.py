"""The training loop (model_spec section 5.4), from nothing or from a run's last checkpoint.

`setup.py` holds what comes before it, `step.py` one step. Here is what happens around the steps:
records, evaluation, checkpoints, and how a run ends.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sketchrnn_fast.config import ModelConfig, TrainConfig
from sketchrnn_fast.data import Splits
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.render import loss_curves
from sketchrnn_fast.training import checkpoints, divergence, setup
from sketchrnn_fast.training.averaging import Average
from sketchrnn_fast.training.checkpoints import TrainingState
from sketchrnn_fast.training.display import Display
from sketchrnn_fast.training.distributed import TIMEOUT, Ranks, joined
from sketchrnn_fast.training.errors import DivergedError, Interrupted, OtherRankError, WriteError
from sketchrnn_fast.training.evaluation import Evaluation, evaluate
from sketchrnn_fast.training.graphs import choose_step
from sketchrnn_fast.training.lock import locked
from sketchrnn_fast.training.metrics import FILE, Metrics, NoMetrics, read_records
from sketchrnn_fast.training.optimiser import Optimiser
from sketchrnn_fast.training.pictures import FOLDER as PICTURES
from sketchrnn_fast.training.pictures import draw_pictures, write_pictures
from sketchrnn_fast.training.schedules import kl_weight, learning_rate
from sketchrnn_fast.training.step import PHASES, Step, StepResult
from sketchrnn_fast.training.stopping import StopRequested, StopSignals


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
    pictures: int = 16,
    rank_timeout: float = TIMEOUT,
    cuda_graphs: bool = False,
) -> Result:
    """Train a model until `num_steps` updates are done, or its patience is at an end.

    Under `torchrun`, one of its ranks: each calls this with the same arguments, the first writes.

    SIGINT, SIGTERM and SIGHUP end the step in progress, save, and leave by `Interrupted`, a
    `KeyboardInterrupt`; a second SIGINT ends the process.

    Args:
        model_config: its max_seq_len is taken from the data, as the original does.
        log_root: gets checkpoints, `metrics.jsonl`, TensorBoard events, `curves.png`, pictures.
        data_dir: where the files of `data_set` are.
        resume: go on from the last checkpoint in `log_root`; the configurations must be those of
            the run but for `setup.CHANGEABLE`.
        max_seq_len: take this instead, and leave longer sketches out.
        device: a torch device.
        console: where to show progress; the terminal if None.
        pictures: how many sketches to draw at each evaluation; 0 draws none.
        rank_timeout: seconds that a rank waits for the others.
        cuda_graphs: take the steps from CUDA graphs.

    Raises:
        UserError: something is wrong with the configuration, the data or the log root, told
            before any work starts.
        DivergedError: a loss, a gradient or a weight is no longer finite.
        InUseError: another run writes to the log root.
        WriteError: the log root cannot be written, or no more; the last checkpoint is whole.
        RankError: another rank has ended or does not answer.
        Interrupted: a signal ended the run.
    """
    with joined(device, rank_timeout) as ranks:
        try:
            return _train(
                ranks,
                model_config,
                train_config,
                log_root,
                data_dir,
                resume,
                max_seq_len,
                console,
                pictures,
                cuda_graphs,
            )
        except (DivergedError, Interrupted) as error:
            ranks.wait()  # torchrun ends the others when one leaves: first all is written
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
    pictures: int,
    cuda_graphs: bool,
) -> Result:
    """`train` on one of the ranks."""
    with contextlib.ExitStack() as stack:
        with ranks.together():
            ranks.rows(train_config.batch_size)
            setup.check_log_root(log_root, resume)
            is_new = not log_root.is_dir()
            if ranks.is_first and not is_new:
                stack.enter_context(locked(log_root))
                setup.check_log_root(log_root, resume)
                setup.check_can_write(log_root)
                setup.clear_up(log_root)
        with ranks.together():
            model, optimiser, average, splits, state = _prepare(
                model_config, train_config, log_root, data_dir, resume, max_seq_len, ranks.device
            )
            step = choose_step(
                model, optimiser, splits.train, train_config, cuda_graphs, ranks, average
            )
        setup.check_ranks(ranks, model, splits, state.step)
        ranks.share_(list(model.state_dict().values()))
        if average is not None:
            ranks.share_(average.weights)
        first_step = state.step
        metrics: Metrics | NoMetrics = NoMetrics()
        with ranks.together():
            if ranks.is_first:
                if is_new:
                    setup.make_log_root(log_root)
                    stack.enter_context(locked(log_root))
                    setup.check_log_root(log_root, resume)
                parameter_count = sum(parameter.numel() for parameter in model.parameters())
                metrics = stack.enter_context(Metrics(log_root, state.step, parameter_count))
        signals = stack.enter_context(StopSignals())
        shown = (console or Console()) if ranks.is_first else Console(quiet=True)
        display = stack.enter_context(Display(shown, state.step, train_config.num_steps))
        run = _Run(
            model=model,
            config=train_config,
            splits=splits,
            optimiser=optimiser,
            step=step,
            state=state,
            saved_step=state.step if resume else None,
            log_root=log_root,
            metrics=metrics,
            display=display,
            signals=signals,
            pictures=pictures,
            ranks=ranks,
            average=average,
        )
        try:
            run.to_the_end()
        except OSError as error:
            raise WriteError(run.as_left(error)) from error
        return Result(
            run.state,
            log_root,
            run.state.step - first_step,
            run.state.step < train_config.num_steps,
        )


def _prepare(
    model_config: ModelConfig,
    train_config: TrainConfig,
    log_root: Path,
    data_dir: Path | None,
    resume: bool,
    max_seq_len: int | None,
    device: str,
) -> tuple[SketchRNN, Optimiser, Average | None, Splits, TrainingState]:
    """What a run starts from, new or as its last checkpoint has it."""
    model_config = setup.with_classes(model_config, train_config)
    splits = setup.load_splits(train_config, data_dir, max_seq_len)
    model_config = replace(model_config, max_seq_len=splits.max_seq_len)
    if resume:
        setup.check_resumable(log_root, model_config, train_config)
    model = setup.build_model(model_config, train_config, splits, device)
    optimiser = Optimiser(model.parameters(), train_config.grad_clip)
    decay = train_config.ema_decay
    average = Average(model, decay) if decay else None
    state = TrainingState()
    if resume:
        state = setup.resume(log_root, model, optimiser, average)
        setup.check_same_data(log_root, model, splits)
    return model, optimiser, average, splits, state


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
    pictures: int
    ranks: Ranks
    average: Average | None
    skipped_in_a_row: int = 0

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
            retaken = self.step.retaken()
            if retaken is not None:
                self.take(retaken)
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
        return done > 0 and self.is_stretch_end(done) and self.state.evaluated_step != done

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
        if is_logged or self.skipped_in_a_row or self.is_stretch_end(done):
            result = self.step.retaken() or result
            done = result.step + 1
            is_logged = done % self.config.log_every == 0
        self.take(result)
        self.display.advance(done)
        if is_logged and result.is_finite:
            self.record_training(result)
            self.start_interval()

    def take(self, result: StepResult) -> None:
        """The run stands behind this step, which may lie before some that were taken unlooked."""
        if result.is_finite:
            self.skipped_in_a_row = 0
            self.state = replace(self.state, step=result.step + 1)
        else:
            self.skip_or_stop(result)

    def is_stretch_end(self, done: int) -> bool:
        """Whether the weights of this many steps may be evaluated or saved."""
        return done % self.config.save_every == 0 or done == self.config.num_steps

    def skip_or_stop(self, result: StepResult) -> None:
        """Report a step that is not finite; go on without its update, or end the run."""
        report = divergence.step_report(result, self.model, self.config)
        self.optimiser.drop()
        self.skipped_in_a_row += 1
        is_over = self.config.on_nan == "stop"
        if self.skipped_in_a_row > divergence.MOST_IN_A_ROW:
            is_over = True
            report["reason"] += f", as in the {divergence.MOST_IN_A_ROW} steps before"
        self.report_non_finite(report, is_over)
        skipped = self.state.skipped + 1
        self.state = replace(self.state, step=result.step + 1, skipped=skipped)

    def report_non_finite(self, report: dict[str, Any], is_over: bool) -> None:
        self.metrics.write_non_finite(report)
        self.display.non_finite(report)
        if is_over:
            raise DivergedError(
                f"step {report['step']}: {report['reason']}; the report is in "
                f"{self.log_root / divergence.FILE}, and {self.last_checkpoint()}"
            )

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
        if not self.ranks.is_first:
            return
        self.draw_pictures()
        loss_curves(read_records(self.log_root / FILE), self.log_root / setup.CURVES)

    def check_weights(self) -> None:
        report = divergence.weight_report(self.model, self.state.step)
        if report is not None:
            self.report_non_finite(report, is_over=True)

    def evaluate_split(self, split: str) -> dict[str, Any]:
        """The record of a split's evaluation, and the main figures of averaged weights."""
        start = time.perf_counter()
        step = self.state.step
        result = self.evaluate_weights(split)
        averaged = {}
        if self.average is not None:
            with self.average.in_place():
                other = self.evaluate_weights(split)
            averaged = {
                f"ema_{name}": getattr(other, name) for name in ("cost", "reconstruction", "kl")
            }
        if not math.isfinite(result.cost):
            reason = f"the cost of {split} is {result.cost}"
            self.report_non_finite({"step": step, "reason": reason}, is_over=True)
        seconds = time.perf_counter() - start
        return {"step": step, "split": split, **result.record(), **averaged, "seconds": seconds}

    def evaluate_weights(self, split: str) -> Evaluation:
        """Evaluate the model as it is."""
        return evaluate(
            self.model,
            getattr(self.splits, split),
            self.config,
            self.state.step,
            ranks=self.ranks,
            between=self.check_signals,
        )

    def draw_pictures(self) -> None:
        """Draw with the model as it is; what keeps it from that is told, and the run goes on."""
        if self.pictures == 0:
            return
        step = self.state.step
        try:
            drawn = draw_pictures(self.model, self.splits.valid, self.config, self.pictures)
        except (ValueError, RuntimeError) as error:
            self.display.note(f"step {step}  no pictures: {error}")
            return
        for name, file in write_pictures(self.log_root / PICTURES, drawn, step).items():
            self.metrics.write_picture(name, file, step)

    def save(self) -> None:
        """Save the run as it stands; the first rank does."""
        if self.ranks.is_first:
            self.metrics.sync()
            checkpoints.save(
                self.log_root,
                self.model,
                self.config,
                self.optimiser,
                self.state,
                self.average,
            )
        self.saved_step = self.state.step

    # ---- How a run ends ----

    def last_checkpoint(self) -> str:
        if self.saved_step is None:
            return "there is no checkpoint yet"
        return f"the last checkpoint, of step {self.saved_step}, is whole"

    def as_left(self, error: OSError) -> str:
        """What a failed write ended, in a sentence."""
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{error.strerror or error}; the run in {self.log_root} stopped after step "
            f"{self.state.step}, and {self.last_checkpoint()}"
        )
