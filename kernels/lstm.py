"""The LSTM on a GPU, with layer norm the LayerNorm-LSTM: launches of `sequence.py`'s kernels.

`tuning.py` chooses the form. Everything that a kernel needs is made by who calls these functions
(`ops/triton.py`) but for what a form hands from one of its parts to another.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from sketchrnn_fast.kernels.gates import NORM_VECTORS
from sketchrnn_fast.kernels.measured import Tile
from sketchrnn_fast.kernels.sequence import (
    backward_rows_kernel,
    forward_rows_kernel,
    persistent_backward_kernel,
    persistent_forward_kernel,
    product_kernel,
    sequence_backward_kernel,
    sequence_forward_kernel,
)
from sketchrnn_fast.kernels.tuning import Plan, padded


class Walk(NamedTuple):
    """How a layer goes through its sequence, and on what; the same for both passes.

    Attributes:
        w: W_hh, D [N, 4N].
        keep: dropout's bits, uint8 [T, B, ⌈N/8⌉], or None without dropout.
        norms: float32 [10N], or None without layer norm.
        lengths, order: int64 [B], or None.
        keep_prob, forget_bias, reverse: as the op's.
        plan: which form runs, and its tiles.
    """

    w: Tensor
    keep: Tensor | None
    norms: Tensor | None
    lengths: Tensor | None
    order: Tensor | None
    keep_prob: float
    forget_bias: float
    reverse: bool
    plan: Plan

    @property
    def units(self) -> int:
        return self.w.shape[0]

    def pointer(self, tensor: Tensor | None) -> Tensor:
        """The tensor, or something to point at where there is none and nothing is read."""
        return self.w if tensor is None else tensor

    @property
    def flags(self) -> dict[str, Any]:
        return {
            "UNITS": self.units,
            "PADDED": padded(self.units),
            "NORMALISE": self.norms is not None,
            "DROPOUT": self.keep is not None,
            "HAS_LENGTHS": self.lengths is not None,
        }


def forward(
    walk: Walk,
    gates: Tensor,
    static: Tensor | None,
    hidden: Tensor,
    h: Tensor,
    c: Tensor,
    cell: Tensor | None,
) -> None:
    """Run the layer; fills hidden and cell, and turns gates, h and c into what comes out of
    them."""
    T, B, _ = gates.shape
    N, p = walk.units, walk.pointer
    flags = walk.flags | {"HAS_STATIC": static is not None, "SAVE": cell is not None}
    rows = (p(walk.keep), p(walk.norms), p(walk.lengths), p(walk.order), hidden, h)
    numbers = (B, 1 / walk.keep_prob, walk.forget_bias)
    plan = walk.plan
    tile = plan.forward
    with torch.cuda.device_of(gates):
        if plan.form == "sequence":
            sequence_forward_kernel[(triton.cdiv(B, tile.rows),)](
                gates, p(static), walk.w, *rows, c, p(cell), T, *numbers,
                **flags, ROWS=tile.rows, BLOCK_K=tile.depth, REVERSE=walk.reverse,
                PRECISION=walk.plan.precision, num_warps=tile.warps, num_stages=tile.stages,
                **plan.options,
            )  # fmt: skip
            return
        products = torch.empty(B, 4 * N, dtype=torch.float32, device=gates.device)
        if plan.form == "persistent":
            programs = persistent_programs(4 * N, B, tile, gates.device)
            persistent_forward_kernel[(programs,)](
                new_counter(gates.device), 0, programs, gates, p(static), walk.w, products, *rows,
                c, p(cell), T, *numbers, **flags, ROWS=tile.rows, ROW_TILE=plan.row_tile,
                BLOCK_N=tile.columns, REVERSE=walk.reverse, PRECISION=walk.plan.precision,
                num_warps=tile.warps, launch_cooperative_grid=True,
                **plan.options,
            )  # fmt: skip
            return
        for t in range(T - 1, -1, -1) if walk.reverse else range(T):
            multiply(walk, t, h, products, walk.w, (4 * N, 1), tile, of_step=False, add=False)
            forward_rows_kernel[(triton.cdiv(B, plan.row_tile),)](
                t, gates, p(static), products, 4 * N, *rows, N, c, p(cell), *numbers,
                **flags, ROWS=plan.row_tile, HAS_PRODUCTS=True, num_warps=plan.row_warps,
                **plan.options,
            )  # fmt: skip


def backward(
    walk: Walk,
    gates: Tensor,
    cell: Tensor,
    initial_c: Tensor,
    grad_hidden: Tensor | None,
    grad_gates: Tensor,
    grad_h: Tensor,
    grad_c: Tensor,
) -> Tensor:
    """The layer backwards; fills grad_gates, and turns grad_h and grad_c into the initial state's.

    Returns:
        The gradient of `walk.norms`, float32 [10N]; of no meaning without layer norm.
    """
    T, B, _ = gates.shape
    N, p = walk.units, walk.pointer
    if B == 0:
        return gates.new_zeros(NORM_VECTORS * N, dtype=torch.float32)
    flags = walk.flags | {"HAS_GRAD_HIDDEN": grad_hidden is not None, "REVERSE": walk.reverse}
    plan = walk.plan
    tile = plan.backward
    programs = {
        "sequence": triton.cdiv(B, tile.rows),
        "step": triton.cdiv(B, plan.row_tile),
        "persistent": persistent_programs(N, B, tile, gates.device),
    }[plan.form]
    norm_gradients = gates.new_zeros(
        (programs, NORM_VECTORS * N) if walk.norms is not None else (1, 1), dtype=torch.float32
    )
    rows = (
        *(p(walk.keep), p(walk.norms), norm_gradients, p(walk.lengths), p(walk.order)),
        *(p(grad_hidden), cell, initial_c, grad_gates),
    )
    numbers = (T, B, 1 / walk.keep_prob, walk.forget_bias)
    with torch.cuda.device_of(gates):
        if plan.form == "sequence":
            sequence_backward_kernel[(programs,)](
                gates, walk.w, *rows, grad_h, grad_c, *numbers,
                **flags, ROWS=tile.rows, BLOCK_K=tile.depth,
                PRECISION=walk.plan.precision, num_warps=tile.warps, num_stages=tile.stages,
                **plan.options,
            )  # fmt: skip
        elif plan.form == "persistent":
            persistent_backward_kernel[(programs,)](
                new_counter(gates.device), 0, programs, gates, walk.w, *rows, grad_h, grad_c,
                *numbers, **flags, ROWS=tile.rows, ROW_TILE=plan.row_tile, BLOCK_N=tile.columns,
                PRECISION=walk.plan.precision, num_warps=tile.warps, launch_cooperative_grid=True,
                **plan.options,
            )  # fmt: skip
        else:
            for t in range(T) if walk.reverse else range(T - 1, -1, -1):
                backward_rows_kernel[(programs,)](
                    t, gates, *rows, 4 * N, grad_h, N, grad_c, *numbers,
                    **flags, ROWS=plan.row_tile, num_warps=plan.row_warps, **plan.options,
                )  # fmt: skip
                multiply(
                    walk, t, grad_gates, grad_h, walk.w, (1, 4 * N), tile, of_step=True, add=True
                )
    return norm_gradients.sum(0)


def multiply(
    walk: Walk,
    t: int,
    a: Tensor,
    out: Tensor,
    w: Tensor,
    strides: tuple[int, int],
    tile: Tile,
    of_step: bool,
    add: bool,
) -> None:
    """The product phase of step t by itself: out [B, ·] = or += a · w."""
    rows, columns = out.shape
    product_kernel[(triton.cdiv(rows, tile.rows), triton.cdiv(columns, tile.columns))](
        t, a, a.shape[-1], w, out, walk.pointer(walk.lengths), walk.pointer(walk.order), rows,
        W_STRIDE_K=strides[0], W_STRIDE_N=strides[1], DEPTH=a.shape[-1], COLUMNS=columns,
        ROWS=tile.rows, BLOCK_N=tile.columns, BLOCK_K=tile.depth,
        HAS_LENGTHS=walk.lengths is not None, OF_STEP=of_step, ADD=add,
        PRECISION=walk.plan.precision, num_warps=tile.warps, num_stages=tile.stages,
        **walk.plan.options,
    )  # fmt: skip


def persistent_programs(columns: int, rows: int, tile: Tile, device: torch.device) -> int:
    """How many programs share the columns, and the tiles of rows: as many as the chip holds at
    once."""
    column_tiles = triton.cdiv(columns, tile.columns)
    groups = max(1, min(processors(device) // column_tiles, triton.cdiv(rows, tile.rows)))
    return int(column_tiles * groups)


def processors(device: torch.device) -> int:
    """How many multiprocessors a GPU has; 1 in the interpreter."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def new_counter(device: torch.device) -> Tensor:
    return torch.zeros(1, dtype=torch.int32, device=device)
