"""The peer of a whole training step: Sketch-RNN in eager PyTorch, over the cells of `peers.eager`.

The encoder walks over the real points of both directions in a loop that keeps finished rows by
`torch.where`; the decoder runs over all T steps, whatever the objective, and the objective only
weighs its losses. Dropout masks come from `torch.rand`.
"""

from __future__ import annotations

import torch
from peers import eager
from torch import Tensor

from sketchrnn_fast import nn

CELLS = {
    "lstm": eager.LSTM,
    "layer_norm": eager.LAYER_NORM_LSTM,
    "hyper": eager.HYPER_LSTM,
}
KL_TOLERANCE = 0.2


class EagerSketchRNN:
    """The weights of a `nn.SketchRNN`, conditional, and a loss without any of its ops."""

    def __init__(self, model: nn.SketchRNN) -> None:
        self.model = model
        self.encoder_cell = CELLS[model.config.enc_model]
        self.decoder_cell = CELLS[model.config.dec_model]

    def loss(
        self, strokes: Tensor, lengths: Tensor, kl_weight: float, noise: Tensor, keep_prob: float
    ) -> Tensor:
        """The total loss of a batch in nats, objective magenta.

        Args:
            strokes: stroke-5 [B, T+1, 5] with the start token first.
            lengths: int64 [B], the number of real points.
            noise: [B, Z], the Gaussian draw of z.
        """
        target = strokes[:, 1:].transpose(0, 1)
        last = self._encode(target, lengths, keep_prob)
        mean, presig = self.model.posterior_mean(last), self.model.posterior_presig(last)
        z = mean + torch.exp(presig / 2) * noise
        kl = -0.5 * torch.mean(1 + presig - mean**2 - torch.exp(presig))

        hidden, _ = eager.layer(
            self.decoder_cell,
            strokes[:, :-1].transpose(0, 1),
            z,
            self.model.decoder_cell.weights,
            self.model.decoder_start(z),
            keep_prob,
        )
        params = self.model.output.linear(hidden).flatten(0, 1)
        rows = target.flatten(0, 1)
        offset, pen = eager.mixture_density(params, rows)
        return (offset * (1 - rows[:, 4]) + pen).mean() + kl_weight * kl.clamp(min=KL_TOLERANCE)

    def _encode(self, points: Tensor, lengths: Tensor, keep_prob: float) -> Tensor:
        """The last outputs of both directions [B, 2N], from zero states."""
        outputs = []
        for direction, cell in enumerate(self.model.encoder.cells):
            state = tuple(points.new_zeros(len(lengths), width) for width in cell.state_widths)
            outputs.append(
                eager.final_output(
                    self.encoder_cell,
                    points,
                    lengths,
                    cell.weights,
                    state,
                    keep_prob,
                    reverse=direction == 1,
                )
            )
        return torch.cat(outputs, dim=-1)
