"""Which form of the Triton kernels runs, the script that measures them, and the estimates."""

from __future__ import annotations

import pytest
import torch
from bounds import GPUS, forward_phases, microseconds
from tune import FILE, candidates, rewritten

from sketchrnn_fast.kernels import measured, tuning
from sketchrnn_fast.kernels.measured import Measured, Tile
from sketchrnn_fast.ops.backends import BackendError
from sketchrnn_fast.ops.triton import plan_sentence

BF16, FLOAT32 = torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("op", "units", "dtype", "chip", "form"),
    [
        ("lstm", 256, BF16, "sm_90", "sequence"),
        ("lstm", 257, BF16, "sm_90", "step"),
        ("layer_norm_lstm", 128, FLOAT32, "sm_80", "sequence"),
        ("layer_norm_lstm", 256, FLOAT32, "sm_80", "step"),
        ("layer_norm_lstm", 256, BF16, "sm_100", "step"),
        ("hyper_lstm", 128, BF16, "sm_90", "sequence"),
        ("hyper_lstm", 256, BF16, "sm_90", "step"),
        ("lstm", 16, BF16, "gfx942", "step"),
    ],
)
def test_the_form_follows_from_width_dtype_and_chip(
    op: str, units: int, dtype: torch.dtype, chip: str, form: str
) -> None:
    assert tuning.plan_for(op, units, dtype, chip).form == form


def test_the_persistent_form_is_never_the_default() -> None:
    """It has never run on a GPU."""
    for op in ("lstm", "layer_norm_lstm", "hyper_lstm"):
        for chip in ("sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "gfx942"):
            for units in (1, 16, 100, 256, 512, 1024, 4096):
                for dtype in (BF16, FLOAT32):
                    assert tuning.plan_for(op, units, dtype, chip).form != "persistent"


@pytest.mark.parametrize(
    ("form", "chip", "dtype", "units", "message"),
    [
        ("fast", "sm_90", BF16, 64, r"names the form 'fast'; there are sequence, step, persistent"),
        ("sequence", "sm_90", BF16, 512, r"sequence takes up to 256 units in 16 bits on sm_90"),
        ("persistent", "sm_90", FLOAT32, 64, r"persistent takes up to 512 units in 16 bits"),
        ("persistent", "sm_90", BF16, 1024, r"persistent takes up to 512 units in 16 bits"),
        ("sequence", "gfx942", BF16, 64, r"spills registers on AMD, which has the form step"),
    ],
)
def test_a_form_that_cannot_be_is_refused(
    form: str,
    chip: str,
    dtype: torch.dtype,
    units: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(tuning.FORM_VARIABLE, form)
    with pytest.raises(BackendError, match=message):
        plan_sentence("lstm", units, dtype, chip)


def test_float32_products_are_exact_unless_torch_allows_tf32() -> None:
    assert tuning.plan_for("lstm", 64, FLOAT32, "sm_90").precision == "tf32x3"
    assert tuning.plan_for("lstm", 64, FLOAT32, "gfx942").precision == "ieee"
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        assert tuning.plan_for("lstm", 64, FLOAT32, "sm_90").precision == "tf32"
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_a_measured_plan_goes_before_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    tile = Tile(64, 128, 32, 8, 4)
    monkeypatch.setitem(tuning.MEASURED, ("sm_90", "lstm", 512, 16), Measured("step", tile, tile))
    assert tuning.plan_for("lstm", 500, BF16, "sm_90").forward == tile
    assert tuning.plan_for("lstm", 500, FLOAT32, "sm_90").forward != tile


def test_tune_writes_a_file_that_reads_back_as_what_was_measured() -> None:
    plan = Measured("step", Tile(64, 128, 32, 8, 4), Tile(32, 32, 64, 4, 3))
    own = FILE.read_text(encoding="utf-8")
    assert rewritten(own, tuning.MEASURED) == own
    names: dict[str, object] = {"__name__": measured.__name__}
    exec(compile(rewritten(own, {("sm_90", "lstm", 512, 16): plan}), "measured.py", "exec"), names)
    assert names["MEASURED"] == {("sm_90", "lstm", 512, 16): plan}


def test_tune_tries_every_form_and_the_rules_own_plan() -> None:
    plans = list(candidates("lstm", 128, 16, "sm_90"))
    assert {plan.form for plan in plans} == {"sequence", "step", "persistent"}
    own = tuning.plan_for("lstm", 128, BF16, "sm_90")
    assert Measured(own.form, own.forward, own.backward) in plans


@pytest.mark.parametrize("op", ["lstm", "layer_norm_lstm"])
def test_the_estimate_counts_the_products_of_a_step(op: str) -> None:
    phases = forward_phases(op, 512, 16, "sm_80")
    assert sum(phase.flops for phase in phases) == 8 * 100 * 512**2
    # At the least W_hh and h once, and 4N products written and read.
    assert sum(phase.bytes for phase in phases) > 2 * (512 * 2048 + 100 * 512) + 8 * 100 * 2048
    assert microseconds(op, 512, 16, GPUS[0]) > 8 * 100 * 512**2 / 312e12 * 1e6
