"""Models as `torch.export` programs, which run wherever PyTorch does, without this package.

    encoder.pt2   start.pt2   step.pt2   the parts of `graphs.py`
    config.json                           sizes, the scale factor, the names of the state

`torch.export.load("step.pt2").module()` is a module; AOTInductor and other compilers take it.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import torch
from torch.export import ExportedProgram

from sketchrnn_fast.files import write_atomically
from sketchrnn_fast.interop.graphs import CONFIG, export_graphs, runtime_config
from sketchrnn_fast.nn import SketchRNN


def write_programs(model: SketchRNN, folder: str | os.PathLike[str]) -> None:
    """Write a model's parts as exported programs.

    Args:
        folder: made if it does not exist.

    Raises:
        ExportError: the model has classes.
        OSError: a file cannot be written.
    """
    contents = {}
    for name, graph in export_graphs(model).items():
        _drop_origins(graph.program)
        stream = io.BytesIO()
        torch.export.save(graph.program, stream)
        contents[f"{name}.pt2"] = stream.getvalue()
    contents[CONFIG] = json.dumps(runtime_config(model), indent=1).encode() + b"\n"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        write_atomically(folder / file, content)


def _drop_origins(program: ExportedProgram) -> None:
    """Drop the lines of source that each node came from: paths of this machine."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
