"""Suite `sizes`: the decoder's layer at small batches and other hidden sizes.

As in the suite `ops`: layer_norm_lstm beside an eager loop, lstm beside torch.nn.LSTM without
dropout. From N=1024 on the sequence is shorter, as the case says.
"""

from __future__ import annotations

import ops
import torch
from layers import SMALL, Sizes
from peers.torch_eager import EAGER
from peers.torch_lstm import TORCH_LSTM
from plan import Plan
from records import Record

SUITE = "sizes"
SWEEP = (
    *(Sizes(B=rows) for rows in (1, 8, 32)),
    *(Sizes(N=units) for units in (128, 256)),
    *(Sizes(N=units, T=50) for units in (1024, 2048)),
)


def run(plan: Plan) -> list[Record]:
    torch.manual_seed(0)
    records = []
    for sizes in (SMALL,) if plan.quick else SWEEP:
        for op, peer in (("layer_norm_lstm", EAGER), ("lstm", TORCH_LSTM)):
            records += ops.layer_records(plan, op, sizes, (peer,), suite=SUITE)
    return records
