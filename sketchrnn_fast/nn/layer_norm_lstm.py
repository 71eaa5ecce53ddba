"""LayerNorm-LSTM with recurrent dropout, as layers and as a one-step cell."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sketchrnn_fast import ops
from sketchrnn_fast.nn.initialisation import glorot_uniform_, orthogonal_blocks_
from sketchrnn_fast.nn.recurrent import RecurrentCell, RecurrentLayer


class LayerNormLSTMCell(RecurrentCell):
    """One step of a LayerNorm-LSTM (equations in `reference.layer_norm_lstm`); state (h, c).

    Args: those of `RecurrentCell`, and device and dtype of the weights.
    """

    weights_type = ops.LayerNormLSTMWeights
    op = ops.layer_norm_lstm
    bidirectional_op = ops.layer_norm_lstm_bidirectional
    magenta_state_order = (0, 1)

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

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        gates = 4 * hidden_size
        self.w_xh = parameter(input_size + self.static_size, gates)
        self.w_hh = parameter(hidden_size, gates)
        self.ln_all_gamma = parameter(gates)
        self.ln_all_beta = parameter(gates)
        self.ln_c_gamma = parameter(hidden_size)
        self.ln_c_beta = parameter(hidden_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        glorot_uniform_(self.w_xh)
        orthogonal_blocks_(self.w_hh)
        for gamma in (self.ln_all_gamma, self.ln_c_gamma):
            nn.init.ones_(gamma)
        for beta in (self.ln_all_beta, self.ln_c_beta):
            nn.init.zeros_(beta)


class LayerNormLSTM(RecurrentLayer):
    """Layers of LayerNorm-LSTM cells; arguments and calls as `RecurrentLayer`; state (h, c)."""

    cell_type = LayerNormLSTMCell
