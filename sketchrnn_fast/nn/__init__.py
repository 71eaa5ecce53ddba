"""torch.nn modules over the fused ops."""

from sketchrnn_fast.nn.hyper_lstm import HyperLSTM, HyperLSTMCell
from sketchrnn_fast.nn.layer_norm_lstm import LayerNormLSTM, LayerNormLSTMCell
from sketchrnn_fast.nn.lstm import LSTM, LSTMCell
from sketchrnn_fast.nn.mixture_density import MixtureDensity
from sketchrnn_fast.nn.sketch_rnn import Losses, Posterior, SketchRNN

__all__ = [
    "LSTM",
    "HyperLSTM",
    "HyperLSTMCell",
    "LSTMCell",
    "LayerNormLSTM",
    "LayerNormLSTMCell",
    "Losses",
    "MixtureDensity",
    "Posterior",
    "SketchRNN",
]
