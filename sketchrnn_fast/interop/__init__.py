"""Exchange with other implementations of Sketch-RNN."""

from sketchrnn_fast.interop import magenta

__all__ = ["magenta"]
