"""The floor of a recurrent layer: its matrix products and nothing else, through `torch.mm`.

Forward and backward, with the static input hoisted and the weights' gradients as one product for
the whole sequence. Operands are contiguous and the same at every step, so that caches serve them;
products that stand side by side (HyperLSTM's twelve projections) go through one `torch.bmm`, which
is faster than one `torch.mm` each. Both ways the floor comes out lower, and the share of it that a
layer reaches smaller. It stands for the CPU's limit where torch's BLAS has kernels for that CPU;
where it has not, a share may exceed 100 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from layers import CPU, Sizes


class Product(NamedTuple):
    """`count` times [rows, depth] × [depth, columns], each time for `batch` pairs at once."""

    count: int
    rows: int
    depth: int
    columns: int
    batch: int = 1


def products(op: str, sizes: Sizes) -> list[Product]:
    """All products of a forward and a backward pass; x has no gradient."""
    T, B, N, H, E = sizes.T, sizes.B, sizes.N, sizes.H, sizes.E
    if op != "hyper_lstm":
        gates = 4 * N
        return [*_input_products(sizes, gates), *_recurrent_products(T, B, N, gates)]
    both = 4 * N + 4 * H
    return [
        *_input_products(sizes, both),
        *_recurrent_products(T, B, N, both),
        *_recurrent_products(T, B, H, 4 * H),
        *_recurrent_products(T, B, H, 12 * E),
        *_recurrent_products(T, B, E, N, batch=12),
    ]


def _input_products(sizes: Sizes, gates: int) -> list[Product]:
    T, B, X, S = sizes.T, sizes.B, sizes.X, sizes.S
    return [
        Product(1, T * B, X, gates),
        Product(1, X, T * B, gates),
        Product(1, B, S, gates),
        Product(1, S, B, gates),
        Product(1, B, gates, S),
    ]


def _recurrent_products(T: int, B: int, inner: int, outer: int, batch: int = 1) -> list[Product]:
    """[B, inner] × [inner, outer] at each step, its backward, and the weights' gradient."""
    return [
        Product(T, B, inner, outer, batch),
        Product(T, B, outer, inner, batch),
        Product(1, inner, T * B, outer, batch),
    ]


def flops(op: str, sizes: Sizes) -> int:
    """Operations of all products, a multiplication and an addition counted as two."""
    return sum(
        2 * one.count * one.batch * one.rows * one.depth * one.columns
        for one in products(op, sizes)
    )


def floor(
    op: str, sizes: Sizes, device: torch.device = CPU, dtype: torch.dtype = torch.float32
) -> Callable[[], None]:
    """A run of all products, its operands made beforehand."""

    def matrix(batch: int, rows: int, columns: int) -> torch.Tensor:
        shape = (rows, columns) if batch == 1 else (batch, rows, columns)
        return torch.rand(shape, device=device, dtype=dtype)

    work = [
        (
            one.count,
            torch.mm if one.batch == 1 else torch.bmm,
            matrix(one.batch, one.rows, one.depth),
            matrix(one.batch, one.depth, one.columns),
            matrix(one.batch, one.rows, one.columns),
        )
        for one in products(op, sizes)
    ]

    def run() -> None:
        for count, multiply, left, right, out in work:
            for _ in range(count):
                multiply(left, right, out=out)

    return run
