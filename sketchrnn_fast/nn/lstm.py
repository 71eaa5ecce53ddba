"""LSTM with recurrent dropout, as layers and as a one-step cell."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sketchrnn_fast import ops
from sketchrnn_fast.nn.initialisation import glorot_uniform_, orthogonal_blocks_
from sketchrnn_fast.nn.recurrent import RecurrentCell, RecurrentLayer


class LSTMCell(RecurrentCell):
    """One step of an LSTM (equations in `reference.lstm`); state (h, c).

    Args: those of `RecurrentCell`, and device and dtype of the weights.
    """

    weights_type = ops.LSTMWeights
    op = ops.lstm
    bidirectional_op = ops.lstm_bidirectional
    magenta_state_order = (1, 0)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(input_size, hidden_size, **arguments)
        gates = 4 * hidden_size
        width = input_size + self.static_size
        self.w_xh = nn.Parameter(torch.empty(width, gates, device=device, dtype=dtype))
        self.w_hh = nn.Parameter(torch.empty(hidden_size, gates, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(gates, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        glorot_uniform_(self.w_xh)
        orthogonal_blocks_(self.w_hh)
        nn.init.zeros_(self.bias)


class LSTM(RecurrentLayer):
    """Layers of LSTM cells; arguments and calls as `RecurrentLayer`; state (h, c)."""

    cell_type = LSTMCell
