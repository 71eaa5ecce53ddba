"""Exchange with other implementations of Sketch-RNN."""

from sketchrnn_fast.interop import magenta, sketch_rnn_js

__all__ = ["magenta", "sketch_rnn_js"]
