"""The HyperLSTM over a sequence, in the forms of `sequence.py`.

For each step t, a hat marking the hyper cell of H units, [x, s] standing for x_t and the static
input:

    P1  [r | r̂] = h [W_hh | Ŵ_h] + ĥ [0 | Ŵ_hh]              product phase
    P2  ĥ, ĉ = step([x, s] Ŵ_x + r̂, ĉ)                       row phase, with layer norm
    P3  codes = ĥ Z + z                                      product phase, [B, 12 E]
    P4  a_g = (codes^x_g A^x_g) p_g + (codes^h_g A^h_g) r_g + codes^b_g B_g + bias_g     scale phase
    P5  h, c = step(a, c, keep)                              row phase, with layer norm and dropout

with p = [x, s] W_xh. And backwards, from the gradients of h and c:

    B1  da from `step_backward`                              row phase
    B2  dcodes^x_g = (da_g p_g) A^x_gᵀ, dcodes^h_g = (da_g r_g) A^h_gᵀ, dcodes^b_g = da_g B_gᵀ
        dr_g = da_g (codes^h_g A^h_g)                        scale phase
    B3  dĥ += dcodes Zᵀ                                      product phase
    B4  dr̂ from `step_backward`                              row phase
    B5  dh = [dr | dr̂] [W_hh | Ŵ_h]ᵀ ;  dĥ = dr̂ Ŵ_hhᵀ        product phase

In the form `step` each phase is a launch. In `sequence` and `persistent` one launch goes through
all phases of all steps, with a barrier between two: within the program, which owns a tile of rows,
or over the grid, whose programs share all tiles. The weights stream from the L2 cache in both.

Layouts, contiguous, beside those of `sequence.py`; the twelve small matrices stand in the order x,
h, b and i, j, f, o:

    x_products D [T, B, 4N]      x W_xh, without the static input's share
    hyper_gates D [T, B, 4H]     as `gates`, of the hyper cell; hyper_static, hyper_cell likewise
    w          D [N+H, 4N+4H]    [[W_hh, Ŵ_h], [0, Ŵ_hh]]
    z          D [H, 12E], z_bias [12E];  projections D [12, E, N]: A^x, A^h, B;  bias [4N]
    h          D [B, N+H]        h and ĥ side by side; grad_h [B, N+H] likewise
    recurrent  D [T, B, 4N]      out, where SAVE: r
    codes      D [T, B, 12E]     out
    hyper_hidden D [T, B, H]     out
    grad_codes D [T, B, 12E], grad_products D [T, B, 4N+4H] = [dr | dr̂]      out

Saved for backward are gates, cell, hyper_gates, hyper_cell, hyper_hidden, recurrent and codes.
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
from sketchrnn_fast.kernels.hyper_phases import (
    PHASES,
    ROW_PHASES,
    backward_item,
    forward_item,
    items_of_tile,
)
from sketchrnn_fast.kernels.lstm import Walk, new_counter, processors
from sketchrnn_fast.kernels.measured import Tile
from sketchrnn_fast.kernels.phases import most_steps, time_of
from sketchrnn_fast.kernels.tuning import Plan, padded, row_tile

# These must not compile anew where they are 1 or round.
_CHANGING = ["t", "time_steps", "rows", "first_program", "programs"]


@triton.jit
def share_of(
    program, programs, rows, PHASE: tl.constexpr, UNITS: tl.constexpr, HYPER: tl.constexpr,
    EMBEDDING: tl.constexpr, ROWS: tl.constexpr, ROW_TILE: tl.constexpr, BLOCK_N: tl.constexpr,
    COOPERATIVE: tl.constexpr,
):  # fmt: skip
    """A program's items of a phase, as start, stop and step of a range."""
    items = items_of_tile(PHASE, UNITS, HYPER, EMBEDDING, ROWS, ROW_TILE, BLOCK_N)
    if COOPERATIVE:
        return program, tl.cdiv(rows, ROWS) * items, programs
    else:
        return program * items, (program + 1) * items, 1


@triton.jit
def wait(counter_ptr, target, COOPERATIVE: tl.constexpr):
    """For what the phase before has written, by this program or by all."""
    if COOPERATIVE:
        grid_barrier(counter_ptr, target)
    else:
        tl.debug_barrier()


@triton.jit(do_not_specialize=_CHANGING)
def forward_phase_kernel(
    t, x_products_ptr, static_ptr, hyper_gates_ptr, hyper_static_ptr, w_ptr, z_ptr, z_bias_ptr,
    projections_ptr, bias_ptr, keep_ptr, norms_ptr, hyper_norms_ptr, lengths_ptr, order_ptr,
    products_ptr, codes_ptr, recurrent_ptr, gates_ptr, hidden_ptr, hyper_hidden_ptr, h_ptr, c_ptr,
    hyper_c_ptr, cell_ptr, hyper_cell_ptr, rows, scale, forget_bias,
    PHASE: tl.constexpr, UNITS: tl.constexpr, PADDED: tl.constexpr, HYPER: tl.constexpr,
    HYPER_PADDED: tl.constexpr, EMBEDDING: tl.constexpr, EMBEDDING_PADDED: tl.constexpr,
    ROWS: tl.constexpr, ROW_TILE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    DROPOUT: tl.constexpr, HAS_LENGTHS: tl.constexpr, HAS_STATIC: tl.constexpr, SAVE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """A phase of a step by itself, an item a program."""
    forward_item(
        tl.program_id(0), t, x_products_ptr, static_ptr, hyper_gates_ptr, hyper_static_ptr, w_ptr,
        z_ptr, z_bias_ptr, projections_ptr, bias_ptr, keep_ptr, norms_ptr, hyper_norms_ptr,
        lengths_ptr, order_ptr, products_ptr, codes_ptr, recurrent_ptr, gates_ptr, hidden_ptr,
        hyper_hidden_ptr, h_ptr, c_ptr, hyper_c_ptr, cell_ptr, hyper_cell_ptr, rows, scale,
        forget_bias, PHASE, UNITS, PADDED, HYPER, HYPER_PADDED, EMBEDDING, EMBEDDING_PADDED, ROWS,
        ROW_TILE, BLOCK_N, BLOCK_K, DROPOUT, HAS_LENGTHS, HAS_STATIC, SAVE, PRECISION,
    )  # fmt: skip


@triton.jit(do_not_specialize=_CHANGING)
def hyper_forward_kernel(
    counter_ptr, first_program, programs, x_products_ptr, static_ptr, hyper_gates_ptr,
    hyper_static_ptr, w_ptr, z_ptr, z_bias_ptr, projections_ptr, bias_ptr, keep_ptr, norms_ptr,
    hyper_norms_ptr, lengths_ptr, order_ptr, products_ptr, codes_ptr, recurrent_ptr, gates_ptr,
    hidden_ptr, hyper_hidden_ptr, h_ptr, c_ptr, hyper_c_ptr, cell_ptr, hyper_cell_ptr, time_steps,
    rows, scale, forget_bias,
    UNITS: tl.constexpr, PADDED: tl.constexpr, HYPER: tl.constexpr, HYPER_PADDED: tl.constexpr,
    EMBEDDING: tl.constexpr, EMBEDDING_PADDED: tl.constexpr, ROWS: tl.constexpr,
    ROW_TILE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, DROPOUT: tl.constexpr,
    HAS_LENGTHS: tl.constexpr, HAS_STATIC: tl.constexpr, REVERSE: tl.constexpr, SAVE: tl.constexpr,
    PRECISION: tl.constexpr, COOPERATIVE: tl.constexpr,
):  # fmt: skip
    """All phases of all steps."""
    program = tl.program_id(0) + first_program
    first_row = 0 if COOPERATIVE else program * ROWS
    steps = most_steps(first_row, rows, lengths_ptr, order_ptr, time_steps, HAS_LENGTHS)
    for number in range(steps):
        t = time_of(number, steps, REVERSE)
        for phase in tl.static_range(1, 6):
            start, stop, stride = share_of(
                program, programs, rows, phase, UNITS, HYPER, EMBEDDING, ROWS, ROW_TILE, BLOCK_N,
                COOPERATIVE,
            )  # fmt: skip
            for item in range(start, stop, stride):
                forward_item(
                    item, t, x_products_ptr, static_ptr, hyper_gates_ptr, hyper_static_ptr, w_ptr,
                    z_ptr, z_bias_ptr, projections_ptr, bias_ptr, keep_ptr, norms_ptr,
                    hyper_norms_ptr, lengths_ptr, order_ptr, products_ptr, codes_ptr, recurrent_ptr,
                    gates_ptr, hidden_ptr, hyper_hidden_ptr, h_ptr, c_ptr, hyper_c_ptr, cell_ptr,
                    hyper_cell_ptr, rows, scale, forget_bias, phase, UNITS, PADDED, HYPER,
                    HYPER_PADDED, EMBEDDING, EMBEDDING_PADDED, ROWS, ROW_TILE, BLOCK_N, BLOCK_K,
                    DROPOUT, HAS_LENGTHS, HAS_STATIC, SAVE, PRECISION,
                )  # fmt: skip
            wait(counter_ptr, (5 * number + phase) * programs, COOPERATIVE)


@triton.jit(do_not_specialize=_CHANGING)
def backward_phase_kernel(
    t, gates_ptr, cell_ptr, hyper_gates_ptr, hyper_cell_ptr, x_products_ptr, static_ptr,
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
    """A phase of a step by itself, an item a program."""
    norm_gradients_ptr += tl.program_id(0) * (10 * UNITS)
    hyper_norm_gradients_ptr += tl.program_id(0) * (10 * HYPER)
    backward_item(
        tl.program_id(0), t, gates_ptr, cell_ptr, hyper_gates_ptr, hyper_cell_ptr, x_products_ptr,
        static_ptr, recurrent_ptr, codes_ptr, w_ptr, z_ptr, projections_ptr, keep_ptr, norms_ptr,
        hyper_norms_ptr, norm_gradients_ptr, hyper_norm_gradients_ptr, lengths_ptr, order_ptr,
        grad_hidden_ptr, initial_c_ptr, initial_hyper_c_ptr, grad_gates_ptr, grad_codes_ptr,
        grad_products_ptr, grad_h_ptr, grad_c_ptr, grad_hyper_c_ptr, time_steps, rows, scale,
        forget_bias, PHASE, UNITS, PADDED, HYPER, HYPER_PADDED, EMBEDDING, EMBEDDING_PADDED, ROWS,
        ROW_TILE, BLOCK_N, BLOCK_K, DROPOUT, HAS_LENGTHS, HAS_STATIC, HAS_GRAD_HIDDEN, REVERSE,
        PRECISION,
    )  # fmt: skip


@triton.jit(do_not_specialize=_CHANGING)
def hyper_backward_kernel(
    counter_ptr, first_program, programs, gates_ptr, cell_ptr, hyper_gates_ptr, hyper_cell_ptr,
    x_products_ptr, static_ptr, recurrent_ptr, codes_ptr, w_ptr, z_ptr, projections_ptr, keep_ptr,
    norms_ptr, hyper_norms_ptr, norm_gradients_ptr, hyper_norm_gradients_ptr, lengths_ptr,
    order_ptr, grad_hidden_ptr, initial_c_ptr, initial_hyper_c_ptr, grad_gates_ptr, grad_codes_ptr,
    grad_products_ptr, grad_h_ptr, grad_c_ptr, grad_hyper_c_ptr, time_steps, rows, scale,
    forget_bias,
    UNITS: tl.constexpr, PADDED: tl.constexpr, HYPER: tl.constexpr, HYPER_PADDED: tl.constexpr,
    EMBEDDING: tl.constexpr, EMBEDDING_PADDED: tl.constexpr, ROWS: tl.constexpr,
    ROW_TILE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, DROPOUT: tl.constexpr,
    HAS_LENGTHS: tl.constexpr, HAS_STATIC: tl.constexpr, HAS_GRAD_HIDDEN: tl.constexpr,
    REVERSE: tl.constexpr, PRECISION: tl.constexpr, COOPERATIVE: tl.constexpr,
):  # fmt: skip
    """All phases of all steps."""
    program = tl.program_id(0) + first_program
    first_row = 0 if COOPERATIVE else program * ROWS
    norm_gradients_ptr += program * (10 * UNITS)
    hyper_norm_gradients_ptr += program * (10 * HYPER)
    steps = most_steps(first_row, rows, lengths_ptr, order_ptr, time_steps, HAS_LENGTHS)
    for number in range(steps):
        t = time_of(steps - 1 - number, steps, REVERSE)
        for phase in tl.static_range(6, 11):
            start, stop, stride = share_of(
                program, programs, rows, phase, UNITS, HYPER, EMBEDDING, ROWS, ROW_TILE, BLOCK_N,
                COOPERATIVE,
            )  # fmt: skip
            for item in range(start, stop, stride):
                backward_item(
                    item, t, gates_ptr, cell_ptr, hyper_gates_ptr, hyper_cell_ptr, x_products_ptr,
                    static_ptr, recurrent_ptr, codes_ptr, w_ptr, z_ptr, projections_ptr, keep_ptr,
                    norms_ptr, hyper_norms_ptr, norm_gradients_ptr, hyper_norm_gradients_ptr,
                    lengths_ptr, order_ptr, grad_hidden_ptr, initial_c_ptr, initial_hyper_c_ptr,
                    grad_gates_ptr, grad_codes_ptr, grad_products_ptr, grad_h_ptr, grad_c_ptr,
                    grad_hyper_c_ptr, time_steps, rows, scale, forget_bias, phase, UNITS, PADDED,
                    HYPER, HYPER_PADDED, EMBEDDING, EMBEDDING_PADDED, ROWS, ROW_TILE, BLOCK_N,
                    BLOCK_K, DROPOUT, HAS_LENGTHS, HAS_STATIC, HAS_GRAD_HIDDEN, REVERSE, PRECISION,
                )  # fmt: skip
            wait(counter_ptr, (5 * number + phase - 5) * programs, COOPERATIVE)


# Launches ---------------------------------------------------------------------------------------


class HyperWeights(NamedTuple):
    """The weights as the kernels take them; layouts as above."""

    w: Tensor
    z: Tensor
    z_bias: Tensor
    projections: Tensor
    bias: Tensor
    hyper_norms: Tensor

    @property
    def sizes(self) -> dict[str, int]:
        hyper, width = self.z.shape
        units = self.projections.shape[2]
        return {
            "UNITS": units,
            "PADDED": padded(units),
            "HYPER": hyper,
            "HYPER_PADDED": padded(hyper),
            "EMBEDDING": width // 12,
            "EMBEDDING_PADDED": padded(width // 12),
        }


class HyperSaved(NamedTuple):
    """What forward fills and backward reads; layouts as above. `recurrent` and the cells are None
    where nothing is to be saved."""

    gates: Tensor
    cell: Tensor | None
    hyper_gates: Tensor
    hyper_cell: Tensor | None
    hyper_hidden: Tensor
    recurrent: Tensor | None
    codes: Tensor


class HyperState(NamedTuple):
    """A state, or its gradient: h and ĥ side by side, c, ĉ."""

    h: Tensor
    c: Tensor
    hyper_c: Tensor


def forward(
    walk: Walk,
    weights: HyperWeights,
    x_products: Tensor,
    static: Tensor | None,
    hyper_static: Tensor | None,
    hidden: Tensor,
    state: HyperState,
    saved: HyperSaved,
) -> None:
    """Run the layer; fills hidden and `saved`, and turns the initial state into the final one."""
    T, B, _ = x_products.shape
    p = walk.pointer
    products = x_products.new_empty(B, weights.w.shape[1], dtype=torch.float32)
    arguments = (
        *(x_products, p(static), saved.hyper_gates, p(hyper_static), weights.w, weights.z),
        *(weights.z_bias, weights.projections, weights.bias, p(walk.keep), p(walk.norms)),
        *(weights.hyper_norms, p(walk.lengths), p(walk.order), products, saved.codes),
        *(p(saved.recurrent), saved.gates, hidden, saved.hyper_hidden, *state),
        *(p(saved.cell), p(saved.hyper_cell)),
    )
    flags = _flags(walk, weights, walk.plan.forward)
    flags |= {"HAS_STATIC": static is not None, "SAVE": saved.cell is not None}
    numbers = (1 / walk.keep_prob, walk.forget_bias)
    with torch.cuda.device_of(x_products):
        if walk.plan.form == "step":
            for t in range(T - 1, -1, -1) if walk.reverse else range(T):
                for phase in PHASES[:5]:
                    of_phase = flags | {"ROW_TILE": _row_tile(phase, flags)}
                    forward_phase_kernel[(items(phase, B, of_phase),)](
                        t, *arguments, B, *numbers, PHASE=PHASES.index(phase) + 1, **of_phase,
                        **_options(walk.plan, walk.plan.forward, phase),
                    )  # fmt: skip
            return
        programs, cooperative = _programs(walk, B, walk.plan.forward, x_products.device)
        hyper_forward_kernel[(programs,)](
            new_counter(x_products.device), 0, programs, *arguments, T, B, *numbers, **flags,
            REVERSE=walk.reverse, COOPERATIVE=cooperative, **_options(walk.plan, walk.plan.forward),
            launch_cooperative_grid=cooperative,
        )  # fmt: skip


def backward(
    walk: Walk,
    weights: HyperWeights,
    x_products: Tensor,
    static: Tensor | None,
    saved: HyperSaved,
    initial: HyperState,
    grad_hidden: Tensor | None,
    grads: HyperState,
    grad_gates: Tensor,
    grad_codes: Tensor,
    grad_products: Tensor,
) -> tuple[Tensor, Tensor]:
    """The layer backwards; fills the last three, and turns `grads` into the initial state's.

    Returns:
        The gradients of `walk.norms`, float32 [10N], and of the hyper cell's, float32 [10H].
    """
    T, B, _ = x_products.shape
    p, plan = walk.pointer, walk.plan
    flags = _flags(walk, weights, plan.backward)
    if B == 0:
        sizes = (flags["UNITS"], flags["HYPER"])
        one, two = (
            x_products.new_zeros(NORM_VECTORS * size, dtype=torch.float32) for size in sizes
        )
        return one, two
    programs, cooperative = _programs(walk, B, plan.backward, x_products.device)
    if plan.form == "step":
        programs = B  # at most: each program of a row phase has a place of its own
    norm_gradients = x_products.new_zeros(
        programs, NORM_VECTORS * flags["UNITS"], dtype=torch.float32
    )
    hyper_norm_gradients = x_products.new_zeros(
        programs, NORM_VECTORS * flags["HYPER"], dtype=torch.float32
    )
    arguments = (
        *(
            saved.gates,
            p(saved.cell),
            saved.hyper_gates,
            p(saved.hyper_cell),
            x_products,
            p(static),
        ),
        *(p(saved.recurrent), saved.codes, weights.w, weights.z, weights.projections, p(walk.keep)),
        *(p(walk.norms), weights.hyper_norms, norm_gradients, hyper_norm_gradients),
        *(p(walk.lengths), p(walk.order), p(grad_hidden), initial.c, initial.hyper_c),
        *(grad_gates, grad_codes, grad_products, *grads),
    )
    flags |= {
        "HAS_STATIC": static is not None,
        "HAS_GRAD_HIDDEN": grad_hidden is not None,
        "REVERSE": walk.reverse,
    }
    numbers = (T, B, 1 / walk.keep_prob, walk.forget_bias)
    with torch.cuda.device_of(x_products):
        if plan.form == "step":
            for t in range(T) if walk.reverse else range(T - 1, -1, -1):
                for phase in PHASES[5:]:
                    of_phase = flags | {"ROW_TILE": _row_tile(phase, flags)}
                    backward_phase_kernel[(items(phase, B, of_phase),)](
                        t, *arguments, *numbers, PHASE=PHASES.index(phase) + 1, **of_phase,
                        **_options(plan, plan.backward, phase),
                    )  # fmt: skip
        else:
            hyper_backward_kernel[(programs,)](
                new_counter(x_products.device), 0, programs, *arguments, *numbers, **flags,
                COOPERATIVE=cooperative, **_options(plan, plan.backward),
                launch_cooperative_grid=cooperative,
            )  # fmt: skip
    return norm_gradients.sum(0), hyper_norm_gradients.sum(0)


def items(phase: str, rows: int, flags: dict[str, Any]) -> int:
    """How many items a phase has."""
    if phase in ROW_PHASES:
        return int(triton.cdiv(rows, flags["ROW_TILE"]))
    columns = {
        "P1": 4 * flags["UNITS"] + 4 * flags["HYPER"],
        "P3": 12 * flags["EMBEDDING"],
        "P4": flags["UNITS"],
        "B2": flags["UNITS"],
        "B3": flags["HYPER"],
        "B5": flags["UNITS"] + flags["HYPER"],
    }[phase]
    of_tile = triton.cdiv(columns, flags["BLOCK_N"]) + (12 if phase == "B2" else 0)
    return int(triton.cdiv(rows, flags["ROWS"]) * of_tile)


def _row_tile(phase: str, flags: dict[str, Any]) -> int:
    """Rows of a program of a row phase, which may be the hyper cell's."""
    return row_tile(flags["HYPER"] if phase in ("P2", "B4") else flags["UNITS"])


def _flags(walk: Walk, weights: HyperWeights, tile: Tile) -> dict[str, Any]:
    return weights.sizes | {
        "ROWS": tile.rows,
        "ROW_TILE": min(walk.plan.row_tile, row_tile(weights.sizes["HYPER"])),
        "BLOCK_N": tile.columns,
        "BLOCK_K": tile.depth,
        "DROPOUT": walk.keep is not None,
        "HAS_LENGTHS": walk.lengths is not None,
        "PRECISION": walk.plan.precision,
    }


def _options(plan: Plan, tile: Tile, phase: str = "") -> dict[str, int]:
    warps = plan.row_warps if phase in ROW_PHASES else tile.warps
    return {"num_warps": warps, "num_stages": tile.stages, **plan.options}


def _programs(walk: Walk, rows: int, tile: Tile, device: torch.device) -> tuple[int, bool]:
    """Programs of the one launch, and whether they work together on all rows."""
    if walk.plan.form == "persistent":
        return processors(device), True
    return triton.cdiv(rows, tile.rows), False
