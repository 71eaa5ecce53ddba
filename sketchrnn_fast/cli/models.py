"""The model that a command is given."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sketchrnn_fast.cli.devices import choose_device
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.interop import sketch_rnn_js
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import checkpoints


class Loaded(NamedTuple):
    """A model and what it was trained on, where that is known."""

    network: SketchRNN
    data_set: tuple[str, ...] | None


def load_model(
    path: Path, device: str, *, needs_encoder: bool = False, average: bool = False
) -> Loaded:
    """Load a checkpoint, or a published decoder where the path is a file.

    Args:
        average: take the averaged weights, of a run with `ema_decay`.

    Raises:
        UserError: there is no model, it is damaged, the device cannot be used, or the model is
            unconditional where it `needs_encoder`.
    """
    placement = choose_device(device)
    if path.is_file() or path.suffix == ".json":
        if average:
            raise UserError(f"{path} has no averaged weights; a run with ema_decay has them")
        loaded = Loaded(sketch_rnn_js.read_model(path), None)
    else:
        folder = checkpoints.find(path)
        _, config = checkpoints.read_config(folder)
        loaded = Loaded(checkpoints.load_model(folder, average=average), config.data_set)
    if needs_encoder and not loaded.network.config.conditional:
        raise UserError(f"{path} is unconditional: it has no encoder")
    return loaded._replace(network=loaded.network.to(placement))
