"""What the recurrent modules share: one-step cells that hold the weights, and layers over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sketchrnn_fast.philox import Stream
from sketchrnn_fast.reference import philox
from sketchrnn_fast.reference.lstm import Options

State = tuple[Tensor, ...]


class RecurrentCell(nn.Module):
    """A cell: its weights, and one step of time.

    Args:
        input_size: width X of the input that varies in time.
        hidden_size: number of units N.
        static_size: width S of the input that is constant in time; 0 for none.
        forget_bias: added to the forget gate before its sigmoid.
        recurrent_keep_prob: probability that recurrent dropout keeps a candidate value, while
            the module is in training mode; 1 for no dropout.

    Raises:
        ValueError: a size or a probability lies outside what is accepted.
    """

    weights_type: ClassVar[type[Any]]
    op: ClassVar[Callable[..., tuple[Tensor, State]]]
    bidirectional_op: ClassVar[Callable[..., list[tuple[Tensor, State]]]]
    # The parts of the op's state in the order in which Magenta lays them side by side.
    magenta_state_order: ClassVar[tuple[int, ...]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        static_size: int = 0,
        forget_bias: float = 1.0,
        recurrent_keep_prob: float = 1.0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if input_size < 1 or hidden_size < 1 or static_size < 0:
            raise ValueError(
                f"{name}: input_size is {input_size}, hidden_size {hidden_size} and static_size "
                f"{static_size}; the first two must be at least 1, the last at least 0"
            )
        if not 0.0 < recurrent_keep_prob <= 1.0:
            raise ValueError(
                f"{name}: recurrent_keep_prob is {recurrent_keep_prob}; it is the probability to "
                "keep, above 0 and up to 1"
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.static_size = static_size
        self.forget_bias = forget_bias
        self.recurrent_keep_prob = recurrent_keep_prob

    @property
    def state_widths(self) -> tuple[int, ...]:
        """The width of each part of the state."""
        return (self.hidden_size, self.hidden_size)

    @property
    def weights(self) -> Any:
        """The weights as the op takes them."""
        return self.weights_type(*(getattr(self, name) for name in self.weights_type._fields))

    def reset_parameters(self) -> None:
        """Draw new weights as the original does, from torch's generator."""
        raise NotImplementedError

    def options(self, reverse: bool, row_offset: int) -> Options:
        """The op's options; no dropout outside training."""
        keep_prob = self.recurrent_keep_prob if self.training else 1.0
        return Options(reverse, self.forget_bias, keep_prob, row_offset)

    def sequence(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        static: Tensor | None = None,
        lengths: Tensor | None = None,
        seed: Tensor | None = None,
        reverse: bool = False,
        row_offset: int = 0,
    ) -> tuple[Tensor, State]:
        """Run the cell over x [T, B, X]; gives hidden [T, B, N] and the final state."""
        options = self.options(reverse, row_offset)
        if options.keep_prob < 1.0 and seed is None:
            seed = random_seed(x.device)
        return type(self).op(
            x,
            self.weights,
            state,
            static_input=static,
            lengths=lengths,
            seed=seed,
            options=options,
        )

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        static: Tensor | None = None,
        seed: Tensor | None = None,
        row_offset: int = 0,
    ) -> State:
        """Take one step, as `torch.nn.LSTMCell` does.

        Args:
            x: [B, X].
            state: (h, c), each [B, N], with the hyper cell's pair after them in a HyperLSTM;
                zeros if None.
            static: [B, S], if the cell has a static input.
            seed: int64 [1], the key of the dropout mask; drawn from torch's generator if None.

        Returns:
            The new state; its first part is the cell's output.
        """
        if x.dim() != 2:
            raise ValueError(f"x has shape {list(x.shape)}; one step takes [B, X]")
        _, new_state = self.sequence(
            x[None], state, static=static, seed=seed, row_offset=row_offset
        )
        return new_state

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, static_size={self.static_size}, "
            f"recurrent_keep_prob={self.recurrent_keep_prob}"
        )


class RecurrentLayer(nn.Module):
    """Cells over whole sequences, with the interface of `torch.nn.LSTM`.

    Args:
        input_size: width X of the input.
        hidden_size: number of units N of each direction.
        num_layers: layers on top of each other; each reads the output of the one below it, and
            the static input.
        batch_first: x and the output are [B, T, ·] instead of [T, B, ·].
        dropout: probability to drop an output of a layer other than the last, while training.
        bidirectional: a second cell reads the sequence backwards; outputs stand side by side.
        cell_arguments: what remains goes to the cells (static_size, recurrent_keep_prob, …).
    """

    cell_type: ClassVar[type[RecurrentCell]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        **cell_arguments: Any,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if num_layers < 1:
            raise ValueError(f"{name}: num_layers is {num_layers}; it must be at least 1")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(
                f"{name}: dropout is {dropout}; it is the probability to drop, at least 0 and "
                "below 1"
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.directions = 2 if bidirectional else 1
        widths = [input_size] + [hidden_size * self.directions] * (num_layers - 1)
        self.cells = nn.ModuleList(
            self.cell_type(width, hidden_size, **cell_arguments)
            for width in widths
            for _ in range(self.directions)
        )

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        static: Tensor | None = None,
        lengths: Tensor | None = None,
        seed: Tensor | None = None,
        row_offset: int = 0,
    ) -> tuple[Tensor, State]:
        """Run over whole sequences.

        Args:
            x: [T, B, X], or [B, T, X] if batch_first, or [T, X] for a single sequence.
            state: each part [num_layers · directions, B, width]; without B for a single sequence;
                zeros if None.
            static: [B, S], the same at every step, if the layer has a static input.
            lengths: int64 [B] on x's device, [1] for a single sequence: the real steps of each
                row; all T if None. Steps past a row's end cost nothing, give zeros, and leave the
                state as it is.
            seed: int64 [1], the key of the dropout masks; drawn from torch's generator if None.
            row_offset: the number of the first row, if the batch is part of a larger one.

        Returns:
            The output [T, B, directions · N] (or as x is laid out), and the final state, its
            parts as `state`.
        """
        if x.dim() == 2:
            batched_state = None if state is None else tuple(part[:, None] for part in state)
            batched_static = None if static is None else static[None]
            axis = 0 if self.batch_first else 1
            output, final = self(
                x.unsqueeze(axis),
                batched_state,
                static=batched_static,
                lengths=lengths,
                seed=seed,
                row_offset=row_offset,
            )
            return output.squeeze(axis), tuple(part[:, 0] for part in final)
        outputs, final = self._run(x, state, static, lengths, seed, row_offset)
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
        return output.transpose(0, 1) if self.batch_first else output, final

    def final_state(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        static: Tensor | None = None,
        lengths: Tensor | None = None,
        seed: Tensor | None = None,
        row_offset: int = 0,
    ) -> State:
        """The final state alone, for a batch; the last layer's outputs are not put together.

        Arguments as `forward`, x [T, B, X] or [B, T, X].
        """
        if x.dim() != 3:
            raise ValueError(f"x has shape {list(x.shape)}; it takes a batch of sequences")
        return self._run(x, state, static, lengths, seed, row_offset)[1]

    def _run(
        self,
        x: Tensor,
        state: State | None,
        static: Tensor | None,
        lengths: Tensor | None,
        seed: Tensor | None,
        row_offset: int,
    ) -> tuple[list[Tensor], State]:
        """The last layer's output of each direction, time-major, and the final state."""
        if state is not None and any(len(part) != len(self.cells) for part in state):
            shapes = ", ".join(str(list(part.shape)) for part in state)
            raise ValueError(
                f"the state has parts of shapes {shapes}; each "
                f"takes [{len(self.cells)}, B, width], one a layer and direction"
            )
        if self.batch_first:
            x = x.transpose(0, 1)
        if seed is None and self.training:
            seed = random_seed(x.device)
        finals: list[State] = []
        outputs: list[Tensor] = [x]
        for layer in range(self.num_layers):
            if layer > 0:
                x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
                x = self._drop(x, seed, layer, row_offset)
            first = layer * self.directions
            indices = range(first, first + self.directions)
            results = _run_directions(
                [self._cell(index) for index in indices],
                x,
                None if state is None else [tuple(part[i] for part in state) for i in indices],
                None if seed is None else [philox.branch(seed, index) for index in indices],
                static=static,
                lengths=lengths,
                row_offset=row_offset,
            )
            outputs = [output for output, _ in results]
            finals += [final for _, final in results]
        return outputs, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def _cell(self, index: int) -> RecurrentCell:
        cell = self.cells[index]
        assert isinstance(cell, RecurrentCell)
        return cell

    def _drop(self, x: Tensor, seed: Tensor | None, layer: int, row_offset: int) -> Tensor:
        if not self.training or self.dropout == 0.0 or seed is None:
            return x
        key = philox.branch(seed, layer * self.directions)
        return drop(x, key, 1.0 - self.dropout, Stream.OUTPUT_DROPOUT, row_offset)

    def extra_repr(self) -> str:
        return (
            f"num_layers={self.num_layers}, batch_first={self.batch_first}, "
            f"dropout={self.dropout}, bidirectional={self.bidirectional}"
        )


def _run_directions(
    cells: list[RecurrentCell],
    x: Tensor,
    states: list[State] | None,
    seeds: list[Tensor] | None,
    *,
    static: Tensor | None,
    lengths: Tensor | None,
    row_offset: int,
) -> list[tuple[Tensor, State]]:
    """Run one cell, or a second one backwards as well, over x [T, B, X]."""
    options = [cell.options(i == 1, row_offset) for i, cell in enumerate(cells)]
    if len(cells) == 2 and options[1] == options[0]._replace(reverse=True):
        return type(cells[0]).bidirectional_op(
            x,
            tuple(cell.weights for cell in cells),
            None if states is None else tuple(states),
            static_input=static,
            lengths=lengths,
            seed=None if seeds is None else torch.cat(seeds),
            options=options[0],
        )
    # Cells that were given different options after they had been made run one by one too.
    return [
        cell.sequence(
            x,
            None if states is None else states[i],
            static=static,
            lengths=lengths,
            seed=None if seeds is None else seeds[i],
            reverse=i == 1,
            row_offset=row_offset,
        )
        for i, cell in enumerate(cells)
    ]


def random_seed(device: torch.device) -> Tensor:
    """A new key from torch's generator: int64 [1]."""
    return torch.randint(-(2**63), 2**63 - 1, (1,), dtype=torch.int64, device=device)


def drop(x: Tensor, seed: Tensor, keep_prob: float, stream: Stream, row_offset: int = 0) -> Tensor:
    """Inverted dropout on x [T, B, X], a fresh mask at each step."""
    time_steps, rows, units = x.shape
    scale = philox.dropout_scale(
        seed, time_steps, rows, units, keep_prob, x.dtype, stream, row_offset
    )
    return x if scale is None else x * scale
