"""Tiles of rows: loading and storing them, dropout's factors, and the recurrent products.

What a kernel calls a tile is [ROWS, columns] of a matrix whose rows are the rows of the batch.
`row` holds their numbers, `valid` which of them exist. Arithmetic is float32; storage is float32,
bfloat16 or float16, named by the pointer.

Triton's interpreter (3.9) multiplies bfloat16 wrongly and truncates where hardware rounds to the
nearest, so there `dot` widens its operands and `rounded` rounds by hand; on a GPU neither does.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (what @triton.jit compiles has no annotations but tl.constexpr)

from __future__ import annotations

import os

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def rounded(x, dtype: tl.constexpr):
    """float32 x in the dtype of its storage, rounded to the nearest, ties to even."""
    if INTERPRETED and dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        nearest = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).to(tl.float32, bitcast=True)
        x = tl.where(x == x, nearest, x)
    return x.to(dtype)


@triton.jit
def dot(a, b, total, PRECISION: tl.constexpr):
    """total + a · b, accumulated in float32."""
    if INTERPRETED and a.dtype == tl.bfloat16:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total)
    return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def load_tile(pointer, first, row, stride, valid, column, COLUMNS: tl.constexpr):
    """Columns `column` of the rows first + row, as float32; 0 beyond COLUMNS and where not
    valid."""
    inside = valid[None, :] & (column < COLUMNS)[:, None]
    pointer += first * stride
    tile = tl.load(pointer + (row[None, :] * stride + column[:, None]), mask=inside, other=0.0)
    return tile.to(tl.float32)


@triton.jit
def store_tile(pointer, first, row, stride, valid, column, tile, COLUMNS: tl.constexpr):
    inside = valid[None, :] & (column < COLUMNS)[:, None]
    value = rounded(tile, pointer.dtype.element_ty)
    pointer += first * stride
    tl.store(pointer + (row[None, :] * stride + column[:, None]), value, mask=inside)


@triton.jit
def load_gates(pointer, first, row, stride, valid, unit, UNITS: tl.constexpr):
    """The four gates of the rows, from columns [0, 4N)."""
    i = load_tile(pointer, first, row, stride, valid, unit, UNITS)
    j = load_tile(pointer + UNITS, first, row, stride, valid, unit, UNITS)
    f = load_tile(pointer + 2 * UNITS, first, row, stride, valid, unit, UNITS)
    o = load_tile(pointer + 3 * UNITS, first, row, stride, valid, unit, UNITS)
    return i, j, f, o


@triton.jit
def store_gates(pointer, first, row, stride, valid, unit, i, j, f, o, UNITS: tl.constexpr):
    store_tile(pointer, first, row, stride, valid, unit, i, UNITS)
    store_tile(pointer + UNITS, first, row, stride, valid, unit, j, UNITS)
    store_tile(pointer + 2 * UNITS, first, row, stride, valid, unit, f, UNITS)
    store_tile(pointer + 3 * UNITS, first, row, stride, valid, unit, o, UNITS)


@triton.jit
def keep_factors(
    keep_ptr, first, row, valid, unit, scale, UNITS: tl.constexpr, DROPOUT: tl.constexpr
):  # fmt: skip
    """Dropout's factors [PADDED, ROWS], 0 or `scale`, from bits packed as in `philox.py`."""
    if DROPOUT:
        BYTES: tl.constexpr = (UNITS + 7) // 8
        inside = valid[None, :] & (unit < UNITS)[:, None]
        place = row[None, :] * BYTES + (unit % BYTES)[:, None]
        bits = tl.load(keep_ptr + first * BYTES + place, mask=inside, other=0).to(tl.int32)
        return tl.where(((bits >> (unit // BYTES)[:, None]) & 1) != 0, scale, 0.0)
    else:
        return 1.0


@triton.jit
def tile_rows(
    first, rows, lengths_ptr, order_ptr, t, ROWS: tl.constexpr, HAS_LENGTHS: tl.constexpr
):  # fmt: skip
    """The numbers of the rows first … first + ROWS - 1 in the order of work, and which take part
    in step t. Longer rows come first, so that tiles without work are whole."""
    slot = first + tl.arange(0, ROWS)
    valid = slot < rows
    if HAS_LENGTHS:
        row = tl.load(order_ptr + slot, mask=valid, other=0).to(tl.int32)
        return row, valid & (t < tl.load(lengths_ptr + row, mask=valid, other=0))
    else:
        return slot, valid


@triton.jit
def product_tile(
    a_ptr, a_stride, row, valid, w_ptr, w_stride_k, w_stride_n, column, column_inside, total, k_end,
    BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """total + a[:, :k_end] · w[:k_end, column] for a tile of rows and columns.

    k_end must be a multiple of BLOCK_K, or the columns of a and rows of w beyond it are masked.
    """
    for k in range(0, k_end, BLOCK_K):
        depth = k + tl.arange(0, BLOCK_K)
        a = tl.load(
            a_ptr + row[None, :] * a_stride + depth[:, None],
            mask=valid[None, :] & (depth < k_end)[:, None],
            other=0.0,
        )
        w = tl.load(
            w_ptr + depth[None, :] * w_stride_k + column[:, None] * w_stride_n,
            mask=(depth < k_end)[None, :] & column_inside[:, None],
            other=0.0,
        )
        total = dot(w, a, total, PRECISION)
    return total
