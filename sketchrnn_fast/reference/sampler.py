"""Drawing a sketch from a decoder, stroke by stroke.

At each step the decoder gives a mixture's raw parameters; a Gaussian and a pen state are chosen,
an offset is drawn from the Gaussian, and the stroke becomes the decoder's next input, until the
pen's end state is drawn. The draw of step t is a pure function of the sketch's seed: Philox with
that seed as key and counter (0, t, 0, stream 5), whose words serve, in this order, the choice of
the Gaussian, the choice of the pen state, and a Box-Muller pair (n_1, n_2) for the offset:

    x = mean_x + σ_x (√(1 - ρ²) n_1 + ρ n_2) ;  y = mean_y + σ_y n_2

Temperature, in the original's way (`magenta`): logits / T, σ · T. In the way of sketch-rnn-js and
of the paper (`js`): logits / (½ + ½T), σ · √T. Source: Ha & Eck 2017, section 3.2, equation 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.philox import Stream
from sketchrnn_fast.reference import philox
from sketchrnn_fast.reference.mixture_density import guard, split_parameters

MODES = ("magenta", "js")
START_TOKEN = (0.0, 0.0, 1.0, 0.0, 0.0)

State = tuple[Tensor, ...]


class Temperature(NamedTuple):
    """How boldly to draw.

    Attributes:
        value: 1 follows the model, lower is tamer, 0 is greedy: the likeliest Gaussian's mean and
            the likeliest pen state.
        mode: `magenta` or `js`, see the head of this file.
    """

    value: float = 1.0
    mode: str = "magenta"

    @property
    def softmax(self) -> float:
        return self.value if self.mode == "magenta" else 0.5 + 0.5 * self.value

    @property
    def sigma(self) -> float:
        return self.value if self.mode == "magenta" else float(self.value**0.5)


class Prefixes(NamedTuple):
    """What is drawn already of each sketch of a batch."""

    strokes: Tensor  # stroke-5 [P, B, 5]; what stands past a row's length does not matter
    lengths: Tensor  # int64 [B], 0 … P


def generate(
    step: Callable[[Tensor, State | None], tuple[Tensor, State]],
    state: State | None,
    seeds: Tensor,
    limit: int,
    temperature: Temperature = Temperature(),
    dtype: torch.dtype = torch.float32,
    prefixes: Prefixes | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw a batch of sketches.

    Args:
        step: from strokes [B, 5] and the decoder's state to raw parameters [B, 6K+3] and state.
        state: the state before the first step.
        seeds: int64 [B], one a sketch.
        limit: the most points of a sketch, its prefix included.
        prefixes: what each sketch begins with; nothing if None.

    Returns:
        Stroke-5 [L, B, 5], and the number of points of each sketch, int64 [B]; a row's strokes
        from the end state on are to be ignored.
    """
    lengths = torch.zeros_like(seeds)
    strokes: list[Tensor] = []
    for stroke, ended in walk(step, state, seeds, limit, temperature, dtype, prefixes):
        lengths += ~ended
        strokes.append(stroke)
    return torch.stack(strokes)[: int(lengths.max())], lengths


def walk(
    step: Callable[[Tensor, State | None], tuple[Tensor, State]],
    state: State | None,
    seeds: Tensor,
    limit: int,
    temperature: Temperature,
    dtype: torch.dtype,
    prefixes: Prefixes | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """`generate`, step by step, until all sketches have ended or the limit is reached.

    Stroke t of a sketch is that of its prefix while t is below the prefix's length: what the
    decoder says there only moves its state on. From there on it is drawn, with the counter t, so a
    sketch whose prefix is its own beginning is the same sketch again.

    Yields:
        The strokes [B, 5] of the step, and which rows have drawn their end state, bool [B]; the
        strokes of the others are points.

    Raises:
        UserError: the decoder's parameters, or a stroke drawn from them, are not finite.
    """
    rows = seeds.shape[0]
    stroke = torch.tensor(START_TOKEN, dtype=dtype, device=seeds.device).expand(rows, -1)
    given = torch.zeros_like(seeds) if prefixes is None else prefixes.lengths
    ended = torch.zeros_like(seeds, dtype=torch.bool)
    for t in range(limit):
        params, state = step(stroke, state)
        stroke = draw(params, seeds, t, temperature)
        drawing = ~ended & (given <= t)
        _check_finite(params[drawing], stroke[drawing], t)
        if prefixes is not None and t < prefixes.strokes.shape[0]:
            stroke = torch.where((t < given)[:, None], prefixes.strokes[t], stroke)
        ended = ended | (drawing & (stroke[:, 4] == 1))
        yield stroke, ended
        if bool(ended.all()):
            return


def _check_finite(params: Tensor, strokes: Tensor, t: int) -> None:
    for values, what in ((params, "decoder's parameters"), (strokes, "offsets that were drawn")):
        if not bool(torch.isfinite(values).all()):
            raise UserError(
                f"at step {t} the {what} are not finite: the weights, z or the temperature are "
                "too large for float32"
            )


def draw(params: Tensor, seeds: Tensor, t: int, temperature: Temperature) -> Tensor:
    """The strokes [B, 5] that step t draws from raw parameters [B, 6K+3]."""
    mixture = guard(split_parameters(params))
    if temperature.value == 0.0:
        component = mixture.pi_logits.argmax(-1)
        pen = mixture.pen_logits.argmax(-1)
        offset = torch.stack([_at(mixture.mean_x, component), _at(mixture.mean_y, component)], -1)
    else:
        zero = torch.zeros_like(seeds)
        words = philox.philox4x32(zero, zero + t, zero, int(Stream.SAMPLER), seeds)
        component = choose(mixture.pi_logits, temperature.softmax, philox.uniform(words[0]))
        pen = choose(mixture.pen_logits, temperature.softmax, philox.uniform(words[1]))
        first, second = (n.to(params.dtype) for n in philox.box_muller(words[2], words[3]))
        correlation = _at(mixture.correlation, component)
        across = first / torch.cosh(correlation) + second * torch.tanh(correlation)
        sigma_x = torch.exp(_at(mixture.log_sigma_x, component)) * temperature.sigma
        sigma_y = torch.exp(_at(mixture.log_sigma_y, component)) * temperature.sigma
        x = _at(mixture.mean_x, component) + sigma_x * across
        y = _at(mixture.mean_y, component) + sigma_y * second
        offset = torch.stack([x, y], -1)
    return torch.cat([offset, torch.nn.functional.one_hot(pen, 3).to(params.dtype)], dim=-1)


def choose(logits: Tensor, temperature: float, u: Tensor) -> Tensor:
    """The first index whose cumulative probability reaches u [B]: int64 [B] from logits [B, K].

    The probabilities are softmax(logits / temperature); the maximum is taken off before dividing,
    so that no temperature above 0 overflows.

    Should rounding leave the sum below u, it is the last index of positive probability.
    """
    below_best = logits - logits.amax(-1, keepdim=True)
    scaled = torch.where(below_best == 0, 0.0, below_best / temperature)
    probability = torch.softmax(scaled, dim=-1)
    index = (probability.cumsum(-1) < u[:, None]).sum(-1)
    positions = torch.arange(probability.shape[-1], device=logits.device)
    last_possible = torch.where(probability > 0, positions, 0).amax(-1)
    return torch.minimum(index, last_possible)


def _at(columns: Tensor, index: Tensor) -> Tensor:
    return columns.gather(-1, index[:, None])[:, 0]
