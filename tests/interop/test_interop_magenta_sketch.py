"""The real client: @magenta/sketch, in Node, reads what is exported and computes the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sketchrnn_fast import ModelConfig, SketchRNN
from sketchrnn_fast.interop.sketch_rnn_js import read_model, write_model
from sketchrnn_fast.reference.mixture_density import split_parameters

CLIENT = Path(__file__).parent / "magenta_sketch"
# Offsets in data units, pens one-hot, as a browser would send them.
HISTORY = np.array(
    [[10, 5, 1, 0, 0], [31, -20, 1, 0, 0], [-4, -44, 0, 1, 0], [12, 60, 1, 0, 0]], np.float32
)


def lacking(message: str) -> None:
    """What is missing here may be missing on a stranger's machine, in CI it may not."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client installed, its packages checked against their checksums."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            lacking(f"{program} is not installed")
    folder = tmp_path_factory.mktemp("magenta_sketch")
    for file in ("package.json", "package-lock.json"):
        shutil.copy(CLIENT / file, folder)
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        lacking(f"npm cannot install @magenta/sketch: {done.stderr[-300:]}")
    return folder


def client_pdf(client: Path, file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The client's PDF after the history, at temperature 1, and what it read as information."""
    done = subprocess.run(
        ["node", str(CLIENT / "pdf.js"), str(file)],
        cwd=client,
        input=json.dumps(HISTORY.tolist()),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    return answer["pdf"], answer["info"]


@torch.no_grad()
def our_pdf(model: SketchRNN) -> dict[str, np.ndarray]:
    history = HISTORY.copy()
    history[:, :2] /= float(model.scale_factor)
    start = np.array([[0, 0, 1, 0, 0]], np.float32)
    strokes = torch.from_numpy(np.concatenate([start, history]))[None]
    mixture = split_parameters(model.decode(strokes, None)[0][-1])
    pdf = {
        "pi": mixture.pi_logits.softmax(-1),
        "muX": mixture.mean_x,
        "muY": mixture.mean_y,
        "sigmaX": mixture.log_sigma_x.exp(),
        "sigmaY": mixture.log_sigma_y.exp(),
        "corr": mixture.correlation.tanh(),
        "pen": mixture.pen_logits.softmax(-1),
    }
    return {name: value[0].numpy() for name, value in pdf.items()}


def difference(found: dict[str, Any], expected: dict[str, np.ndarray]) -> float:
    # The client's sigmaY has surplus entries behind the twenty.
    return max(
        float(np.abs(np.array(found[name][: len(row)]) - row).max())
        for name, row in expected.items()
    )


@pytest.mark.parametrize("name", ["bear", "bicycle", "rabbit"])
def test_a_published_decoder_that_came_in_and_went_out_is_the_clients(
    client: Path, shared: Path, tmp_path: Path, name: str
) -> None:
    model = read_model(shared / "data" / "pretrained_js" / f"{name}.gen.json")
    write_model(model, tmp_path / "again.json", name=name, decoder_only=True)
    pdf, info = client_pdf(client, tmp_path / "again.json")
    assert info["name"] == name
    assert difference(pdf, our_pdf(model)) < 1e-5


def test_the_clients_pdf_is_ours_within_the_quantisation_error(
    client: Path, tmp_path: Path
) -> None:
    torch.manual_seed(4)
    config = ModelConfig(conditional=False, dec_rnn_size=48, max_seq_len=60)
    model = SketchRNN(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.scale_factor.fill_(37.5)
    file = tmp_path / "knot.gen.json"
    write_model(model, file, name="knot", decoder_only=True)
    pdf, info = client_pdf(client, file)
    assert info == {
        "mode": 2,
        "version": 6,
        "max_seq_len": 60,
        "name": "knot",
        "scale_factor": 37.5,
    }
    exact, rounded = our_pdf(model), our_pdf(read_model(file))
    assert difference(pdf, rounded) < 1e-5
    rounding = difference(rounded, exact)
    assert 1e-5 < rounding < 1e-2
    assert difference(pdf, exact) <= rounding + 1e-5
