"""Sketch-RNN: a sequence-to-sequence variational autoencoder of drawings (Ha & Eck 2017)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sketchrnn_fast.config import OBJECTIVES, ModelConfig
from sketchrnn_fast.nn.hyper_lstm import HyperLSTM
from sketchrnn_fast.nn.layer_norm_lstm import LayerNormLSTM
from sketchrnn_fast.nn.lstm import LSTM
from sketchrnn_fast.nn.mixture_density import MixtureDensity
from sketchrnn_fast.nn.recurrent import RecurrentCell, RecurrentLayer, State, drop, random_seed
from sketchrnn_fast.ops import DecoderWeights
from sketchrnn_fast.philox import Stream
from sketchrnn_fast.reference import philox

LAYERS: dict[str, type[RecurrentLayer]] = {
    "lstm": LSTM,
    "layer_norm": LayerNormLSTM,
    "hyper": HyperLSTM,
}
STROKE_SIZE = 5

# Places of use: each draws from a key of its own (`philox.branch`).
_ENCODER, _DECODER, _POSTERIOR = 0, 2, 3


class Posterior(NamedTuple):
    """The encoder's diagonal Gaussian over z, each [B, Z]."""

    mean: Tensor
    presig: Tensor  # log-variance

    def sample(self, noise: Tensor) -> Tensor:
        """z = mean + exp(presig / 2) · noise."""
        return self.mean + torch.exp(self.presig / 2) * noise

    def divergence(self) -> Tensor:
        """KL(posterior ‖ N(0, I)), the mean over rows and dimensions (Ha & Eck 2017, eq. 10)."""
        return -0.5 * torch.mean(1 + self.presig - self.mean**2 - torch.exp(self.presig))


class Losses(NamedTuple):
    """The loss of a batch, scalars in nats."""

    total: Tensor  # reconstruction + kl_weight · kl
    reconstruction: Tensor  # offset + pen
    offset: Tensor
    pen: Tensor
    kl: Tensor  # with its floor
    kl_raw: Tensor  # without it
    pen_masked: Tensor  # the pen loss of the points and the one end row, without gradient
    pen_points: Tensor  # that of the points alone, as the original's inference mode has it


class SketchRNN(nn.Module):
    """The model: encoder, posterior, decoder and mixture density head.

    With `num_classes`, the decoder is also told the class of the sketch: an embedding of it stands
    beside z (Sohn et al. 2015 condition a VAE so), or in its place where there is no encoder.

    Args:
        config: cells, sizes and dropout.
        device, dtype: of the weights.

    Attributes:
        scale_factor: a buffer; data units per model unit, set by whoever trains or imports.
    """

    scale_factor: Tensor

    def __init__(
        self,
        config: ModelConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        placement: dict[str, Any] = {"device": device, "dtype": dtype}
        keep_prob = config.recurrent_dropout_prob if config.use_recurrent_dropout else 1.0

        def layer(model: str, units: int, **arguments: Any) -> RecurrentLayer:
            if model == "hyper":
                arguments["hyper_num_units"] = config.hyper_num_units
                arguments["hyper_embedding_size"] = config.hyper_embedding_size
            return LAYERS[model](
                STROKE_SIZE, units, recurrent_keep_prob=keep_prob, **arguments, **placement
            )

        self.decoder = layer(
            config.dec_model, config.dec_rnn_size, static_size=config.condition_size
        )
        self.output = MixtureDensity(config.dec_rnn_size, config.num_mixture, **placement)
        if config.conditional:
            self.encoder = layer(config.enc_model, config.enc_rnn_size, bidirectional=True)
            self.posterior_mean = nn.Linear(2 * config.enc_rnn_size, config.z_size, **placement)
            self.posterior_presig = nn.Linear(2 * config.enc_rnn_size, config.z_size, **placement)
        if config.condition_size:
            state_size = sum(self.decoder_cell.state_widths)
            self.initial_state = nn.Linear(config.condition_size, state_size, **placement)
        for linear in (one for one in self.children() if isinstance(one, nn.Linear)):
            nn.init.normal_(linear.weight, std=0.001)
            nn.init.zeros_(linear.bias)
        if config.num_classes:
            # From N(0, 1), as z is by the prior.
            size = config.label_embedding_size
            self.label_embedding = nn.Embedding(config.num_classes, size, **placement)
        self.register_buffer("scale_factor", torch.ones((), device=device, dtype=torch.float32))

    @property
    def decoder_cell(self) -> RecurrentCell:
        """The decoder's cell, for taking single steps."""
        cell = self.decoder.cells[0]
        assert isinstance(cell, RecurrentCell)
        return cell

    def encode(
        self,
        strokes: Tensor,
        lengths: Tensor,
        *,
        seed: Tensor | None = None,
        row_offset: int = 0,
    ) -> Posterior:
        """The posterior over z; the encoder reads the real points, neither start token nor end.

        Args:
            strokes: stroke-5 [B, T+1, 5] with the start token first.
            lengths: int64 [B], the number of real points.
            seed: int64 [1], the key of the encoder's dropout masks in training mode.
        """
        if not self.config.conditional:
            raise ValueError("this model is unconditional: it has no encoder")
        points = strokes[:, 1:].transpose(0, 1)
        state = self.encoder.final_state(points, lengths=lengths, seed=seed, row_offset=row_offset)
        last = torch.cat(tuple(state[0]), dim=-1)
        return Posterior(self.posterior_mean(last), self.posterior_presig(last))

    def kl(self, strokes: Tensor, lengths: Tensor, *, seed: Tensor, row_offset: int = 0) -> Tensor:
        """The KL term of a batch before its floor, as `loss` computes it, without the decoder.

        Args:
            strokes, lengths, seed, row_offset: as `loss`.
        """
        key = philox.branch(seed, _ENCODER)
        return self.encode(strokes, lengths, seed=key, row_offset=row_offset).divergence()

    def condition(self, z: Tensor | None, labels: Tensor | None = None) -> Tensor | None:
        """What the decoder starts from and is given at every step.

        Args:
            z: [B, Z]; None for an unconditional model.
            labels: the classes, int64 [B], 0 to num_classes - 1; None for a model without classes.

        Returns:
            z and the embeddings of the classes side by side, [B, Z+L], as `ops.Sampler` takes them
            for its z; None for a model that has neither.

        Raises:
            ValueError: one is given that the model has not, or is missing, or is no such class.
        """
        config = self.config
        if (z is not None) != config.conditional:
            kind = "conditional: it needs z" if config.conditional else "unconditional: it has no z"
            raise ValueError(f"this model is {kind}")
        self._check_labels(labels, None if z is None else z.shape[0])
        if labels is None:
            return z
        embedded: Tensor = self.label_embedding(labels)
        return embedded if z is None else torch.cat([z, embedded], dim=-1)

    def decoder_start(self, condition: Tensor | None) -> State | None:
        """The decoder's state before its first step, from its `condition`; None (zeros) without."""
        if condition is None:
            return None
        cell = self.decoder_cell
        order = cell.magenta_state_order
        parts = torch.tanh(self.initial_state(condition)).split(
            [cell.state_widths[index] for index in order], dim=-1
        )
        return tuple(parts[order.index(index)] for index in range(len(order)))

    def decoder_weights(self) -> DecoderWeights:
        """What a sampler (`ops.Sampler`) needs of the model: copies or views without gradients."""
        cell, head = self.decoder_cell, self.output.linear
        initial = None
        if self.config.condition_size:
            # The linear map's rows lie in Magenta's order of the state's parts, the op has its own.
            order = cell.magenta_state_order
            widths = [cell.state_widths[index] for index in order]
            places = [order.index(index) for index in range(len(order))]
            weight, bias = (
                torch.cat([tensor.detach().split(widths)[place] for place in places])
                for tensor in (self.initial_state.weight, self.initial_state.bias)
            )
            initial = _float32(weight.T), _float32(bias)
        return DecoderWeights(
            self.config.dec_model,
            cell.weights_type(*map(_float32, cell.weights)),
            cell.forget_bias,
            initial,
            (_float32(head.weight.T), _float32(head.bias)),
        )

    def decode(
        self,
        strokes: Tensor,
        z: Tensor | None,
        *,
        labels: Tensor | None = None,
        lengths: Tensor | None = None,
        seed: Tensor | None = None,
        row_offset: int = 0,
    ) -> tuple[Tensor, State]:
        """Run the decoder with teacher forcing.

        Args:
            strokes: the decoder's input, stroke-5 [B, T, 5], the start token first.
            z, labels: as `condition`.
            lengths: int64 [B], how many steps of each row to run; all T if None.
            seed: int64 [1], the key of the dropout masks in training mode.

        Returns:
            The mixture's raw parameters [T, B, 6K+3], and the final state, each part [B, ·].
        """
        given = self.condition(z, labels)
        hidden, final = self._decode_hidden(strokes, given, lengths, seed, row_offset)
        return self.output(hidden), final

    def _decode_hidden(
        self,
        strokes: Tensor,
        condition: Tensor | None,
        lengths: Tensor | None,
        seed: Tensor | None,
        row_offset: int,
    ) -> tuple[Tensor, State]:
        """`decode` without its head: the hidden states [T, B, N] and the final state."""
        config = self.config
        start = self.decoder_start(condition)
        x, static = strokes.transpose(0, 1), condition
        if self.training and seed is None:
            seed = random_seed(x.device)
        if self.training and seed is not None and config.use_input_dropout:
            # The mask falls on every input afresh at each step, so none of it is static any more.
            if static is not None:
                x, static = torch.cat([x, static.expand(x.shape[0], -1, -1)], dim=-1), None
            x = drop(x, seed, config.input_dropout_prob, Stream.INPUT_DROPOUT, row_offset)
        hidden, final = self.decoder(
            x,
            None if start is None else tuple(part[None] for part in start),
            static=static,
            lengths=lengths,
            seed=seed,
            row_offset=row_offset,
        )
        if self.training and seed is not None and config.use_output_dropout:
            keep_prob = config.output_dropout_prob
            hidden = drop(hidden, seed, keep_prob, Stream.OUTPUT_DROPOUT, row_offset)
        return hidden, tuple(part[0] for part in final)

    def loss(
        self,
        strokes: Tensor,
        lengths: Tensor,
        kl_weight: float | Tensor = 0.5,
        objective: str = "magenta",
        noise: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        kl_tolerance: float = 0.2,
        seed: Tensor | None = None,
        row_offset: int = 0,
        most_points: int | None = None,
    ) -> Losses:
        """The loss of a batch (Ha & Eck 2017, equations 9 to 12).

        Args:
            strokes: stroke-5 [B, T+1, 5], the start token first, padded with (0, 0, 0, 0, 1).
            lengths: int64 [B], the number of real points.
            kl_weight: factor of the KL term in the total; as a tensor, a scalar of strokes' dtype.
            objective: `magenta`: the pen loss counts every row, padding included, as the original
                does in training; `masked`: the real points and the one true end-of-sketch row
                only, so that padded decoder steps are never computed. Both divide by B · T.
            noise: [B, Z], replaces the Gaussian draw of z.
            labels: as `condition`.
            kl_tolerance: the floor of the KL term, below which it has no gradient.
            seed: int64 [1], the key of dropout and noise; drawn from torch's generator if None.
            row_offset: the number of the first row, if the batch is part of a larger one.
            most_points: no sketch has more points than this, 1 to T. The encoder takes so many
                steps, and with `masked` the decoder one more, to the same loss; and every shape
                depends on this alone, not on lengths, so that a CUDA graph can hold the loss.

        Raises:
            ValueError: an unknown objective, or shapes that do not fit; the message names it.
        """
        self._check_batch(strokes, lengths, objective, noise, most_points)
        self._check_labels(labels, strokes.shape[0])
        count = strokes.shape[0] * (strokes.shape[1] - 1)
        masked = objective == "masked"
        fixed_shapes = most_points is not None or torch.compiler.is_compiling()
        points = strokes
        if most_points is not None:
            points = strokes[:, : most_points + 1]
            strokes = strokes[:, : most_points + 2] if masked else strokes
        target = strokes[:, 1:].transpose(0, 1)
        time_steps = target.shape[0]
        if seed is None:
            seed = random_seed(strokes.device)
        kl_raw, z = strokes.new_zeros(()), None
        if self.config.conditional:
            posterior = self.encode(
                points, lengths, seed=philox.branch(seed, _ENCODER), row_offset=row_offset
            )
            if noise is None:
                noise = philox.normal(
                    philox.branch(seed, _POSTERIOR),
                    torch.arange(strokes.shape[0], device=strokes.device) + row_offset,
                    self.config.z_size,
                    strokes.dtype,
                )
            z = posterior.sample(noise)
            kl_raw = posterior.divergence()
        kl = kl_raw.clamp(min=kl_tolerance) if self.config.conditional else kl_raw

        is_point = 1 - target[..., 4]
        real_lengths = (lengths + 1).clamp(max=time_steps)
        steps = torch.arange(time_steps, device=strokes.device)
        is_real = (steps[:, None] < real_lengths).to(target.dtype)
        hidden, _ = self._decode_hidden(
            strokes[:, :-1],
            self.condition(z, labels),
            real_lengths if masked else None,
            philox.branch(seed, _DECODER),
            row_offset,
        )
        # Only the rows that count go through the head; where shapes may not depend on how many they
        # are, all rows do, with weight 0 where they do not count.
        rows = None
        if masked and not fixed_shapes:
            rows = is_real.flatten().nonzero().squeeze(1)
        hidden, target, is_point, is_real = (
            part.flatten(0, 1) if rows is None else part.flatten(0, 1).index_select(0, rows)
            for part in (hidden, target, is_point, is_real)
        )
        pen_weight = is_real if masked else torch.ones_like(is_real)
        offset_rows, pen_rows = self.output.loss(self.output(hidden), target, is_point, pen_weight)
        offset, pen = offset_rows.sum() / count, pen_rows.sum() / count
        return Losses(
            total=offset + pen + kl_weight * kl,
            reconstruction=offset + pen,
            offset=offset,
            pen=pen,
            kl=kl,
            kl_raw=kl_raw,
            pen_masked=(pen_rows.detach() * is_real).sum() / count,
            pen_points=(pen_rows.detach() * is_point).sum() / count,
        )

    def forward(self, *arguments: Any, **options: Any) -> Losses:
        """`loss`, for what wraps a module's call, such as DistributedDataParallel."""
        return self.loss(*arguments, **options)

    def _check_batch(
        self,
        strokes: Tensor,
        lengths: Tensor,
        objective: str,
        noise: Tensor | None,
        most_points: int | None,
    ) -> None:
        if objective not in OBJECTIVES:
            raise ValueError(f"objective is {objective!r}; it takes {' or '.join(OBJECTIVES)}")
        if (
            strokes.dim() != 3
            or strokes.shape[0] < 1
            or strokes.shape[1] < 2
            or strokes.shape[2] != STROKE_SIZE
        ):
            raise ValueError(
                f"strokes has shape {list(strokes.shape)}; it takes stroke-5 [B, T+1, 5] with the "
                "start token first"
            )
        rows = strokes.shape[0]
        if tuple(lengths.shape) != (rows,) or lengths.dtype != torch.int64:
            raise ValueError(
                f"lengths is {lengths.dtype} {list(lengths.shape)}; it takes int64 [{rows}], one "
                "a row"
            )
        if most_points is not None and not 1 <= most_points < strokes.shape[1]:
            raise ValueError(
                f"most_points is {most_points}; it takes 1 to {strokes.shape[1] - 1}, the T of "
                "strokes"
            )
        if noise is None:
            return
        if not self.config.conditional:
            raise ValueError("noise was given, but this model is unconditional: it has no z")
        if tuple(noise.shape) != (rows, self.config.z_size):
            raise ValueError(
                f"noise has shape {list(noise.shape)}; it takes [{rows}, {self.config.z_size}]"
            )

    def _check_labels(self, labels: Tensor | None, rows: int | None) -> None:
        count = self.config.num_classes
        if (labels is not None) != (count > 0):
            kind = f"has {count} classes: it needs labels" if count else "has no classes"
            raise ValueError(f"this model {kind}")
        if labels is None:
            return
        rows = labels.shape[0] if rows is None and labels.dim() else rows
        if tuple(labels.shape) != (rows,) or labels.dtype != torch.int64:
            raise ValueError(
                f"labels is {labels.dtype} {list(labels.shape)}; it takes int64 [{rows}], one a row"
            )
        # Values are looked at on the CPU only: elsewhere that would wait for the device.
        if labels.device.type != "cpu" or torch.compiler.is_compiling():
            return
        wrong = labels[(labels < 0) | (labels >= count)]
        if len(wrong):
            raise ValueError(
                f"labels has {int(wrong[0])}; this model has {count} classes, 0 to {count - 1}"
            )


def _float32(weight: Tensor) -> Tensor:
    return weight.detach().float().contiguous()
