"""The published decoders know their subject: losses on drawings, by class.

Of bear, bicycle and rabbit no recordings are at hand, so the right class is drawn by the decoders
themselves; on real recordings, what resembles their subject is told from what does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sketchrnn_fast import SketchRNN, data, generation, strokes
from sketchrnn_fast.data.conversion import Options, convert
from sketchrnn_fast.data.splitting import SplitSizes
from sketchrnn_fast.interop.sketch_rnn_js import read_model

NAMES = ("bear", "bicycle", "rabbit")
LONGEST, COUNT = 120, 12


@pytest.fixture(scope="module")
def decoders(shared: Path) -> dict[str, SketchRNN]:
    folder = shared / "data" / "pretrained_js"
    return {name: read_model(folder / f"{name}.gen.json") for name in NAMES}


def loss_of_a_point(model: SketchRNN, sketches: Sequence[Any]) -> float:
    """The mean loss of a point or end, in nats, of sketches in pixels: the density is of pixels."""
    factor = float(model.scale_factor)
    scale = np.array([factor] * 2 + [1.0], np.float32)
    batch = strokes.pad_to_stroke5([sketch / scale for sketch in sketches], LONGEST)
    lengths = torch.tensor([len(sketch) for sketch in sketches])
    with torch.no_grad():
        loss = model.loss(torch.from_numpy(batch), lengths, objective="masked").reconstruction
    total = float(loss) * len(sketches) * LONGEST + 2 * math.log(factor) * float(lengths.sum())
    return total / float((lengths + 1).sum())


def recordings(shared: Path, name: str, folder: Path) -> list[Any]:
    """Real drawings of a class, simplified as the decoders' data was."""
    source = shared / "data" / "quickdraw_raw" / f"{name}.ndjson"
    file = folder / f"{name}.npz"
    sizes = SplitSizes(valid=1, test=1)
    convert([source], file, Options(only_recognized=True, max_points=LONGEST - 1, splits=sizes))
    splits = data.read_npz(file)
    return [np.asarray(row, np.float32) for split in data.SPLITS for row in splits[split]][:COUNT]


def test_a_decoders_loss_is_lowest_on_its_own_class(decoders: dict[str, SketchRNN]) -> None:
    drawn = {
        name: [
            sketch
            for sketch in generation.sample(model, 30, temperature=0.6, mode="js", seed=5)
            if 5 <= len(sketch) < LONGEST
        ][:COUNT]
        for name, model in decoders.items()
    }
    for name, model in decoders.items():
        losses = {other: loss_of_a_point(model, sketches) for other, sketches in drawn.items()}
        assert min(losses, key=losses.__getitem__) == name
        assert sorted(losses.values())[1] - losses[name] > 0.3


@pytest.mark.parametrize("name", ["bear", "rabbit"])
def test_an_animals_decoder_tells_recordings_of_animals_from_those_of_shapes(
    decoders: dict[str, SketchRNN], shared: Path, tmp_path: Path, name: str
) -> None:
    losses = {
        other: loss_of_a_point(decoders[name], recordings(shared, other, tmp_path))
        for other in ("sheep", "lion", "frog", "square", "triangle", "skyscraper")
    }
    animals = [losses.pop(other) for other in ("sheep", "lion", "frog")]
    assert max(animals) + 1.0 < min(losses.values())


def test_a_wrong_scale_factor_costs(
    decoders: dict[str, SketchRNN], shared: Path, tmp_path: Path
) -> None:
    sketches = recordings(shared, "lion", tmp_path)
    model = decoders["bear"]
    right = loss_of_a_point(model, sketches)
    factor = float(model.scale_factor)
    for wrong in (factor / 8, factor * 4):
        model.scale_factor.fill_(wrong)
        assert loss_of_a_point(model, sketches) > right + 0.5
    model.scale_factor.fill_(factor)
