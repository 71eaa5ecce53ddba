"""Models as folders in the manner of the Hugging Face Hub. Needs the extra `hub`.

    model.safetensors   config.json   as in this project's checkpoints, so every command takes it
    README.md                         the model card
    samples.svg                       what it draws

Loading reads the first two alone, neither of which can run code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, snapshot_download
from safetensors.torch import save as serialise

from sketchrnn_fast import __version__
from sketchrnn_fast.config import ModelConfig, TrainConfig, to_json
from sketchrnn_fast.files import write_atomically
from sketchrnn_fast.generation import sample
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.render import write_grid
from sketchrnn_fast.training import checkpoints

PAPER = "https://arxiv.org/abs/1704.03477"
PICTURE = "samples.svg"
_LOADED = (checkpoints.MODEL, checkpoints.CONFIG)


class HubSketchRNN(
    SketchRNN,
    ModelHubMixin,
    library_name="sketchrnn-fast",
    paper_url=PAPER,
    tags=["sketch-rnn", "vector-drawings"],
):
    """A SketchRNN with `from_pretrained`, `save_pretrained` and `push_to_hub`.

    Attributes:
        train_config: how it was trained, as far as that is known.
        figures: losses by name, for the model card.
    """

    def __init__(self, config: ModelConfig, **arguments: Any) -> None:
        super().__init__(config, **arguments)
        self.train_config = TrainConfig()
        self.figures: dict[str, float] = {}

    @classmethod
    def of(
        cls,
        model: SketchRNN,
        train_config: TrainConfig | None = None,
        figures: Mapping[str, float] | None = None,
    ) -> HubSketchRNN:
        """The same model, which shares its weights, as one that can be saved for the Hub."""
        made = cls(model.config, device="meta")
        made.load_state_dict(model.state_dict(), assign=True)
        made.train_config = train_config or TrainConfig()
        made.figures = dict(figures or {})
        return made.train(model.training)

    def _save_pretrained(self, save_directory: Path) -> None:
        tensors = {name: value.cpu().contiguous() for name, value in self.state_dict().items()}
        config = {"model": to_json(self.config), "train": to_json(self.train_config)}
        contents = {
            checkpoints.MODEL: serialise(tensors),
            checkpoints.CONFIG: json.dumps(config, indent=1).encode() + b"\n",
            "README.md": str(self.generate_model_card()).encode(),
        }
        for file, content in contents.items():
            write_atomically(save_directory / file, content)
        write_grid(sample(self, 12, temperature=0.3), save_directory / PICTURE, columns=6)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **arguments: Any
    ) -> HubSketchRNN:
        """Load a folder, or a model of the Hub by its name, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder that exists, else a name on the Hub.
            arguments: `revision`, `token`, `cache_dir`, `force_download` and `local_files_only`,
                of the Hub's client.

        Raises:
            CheckpointError: there is no model in it, or it is damaged.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            name = str(pretrained_model_name_or_path)
            folder = Path(snapshot_download(name, allow_patterns=list(_LOADED), **arguments))
        model = checkpoints.load_model(folder)
        return cls.of(model, checkpoints.read_config(checkpoints.find(folder))[1])

    def generate_model_card(self, *_: Any, **__: Any) -> ModelCard:
        """The card: what the model is, what it was trained on, its figures, how to use it."""
        return ModelCard(_card(self))


def _card(model: HubSketchRNN) -> str:
    config, train = model.config, model.train_config
    data = ModelCardData(
        library_name="sketchrnn-fast",
        tags=["sketch-rnn", "vector-drawings", *([] if config.conditional else ["decoder-only"])],
    )
    encoder = f"{config.enc_model} {config.enc_rnn_size}, both ways; z of {config.z_size}; "
    size = sum(parameter.numel() for parameter in model.parameters())
    rows = [
        ("network", f"{encoder if config.conditional else ''}{config.dec_model} decoder of "
         f"{config.dec_rnn_size}, {config.num_mixture} Gaussians"),
        ("parameters", f"{size:,}"),
        ("data", f"{', '.join(train.data_set)}; at most {config.max_seq_len} points; offsets "
         f"divided by {float(model.scale_factor):g}"),
    ]  # fmt: skip
    if config.num_classes:
        names = ", ".join(config.class_names) or str(config.num_classes)
        rows.insert(1, ("classes", names.replace("|", "\\|")))
    figures = "\n".join(f"| {name} | {value:.4f} |" for name, value in model.figures.items())
    return f"""---
{data.to_yaml()}
---

# Sketch-RNN

A model that draws ([Ha & Eck 2017]({PAPER})), made with sketchrnn-fast {__version__}.

![Drawn by the model]({PICTURE})

| | |
|---|---|
{chr(10).join(f"| {name} | {text} |" for name, text in rows)}

## Figures

{f"| loss | nats |{chr(10)}|---|---|{chr(10)}{figures}" if figures else "None were recorded."}

## Use

```python
from sketchrnn_fast import generation
from sketchrnn_fast.interop.hub import HubSketchRNN

model = HubSketchRNN.from_pretrained("this folder, or its name on the Hub")
sketches = generation.sample(model, count=16, temperature=0.4)
```

The folder is also one that `sketchrnn-fast sample`, `evaluate` and `export` take.
"""
