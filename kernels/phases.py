"""The phases of a recurrent step on tiles, of which every form of every kernel is made.

For each step t, with h and c of the step before, and `step` of `gates.py`:

    forward    a = x_products[t] + static + h · W_hh        [B, 4N]   product phase
               h, c = step(a, c, keep[t])                             row phase
    backward   da = step_backward(a, c, keep[t], dh + grad_hidden[t], dc)    row phase
               dh = da · W_hhᵀ                                               product phase

A product phase works on tiles of rows and columns, a row phase on whole rows, because the layer
norm needs all of a row. Phases talk through memory: what lies between two of them, the end of a
kernel, a grid barrier or a barrier within the program, is the kernel's affair. The layouts are
those of `sequence.py`.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (what @triton.jit compiles has no annotations but tl.constexpr)

from __future__ import annotations

import triton
import triton.language as tl

from sketchrnn_fast.kernels.gates import step, step_backward
from sketchrnn_fast.kernels.tiles import (
    keep_factors,
    load_gates,
    load_tile,
    product_tile,
    store_gates,
    store_tile,
    tile_rows,
)


@triton.jit
def time_of(number, time_steps, REVERSE: tl.constexpr):
    """The time index of a walk's step."""
    if REVERSE:
        return time_steps - 1 - number
    else:
        return number


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


@triton.jit
def forward_rows(
    i, j, f, o, c, t, row, active, keep_ptr, norms_ptr, gates_ptr, cell_ptr, hidden_ptr, h_ptr,
    h_stride, c_ptr, rows, scale, forget_bias, unit,
    UNITS: tl.constexpr, NORMALISE: tl.constexpr, DROPOUT: tl.constexpr, SAVE: tl.constexpr,
    SAVE_GATES: tl.constexpr,
):  # fmt: skip
    """Step t of the rows `active`: from the gates' products and c to the new c; all is stored."""
    first = t.to(tl.int64) * rows
    keep = keep_factors(keep_ptr, first, row, active, unit, scale, UNITS, DROPOUT)
    h, new_c = step(i, j, f, o, c, keep, norms_ptr, forget_bias, unit, UNITS, NORMALISE)
    if SAVE_GATES:
        store_gates(gates_ptr, first, row, 4 * UNITS, active, unit, i, j, f, o, UNITS)
    if SAVE:
        store_tile(cell_ptr, first, row, UNITS, active, unit, new_c, UNITS)
    store_tile(hidden_ptr, first, row, UNITS, active, unit, h, UNITS)
    store_tile(h_ptr, 0, row, h_stride, active, unit, h, UNITS)
    store_tile(c_ptr, 0, row, UNITS, active, unit, new_c, UNITS)
    return tl.where(active[None, :], new_c, c)


@triton.jit
def backward_rows(
    grad_h, grad_c, t, row, active, keep_ptr, norms_ptr, norm_gradients_ptr, lengths_ptr, gates_ptr,
    cell_ptr, initial_c_ptr, grad_gates_ptr, grad_gates_stride, time_steps, rows, scale,
    forget_bias, unit,
    UNITS: tl.constexpr, NORMALISE: tl.constexpr, DROPOUT: tl.constexpr, HAS_LENGTHS: tl.constexpr,
    REVERSE: tl.constexpr,
):  # fmt: skip
    """Step t of the rows `active`, backwards: stores da and returns the gradient of c before it.

    Args:
        grad_h, grad_c: [PADDED, ROWS], of the state after the step.
    """
    first = t.to(tl.int64) * rows
    grad_h = tl.where(active[None, :], grad_h, 0.0)
    masked_grad_c = tl.where(active[None, :], grad_c, 0.0)
    if REVERSE:
        before = t + 1
        end = row * 0 + time_steps
        if HAS_LENGTHS:
            end = tl.load(lengths_ptr + row, mask=active, other=0)
        has_before = active & (before < end)
    else:
        before = t - 1
        has_before = active & (row * 0 + before >= 0)
    c = load_tile(cell_ptr, before.to(tl.int64) * rows, row, UNITS, has_before, unit, UNITS)
    initial_c = load_tile(initial_c_ptr, 0, row, UNITS, active, unit, UNITS)
    c = tl.where(has_before[None, :], c, initial_c)
    keep = keep_factors(keep_ptr, first, row, active, unit, scale, UNITS, DROPOUT)
    i, j, f, o = load_gates(gates_ptr, first, row, 4 * UNITS, active, unit, UNITS)
    grad_i, grad_j, grad_f, grad_o, grad_c_before = step_backward(
        i, j, f, o, c, keep, grad_h, masked_grad_c, norms_ptr, norm_gradients_ptr, forget_bias,
        unit, UNITS, NORMALISE,
    )  # fmt: skip
    store_gates(
        grad_gates_ptr,
        first,
        row,
        grad_gates_stride,
        active,
        unit,
        grad_i,
        grad_j,
        grad_f,
        grad_o,
        UNITS,
    )
    return tl.where(active[None, :], grad_c_before, grad_c)


# A step in two phases -------------------------------------------------------------------------


@triton.jit
def forward_row_phase(
    first, t, gates_ptr, static_ptr, products_ptr, products_stride, keep_ptr, norms_ptr,
    lengths_ptr, order_ptr, hidden_ptr, h_ptr, h_stride, c_ptr, cell_ptr, rows, scale, forget_bias,
    UNITS: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, NORMALISE: tl.constexpr,
    DROPOUT: tl.constexpr, HAS_LENGTHS: tl.constexpr, HAS_STATIC: tl.constexpr,
    HAS_PRODUCTS: tl.constexpr, SAVE: tl.constexpr,
):  # fmt: skip
    """The second phase of a step: rows first … first + ROWS - 1, from the first one's products."""
    row, active = tile_rows(first, rows, lengths_ptr, order_ptr, t, ROWS, HAS_LENGTHS)
    if tl.max(active.to(tl.int32), axis=0) > 0:
        unit = tl.arange(0, PADDED)
        of_step = t.to(tl.int64) * rows
        i, j, f, o = load_gates(gates_ptr, of_step, row, 4 * UNITS, active, unit, UNITS)
        if HAS_STATIC:
            static = load_gates(static_ptr, 0, row, 4 * UNITS, active, unit, UNITS)
            i, j, f, o = i + static[0], j + static[1], f + static[2], o + static[3]
        if HAS_PRODUCTS:
            more = load_gates(products_ptr, 0, row, products_stride, active, unit, UNITS)
            i, j, f, o = i + more[0], j + more[1], f + more[2], o + more[3]
        c = load_tile(c_ptr, 0, row, UNITS, active, unit, UNITS)
        forward_rows(
            i, j, f, o, c, t, row, active, keep_ptr, norms_ptr, gates_ptr, cell_ptr, hidden_ptr,
            h_ptr, h_stride, c_ptr, rows, scale, forget_bias, unit, UNITS, NORMALISE, DROPOUT, SAVE,
            SAVE and HAS_PRODUCTS,
        )  # fmt: skip


@triton.jit
def backward_row_phase(
    first, t, gates_ptr, keep_ptr, norms_ptr, norm_gradients_ptr, lengths_ptr, order_ptr,
    grad_hidden_ptr, cell_ptr, initial_c_ptr, grad_gates_ptr, grad_gates_stride, grad_h_ptr,
    grad_h_stride, grad_c_ptr, time_steps, rows, scale, forget_bias,
    UNITS: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, NORMALISE: tl.constexpr,
    DROPOUT: tl.constexpr, HAS_LENGTHS: tl.constexpr, HAS_GRAD_HIDDEN: tl.constexpr,
    REVERSE: tl.constexpr,
):  # fmt: skip
    """The first phase of a step backwards. It empties grad_h, to which the second phase adds."""
    row, active = tile_rows(first, rows, lengths_ptr, order_ptr, t, ROWS, HAS_LENGTHS)
    if tl.max(active.to(tl.int32), axis=0) > 0:
        tl.debug_barrier()  # the norms' gradients of the tile before are in memory
        unit = tl.arange(0, PADDED)
        of_step = t.to(tl.int64) * rows
        grad_h = load_tile(grad_h_ptr, 0, row, grad_h_stride, active, unit, UNITS)
        tl.debug_barrier()  # every thread has read its own before another's store empties it
        store_tile(grad_h_ptr, 0, row, grad_h_stride, active, unit, tl.zeros_like(grad_h), UNITS)
        if HAS_GRAD_HIDDEN:
            grad_h += load_tile(grad_hidden_ptr, of_step, row, UNITS, active, unit, UNITS)
        grad_c = load_tile(grad_c_ptr, 0, row, UNITS, active, unit, UNITS)
        grad_c = backward_rows(
            grad_h, grad_c, t, row, active, keep_ptr, norms_ptr, norm_gradients_ptr, lengths_ptr,
            gates_ptr, cell_ptr, initial_c_ptr, grad_gates_ptr, grad_gates_stride, time_steps, rows,
            scale, forget_bias, unit, UNITS, NORMALISE, DROPOUT, HAS_LENGTHS, REVERSE,
        )  # fmt: skip
        store_tile(grad_c_ptr, 0, row, UNITS, active, unit, grad_c, UNITS)


@triton.jit
def product_phase(
    first_row, first_column, t, a_ptr, a_stride, w_ptr, w_stride_k, w_stride_n, bias_ptr, out_ptr,
    out_stride, lengths_ptr, order_ptr, rows, k_end,
    COLUMNS: tl.constexpr, ROWS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    HAS_LENGTHS: tl.constexpr, ADD: tl.constexpr, HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out = a · w, + bias or + out, for a tile of the rows of step t and of the columns."""
    row, active = tile_rows(first_row, rows, lengths_ptr, order_ptr, t, ROWS, HAS_LENGTHS)
    if tl.max(active.to(tl.int32), axis=0) > 0:
        column = first_column + tl.arange(0, BLOCK_N)
        total = tl.zeros((BLOCK_N, ROWS), tl.float32)
        if ADD:
            total += load_tile(out_ptr, 0, row, out_stride, active, column, COLUMNS)
        if HAS_BIAS:
            total += tl.load(bias_ptr + column, mask=column < COLUMNS, other=0.0)[:, None]
        total = product_tile(
            a_ptr, a_stride, row, active, w_ptr, w_stride_k, w_stride_n, column, column < COLUMNS,
            total, k_end, BLOCK_K, PRECISION,
        )  # fmt: skip
        store_tile(out_ptr, 0, row, out_stride, active, column, total, COLUMNS)
