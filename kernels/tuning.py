"""Which form of a recurrent kernel runs, and its tiles, by architecture, op, width and dtype.

Rows that were measured stand in `measured.py`, which `python bench/tune.py` writes on a machine
that has a GPU; **there is none yet**. For all else there are the rules below, each with its reason;
they follow from what the compiler says of registers, spills and shared memory (`python bench/run.py
static`) and from the estimates of docs/triton.md.

Neither the batch nor the length of the sequences is looked at, so a kernel that was compiled serves
all, and nothing is tuned while a model trains.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import torch

from sketchrnn_fast.kernels.measured import FORMS, MEASURED, Form, Tile

FORM_VARIABLE = "SKETCHRNN_FAST_TRITON_FORM"


class PlanError(ValueError):
    """The form that was asked for does not exist, or cannot do this."""


class Plan(NamedTuple):
    """How a recurrent op runs.

    Attributes:
        form: as in `sequence.py`.
        forward, backward: the tiles of the recurrent products. The columns of the form `sequence`
        are
            all N but for `hyper_lstm`; the depth of the form `persistent` is all N.
        row_tile: rows of a program that works on whole rows.
        row_warps: warps of such a program.
        precision: of float32 products, as `tl.dot` takes it.
        options: of the compiler.
    """

    form: Form
    forward: Tile
    backward: Tile
    row_tile: int
    row_warps: int
    precision: str
    options: dict[str, int]


def padded(units: int) -> int:
    """Up to a power of two, 16 at least, which is the least depth that a matrix product takes."""
    return max(16, 1 << (units - 1).bit_length())


def row_tile(units: int) -> int:
    """Rows of a program that works on whole rows: a thread has four values of each of their
    vectors."""
    return max(1, min(8, 512 // padded(units)))


def architecture(device: torch.device) -> str:
    """As the table names it: sm_80, sm_86, sm_90, sm_100, sm_120 or gfx942, or the nearest to
    it."""
    if device.type != "cuda":
        return "interpreter"
    if torch.version.hip is not None:
        return "gfx942"
    major, minor = torch.cuda.get_device_capability(device)
    if major >= 12:
        return "sm_120"
    if major == 8:
        return "sm_80" if minor == 0 else "sm_86"
    return {9: "sm_90", 10: "sm_100"}.get(major, "sm_86")


def plan_for(op: str, units: int, dtype: torch.dtype, chip: str) -> Plan:
    """The plan of an op for so many units on an architecture of the table.

    Raises:
        PlanError: the environment names a form that does not exist or cannot do this.
    """
    bits = dtype.itemsize * 8
    measured = MEASURED.get((chip, op, padded(units), bits))
    if measured is not None and not os.environ.get(FORM_VARIABLE):
        form, (forward, backward) = measured.form, measured[1:]
    else:
        form = _form(op, units, bits, chip)
        forward, backward = _tiles(op, form, units, bits, chip)
    return Plan(
        form=form,
        forward=forward,
        backward=backward,
        row_tile=row_tile(units),
        row_warps=_row_warps(units),
        precision=_precision(chip),
        # A multiprocessor has at most one program of these to run at a time; the assembler shall
        # not save registers, and spill, to make room for more.
        options={"maxnreg": 255} if chip.startswith("sm_") else {},
    )


def _form(op: str, units: int, bits: int, chip: str) -> Form:
    named = os.environ.get(FORM_VARIABLE)
    if named:
        return _named_form(named, op, units, bits, chip)
    # A program of the form `sequence` reads all recurrent weights at every step, at some 64 bytes a
    # cycle: the 0.5 MB of N = 256 in 16 bits take about as long as the two launches of `step`, and
    # those of a HyperLSTM longer than its five from N = 256 on.
    most = _most_in_registers(bits, chip)
    if op == "hyper_lstm":
        most = min(128, most)
    return "sequence" if padded(units) <= most else "step"


def _most_in_registers(bits: int, chip: str) -> int:
    """Units whose four gates a program holds for a tile of rows, backwards too, without a spill."""
    if chip == "gfx942":
        return 0
    return 256 if bits == 16 and chip != "sm_100" else 128


def _named_form(named: str, op: str, units: int, bits: int, chip: str) -> Form:
    if named not in FORMS:
        raise PlanError(f"{FORM_VARIABLE} names the form {named!r}; there are {', '.join(FORMS)}")
    if chip == "interpreter" or named == "step":
        return named  # type: ignore[return-value]
    if chip == "gfx942":
        raise PlanError(f"{FORM_VARIABLE}={named} spills registers on AMD, which has the form step")
    most = _most_in_registers(bits, chip)
    if named == "sequence" and padded(units) > most:
        raise PlanError(
            f"{FORM_VARIABLE}=sequence takes up to {most} units in {bits} bits on {chip}, and {op} "
            f"has {units}"
        )
    # The chip holds columns of W_hh of 512 units in 16 bits.
    if named == "persistent" and (bits == 32 or units > 512):
        raise PlanError(
            f"{FORM_VARIABLE}=persistent takes up to 512 units in 16 bits, and {op} has {units} in "
            f"{bits}"
        )
    return named  # type: ignore[return-value]


def _tiles(op: str, form: Form, units: int, bits: int, chip: str) -> tuple[Tile, Tile]:
    """Of the products forward and backward."""
    wide = bits == 32
    if form == "sequence" and op != "hyper_lstm":
        # Eight rows, the least that NVIDIA's matrix units take: more rows would need more registers
        # than there are, and leave more of the chip idle. Backward has one accumulator instead of
        # four, so its tiles are deeper where shared memory is 99 KB a program.
        small = chip in ("sm_86", "sm_120")
        warps = 8 if padded(units) > 128 else 4
        forward = Tile(8, padded(units), 16 if wide or small else 32, warps, 3)
        return forward, forward._replace(depth=16 if wide else 32)
    if form == "sequence":
        tile = Tile(8, 128, 16 if wide else 32, 8, 2)
        return tile, tile
    if form == "persistent" and op != "hyper_lstm":
        if chip == "interpreter":  # whose programs run one after another: all columns in one
            return Tile(16, 4 * padded(units), 0, 8, 1), Tile(16, padded(units), 0, 8, 1)
        # 64 and 16 columns make 32 tiles each of N = 512, so that several groups of programs share
        # the rows of a chip with a hundred multiprocessors.
        return Tile(16, 64, 0, 8, 1), Tile(16, 16, 0, 8, 1)
    # 64 columns are the least of a warp group's product on Hopper; 32 rows a tile make a hundred
    # programs of N = 512 and a batch of 100, and 64 rows read W_hh half as often where it is large.
    # P4 of a HyperLSTM has three accumulators.
    depth = 32 if wide else 64
    if form == "persistent":  # one launch has the row phases too, and less for each
        return Tile(16, 64, depth, 8, 2), Tile(32, 32, depth, 8, 3)
    if op == "hyper_lstm":
        return Tile(16 if wide else 32, 64, depth, 4, 3), Tile(32, 32, depth, 4, 3)
    large = 64 if units >= 1024 and not wide else 32
    return Tile(large, 64, depth, 4, 3), Tile(large, 32, depth, 4, 3)


def _row_warps(units: int) -> int:
    return 4 if padded(units) <= 512 else 8 if padded(units) <= 1024 else 16


def _precision(chip: str) -> str:
    """tf32x3 is as accurate as float32 and on the matrix units; AMD's have no such splitting."""
    if not chip.startswith("sm_"):
        return "ieee"
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "tf32x3"
