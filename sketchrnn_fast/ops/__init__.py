"""The fused ops, registered with PyTorch, each with its backends behind one signature."""

from sketchrnn_fast.ops.backends import BackendError, backend
from sketchrnn_fast.ops.decoder_weights import DecoderWeights
from sketchrnn_fast.ops.hyper_lstm import hyper_lstm, hyper_lstm_bidirectional
from sketchrnn_fast.ops.layer_norm_lstm import layer_norm_lstm, layer_norm_lstm_bidirectional
from sketchrnn_fast.ops.lstm import lstm, lstm_bidirectional
from sketchrnn_fast.ops.mixture_density import mixture_density
from sketchrnn_fast.ops.sampler import Drawings, Point, Sampler
from sketchrnn_fast.ops.sampler_cuda import CudaEngine
from sketchrnn_fast.ops.sampler_native import NativeEngine
from sketchrnn_fast.ops.sampler_reference import ReferenceEngine
from sketchrnn_fast.reference.hyper_lstm import HyperLSTMWeights
from sketchrnn_fast.reference.layer_norm_lstm import LayerNormLSTMWeights
from sketchrnn_fast.reference.lstm import LSTMWeights, Options
from sketchrnn_fast.reference.sampler import Temperature

__all__ = [
    "BackendError",
    "CudaEngine",
    "DecoderWeights",
    "Drawings",
    "HyperLSTMWeights",
    "LSTMWeights",
    "LayerNormLSTMWeights",
    "NativeEngine",
    "Options",
    "Point",
    "ReferenceEngine",
    "Sampler",
    "Temperature",
    "backend",
    "hyper_lstm",
    "hyper_lstm_bidirectional",
    "layer_norm_lstm",
    "layer_norm_lstm_bidirectional",
    "lstm",
    "lstm_bidirectional",
    "mixture_density",
]
