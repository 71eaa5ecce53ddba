"""Drawing with a trained model."""

from sketchrnn_fast.generation.sampling import encode, prior, sample

__all__ = ["encode", "prior", "sample"]
