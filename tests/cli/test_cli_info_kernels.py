"""`sketchrnn-fast info` about the Triton kernels."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from sketchrnn_fast.cli import app


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["info", *arguments], env={"COLUMNS": "200"})
    return result.output if result.exception is None else str(result.exception)


def test_it_says_which_kernels_a_width_takes_on_a_chip() -> None:
    output = run("--units", "512", "--dtype", "bfloat16", "--chip", "sm_90")
    assert "layer_norm_lstm of 512" in output
    assert "step: 2 launches a step" in output
    assert "step: 5 launches a step" in output
    assert "sequence: one launch" in run("--units", "64", "--chip", "sm_80")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--units", "64", "--chip", "z80"), "--chip is z80; it takes sm_80"),
        (("--units", "64", "--chip", "sm_80", "--dtype", "int8"), "--dtype is int8; it takes"),
    ],
)
def test_what_it_cannot_answer_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert message in run(*arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to answer for")
def test_without_a_gpu_a_chip_must_be_named() -> None:
    assert "PyTorch finds no GPU, so --units needs a --chip" in run("--units", "64")
