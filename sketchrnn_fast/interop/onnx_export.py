"""Models as ONNX files, for onnxruntime and whatever else runs them. Needs the extra `onnx`.

    encoder.onnx   start.onnx   step.onnx   the parts of `graphs.py`
    config.json                              sizes, the scale factor, the names of the state

The encoder's walk over time is ONNX's Scan. Batch size and length are free. Every file is run by
onnxruntime before it is put in its place, and compared with PyTorch.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sketchrnn_fast.files import write_atomically
from sketchrnn_fast.interop.errors import ExportError
from sketchrnn_fast.interop.graphs import CONFIG, Graph, export_graphs, runtime_config
from sketchrnn_fast.nn import SketchRNN

OPSET = 20
# Above the rounding of float32 over a few steps, far below what a wrong graph would be off by.
MOST_DIFFERENCE = 1e-4


def check_installed() -> None:
    """Refuse, before any work, where the libraries are missing.

    Raises:
        ExportError: one of them is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"{error.name} is not installed; ONNX files need sketchrnn-fast[onnx]"
        ) from None


def write_onnx(model: SketchRNN, folder: str | os.PathLike[str]) -> dict[str, float]:
    """Write a model's parts as ONNX files.

    Args:
        folder: made if it does not exist.

    Returns:
        For each part the largest difference between onnxruntime's and PyTorch's results on an
        example, relative to the largest result.

    Raises:
        ExportError: a library is missing, the model has classes, or onnxruntime computes something
            else.
        OSError: a file cannot be written.
    """
    check_installed()
    contents, differences = {}, {}
    for name, graph in export_graphs(model).items():
        contents[f"{name}.onnx"] = content = _onnx(graph)
        differences[name] = _difference(content, graph)
        if not differences[name] <= MOST_DIFFERENCE:
            raise ExportError(
                f"onnxruntime's results of the {name} differ from PyTorch's by "
                f"{differences[name]:.1e}; at most {MOST_DIFFERENCE:.0e} is accepted"
            )
    contents[CONFIG] = json.dumps(runtime_config(model), indent=1).encode() + b"\n"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        write_atomically(folder / file, content)
    return differences


def _onnx(graph: Graph) -> bytes:
    """The graph as an ONNX model."""
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.program,
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _tidy(proto, graph)
    content: bytes = proto.SerializeToString()
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on itself (missing optional packages, deprecations) to itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _tidy(proto: Any, graph: Graph) -> None:
    """Name the free sizes B and T, and drop the exporter's notes: paths of this machine."""
    names = {
        dimension.dim_param: name
        for entry in proto.graph.input
        for dimension, name in zip(entry.type.tensor_type.shape.dim, "BT", strict=False)
        if dimension.dim_param
    }
    parts = [proto.graph]
    while parts:
        part = parts.pop()
        values = [*part.input, *part.output, *part.value_info]
        for value in values:
            for dimension in value.type.tensor_type.shape.dim:
                if dimension.dim_param:
                    dimension.dim_param = names.get(dimension.dim_param, dimension.dim_param)
        for item in (proto, part, *values, *part.node, *part.initializer):
            item.ClearField("metadata_props")
            item.ClearField("doc_string")
        attributes = [attribute for node in part.node for attribute in node.attribute]
        parts += [attribute.g for attribute in attributes if attribute.HasField("g")]


def _difference(content: bytes, graph: Graph) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    inputs = dict(zip(graph.inputs, (_array(tensor) for tensor in graph.example), strict=True))
    found = session.run(list(graph.outputs), inputs)
    expected = [_array(tensor) for tensor in graph.program.module()(*graph.example)]
    largest = max(float(np.abs(array).max()) for array in expected)
    difference = max(
        float(np.abs(array - other).max()) for array, other in zip(found, expected, strict=True)
    )
    return difference / largest if largest else difference


def _array(tensor: Tensor) -> Any:
    return tensor.detach().numpy()
