"""Drawing with a trained model: one file a task, all on top of `ops.Sampler`."""

from sketchrnn_fast.generation.completion import complete
from sketchrnn_fast.generation.interpolation import interpolate, latent_path, lerp, slerp
from sketchrnn_fast.generation.latent import encode, posterior, prior
from sketchrnn_fast.generation.reconstruction import reconstruct
from sketchrnn_fast.generation.sampling import sample
from sketchrnn_fast.generation.sweep import temperature_sweep

__all__ = [
    "complete",
    "encode",
    "interpolate",
    "latent_path",
    "lerp",
    "posterior",
    "prior",
    "reconstruct",
    "sample",
    "slerp",
    "temperature_sweep",
]
