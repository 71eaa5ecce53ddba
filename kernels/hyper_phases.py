"""The phases of a HyperLSTM's step; `hyper_lstm.py` has their equations and the layouts.

`forward_item` and `backward_item` are one item of a phase, a tile of rows and columns or a group of
rows, and are all that the kernels call.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (what @triton.jit compiles has no annotations but tl.constexpr)

from __future__ import annotations

import triton
import triton.language as tl

from sketchrnn_fast.kernels.phases import backward_row_phase, forward_row_phase, product_phase
from sketchrnn_fast.kernels.tiles import dot, load_tile, rounded, store_tile, tile_rows


@triton.jit
def recurrent_product_phase(
    first_row, first_column, t, h_ptr, w_ptr, products_ptr, lengths_ptr, order_ptr, rows,
    UNITS: tl.constexpr, HYPER: tl.constexpr, ROWS: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr, HAS_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """P1. A tile of columns lies in the main cell's or, if it touches the hyper cell's, reads ĥ
    too; what that adds to the main cell's columns is multiplied by zeros."""
    WIDTH: tl.constexpr = 4 * UNITS + 4 * HYPER
    k_end = UNITS
    if first_column + BLOCK_N > 4 * UNITS:
        k_end = UNITS + HYPER
    product_phase(
        first_row, first_column, t, h_ptr, UNITS + HYPER, w_ptr, WIDTH, 1, h_ptr, products_ptr,
        WIDTH, lengths_ptr, order_ptr, rows, k_end, WIDTH, ROWS, BLOCK_N, BLOCK_K, HAS_LENGTHS,
        False, False, PRECISION,
    )  # fmt: skip


@triton.jit
def recurrent_product_backward_phase(
    first_row, first_column, t, grad_products_ptr, w_ptr, grad_h_ptr, lengths_ptr, order_ptr, rows,
    UNITS: tl.constexpr, HYPER: tl.constexpr, ROWS: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr, HAS_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """B5. A tile of columns within ĥ's reads the hyper cell's products only."""
    WIDTH: tl.constexpr = 4 * UNITS + 4 * HYPER
    k_begin = 0
    if first_column >= UNITS:
        k_begin = 4 * UNITS
    product_phase(
        first_row, first_column, t, grad_products_ptr + t.to(tl.int64) * rows * WIDTH + k_begin,
        WIDTH, w_ptr + k_begin, 1, WIDTH, grad_h_ptr, grad_h_ptr, UNITS + HYPER, lengths_ptr,
        order_ptr, rows, WIDTH - k_begin, UNITS + HYPER, ROWS, BLOCK_N, BLOCK_K, HAS_LENGTHS, True,
        False, PRECISION,
    )  # fmt: skip


@triton.jit
def scale(
    codes_ptr, first, row, active, projections_ptr, which, unit,
    UNITS: tl.constexpr, EMBEDDING: tl.constexpr, EMBEDDING_PADDED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """What small matrix `which` of twelve makes of its code: [units, ROWS]."""
    e = tl.arange(0, EMBEDDING_PADDED)
    WIDTH: tl.constexpr = 12 * EMBEDDING
    code = tl.load(
        codes_ptr + first * WIDTH + (row[None, :] * WIDTH + which * EMBEDDING + e[:, None]),
        mask=active[None, :] & (e < EMBEDDING)[:, None],
        other=0.0,
    )
    projection = tl.load(
        projections_ptr + (which * EMBEDDING + e[None, :]) * UNITS + unit[:, None],
        mask=(unit < UNITS)[:, None] & (e < EMBEDDING)[None, :],
        other=0.0,
    )
    zeros = tl.zeros((unit.shape[0], row.shape[0]), tl.float32)
    return dot(projection, code, zeros, PRECISION)


@triton.jit
def scale_phase(
    first_row, first_unit, t, x_products_ptr, static_ptr, products_ptr, codes_ptr, projections_ptr,
    bias_ptr, recurrent_ptr, gates_ptr, lengths_ptr, order_ptr, rows,
    UNITS: tl.constexpr, HYPER: tl.constexpr, EMBEDDING: tl.constexpr,
    EMBEDDING_PADDED: tl.constexpr, ROWS: tl.constexpr, BLOCK_N: tl.constexpr,
    HAS_LENGTHS: tl.constexpr, HAS_STATIC: tl.constexpr, SAVE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """P4 for a tile of rows and units."""
    row, active = tile_rows(first_row, rows, lengths_ptr, order_ptr, t, ROWS, HAS_LENGTHS)
    if tl.max(active.to(tl.int32), axis=0) > 0:
        WIDTH: tl.constexpr = 4 * UNITS
        unit = first_unit + tl.arange(0, BLOCK_N)
        first = t.to(tl.int64) * rows
        for g in tl.static_range(4):
            x = load_tile(x_products_ptr + g * UNITS, first, row, WIDTH, active, unit, UNITS)
            if HAS_STATIC:
                x += load_tile(static_ptr + g * UNITS, 0, row, WIDTH, active, unit, UNITS)
            r = load_tile(products_ptr + g * UNITS, 0, row, WIDTH + 4 * HYPER, active, unit, UNITS)
            x_scale = scale(
                codes_ptr, first, row, active, projections_ptr, g, unit, UNITS, EMBEDDING,
                EMBEDDING_PADDED, PRECISION,
            )  # fmt: skip
            h_scale = scale(
                codes_ptr, first, row, active, projections_ptr, 4 + g, unit, UNITS, EMBEDDING,
                EMBEDDING_PADDED, PRECISION,
            )  # fmt: skip
            shift = scale(
                codes_ptr, first, row, active, projections_ptr, 8 + g, unit, UNITS, EMBEDDING,
                EMBEDDING_PADDED, PRECISION,
            )  # fmt: skip
            bias = tl.load(bias_ptr + g * UNITS + unit, mask=unit < UNITS, other=0.0)
            a = x_scale * x + h_scale * r + shift + bias[:, None]
            store_tile(gates_ptr + g * UNITS, first, row, WIDTH, active, unit, a, UNITS)
            if SAVE:
                store_tile(recurrent_ptr + g * UNITS, first, row, WIDTH, active, unit, r, UNITS)


@triton.jit
def code_gradient(
    first_row, which, t, grad_gates_ptr, x_products_ptr, static_ptr, recurrent_ptr, projections_ptr,
    grad_codes_ptr, lengths_ptr, order_ptr, rows,
    UNITS: tl.constexpr, EMBEDDING: tl.constexpr, EMBEDDING_PADDED: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_K: tl.constexpr, HAS_LENGTHS: tl.constexpr, HAS_STATIC: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """B2, first line: the gradient of one of the twelve codes for a tile of rows."""
    row, active = tile_rows(first_row, rows, lengths_ptr, order_ptr, t, ROWS, HAS_LENGTHS)
    if tl.max(active.to(tl.int32), axis=0) > 0:
        WIDTH: tl.constexpr = 4 * UNITS
        first = t.to(tl.int64) * rows
        e = tl.arange(0, EMBEDDING_PADDED)
        gate = (which % 4) * UNITS
        kind = row * 0 + which // 4  # 0 for x, 1 for h, 2 for b
        of_x, of_h = active & (kind == 0), active & (kind == 1)
        total = tl.zeros((EMBEDDING_PADDED, ROWS), tl.float32)
        for k in range(0, UNITS, BLOCK_K):
            unit = k + tl.arange(0, BLOCK_K)
            grad = load_tile(grad_gates_ptr + gate, first, row, WIDTH, active, unit, UNITS)
            x = load_tile(x_products_ptr + gate, first, row, WIDTH, of_x, unit, UNITS)
            if HAS_STATIC:
                x += load_tile(static_ptr + gate, 0, row, WIDTH, of_x, unit, UNITS)
            r = load_tile(recurrent_ptr + gate, first, row, WIDTH, of_h, unit, UNITS)
            factor = tl.where((kind == 0)[None, :], x, tl.where((kind == 1)[None, :], r, 1.0))
            projection = tl.load(
                projections_ptr + (which * EMBEDDING + e[:, None]) * UNITS + unit[None, :],
                mask=(e < EMBEDDING)[:, None] & (unit < UNITS)[None, :],
                other=0.0,
            )
            scaled = rounded(grad * factor, projection.dtype)
            total = dot(projection, scaled, total, PRECISION)
        store_tile(
            grad_codes_ptr + which * EMBEDDING, first, row, 12 * EMBEDDING, active, e, total,
            EMBEDDING,
        )  # fmt: skip


@triton.jit
def recurrent_gradient(
    first_row, first_unit, t, grad_gates_ptr, codes_ptr, projections_ptr, grad_products_ptr,
    lengths_ptr, order_ptr, rows,
    UNITS: tl.constexpr, HYPER: tl.constexpr, EMBEDDING: tl.constexpr,
    EMBEDDING_PADDED: tl.constexpr, ROWS: tl.constexpr, BLOCK_N: tl.constexpr,
    HAS_LENGTHS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """B2, second line: dr for a tile of rows and units."""
    row, active = tile_rows(first_row, rows, lengths_ptr, order_ptr, t, ROWS, HAS_LENGTHS)
    if tl.max(active.to(tl.int32), axis=0) > 0:
        WIDTH: tl.constexpr = 4 * UNITS
        first = t.to(tl.int64) * rows
        unit = first_unit + tl.arange(0, BLOCK_N)
        for g in tl.static_range(4):
            grad = load_tile(grad_gates_ptr + g * UNITS, first, row, WIDTH, active, unit, UNITS)
            grad *= scale(
                codes_ptr, first, row, active, projections_ptr, 4 + g, unit, UNITS, EMBEDDING,
                EMBEDDING_PADDED, PRECISION,
            )  # fmt: skip
            store_tile(
                grad_products_ptr + g * UNITS, first, row, WIDTH + 4 * HYPER, active, unit, grad,
                UNITS,
            )  # fmt: skip


@triton.jit
def scale_backward_phase(
    first_row, item, t, grad_gates_ptr, x_products_ptr, static_ptr, recurrent_ptr, codes_ptr,
    projections_ptr, grad_codes_ptr, grad_products_ptr, lengths_ptr, order_ptr, rows,
    UNITS: tl.constexpr, HYPER: tl.constexpr, EMBEDDING: tl.constexpr,
    EMBEDDING_PADDED: tl.constexpr, ROWS: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr, HAS_LENGTHS: tl.constexpr, HAS_STATIC: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """B2: items 0 to 11 are the codes, the others tiles of units."""
    if item < 12:
        code_gradient(
            first_row, item, t, grad_gates_ptr, x_products_ptr, static_ptr, recurrent_ptr,
            projections_ptr, grad_codes_ptr, lengths_ptr, order_ptr, rows, UNITS, EMBEDDING,
            EMBEDDING_PADDED, ROWS, BLOCK_K, HAS_LENGTHS, HAS_STATIC, PRECISION,
        )  # fmt: skip
    else:
        recurrent_gradient(
            first_row, (item - 12) * BLOCK_N, t, grad_gates_ptr, codes_ptr, projections_ptr,
            grad_products_ptr, lengths_ptr, order_ptr, rows, UNITS, HYPER, EMBEDDING,
            EMBEDDING_PADDED, ROWS, BLOCK_N, HAS_LENGTHS, PRECISION,
        )  # fmt: skip


# All phases, by number --------------------------------------------------------------------------

PHASES = ("P1", "P2", "P3", "P4", "P5", "B1", "B2", "B3", "B4", "B5")  # numbered from 1
ROW_PHASES = ("P2", "P5", "B1", "B4")
P1, P2, P3, P4 = (tl.constexpr(number) for number in (1, 2, 3, 4))
B1, B2, B3, B4, B5 = (tl.constexpr(number) for number in (6, 7, 8, 9, 10))


@triton.jit
def items_of_tile(
    PHASE: tl.constexpr, UNITS: tl.constexpr, HYPER: tl.constexpr, EMBEDDING: tl.constexpr,
    ROWS: tl.constexpr, ROW_TILE: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """How many items a phase has for ROWS rows: tiles of columns, or groups of ROW_TILE rows."""
    if PHASE == P1:
        return (4 * UNITS + 4 * HYPER + BLOCK_N - 1) // BLOCK_N
    elif PHASE == P3:
        return (12 * EMBEDDING + BLOCK_N - 1) // BLOCK_N
    elif PHASE == P4:
        return (UNITS + BLOCK_N - 1) // BLOCK_N
    elif PHASE == B2:
        return 12 + (UNITS + BLOCK_N - 1) // BLOCK_N
    elif PHASE == B3:
        return (HYPER + BLOCK_N - 1) // BLOCK_N
    elif PHASE == B5:
        return (UNITS + HYPER + BLOCK_N - 1) // BLOCK_N
    else:
        return ROWS // ROW_TILE


@triton.jit
def forward_item(
    item, t, x_products_ptr, static_ptr, hyper_gates_ptr, hyper_static_ptr, w_ptr, z_ptr,
    z_bias_ptr, projections_ptr, bias_ptr, keep_ptr, norms_ptr, hyper_norms_ptr, lengths_ptr,
    order_ptr, products_ptr, codes_ptr, recurrent_ptr, gates_ptr, hidden_ptr, hyper_hidden_ptr,
    h_ptr, c_ptr, hyper_c_ptr, cell_ptr, hyper_cell_ptr, rows, scale, forget_bias,
    PHASE: tl.constexpr, UNITS: tl.constexpr, PADDED: tl.constexpr, HYPER: tl.constexpr,
    HYPER_PADDED: tl.constexpr, EMBEDDING: tl.constexpr, EMBEDDING_PADDED: tl.constexpr,
    ROWS: tl.constexpr, ROW_TILE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    DROPOUT: tl.constexpr, HAS_LENGTHS: tl.constexpr, HAS_STATIC: tl.constexpr, SAVE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """One item of a phase of step t."""
    WIDTH: tl.constexpr = 4 * UNITS + 4 * HYPER
    items = items_of_tile(PHASE, UNITS, HYPER, EMBEDDING, ROWS, ROW_TILE, BLOCK_N)
    first_row = (item // items) * ROWS
    column = (item % items) * BLOCK_N
    if PHASE == P1:
        recurrent_product_phase(
            first_row, column, t, h_ptr, w_ptr, products_ptr, lengths_ptr, order_ptr, rows, UNITS,
            HYPER, ROWS, BLOCK_N, BLOCK_K, HAS_LENGTHS, PRECISION,
        )  # fmt: skip
    elif PHASE == P2:
        forward_row_phase(
            item * ROW_TILE, t, hyper_gates_ptr, hyper_static_ptr, products_ptr + 4 * UNITS, WIDTH,
            keep_ptr, hyper_norms_ptr, lengths_ptr, order_ptr, hyper_hidden_ptr, h_ptr + UNITS,
            UNITS + HYPER, hyper_c_ptr, hyper_cell_ptr, rows, scale, forget_bias, HYPER,
            HYPER_PADDED, ROW_TILE, True, False, HAS_LENGTHS, HAS_STATIC, True, SAVE,
        )  # fmt: skip
    elif PHASE == P3:
        product_phase(
            first_row, column, t, h_ptr + UNITS, UNITS + HYPER, z_ptr, 12 * EMBEDDING, 1,
            z_bias_ptr, codes_ptr + t.to(tl.int64) * rows * (12 * EMBEDDING), 12 * EMBEDDING,
            lengths_ptr, order_ptr, rows, HYPER, 12 * EMBEDDING, ROWS, BLOCK_N, BLOCK_K,
            HAS_LENGTHS, False, True, PRECISION,
        )  # fmt: skip
    elif PHASE == P4:
        scale_phase(
            first_row, column, t, x_products_ptr, static_ptr, products_ptr, codes_ptr,
            projections_ptr, bias_ptr, recurrent_ptr, gates_ptr, lengths_ptr, order_ptr, rows,
            UNITS, HYPER, EMBEDDING, EMBEDDING_PADDED, ROWS, BLOCK_N, HAS_LENGTHS, HAS_STATIC, SAVE,
            PRECISION,
        )  # fmt: skip
    else:
        forward_row_phase(
            item * ROW_TILE, t, gates_ptr, static_ptr, products_ptr, WIDTH, keep_ptr, norms_ptr,
            lengths_ptr, order_ptr, hidden_ptr, h_ptr, UNITS + HYPER, c_ptr, cell_ptr, rows, scale,
            forget_bias, UNITS, PADDED, ROW_TILE, True, DROPOUT, HAS_LENGTHS, False, False, SAVE,
        )  # fmt: skip


@triton.jit
def backward_item(
    item, t, gates_ptr, cell_ptr, hyper_gates_ptr, hyper_cell_ptr, x_products_ptr, static_ptr,
    recurrent_ptr, codes_ptr, w_ptr, z_ptr, projections_ptr, keep_ptr, norms_ptr, hyper_norms_ptr,
    norm_gradients_ptr, hyper_norm_gradients_ptr, lengths_ptr, order_ptr, grad_hidden_ptr,
    initial_c_ptr, initial_hyper_c_ptr, grad_gates_ptr, grad_codes_ptr, grad_products_ptr,
    grad_h_ptr, grad_c_ptr, grad_hyper_c_ptr, time_steps, rows, scale, forget_bias,
    PHASE: tl.constexpr, UNITS: tl.constexpr, PADDED: tl.constexpr, HYPER: tl.constexpr,
    HYPER_PADDED: tl.constexpr, EMBEDDING: tl.constexpr, EMBEDDING_PADDED: tl.constexpr,
    ROWS: tl.constexpr, ROW_TILE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    DROPOUT: tl.constexpr, HAS_LENGTHS: tl.constexpr, HAS_STATIC: tl.constexpr,
    HAS_GRAD_HIDDEN: tl.constexpr, REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One item of a phase of step t, backwards."""
    WIDTH: tl.constexpr = 4 * UNITS + 4 * HYPER
    items = items_of_tile(PHASE, UNITS, HYPER, EMBEDDING, ROWS, ROW_TILE, BLOCK_N)
    first_row = (item // items) * ROWS
    column = (item % items) * BLOCK_N
    if PHASE == B1:
        backward_row_phase(
            item * ROW_TILE, t, gates_ptr, keep_ptr, norms_ptr, norm_gradients_ptr, lengths_ptr,
            order_ptr, grad_hidden_ptr, cell_ptr, initial_c_ptr, grad_gates_ptr, 4 * UNITS,
            grad_h_ptr, UNITS + HYPER, grad_c_ptr, time_steps, rows, scale, forget_bias, UNITS,
            PADDED, ROW_TILE, True, DROPOUT, HAS_LENGTHS, HAS_GRAD_HIDDEN, REVERSE,
        )  # fmt: skip
    elif PHASE == B2:
        scale_backward_phase(
            first_row, item % items, t, grad_gates_ptr, x_products_ptr, static_ptr, recurrent_ptr,
            codes_ptr, projections_ptr, grad_codes_ptr, grad_products_ptr, lengths_ptr, order_ptr,
            rows, UNITS, HYPER, EMBEDDING, EMBEDDING_PADDED, ROWS, BLOCK_N, BLOCK_K, HAS_LENGTHS,
            HAS_STATIC, PRECISION,
        )  # fmt: skip
    elif PHASE == B3:
        product_phase(
            first_row, column, t, grad_codes_ptr + t.to(tl.int64) * rows * (12 * EMBEDDING),
            12 * EMBEDDING, z_ptr, 1, 12 * EMBEDDING, grad_h_ptr, grad_h_ptr + UNITS, UNITS + HYPER,
            lengths_ptr, order_ptr, rows, 12 * EMBEDDING, HYPER, ROWS, BLOCK_N, BLOCK_K,
            HAS_LENGTHS, True, False, PRECISION,
        )  # fmt: skip
    elif PHASE == B4:
        backward_row_phase(
            item * ROW_TILE, t, hyper_gates_ptr, keep_ptr, hyper_norms_ptr,
            hyper_norm_gradients_ptr, lengths_ptr, order_ptr, grad_hidden_ptr, hyper_cell_ptr,
            initial_hyper_c_ptr, grad_products_ptr + 4 * UNITS, WIDTH, grad_h_ptr + UNITS,
            UNITS + HYPER, grad_hyper_c_ptr, time_steps, rows, scale, forget_bias, HYPER,
            HYPER_PADDED, ROW_TILE, True, False, HAS_LENGTHS, False, REVERSE,
        )  # fmt: skip
    else:
        recurrent_product_backward_phase(
            first_row, column, t, grad_products_ptr, w_ptr, grad_h_ptr, lengths_ptr, order_ptr,
            rows, UNITS, HYPER, ROWS, BLOCK_N, BLOCK_K, HAS_LENGTHS, PRECISION,
        )  # fmt: skip
