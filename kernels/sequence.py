"""The LSTM and the LayerNorm-LSTM over a sequence: three forms of one computation.

The equations of a step are in `gates.py`, its phases in `phases.py`. The forms differ in who does
what:

* **sequence**: a program owns a tile of rows for all steps and waits for nobody. Four accumulators
  [ROWS, N] must fit its registers, so N ≤ 256. W_hh streams from the L2 cache in tiles.
* **step**: two kernels a step, launched T times (in a CUDA graph, where training captures one): a
  matrix product in tiles, then the rows, one a program.
* **persistent**: the phases of `step` in one cooperative launch with two grid barriers a step; a
  program holds its columns of W_hh on the chip for all steps.

Layouts, contiguous; D is the dtype of storage, all others float32:

    gates      D [T, B, 4N]   in: x's products; out, where SAVE: a, the gates before the layer norm
    static     [B, 4N]        the static input's products and the bias
    w          D [N, 4N]      W_hh
    keep       uint8 [T, B, ⌈N/8⌉]   dropout's bits (`philox.py`)
    norms, norm_gradients     as in `gates.py`; norm_gradients [programs, 10N]
    lengths    int64 [B], order int64 [B]   the rows from the longest to the shortest
    hidden     D [T, B, N]    out; zeros before, where there are lengths
    h          D [B, N], c [B, N]   the state: the initial one in, the final one out
    cell       [T, B, N]      out, where SAVE: c after each step
    products   [B, 4N]        what the two phases of a step forward hand over
    grad_gates D [T, B, 4N]   out: da; zeros before, where there are lengths
    grad_h, grad_c  [B, N]    in: the gradient of the final state; out: of the initial one

Saved for backward are the gates and cell alone; everything else of a step is computed again. The
weights' gradients are products over all steps, made afterwards by torch (`ops/triton.py`).
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (what @triton.jit compiles has no annotations but tl.constexpr)

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from sketchrnn_fast.kernels.barrier import grid_barrier
from sketchrnn_fast.kernels.gates import NORM_VECTORS
from sketchrnn_fast.kernels.measured import Tile
from sketchrnn_fast.kernels.phases import (
    backward_row_phase,
    backward_rows,
    forward_row_phase,
    forward_rows,
    product_phase,
    time_of,
)
from sketchrnn_fast.kernels.tiles import (
    dot,
    load_gates,
    load_tile,
    product_tile,
    store_tile,
    tile_rows,
)
from sketchrnn_fast.kernels.tuning import Plan, padded

# The whole sequence in one program ------------------------------------------------------------


@triton.jit
def most_steps(
    first, rows, lengths_ptr, order_ptr, time_steps, HAS_LENGTHS: tl.constexpr
):  # fmt: skip
    """How many steps the longest row of a tile lasts."""
    if HAS_LENGTHS:
        row = tl.load(order_ptr + first)
        return tl.load(lengths_ptr + row).to(tl.int32)
    else:
        return time_steps


@triton.jit(do_not_specialize=["time_steps", "rows"])
def sequence_forward_kernel(
    gates_ptr, static_ptr, w_ptr, keep_ptr, norms_ptr, lengths_ptr, order_ptr, hidden_ptr, h_ptr,
    c_ptr, cell_ptr, time_steps, rows, scale, forget_bias,
    UNITS: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
    NORMALISE: tl.constexpr, DROPOUT: tl.constexpr, HAS_LENGTHS: tl.constexpr,
    HAS_STATIC: tl.constexpr, REVERSE: tl.constexpr, SAVE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * ROWS
    unit = tl.arange(0, PADDED)
    inside = unit < UNITS
    row, valid = tile_rows(first, rows, lengths_ptr, order_ptr, -1, ROWS, HAS_LENGTHS)
    c = load_tile(c_ptr, 0, row, UNITS, valid, unit, UNITS)
    steps = most_steps(first, rows, lengths_ptr, order_ptr, time_steps, HAS_LENGTHS)
    for number in range(steps):
        t = time_of(number, steps, REVERSE)
        _, active = tile_rows(first, rows, lengths_ptr, order_ptr, t, ROWS, HAS_LENGTHS)
        of_step = t.to(tl.int64) * rows
        i = tl.zeros((PADDED, ROWS), tl.float32)
        j, f, o = tl.zeros_like(i), tl.zeros_like(i), tl.zeros_like(i)
        tl.debug_barrier()  # h of the step before is in memory
        for k in range(0, UNITS, BLOCK_K):
            depth = k + tl.arange(0, BLOCK_K)
            h = tl.load(
                h_ptr + row[None, :] * UNITS + depth[:, None],
                mask=active[None, :] & (depth < UNITS)[:, None],
                other=0.0,
            )
            w = w_ptr + depth[None, :] * (4 * UNITS) + unit[:, None]
            w_inside = (depth < UNITS)[None, :] & inside[:, None]
            i = dot(tl.load(w, mask=w_inside, other=0.0), h, i, PRECISION)
            j = dot(tl.load(w + UNITS, mask=w_inside, other=0.0), h, j, PRECISION)
            f = dot(tl.load(w + 2 * UNITS, mask=w_inside, other=0.0), h, f, PRECISION)
            o = dot(tl.load(w + 3 * UNITS, mask=w_inside, other=0.0), h, o, PRECISION)
        tl.debug_barrier()  # h has been read everywhere, and may be written
        more = load_gates(gates_ptr, of_step, row, 4 * UNITS, active, unit, UNITS)
        i, j, f, o = i + more[0], j + more[1], f + more[2], o + more[3]
        if HAS_STATIC:
            more = load_gates(static_ptr, 0, row, 4 * UNITS, active, unit, UNITS)
            i, j, f, o = i + more[0], j + more[1], f + more[2], o + more[3]
        c = forward_rows(
            i, j, f, o, c, t, row, active, keep_ptr, norms_ptr, gates_ptr, cell_ptr, hidden_ptr,
            h_ptr, UNITS, c_ptr, rows, scale, forget_bias, unit, UNITS, NORMALISE, DROPOUT, SAVE,
            SAVE,
        )  # fmt: skip


@triton.jit(do_not_specialize=["time_steps", "rows"])
def sequence_backward_kernel(
    gates_ptr, w_ptr, keep_ptr, norms_ptr, norm_gradients_ptr, lengths_ptr, order_ptr,
    grad_hidden_ptr, cell_ptr, initial_c_ptr, grad_gates_ptr, grad_h_ptr, grad_c_ptr, time_steps,
    rows, scale, forget_bias,
    UNITS: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
    NORMALISE: tl.constexpr, DROPOUT: tl.constexpr, HAS_LENGTHS: tl.constexpr,
    HAS_GRAD_HIDDEN: tl.constexpr, REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * ROWS
    unit = tl.arange(0, PADDED)
    row, valid = tile_rows(first, rows, lengths_ptr, order_ptr, -1, ROWS, HAS_LENGTHS)
    norm_gradients_ptr += tl.program_id(0) * (10 * UNITS)
    grad_h = load_tile(grad_h_ptr, 0, row, UNITS, valid, unit, UNITS)
    grad_c = load_tile(grad_c_ptr, 0, row, UNITS, valid, unit, UNITS)
    steps = most_steps(first, rows, lengths_ptr, order_ptr, time_steps, HAS_LENGTHS)
    for number in range(steps):
        t = time_of(steps - 1 - number, steps, REVERSE)
        _, active = tile_rows(first, rows, lengths_ptr, order_ptr, t, ROWS, HAS_LENGTHS)
        of_step = t.to(tl.int64) * rows
        incoming = grad_h
        if HAS_GRAD_HIDDEN:
            incoming += load_tile(grad_hidden_ptr, of_step, row, UNITS, active, unit, UNITS)
        grad_c = backward_rows(
            incoming, grad_c, t, row, active, keep_ptr, norms_ptr, norm_gradients_ptr, lengths_ptr,
            gates_ptr, cell_ptr, initial_c_ptr, grad_gates_ptr, 4 * UNITS, time_steps, rows, scale,
            forget_bias, unit, UNITS, NORMALISE, DROPOUT, HAS_LENGTHS, REVERSE,
        )  # fmt: skip
        tl.debug_barrier()  # da is in memory
        before = product_tile(
            grad_gates_ptr + of_step * (4 * UNITS), 4 * UNITS, row, active, w_ptr, 1, 4 * UNITS,
            unit, unit < UNITS, tl.zeros_like(grad_h), 4 * UNITS, BLOCK_K, PRECISION,
        )  # fmt: skip
        grad_h = tl.where(active[None, :], before, grad_h)
    store_tile(grad_h_ptr, 0, row, UNITS, valid, unit, grad_h, UNITS)
    store_tile(grad_c_ptr, 0, row, UNITS, valid, unit, grad_c, UNITS)


# A step in two launches -----------------------------------------------------------------------

# These must not compile anew where they are 1 or round.
_CHANGING = ["t", "time_steps", "rows", "first_program", "programs"]


@triton.jit(do_not_specialize=_CHANGING)
def product_kernel(
    t, a_ptr, a_stride, w_ptr, out_ptr, lengths_ptr, order_ptr, rows,
    W_STRIDE_K: tl.constexpr, W_STRIDE_N: tl.constexpr, DEPTH: tl.constexpr,
    COLUMNS: tl.constexpr, ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    HAS_LENGTHS: tl.constexpr, OF_STEP: tl.constexpr, ADD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    if OF_STEP:
        a_ptr += t.to(tl.int64) * rows * a_stride
    product_phase(
        tl.program_id(0) * ROWS, tl.program_id(1) * BLOCK_N, t, a_ptr, a_stride, w_ptr, W_STRIDE_K,
        W_STRIDE_N, w_ptr, out_ptr, COLUMNS, lengths_ptr, order_ptr, rows, DEPTH, COLUMNS, ROWS,
        BLOCK_N, BLOCK_K, HAS_LENGTHS, ADD, False, PRECISION,
    )  # fmt: skip


@triton.jit(do_not_specialize=_CHANGING)
def forward_rows_kernel(
    t, gates_ptr, static_ptr, products_ptr, products_stride, keep_ptr, norms_ptr, lengths_ptr,
    order_ptr, hidden_ptr, h_ptr, h_stride, c_ptr, cell_ptr, rows, scale, forget_bias,
    UNITS: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, NORMALISE: tl.constexpr,
    DROPOUT: tl.constexpr, HAS_LENGTHS: tl.constexpr, HAS_STATIC: tl.constexpr,
    HAS_PRODUCTS: tl.constexpr, SAVE: tl.constexpr,
):  # fmt: skip
    forward_row_phase(
        tl.program_id(0) * ROWS, t, gates_ptr, static_ptr, products_ptr, products_stride, keep_ptr,
        norms_ptr, lengths_ptr, order_ptr, hidden_ptr, h_ptr, h_stride, c_ptr, cell_ptr, rows,
        scale, forget_bias, UNITS, PADDED, ROWS, NORMALISE, DROPOUT, HAS_LENGTHS, HAS_STATIC,
        HAS_PRODUCTS, SAVE,
    )  # fmt: skip


@triton.jit(do_not_specialize=_CHANGING)
def backward_rows_kernel(
    t, gates_ptr, keep_ptr, norms_ptr, norm_gradients_ptr, lengths_ptr, order_ptr, grad_hidden_ptr,
    cell_ptr, initial_c_ptr, grad_gates_ptr, grad_gates_stride, grad_h_ptr, grad_h_stride,
    grad_c_ptr, time_steps, rows, scale, forget_bias,
    UNITS: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, NORMALISE: tl.constexpr,
    DROPOUT: tl.constexpr, HAS_LENGTHS: tl.constexpr, HAS_GRAD_HIDDEN: tl.constexpr,
    REVERSE: tl.constexpr,
):  # fmt: skip
    backward_row_phase(
        tl.program_id(0) * ROWS, t, gates_ptr, keep_ptr, norms_ptr,
        norm_gradients_ptr + tl.program_id(0) * (10 * UNITS), lengths_ptr, order_ptr,
        grad_hidden_ptr, cell_ptr, initial_c_ptr, grad_gates_ptr, grad_gates_stride, grad_h_ptr,
        grad_h_stride, grad_c_ptr, time_steps, rows, scale, forget_bias, UNITS, PADDED, ROWS,
        NORMALISE, DROPOUT, HAS_LENGTHS, HAS_GRAD_HIDDEN, REVERSE,
    )  # fmt: skip


# A step in two phases of one cooperative launch -------------------------------------------------


@triton.jit
def held_columns(
    w_ptr, column, W_STRIDE_K: tl.constexpr, W_STRIDE_N: tl.constexpr, UNITS: tl.constexpr,
    PADDED: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """N rows of some columns of w, [BLOCK_N, PADDED], for the program to hold."""
    depth = tl.arange(0, PADDED)
    return tl.load(
        w_ptr + depth[None, :] * W_STRIDE_K + column[:, None] * W_STRIDE_N,
        mask=(depth < UNITS)[None, :] & (column < COLUMNS)[:, None],
        other=0.0,
    )


@triton.jit
def held_dot(
    w, a_ptr, a_stride, row, active, total, UNITS: tl.constexpr, PADDED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """total + w times N columns of a."""
    depth = tl.arange(0, PADDED)
    a = tl.load(
        a_ptr + (row[None, :] * a_stride + depth[:, None]),
        mask=active[None, :] & (depth < UNITS)[:, None],
        other=0.0,
    )
    return dot(w, a, total, PRECISION)


@triton.jit(do_not_specialize=_CHANGING)
def persistent_forward_kernel(
    counter_ptr, first_program, programs, gates_ptr, static_ptr, w_ptr, products_ptr, keep_ptr,
    norms_ptr, lengths_ptr, order_ptr, hidden_ptr, h_ptr, c_ptr, cell_ptr, time_steps, rows, scale,
    forget_bias,
    UNITS: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, ROW_TILE: tl.constexpr,
    BLOCK_N: tl.constexpr, NORMALISE: tl.constexpr, DROPOUT: tl.constexpr,
    HAS_LENGTHS: tl.constexpr, HAS_STATIC: tl.constexpr, REVERSE: tl.constexpr, SAVE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    WIDTH: tl.constexpr = 4 * UNITS
    COLUMN_TILES: tl.constexpr = (WIDTH + BLOCK_N - 1) // BLOCK_N
    program = tl.program_id(0) + first_program
    column = (program % COLUMN_TILES) * BLOCK_N + tl.arange(0, BLOCK_N)
    group = program // COLUMN_TILES
    groups = programs // COLUMN_TILES
    w = held_columns(w_ptr, column, WIDTH, 1, UNITS, PADDED, WIDTH)
    steps = most_steps(0, rows, lengths_ptr, order_ptr, time_steps, HAS_LENGTHS)
    for number in range(steps):
        t = time_of(number, steps, REVERSE)
        for first in range(group * ROWS, rows, groups * ROWS):
            row, active = tile_rows(first, rows, lengths_ptr, order_ptr, t, ROWS, HAS_LENGTHS)
            if tl.max(active.to(tl.int32), axis=0) > 0:
                total = tl.zeros((BLOCK_N, ROWS), tl.float32)
                total = held_dot(w, h_ptr, UNITS, row, active, total, UNITS, PADDED, PRECISION)
                store_tile(products_ptr, 0, row, WIDTH, active, column, total, WIDTH)
        grid_barrier(counter_ptr, (2 * number + 1) * programs)
        for first in range(program * ROW_TILE, rows, programs * ROW_TILE):
            forward_row_phase(
                first, t, gates_ptr, static_ptr, products_ptr, WIDTH, keep_ptr, norms_ptr,
                lengths_ptr, order_ptr, hidden_ptr, h_ptr, UNITS, c_ptr, cell_ptr, rows, scale,
                forget_bias, UNITS, PADDED, ROW_TILE, NORMALISE, DROPOUT, HAS_LENGTHS, HAS_STATIC,
                True, SAVE,
            )  # fmt: skip
        grid_barrier(counter_ptr, (2 * number + 2) * programs)


@triton.jit(do_not_specialize=_CHANGING)
def persistent_backward_kernel(
    counter_ptr, first_program, programs, gates_ptr, w_ptr, keep_ptr, norms_ptr, norm_gradients_ptr,
    lengths_ptr, order_ptr, grad_hidden_ptr, cell_ptr, initial_c_ptr, grad_gates_ptr, grad_h_ptr,
    grad_c_ptr, time_steps, rows, scale, forget_bias,
    UNITS: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
    ROW_TILE: tl.constexpr, BLOCK_N: tl.constexpr, NORMALISE: tl.constexpr, DROPOUT: tl.constexpr,
    HAS_LENGTHS: tl.constexpr, HAS_GRAD_HIDDEN: tl.constexpr, REVERSE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    WIDTH: tl.constexpr = 4 * UNITS
    COLUMN_TILES: tl.constexpr = (UNITS + BLOCK_N - 1) // BLOCK_N
    program = tl.program_id(0) + first_program
    column = (program % COLUMN_TILES) * BLOCK_N + tl.arange(0, BLOCK_N)
    group = program // COLUMN_TILES
    groups = programs // COLUMN_TILES
    norm_gradients_ptr += program * (10 * UNITS)
    # By gate, so that a program needs but a fourth of da on the chip at a time.
    w_i = held_columns(w_ptr, column, 1, WIDTH, UNITS, PADDED, UNITS)
    w_j = held_columns(w_ptr + UNITS, column, 1, WIDTH, UNITS, PADDED, UNITS)
    w_f = held_columns(w_ptr + 2 * UNITS, column, 1, WIDTH, UNITS, PADDED, UNITS)
    w_o = held_columns(w_ptr + 3 * UNITS, column, 1, WIDTH, UNITS, PADDED, UNITS)
    steps = most_steps(0, rows, lengths_ptr, order_ptr, time_steps, HAS_LENGTHS)
    for number in range(steps):
        t = time_of(steps - 1 - number, steps, REVERSE)
        for first in range(program * ROW_TILE, rows, programs * ROW_TILE):
            backward_row_phase(
                first, t, gates_ptr, keep_ptr, norms_ptr, norm_gradients_ptr, lengths_ptr,
                order_ptr, grad_hidden_ptr, cell_ptr, initial_c_ptr, grad_gates_ptr, WIDTH,
                grad_h_ptr, UNITS, grad_c_ptr, time_steps, rows, scale, forget_bias, UNITS, PADDED,
                ROW_TILE, NORMALISE, DROPOUT, HAS_LENGTHS, HAS_GRAD_HIDDEN, REVERSE,
            )  # fmt: skip
        grid_barrier(counter_ptr, (2 * number + 1) * programs)
        a_ptr = grad_gates_ptr + t.to(tl.int64) * rows * WIDTH
        for first in range(group * ROWS, rows, groups * ROWS):
            row, active = tile_rows(first, rows, lengths_ptr, order_ptr, t, ROWS, HAS_LENGTHS)
            if tl.max(active.to(tl.int32), axis=0) > 0:
                total = load_tile(grad_h_ptr, 0, row, UNITS, active, column, UNITS)
                total = held_dot(w_i, a_ptr, WIDTH, row, active, total, UNITS, PADDED, PRECISION)
                a_j = a_ptr + UNITS
                total = held_dot(w_j, a_j, WIDTH, row, active, total, UNITS, PADDED, PRECISION)
                a_f = a_ptr + 2 * UNITS
                total = held_dot(w_f, a_f, WIDTH, row, active, total, UNITS, PADDED, PRECISION)
                a_o = a_ptr + 3 * UNITS
                total = held_dot(w_o, a_o, WIDTH, row, active, total, UNITS, PADDED, PRECISION)
                store_tile(grad_h_ptr, 0, row, UNITS, active, column, total, UNITS)
        grid_barrier(counter_ptr, (2 * number + 2) * programs)


# Launches ---------------------------------------------------------------------------------------


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
