"""Suite `quality`: validation loss against the time of training, on real drawings, equal seeds.

Three runs of one model from the same weights, over the same batches: ours with both objectives, and
the reference backend, which computes what ours computes (objective magenta) in plain PyTorch. They
take turns, always the one that has trained for the shortest time so far, so that each has trained
equally long whatever else the machine does; what is timed is training alone. Losses are what both
objectives can be compared by: offset and pen losses of the points and the one end row, plus the KL
term at its final weight; they are taken at ten marks of time and after every second of the first
steps, since a fast run takes many before its first mark. A record gives the time at which a run
first reached a loss that the reference reached. The reference is written to be read, not to be
fast.

The first steps of ours and of the reference must give the same losses: the first one to rounding,
the next two, which stand on updates, to a hundredth.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise

import agreement
import datasets
import torch
from plan import Plan
from records import Record, record

import sketchrnn_fast as srf
from sketchrnn_fast.config import ModelConfig, TrainConfig
from sketchrnn_fast.data import Splits
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import Optimiser, evaluate

SUITE = "quality"
REFERENCE = "the reference backend"
SECONDS = {"quick": 0.5, "tour": 8.0, "full": 22.0}
MARKS = 10  # of time
EARLY_STEPS = 40  # as many as the reference takes, or more
CHECKED_STEPS = 3
# Adam's first updates are the signs of the gradients, which rounding turns where one is nearly 0.
MOST_LATER_ERROR = 1e-2
SHARES = {"a third": 1 / 3, "two thirds": 2 / 3, "all": 1.0}
MODEL = ModelConfig(
    enc_model="layer_norm", dec_model="layer_norm", enc_rnn_size=64, dec_rnn_size=128,
    z_size=32, num_mixture=10,
)  # fmt: skip
TRAINING = TrainConfig(batch_size=50, learning_rate=0.003)


@dataclass
class Run:
    """One model being trained.

    Attributes:
        seconds: spent in training so far.
        curve: seconds and validation loss at each evaluation.
        marks: seconds and steps at each mark of time, the start the first.
        losses: the training losses of the first steps.
    """

    name: str
    backend: str
    objective: str
    model: SketchRNN
    optimiser: Optimiser
    seconds: float = 0.0
    steps: int = 0
    curve: list[tuple[float, float]] = field(default_factory=list)
    marks: list[tuple[float, int]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def step(self, splits: Splits) -> None:
        start = time.perf_counter()
        batch = datasets.batch_of(splits, TRAINING.batch_size, seed=self.steps)
        with srf.backend(self.backend):
            losses = self.model.loss(
                *batch,
                kl_weight=TRAINING.kl_weight,
                objective=self.objective,
                seed=torch.tensor([self.steps]),
            )
        losses.total.backward()
        self.optimiser.step(TRAINING.learning_rate)
        self.seconds += time.perf_counter() - start
        self.steps += 1
        if self.steps <= CHECKED_STEPS:
            self.losses.append(float(losses.total.detach()))

    def evaluate(self, splits: Splits) -> None:
        """Add a point to the curve; takes no time of the run's."""
        found = evaluate(self.model, splits.valid, TRAINING)
        loss = found.reconstruction_masked + TRAINING.kl_weight * found.kl
        self.curve.append((self.seconds, loss))

    def step_seconds(self) -> list[float]:
        """The mean of a step between each mark and the next."""
        return [
            (later - now) / (steps_later - steps_now)
            for (now, steps_now), (later, steps_later) in pairwise(self.marks)
        ]


def run(plan: Plan) -> list[Record]:
    name = datasets.name()
    splits = datasets.splits(name, 30 if plan.quick else None)
    runs = train(plan, splits)
    reference = runs.pop(REFERENCE)
    made = []
    for one in runs.values():
        case = f"{one.name} on {name}"
        for when, loss in losses_to_reach(reference.curve).items():
            ours_s, reference_s = reached(one.curve, loss), reached(reference.curve, loss)
            if not ours_s or not reference_s:  # never, or before the first step
                plan.say(f"{SUITE}: {one.name} did not come down to a loss of {loss:.3f}")
                continue
            of_loss = f"{case}: to the loss that the reference has after {when} of its time"
            made.append(record(SUITE, of_loss, REFERENCE, [ours_s], [reference_s]))
            made[-1]["loss"] = loss
        # Each run took the same time between two marks, in turn with the others.
        ours_steps, theirs = one.step_seconds(), reference.step_seconds()
        both = min(len(ours_steps), len(theirs))  # a slow step may pass two marks
        work = (TRAINING.batch_size, "sketches")
        of_steps = f"{case}: a step of training"
        made.append(record(SUITE, of_steps, REFERENCE, ours_steps[:both], theirs[:both], work=work))
    curves = {f"{one.name} ({one.steps} steps)": one.curve for one in (*runs.values(), reference)}
    return [{**one, "curve": curves} for one in made]


def train(plan: Plan, splits: Splits) -> dict[str, Run]:
    """All runs, each trained for the same time; by name, the reference last."""
    wanted = [
        ("ours, objective magenta", "native", "magenta"),
        ("ours, objective masked", "native", "masked"),
        (REFERENCE, "reference", "magenta"),
    ]
    runs = {name: new_run(plan, splits, name, *how) for name, *how in wanted}
    for one in runs.values():
        one.evaluate(splits)
        one.marks.append((0.0, 0))
    check_first_steps(runs, splits)
    budget = SECONDS[plan.scale.name]
    while True:
        now = min(runs.values(), key=lambda one: one.seconds)
        if now.seconds >= budget:
            break
        before = int(now.seconds / budget * MARKS)
        now.step(splits)
        at_mark = int(now.seconds / budget * MARKS) > before
        if at_mark:
            now.marks.append((now.seconds, now.steps))
            plan.show(f"{SUITE}: {now.seconds:.1f} of {budget:.0f} s, {now.name}")
        if at_mark or (now.steps <= EARLY_STEPS and now.steps % 2 == 0):
            now.evaluate(splits)
    for one in runs.values():
        if one.curve[-1][0] < one.seconds:
            one.evaluate(splits)
        if one.marks[-1][1] < one.steps:
            one.marks.append((one.seconds, one.steps))
    return runs


def new_run(plan: Plan, splits: Splits, name: str, backend: str, objective: str) -> Run:
    """A model with the weights that every run starts from."""
    torch.manual_seed(0)
    sizes = {"max_seq_len": splits.max_seq_len}
    if plan.quick:
        sizes |= {"enc_rnn_size": 8, "dec_rnn_size": 16, "z_size": 4, "num_mixture": 3}
    config = ModelConfig(**{**vars(MODEL), **sizes})
    model = SketchRNN(config)
    return Run(name, backend, objective, model, Optimiser(model.parameters(), TRAINING.grad_clip))


def check_first_steps(runs: dict[str, Run], splits: Splits) -> None:
    """Take the first steps, and refuse to go on where they are not the reference's.

    Raises:
        DisagreementError: the losses of the two differ.
    """
    for _ in range(CHECKED_STEPS):
        for one in runs.values():
            one.step(splits)
    ours, _, reference = runs.values()
    for steps, most in ((1, agreement.ON_CPU.output), (CHECKED_STEPS, MOST_LATER_ERROR)):
        agreement.check_close(
            "our training",
            f"the loss of the first {steps} steps" if steps > 1 else "the loss of the first step",
            torch.tensor(reference.losses[:steps]),
            torch.tensor(ours.losses[:steps]),
            most,
            "the reference",
        )


def losses_to_reach(curve: list[tuple[float, float]]) -> dict[str, float]:
    """The best loss that a run had reached by a third, two thirds and all of its time."""
    end = curve[-1][0]
    return {
        when: min(loss for seconds, loss in curve if seconds <= end * share + 1e-9)
        for when, share in SHARES.items()
    }


def reached(curve: list[tuple[float, float]], loss: float) -> float | None:
    """Seconds of training at which a curve first came down to a loss, between its points by a line.

    None if it never did.
    """
    before = curve[0]
    for now in curve:
        if now[1] <= loss:
            if now is before or before[1] == now[1]:
                return now[0]
            share = (before[1] - loss) / (before[1] - now[1])
            return before[0] + share * (now[0] - before[0])
        before = now
    return None
