"""Draw with an exported model, without PyTorch and without this package.

    sketchrnn-fast export MODEL --format onnx --out exported
    python draw_with_onnx.py exported 5 > drawings.json

Needs NumPy and onnxruntime alone. Prints a JSON list of sketches, each a list of lines, each a list
of points [x, y] in the units of the data.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def draw(folder: Path, count: int, temperature: float = 0.4, seed: int = 0) -> list[np.ndarray]:
    """Sketches as stroke-5 rows [N, 5] in the units of the data, the end left out."""
    config = json.loads((folder / "config.json").read_text())
    random = np.random.default_rng(seed)
    step = onnxruntime.InferenceSession(str(folder / "step.onnx"))
    state = [np.zeros((count, width), np.float32) for width in config["state"].values()]
    given = {}
    if config["model"]["conditional"]:
        z = random.standard_normal((count, config["model"]["z_size"])).astype(np.float32)
        given = {"z": z}
        state = onnxruntime.InferenceSession(str(folder / "start.onnx")).run(None, given)
    stroke = np.tile(np.array([0, 0, 1, 0, 0], np.float32), (count, 1))
    drawn: list[list[np.ndarray]] = [[] for _ in range(count)]
    is_drawing = np.ones(count, bool)
    for _ in range(config["model"]["max_seq_len"]):
        named = dict(zip(config["state"], state, strict=True))
        params, *state = step.run(None, {"stroke": stroke, **given, **named})
        stroke = next_strokes(params, temperature, random)
        is_drawing &= stroke[:, 4] == 0
        for row in np.flatnonzero(is_drawing):
            scaled = stroke[row].copy()
            scaled[:2] *= config["scale_factor"]
            drawn[row].append(scaled)
        if not is_drawing.any():
            break
    return [np.array(rows, np.float32).reshape(-1, 5) for rows in drawn]


def next_strokes(params: np.ndarray, temperature: float, random: np.random.Generator) -> np.ndarray:
    """Draw strokes [B, 5] from the mixtures' raw parameters [B, 6K+3]."""
    rows = np.arange(len(params))
    pen_logits, rest = params[:, :3], params[:, 3:]
    pi_logits, *gaussians = np.split(rest, 6, axis=1)
    chosen = choose(pi_logits, temperature, random)
    mean_x, mean_y, log_sigma_x, log_sigma_y, raw_correlation = (
        part[rows, chosen] for part in gaussians
    )
    correlation = np.tanh(raw_correlation)
    first, second = random.standard_normal((2, len(params)))
    across = np.sqrt(1 - correlation**2) * first + correlation * second
    stroke = np.zeros((len(params), 5), np.float32)
    stroke[:, 0] = mean_x + np.exp(log_sigma_x) * temperature * across
    stroke[:, 1] = mean_y + np.exp(log_sigma_y) * temperature * second
    stroke[rows, 2 + choose(pen_logits, temperature, random)] = 1
    return stroke


def choose(logits: np.ndarray, temperature: float, random: np.random.Generator) -> np.ndarray:
    """One index a row, by softmax(logits / temperature): the largest with Gumbel's noise."""
    return np.argmax(logits / temperature + random.gumbel(size=logits.shape), axis=1)


def lines(sketch: np.ndarray) -> list[list[list[float]]]:
    """The polylines of a sketch: a lifted pen ends one."""
    points = np.cumsum(sketch[:, :2], axis=0)
    ends = np.flatnonzero(sketch[:, 3]) + 1
    return [line.tolist() for line in np.split(points, ends) if len(line)]


if __name__ == "__main__":
    sketches = draw(Path(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps([lines(sketch) for sketch in sketches]))
