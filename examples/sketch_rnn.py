# %% [markdown]
# # Sketch-RNN, from training to latent arithmetic
#
# A small model is trained here, in about a minute, on the built-in dataset of letters, digits and
# short words. Everything below works the same with any other: a run of your own, or a published one
# (`sketchrnn-fast import magenta:owl --out runs/owl`, then `load_model("runs/owl")`).

# %%
import tempfile
from pathlib import Path

import torch
from IPython.display import SVG, Image
from rich.console import Console

from sketchrnn_fast import ModelConfig, TrainConfig, data, generation
from sketchrnn_fast.render import svg_grid
from sketchrnn_fast.training import load_model, train


def show(sketches, columns=8):
    """Sketches as a picture in the page."""
    return SVG(svg_grid(sketches, columns=columns, cell=80))


# %% [markdown]
# ## Train
#
# A run writes its checkpoints, its metrics and its curves into a folder. It shows its progress
# unless it is given a quiet console.

# %%
LONGEST = 24  # points of a sketch
log_root = Path(tempfile.mkdtemp()) / "letters"
train(
    ModelConfig(
        enc_model="layer_norm",
        enc_rnn_size=48,
        dec_model="layer_norm",
        dec_rnn_size=128,
        z_size=16,
        num_mixture=8,
        recurrent_dropout_prob=0.95,
    ),
    TrainConfig(
        num_steps=300,
        save_every=150,
        batch_size=50,
        learning_rate=0.006,
        decay_rate=0.995,
        kl_weight=0.2,
        kl_decay_rate=0.997,
        augment_stroke_prob=0.0,
        objective="masked",
    ),
    log_root,
    max_seq_len=LONGEST,
    console=Console(quiet=True),
)
Image(log_root / "curves.png")

# %% [markdown]
# ## Load
#
# The best checkpoint of the run, and drawings that it has not seen.

# %%
model = load_model(log_root)
test = data.load(["hershey"], max_seq_len=LONGEST, scale_factor=float(model.scale_factor)).test
scale = torch.tensor([float(model.scale_factor)] * 2 + [1.0]).numpy()
sketches = [test[index] * scale for index in range(150, 550, 25)]
show(sketches)

# %% [markdown]
# ## Encode and decode
#
# The encoder reads a sketch and gives a Gaussian over z; here its mean, and the sketch drawn again
# from it.

# %%
z = generation.encode(model, sketches)
z.shape

# %%
show(generation.sample(model, len(z), z=z, temperature=0.1))

# %% [markdown]
# `reconstruct` does both at once, and can draw z from the posterior instead.

# %%
show(generation.reconstruct(model, sketches, z_from="sample", temperature=0.1, seed=1))

# %% [markdown]
# ## Interpolate in a grid
#
# Four sketches in the corners; between them z follows the arcs, first down both sides, then across.

# %%
corners = z[[0, 3, 9, 14]]
left = generation.latent_path(corners[[0, 2]], 6)
right = generation.latent_path(corners[[1, 3]], 6)
grid = torch.cat(
    [generation.latent_path(torch.stack(ends), 8) for ends in zip(left, right, strict=True)]
)
show(generation.sample(model, len(grid), z=grid, temperature=0.0))

# %% [markdown]
# ## Temperature
#
# From the most likely strokes to bolder ones: a row for each of four sketches, a column for each
# temperature.

# %%
temperatures = [0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0]
show(generation.temperature_sweep(model, temperatures, count=4, z=z[[3, 4, 9, 10]]))

# %% [markdown]
# ## Complete a half-drawn sketch
#
# The first line of a drawing, and what the model makes of it with sixteen z of the prior.
# (`z="prefix"` takes the z of what is drawn so far.)

# %%
half = sketches[9][:2]
show([half])

# %%
show(generation.complete(model, [half] * 16, z="prior", temperature=0.3, seed=3))

# %% [markdown]
# ## Latent arithmetic
#
# The mean z of drawings of few points, taken from that of drawings of many, is a direction: from
# simple to elaborate. Three sketches are moved along it, each in the middle of its row.


# %%
examples = sorted((test[index] * scale for index in range(100, len(test), 2)), key=len)
count = len(examples) // 10
simple, elaborate = (
    generation.encode(model, part).mean(0) for part in (examples[:count], examples[-count:])
)
amounts = torch.linspace(-1.0, 1.0, 9)[:, None]
moved = torch.cat([z[index] + amounts * (elaborate - simple) for index in (1, 7, 9)])
show(generation.sample(model, len(moved), z=moved, temperature=0.0), columns=9)

# %% [markdown]
# ## Unconditional generation
#
# A z from the prior is a new sketch.

# %%
show(generation.sample(model, 32, temperature=0.3, seed=7))

# %% [markdown]
# A decoder without an encoder is trained with `conditional=False`, and drawn with in the same way,
# without z: `generation.sample(model, 32)`. The decoders published for sketch-rnn-js are of that
# kind.
