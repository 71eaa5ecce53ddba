"""Which form of a recurrent kernel runs, and its tiles: a table by architecture, width and dtype.

Neither the batch nor the length of the sequences is looked at, so a kernel that was compiled serves all,
and nothing is tuned while a model trains. `python bench/tune.py` measures the candidates on a machine
that has a GPU and prints the rows. **No row has been measured yet**: they follow from what the compiler
says of registers, spills and shared memory (`python bench/run.py static`), and from the estimates of
docs/triton.md. Each choice has its reason beside it.
"""

from __future__ import annotations

import os
from typing import Literal, NamedTuple, get_args

import torch

from sketchrnn_fast.errors import UserError

Form = Literal["sequence", "step", "persistent"]
FORMS: tuple[str, ...] = get_args(Form)
FORM_VARIABLE = "SKETCHRNN_FAST_TRITON_FORM"


class PlanError(UserError):
    """The form that was asked for does not exist, or cannot do this."""


class Tile(NamedTuple):
    """Of a matrix product: rows, columns and depth of a tile, warps of a program, loads in flight."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


class Plan(NamedTuple):
    """How a recurrent op runs.

    Attributes:
        form: as in `sequence.py`.
        forward, backward: the tiles of the recurrent products. The columns of the form `sequence` are
            all N but for `hyper_lstm`; the depth of the form `persistent` is all N.
        row_tile: rows of a program that works on whole rows.
        row_warps: warps of such a program.
        precision: of float32 products, as `tl.dot` takes it.
    """

    form: Form
    forward: Tile
    backward: Tile
    row_tile: int
    row_warps: int
    precision: str


def padded(units: int) -> int:
    """Up to a power of two, 16 at least, which is the least depth that a matrix product takes."""
    return max(16, 1 << (units - 1).bit_length())


def architecture(device: torch.device) -> str:
    """As the table names it: sm_80, sm_86, sm_90, sm_100, sm_120 or gfx942, or the nearest to it."""
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


def plan(op: str, units: int, dtype: torch.dtype, device: torch.device) -> Plan:
    """The plan of an op for so many units on a device.

    Raises:
        PlanError: the environment names a form that does not exist or cannot do this.
    """
    chip = architecture(device)
    bits = dtype.itemsize * 8
    form = _form(op, units, bits, chip)
    forward, backward = _tiles(op, form, units, bits, chip)
    return Plan(
        form=form,
        forward=forward,
        backward=backward,
        # Two values of each of a row's vectors a thread; with four, backward spills from N = 2048 on.
        row_tile=max(1, min(8, 512 // padded(units))),
        row_warps=_row_warps(units),
        precision=_precision(chip),
    )


def _form(op: str, units: int, bits: int, chip: str) -> Form:
    named = os.environ.get(FORM_VARIABLE)
    if named:
        return _named_form(named, op, units, bits, chip)
    # A program of the form `sequence` reads all recurrent weights at every step, at some 64 bytes a
    # cycle: the 0.5 MB of N = 256 in 16 bits take about as long as the two launches of `step`; more
    # weights take longer, and more accumulators spill.
    most = 128 if bits == 32 or op == "hyper_lstm" else 256
    return "sequence" if padded(units) <= most else "step"


def _named_form(named: str, op: str, units: int, bits: int, chip: str) -> Form:
    if named not in FORMS:
        raise PlanError(f"{FORM_VARIABLE} names the form {named!r}; there are {', '.join(FORMS)}")
    if chip != "interpreter":
        # The registers hold four gates of 256 units; the chip, columns of W_hh of 512 in 16 bits.
        if named == "sequence" and op != "hyper_lstm" and padded(units) > 256:
            raise PlanError(
                f"{FORM_VARIABLE}=sequence takes up to 256 units, and {op} has {units}"
            )
        if named == "persistent" and op != "hyper_lstm" and (bits == 32 or units > 512):
            raise PlanError(
                f"{FORM_VARIABLE}=persistent takes up to 512 units in 16 bits, and {op} has {units} "
                f"in {bits}"
            )
    return named  # type: ignore[return-value]


def _tiles(op: str, form: Form, units: int, bits: int, chip: str) -> tuple[Tile, Tile]:
    """Of the products forward and backward."""
    wide = bits == 32
    amd = chip == "gfx942"
    small = chip in ("sm_86", "sm_120") or amd  # 99 KB or 64 KB of shared memory for a program
    if form == "sequence":
        # Eight rows, the least that the matrix units of NVIDIA take (AMD: sixteen): more rows would
        # need more registers than there are, and leave more of the chip idle.
        rows = 16 if amd else 8
        if op == "hyper_lstm":
            tile = Tile(rows, 128, 16 if wide else 32, 8, 2 if small else 3)
            return tile, tile
        depth = (16 if wide else 32) // (2 if amd else 1)
        tile = Tile(rows, padded(units), depth, 8, 2 if small else 3)
        return tile, tile
    if form == "persistent" and op != "hyper_lstm":
        # 64 and 16 columns make 32 tiles each of N = 512, so that several groups of programs share
        # the rows of a chip with a hundred multiprocessors.
        return Tile(16, 64, 0, 8, 1), Tile(16, 16, 0, 8, 1)
    # 64 columns are the least of a warp group's product on Hopper; 32 rows a tile make a hundred
    # programs of N = 512 and a batch of 100.
    depth = 32 if wide else 64
    return Tile(32, 64, depth, 4, 3), Tile(32, 32, depth, 4, 3)


def _row_warps(units: int) -> int:
    return 4 if padded(units) <= 512 else 8 if padded(units) <= 1024 else 16


def _precision(chip: str) -> str:
    """tf32x3 is as accurate as float32 and on the matrix units; AMD's have no such splitting."""
    if not chip.startswith("sm_"):
        return "ieee"
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "tf32x3"
