"""Exchange with other implementations of Sketch-RNN, and with other runtimes."""

from sketchrnn_fast.interop import magenta, magenta_checkpoint, sketch_rnn_js
from sketchrnn_fast.interop.errors import ExportError, ModelFileError
from sketchrnn_fast.interop.importing import import_model

__all__ = [
    "ExportError",
    "ModelFileError",
    "import_model",
    "magenta",
    "magenta_checkpoint",
    "sketch_rnn_js",
]
