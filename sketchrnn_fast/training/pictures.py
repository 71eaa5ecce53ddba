"""Pictures of what a model can do so far: drawings from the prior, and sketches drawn again.

The same z and the same sketches at each evaluation, so that pictures of different steps compare.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast import generation
from sketchrnn_fast.config import TrainConfig
from sketchrnn_fast.data import Dataset
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.philox import derive_seed
from sketchrnn_fast.render import png_grid
from sketchrnn_fast.training.seeds import Place

FOLDER = "pictures"
TEMPERATURE = 0.4

Sketch = NDArray[np.float32]


def draw_pictures(
    model: SketchRNN, dataset: Dataset, config: TrainConfig, count: int
) -> dict[str, list[Sketch]]:
    """What is in each picture, by its name.

    Args:
        dataset: in model units, whose sketches are drawn again.
        config: its seed governs the drawings, alike at every step.
        count: sketches in a picture.

    Returns:
        `samples`, and of a conditional model `reconstructions`: originals from the shortest to the
        longest, each followed by its copy. Stroke-3, in data units.
    """
    seed = derive_seed(config.seed, 0, Place.PICTURES)
    pictures = {"samples": generation.sample(model, count, temperature=TEMPERATURE, seed=seed)}
    if model.config.conditional:
        indices = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)
        scale = np.array([float(model.scale_factor)] * 2 + [1.0], np.float32)
        originals = [dataset[int(index)] * scale for index in indices]
        labels = dataset.labels(indices).tolist() if model.config.num_classes else None
        copies = generation.reconstruct(
            model, originals, temperature=TEMPERATURE, seed=seed, labels=labels
        )
        pictures["reconstructions"] = [
            sketch for pair in zip(originals, copies, strict=True) for sketch in pair
        ]
    return pictures


def write_pictures(folder: Path, pictures: dict[str, list[Sketch]], step: int) -> dict[str, Path]:
    """Write each picture of a step as `NAME-STEP.png`; gives the files by name.

    Raises:
        OSError: one cannot be written.
    """
    folder.mkdir(exist_ok=True)
    files = {name: folder / f"{name}-{step:08d}.png" for name in pictures}
    for name, sketches in pictures.items():
        # An even number of columns, so that a copy stands beside its original.
        columns = 2 * max(1, round(np.sqrt(len(sketches)) / 2))
        png_grid(sketches, files[name], columns=columns)
    return files
