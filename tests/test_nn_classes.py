"""A model that is told a class: its embedding stands beside z, or in its place."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from cells import FLOAT64
from tolerances import assert_close

from sketchrnn_fast import ModelConfig, SketchRNN
from sketchrnn_fast.config import ConfigError
from sketchrnn_fast.interop import magenta
from sketchrnn_fast.ops import Sampler

B, T, Z, L, CLASSES = 4, 5, 3, 2, 3
LABELS = torch.tensor([2, 0, 1, 2])
SEED = torch.tensor([3])
SIZES: dict[str, Any] = {
    "enc_rnn_size": 5,
    "dec_rnn_size": 7,
    "z_size": Z,
    "num_mixture": 2,
    "hyper_num_units": 4,
    "hyper_embedding_size": 2,
    "num_classes": CLASSES,
    "label_embedding_size": L,
}
each_kind = pytest.mark.parametrize("conditional", [True, False])


def make_model(**changes: Any) -> SketchRNN:
    torch.manual_seed(0)
    model = SketchRNN(ModelConfig(**{**SIZES, **changes}), dtype=FLOAT64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    strokes = torch.zeros(B, T + 1, 5, dtype=FLOAT64)
    strokes[..., :2] = torch.randn(B, T + 1, 2, generator=generator, dtype=FLOAT64)
    strokes[..., 2] = 1
    strokes[:, 0, :2] = 0
    return strokes, torch.full((B,), T)


@each_kind
@pytest.mark.parametrize("cell", ["lstm", "layer_norm", "hyper"])
def test_a_class_is_a_part_of_z_to_the_decoder(cell: str, conditional: bool) -> None:
    """As to that of a model without classes that is given [z, embedding] for its z."""
    strokes, _ = make_batch()
    model = make_model(dec_model=cell, conditional=conditional)
    plain = make_model(dec_model=cell, num_classes=0, z_size=L + Z * conditional)
    state = model.state_dict()
    plain.load_state_dict(
        {
            name: value if name.startswith(("encoder", "posterior")) else state[name]
            for name, value in plain.state_dict().items()
        }
    )
    z = torch.randn(B, Z, dtype=FLOAT64) if conditional else None
    joined = model.condition(z, LABELS)
    assert joined is not None
    assert torch.equal(joined[:, -L:], model.label_embedding.weight[LABELS])
    found, final = model.eval().decode(strokes, z, labels=LABELS)
    expected, other = plain.eval().decode(strokes, joined)
    assert torch.equal(found, expected)
    assert all(map(torch.equal, final, other))


@each_kind
def test_the_loss_depends_on_the_class(conditional: bool) -> None:
    strokes, lengths = make_batch()
    model = make_model(conditional=conditional, use_input_dropout=True)
    first, second = (
        model.loss(strokes, lengths, labels=labels, seed=SEED)
        for labels in (LABELS, LABELS.roll(1))
    )
    assert first.total.item() != second.total.item()
    assert first.kl_raw.item() == second.kl_raw.item()


@each_kind
def test_the_embedding_of_a_class_learns_from_its_sketches_alone(conditional: bool) -> None:
    strokes, lengths = make_batch()
    model = make_model(conditional=conditional)
    labels = torch.tensor([2, 0, 0, 2])
    model.loss(strokes, lengths, labels=labels, seed=SEED).total.backward()
    gradient = model.label_embedding.weight.grad
    assert gradient is not None
    assert bool((gradient[[0, 2]] != 0).all())
    assert bool((gradient[1] == 0).all())


@each_kind
def test_the_sampler_takes_a_class_within_z(conditional: bool) -> None:
    model = make_model(conditional=conditional).float().eval()
    strokes = make_batch()[0].float()
    z = torch.randn(B, Z) if conditional else None
    expected, _ = model.decode(strokes, z, labels=LABELS)
    decoder = model.decoder_weights()
    assert decoder.z_size == L + (Z if conditional else 0)
    condition = model.condition(z, LABELS)
    assert condition is not None
    found = Sampler(decoder).parameters(strokes.transpose(0, 1), condition.detach())
    assert_close(found, expected.detach(), torch.float32, "value")


def test_without_classes_a_model_is_what_it_was() -> None:
    torch.manual_seed(5)
    model = SketchRNN(ModelConfig(**{**SIZES, "num_classes": 0}))
    assert not [name for name, _ in model.named_parameters() if "label" in name]
    assert model.decoder.cells[0].static_size == Z
    assert len(magenta.variables(model)) == len(list(magenta.variable_table(model)))
    with pytest.raises(ValueError, match="this model has no classes"):
        model.condition(torch.zeros(B, Z), LABELS)


def test_a_model_with_classes_is_none_of_magentas() -> None:
    with pytest.raises(ValueError, match="this model has 3 classes; Magenta's models have none"):
        magenta.variables(make_model())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "this model has 3 classes: it needs labels"),
        (torch.tensor([0, 1, 2, 3]), "labels has 3; this model has 3 classes, 0 to 2"),
        (torch.tensor([0, -1, 2, 1]), "labels has -1; this model has 3 classes"),
        (torch.tensor([0, 1]), "labels is torch.int64 [2]; it takes int64 [4]"),
        (torch.tensor([0.0, 1, 2, 1]), "labels is torch.float32 [4]; it takes int64 [4]"),
        (torch.tensor(1), "labels is torch.int64 []"),
    ],
)
@each_kind
def test_labels_that_are_none_are_refused(
    labels: torch.Tensor | None, message: str, conditional: bool
) -> None:
    strokes, lengths = make_batch()
    with pytest.raises(ValueError, match=re.escape(message)):
        make_model(conditional=conditional).loss(strokes, lengths, labels=labels)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_classes": -1}, "num_classes is -1"),
        ({"label_embedding_size": 0}, "label_embedding_size is 0; it must be at least 1"),
        ({"class_names": ("a", "b")}, "class_names has 2 different names, and num_classes is 3"),
        ({"class_names": ("a", "b", "a")}, "class_names has 2 different names"),
    ],
)
def test_classes_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**{**SIZES, **fields})
