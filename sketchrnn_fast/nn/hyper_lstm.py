"""HyperLSTM with recurrent dropout, as layers and as a one-step cell."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sketchrnn_fast import ops
from sketchrnn_fast.nn.initialisation import glorot_uniform_, orthogonal_blocks_
from sketchrnn_fast.nn.recurrent import RecurrentCell, RecurrentLayer

GATES = 4


class HyperLSTMCell(RecurrentCell):
    """One step of a HyperLSTM (equations in `reference.hyper_lstm`).

    The state is (h, c, h_hyper, c_hyper).

    Args: those of `RecurrentCell`, and
        hyper_num_units: units H of the inner cell.
        hyper_embedding_size: size E of the embeddings through which it scales the gates.
        device, dtype: of the weights.
    """

    weights_type = ops.HyperLSTMWeights
    op = ops.hyper_lstm
    bidirectional_op = ops.hyper_lstm_bidirectional
    magenta_state_order = (0, 2, 1, 3)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        hyper_num_units: int = 256,
        hyper_embedding_size: int = 32,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(input_size, hidden_size, **arguments)
        if hyper_num_units < 1 or hyper_embedding_size < 1:
            raise ValueError(
                f"HyperLSTMCell: hyper_num_units is {hyper_num_units} and hyper_embedding_size "
                f"{hyper_embedding_size}; both must be at least 1"
            )
        self.hyper_num_units = hyper_num_units
        self.hyper_embedding_size = hyper_embedding_size

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        width = input_size + self.static_size
        gates, hyper_gates = GATES * hidden_size, GATES * hyper_num_units
        self.w_xh = parameter(width, gates)
        self.w_hh = parameter(hidden_size, gates)
        self.bias = parameter(gates)
        self.ln_all_gamma = parameter(gates)
        self.ln_all_beta = parameter(gates)
        self.ln_c_gamma = parameter(hidden_size)
        self.ln_c_beta = parameter(hidden_size)

        self.hyper_w_xh = parameter(width + hidden_size, hyper_gates)
        self.hyper_w_hh = parameter(hyper_num_units, hyper_gates)
        self.hyper_ln_all_gamma = parameter(hyper_gates)
        self.hyper_ln_all_beta = parameter(hyper_gates)
        self.hyper_ln_c_gamma = parameter(hyper_num_units)
        self.hyper_ln_c_beta = parameter(hyper_num_units)

        self.x_embedding = parameter(GATES, hyper_num_units, hyper_embedding_size)
        self.x_embedding_bias = parameter(GATES, hyper_embedding_size)
        self.x_alpha = parameter(GATES, hyper_embedding_size, hidden_size)
        self.h_embedding = parameter(GATES, hyper_num_units, hyper_embedding_size)
        self.h_embedding_bias = parameter(GATES, hyper_embedding_size)
        self.h_alpha = parameter(GATES, hyper_embedding_size, hidden_size)
        self.b_embedding = parameter(GATES, hyper_num_units, hyper_embedding_size)
        self.b_beta = parameter(GATES, hyper_embedding_size, hidden_size)
        self.reset_parameters()

    @property
    def state_widths(self) -> tuple[int, ...]:
        hyper_units = self.hyper_num_units
        return (self.hidden_size, self.hidden_size, hyper_units, hyper_units)

    def reset_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("w_xh"):
                glorot_uniform_(parameter)
            elif name.endswith("w_hh"):
                orthogonal_blocks_(parameter)
            elif name.endswith(("_gamma", "_embedding_bias")):
                nn.init.ones_(parameter)
            elif name.endswith("_alpha"):
                # So that, with the embeddings' weights at 0 and biases at 1, each factor is 0.1.
                nn.init.constant_(parameter, 0.1 / self.hyper_embedding_size)
            elif name == "b_embedding":
                nn.init.normal_(parameter, std=0.01)
            else:
                nn.init.zeros_(parameter)


class HyperLSTM(RecurrentLayer):
    """Layers of HyperLSTM cells; arguments and calls as `RecurrentLayer`.

    The state is (h, c, h_hyper, c_hyper).
    """

    cell_type = HyperLSTMCell
