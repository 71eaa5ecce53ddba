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

import triton
import triton.language as tl

from sketchrnn_fast.kernels.barrier import grid_barrier
from sketchrnn_fast.kernels.phases import (
    backward_row_phase,
    backward_rows,
    forward_row_phase,
    forward_rows,
    most_steps,
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

# The whole sequence in one program ------------------------------------------------------------


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
