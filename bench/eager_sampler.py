"""The peer of the sampler: a decoder drawing in eager PyTorch, over the cells of `peers.eager`.

Sketches are drawn in batches, one step after another for the whole batch. Whatever makes it faster
is done: z's product stands before the loop, the Gaussian and the pen state come from
`torch.multinomial`, one call each for the whole batch, and of the mixture only the chosen
Gaussian's columns are looked at. A batch can go on until its last sketch has ended, which is how
everybody's loop works, or drop the sketches that have.
"""

from __future__ import annotations

import torch
from peers import eager
from torch import Tensor

from sketchrnn_fast import nn
from sketchrnn_fast.nn.sketch_rnn import STROKE_SIZE

CELLS = {
    "lstm": eager.LSTM,
    "layer_norm": eager.LAYER_NORM_LSTM,
    "hyper": eager.HYPER_LSTM,
}
DROP_EVERY = 8  # steps
LEAST_LOG_SIGMA, MOST_CORRELATION = -20.0, 9.0  # as everywhere


class EagerSampler:
    """A decoder's weights, ready for steps."""

    def __init__(self, model: nn.SketchRNN) -> None:
        self.model = model
        self.cell = CELLS[model.config.dec_model]
        weights = model.decoder_cell.weights
        self.weights = type(weights)(*(weight.detach() for weight in weights))
        self.prepared = self.cell.prepare(self.weights)
        self.device = model.scale_factor.device
        nothing = torch.eye(STROKE_SIZE, device=self.device)[None]
        z = self._no_z(STROKE_SIZE)
        at_zero = self.cell.input_products(torch.zeros_like(nothing), z, self.weights)
        self.w_x = self.cell.input_products(nothing, z, self.weights)[0] - at_zero[0]

    def _no_z(self, rows: int) -> Tensor | None:
        config = self.model.config
        return torch.zeros(rows, config.z_size, device=self.device) if config.conditional else None

    def start(self, count: int, z: Tensor | None) -> tuple[Tensor, eager.State]:
        """What each step's product starts from, and the state before the first step."""
        nothing = torch.zeros(1, count, STROKE_SIZE, device=self.device)
        state = self.model.decoder_start(z)
        if state is None:
            widths = self.model.decoder_cell.state_widths
            state = tuple(torch.zeros(count, width, device=self.device) for width in widths)
        return self.cell.input_products(nothing, z, self.weights)[0], state

    def step(
        self, stroke: Tensor, static: Tensor, state: eager.State
    ) -> tuple[Tensor, eager.State]:
        """Raw parameters [B, 6K+3] and the new state from strokes [B, 5]."""
        products = torch.addmm(static, stroke, self.w_x)
        state = self.cell.step(products, state, None, self.prepared)
        return self.model.output.linear(state[0]), state

    @torch.inference_mode()
    def parameters(self, strokes: Tensor, z: Tensor | None) -> Tensor:
        """Raw parameters [T, B, 6K+3] for given strokes [T, B, 5]."""
        static, state = self.start(strokes.shape[1], z)
        params = []
        for stroke in strokes:
            raw, state = self.step(stroke, static, state)
            params.append(raw)
        return torch.stack(params)

    @torch.inference_mode()
    def draw(
        self,
        count: int,
        limit: int,
        z: Tensor | None,
        temperature: float,
        *,
        drop_ended: bool = False,
    ) -> list[Tensor]:
        """A batch of sketches, as points [N, 5] of each.

        Args:
            drop_ended: sketches that have ended leave the batch at every eighth step.
        """
        static, state = self.start(count, z)
        stroke = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]], device=self.device).expand(count, -1)
        rows = torch.arange(count, device=self.device)
        has_ended = torch.zeros(count, dtype=torch.bool, device=self.device)
        parts: list[tuple[Tensor, list[Tensor]]] = [(rows, [])]  # who was in the batch; the strokes
        for step in range(1, limit + 1):
            params, state = self.step(stroke, static, state)
            stroke = self._stroke(params, temperature)
            has_ended |= stroke[:, 4] == 1
            if bool(has_ended.all()):
                break
            parts[-1][1].append(stroke)
            if drop_ended and step % DROP_EVERY == 0 and bool(has_ended.any()):
                going_on = (~has_ended).nonzero()[:, 0]
                rows, static, stroke = rows[going_on], static[going_on], stroke[going_on]
                state = tuple(part[going_on] for part in state)
                has_ended = has_ended[going_on]
                parts.append((rows, []))
        points = self._joined(parts, count)
        lengths = (points[:, :, 4].cumsum(0) == 0).sum(0)
        return [points[:length, row] for row, length in enumerate(lengths.tolist())]

    def _joined(self, parts: list[tuple[Tensor, list[Tensor]]], count: int) -> Tensor:
        """All strokes [N, count, 5]; 0 where a sketch was no longer in the batch."""
        stacked = [(rows, torch.stack(strokes)) for rows, strokes in parts if strokes]
        if len(stacked) == 1 and len(stacked[0][0]) == count:
            return stacked[0][1]
        steps = sum(len(strokes) for _, strokes in stacked)
        points, step = torch.zeros(steps, count, STROKE_SIZE, device=self.device), 0
        for rows, strokes in stacked:
            points[step : step + len(strokes), rows] = strokes
            step += len(strokes)
        return points

    def _stroke(self, params: Tensor, temperature: float) -> Tensor:
        rows, mixtures = len(params), self.model.config.num_mixture
        pen, pi, columns = params.split([3, mixtures, 5 * mixtures], dim=1)
        component = torch.multinomial(torch.softmax(pi / temperature, 1), 1)
        state = torch.multinomial(torch.softmax(pen / temperature, 1), 1)
        index = component[:, None, :].expand(-1, 5, -1)
        chosen = columns.view(rows, 5, mixtures).gather(2, index)[..., 0]
        mean, log_sigma, correlation = chosen.split([2, 2, 1], dim=1)
        correlation = correlation.clamp(-MOST_CORRELATION, MOST_CORRELATION)
        n = torch.randn(rows, 2, device=self.device)
        across = n[:, :1] / torch.cosh(correlation) + n[:, 1:] * torch.tanh(correlation)
        sigma = torch.exp(log_sigma.clamp(min=LEAST_LOG_SIGMA)) * temperature
        stroke = torch.zeros(rows, STROKE_SIZE, device=self.device)
        stroke[:, :2] = torch.addcmul(mean, sigma, torch.cat([across, n[:, 1:]], 1))
        return stroke.scatter_(1, state + 2, 1.0)
