"""Magenta's training folders: read, imported, trained on, and written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawings import write_polygons
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchrnn_fast import ModelConfig, SketchRNN, TrainConfig
from sketchrnn_fast.config import field_types
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.interop import magenta, magenta_checkpoint
from sketchrnn_fast.interop.bundle import Bundle, write_bundle
from sketchrnn_fast.interop.errors import ExportError, ModelFileError
from sketchrnn_fast.interop.imported import Imported
from sketchrnn_fast.interop.importing import import_model
from sketchrnn_fast.interop.magenta_checkpoint import read_checkpoint, write_checkpoint
from sketchrnn_fast.training import checkpoints, train
from sketchrnn_fast.training.optimiser import Optimiser

CHECKPOINTS = ("lstm_lstm_cond", "layer_norm_hyper_cond", "layer_norm_layer_norm_uncond")
each_checkpoint = pytest.mark.parametrize("name", CHECKPOINTS)
SIZES = {
    "enc_rnn_size": 4,
    "dec_rnn_size": 6,
    "z_size": 3,
    "num_mixture": 2,
    "hyper_num_units": 5,
    "hyper_embedding_size": 2,
    "max_seq_len": 9,
}


def golden(shared: Path, name: str) -> Path:
    return shared / "golden" / f"tf_checkpoint_{name}"


def small(**changes: Any) -> Imported:
    """A model that was trained for seven steps, with moments that tell every place apart."""
    torch.manual_seed(1)
    model = SketchRNN(ModelConfig(**{**SIZES, **changes}))
    moments = [(torch.randn_like(p), torch.rand_like(p)) for p in model.parameters()]
    train_config = TrainConfig(data_set=("polygons.npz",), batch_size=5, kl_weight=0.75)
    return Imported(model, train_config, 7, moments)


@each_checkpoint
def test_weights_moments_step_and_hyper_parameters_are_the_checkpoints(
    shared: Path, name: str
) -> None:
    folder = golden(shared, name)
    imported = read_checkpoint(folder)
    values = {
        **magenta.variables(imported.model),
        **magenta.moment_variables(imported.model, imported.moments),
    }
    with np.load(folder / "expected.npz") as expected:
        for key, value in values.items():
            np.testing.assert_array_equal(value, expected[key])
        assert imported.step == int(expected["vector_rnn/global_step"]) == 3
        left_aside = set(expected.files) - set(values)
    assert all("/" not in key.split("/", 1)[1] for key in left_aside)  # scalars of the graphs
    config = json.loads((folder / "model_config.json").read_text())
    for key, value in config.items():
        if key not in ("is_training", "data_set"):
            found = getattr(imported.model.config, key, None)
            assert value == (getattr(imported.train_config, key) if found is None else found), key
    assert imported.train_config.data_set == ("aaron_sheep.npz",)
    assert float(imported.model.scale_factor) == np.float32(18.519829)
    assert imported.notes == []
    assert not imported.model.training


@pytest.mark.parametrize("form", ["folder", "prefix", "vector-2.index", "vector-2.meta"])
def test_a_checkpoint_is_named_in_each_of_its_forms(
    shared: Path, tmp_path: Path, form: str
) -> None:
    folder = shutil.copytree(golden(shared, "lstm_lstm_cond"), tmp_path / "run")
    source = {"folder": folder, "prefix": folder / "vector-2"}.get(form, folder / form)
    assert read_checkpoint(source).step == 3


def copied(shared: Path, folder: Path, config: Any = None) -> Path:
    """The smallest checkpoint, with another model_config.json; none if False."""
    folder.mkdir()
    for file in golden(shared, "layer_norm_layer_norm_uncond").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    if config is False:
        (folder / "model_config.json").unlink()
    elif config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / "model_config.json").write_text(text)
    return folder


def test_each_of_the_three_forms_of_configuration_is_read(shared: Path, tmp_path: Path) -> None:
    plain = json.loads((golden(shared, CHECKPOINTS[2]) / "model_config.json").read_text())
    plain["use_input_dropout"] = True
    forms = {
        "booleans": plain,
        "integers": {k: int(v) if isinstance(v, bool) else v for k, v in plain.items()},
    }
    for name, config in forms.items():
        imported = read_checkpoint(copied(shared, tmp_path / name, config))
        assert imported.model.config.use_input_dropout is True
        assert imported.model.config.use_recurrent_dropout is True
        assert imported.model.config.max_seq_len == 12
        assert imported.train_config.batch_size == 4
    for name, config in {"names": list(plain), "none": False}.items():
        imported = read_checkpoint(copied(shared, tmp_path / name, config))
        assert imported.model.config == ModelConfig(
            conditional=False,
            dec_model="layer_norm",
            dec_rnn_size=16,
            num_mixture=4,
        )
        assert len(imported.notes) == 3
        assert "max_seq_len is 250, the default" in imported.notes[1]


def test_missing_keys_are_defaults_and_unknown_ones_are_named(shared: Path, tmp_path: Path) -> None:
    config = {"data_set": "kanji.rdp200.npz", "max_seq_len": 70, "warmth": 3}
    imported = read_checkpoint(copied(shared, tmp_path / "run", config))
    assert imported.train_config == TrainConfig(data_set=("kanji.rdp200.npz",))
    assert float(imported.model.scale_factor) == np.float32(22.730356)
    assert imported.notes == ["model_config.json has 'warmth', which is not known: left aside"]


BAD_CONFIGS = {
    "other size": ({"dec_rnn_size": 17}, r"dec_rnn_size is 17, but .*vector-2.index has 16"),
    "other cell": ({"dec_model": "hyper"}, r"dec_model is 'hyper', but .* has 'layer_norm'"),
    "conditional": ({"conditional": 1}, r"conditional is True, but .* has False"),
    "bad value": ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
    "bad boolean": ({"use_input_dropout": 2}, "use_input_dropout is 2; it takes a value of type"),
    "number": ("3", "is 3; it takes an object or a list of names"),
    "cut": ('{"a": ', "is no JSON, or it is cut short"),
    "deep": ("[" * 99999, "is no JSON, or it is cut short"),
}


@pytest.mark.parametrize(("config", "sentence"), BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_a_configuration_that_does_not_fit_is_one_sentence(
    shared: Path, tmp_path: Path, config: Any, sentence: str
) -> None:
    with pytest.raises(ModelFileError, match=sentence) as error:
        read_checkpoint(copied(shared, tmp_path / "run", config))
    assert "model_config.json" in str(error.value)
    assert "\n" not in str(error.value)


def changed_variables(change: Callable[[dict[str, Any]], Any], folder: Path) -> Path:
    prefix = write_checkpoint(small(), folder)
    values = dict(Bundle(prefix))
    change(values)
    write_bundle(prefix, values)
    return folder


W_HH = "vector_rnn/RNN/LSTMCell/W_hh"
BAD_VARIABLES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no decoder": (
        lambda v: v.pop(W_HH),
        "no Sketch-RNN: vector_rnn/RNN has no cell that is LSTMCell or LayerNormLSTMCell or",
    ),
    "no bias": (
        lambda v: v.pop("vector_rnn/RNN/LSTMCell/bias"),
        "the variable vector_rnn/RNN/LSTMCell/bias is missing; the model has 17",
    ),
    "a vector": (
        lambda v: v.update({W_HH: np.zeros(5, np.float32)}),
        r"the variable vector_rnn/RNN/LSTMCell/W_hh is of shape \[5\]",
    ),
    "not square": (
        lambda v: v.update({W_HH: np.zeros((6, 25), np.float32)}),
        r"W_hh has shape \[6, 25\]; this model takes \[6, 24\]",
    ),
    "columns": (
        lambda v: v.update({"vector_rnn/RNN/output_b": np.zeros(14, np.float32)}),
        "output_b has 14 columns; K Gaussians take 6K",
    ),
    "NaN": (lambda v: v[W_HH].fill(np.nan), "W_hh is not all finite floating-point numbers"),
    "integers": (
        lambda v: v.update({W_HH: np.zeros((6, 24), np.int32)}),
        "W_hh is not all finite floating-point numbers",
    ),
    "a slot missing": (
        lambda v: v.pop(f"vector_rnn/{W_HH}/Adam_1"),
        "the variable vector_rnn/vector_rnn/RNN/LSTMCell/W_hh/Adam_1 is missing",
    ),
    "a negative mean square": (
        lambda v: v[f"vector_rnn/{W_HH}/Adam_1"].fill(-1),
        "W_hh/Adam_1 has negative mean squares",
    ),
    "a negative step": (
        lambda v: v.update({"vector_rnn/global_step": np.array(-1, np.int32)}),
        "vector_rnn/global_step is -1; it takes a number of steps",
    ),
}


@pytest.mark.parametrize(("change", "sentence"), BAD_VARIABLES.values(), ids=BAD_VARIABLES)
def test_variables_that_do_not_fit_are_one_sentence(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], sentence: str
) -> None:
    folder = changed_variables(change, tmp_path / "run")
    with pytest.raises(ModelFileError, match=sentence) as error:
        read_checkpoint(folder)
    assert "vector-7.index" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_without_slots_or_step_is_a_model(tmp_path: Path) -> None:
    def drop_slots(values: dict[str, Any]) -> None:
        for name in [name for name in values if "/Adam" in name]:
            del values[name]

    imported = read_checkpoint(changed_variables(drop_slots, tmp_path / "slots"))
    assert (imported.step, imported.moments) == (7, None)
    assert "moments" in imported.notes[0]
    folder = changed_variables(lambda v: v.pop("vector_rnn/global_step"), tmp_path / "step")
    imported = read_checkpoint(folder)
    assert (imported.step, imported.moments) == (0, None)


@pytest.mark.parametrize("cells", ["lstm", "layer_norm", "hyper"])
@pytest.mark.parametrize("conditional", [True, False])
def test_what_is_written_is_read_back_exactly(
    tmp_path: Path, cells: str, conditional: bool
) -> None:
    original = small(enc_model=cells, dec_model=cells, conditional=conditional)
    write_checkpoint(original, tmp_path / "run")
    again = read_checkpoint(tmp_path / "run")
    assert again.step == 7
    assert again.train_config == original.train_config
    expected = dict(original.model.named_parameters())
    for name, parameter in again.model.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    assert again.moments is not None
    assert original.moments is not None
    for pair, other in zip(again.moments, original.moments, strict=True):
        assert torch.equal(pair[0], other[0])
        assert torch.equal(pair[1], other[1])
    assert again.model.config.dec_model == cells


@each_checkpoint
def test_the_hyper_parameters_written_are_the_originals_whatever_ours_are(
    shared: Path, name: str, tmp_path: Path
) -> None:
    source, written = golden(shared, name), tmp_path / "run"
    ours = TrainConfig(
        data_set=("polygons.npz",), ema_decay=0.9, kl_schedule="cyclical", micro_batch_size=5
    )
    write_checkpoint(replace(read_checkpoint(source), train_config=ours), written)
    found, originals = (
        json.loads((folder / "model_config.json").read_text()) for folder in (written, source)
    )
    assert set(found) - {"is_training"} == set(originals) - {"is_training"}


def test_a_model_with_classes_is_refused_and_nothing_written(tmp_path: Path) -> None:
    model = SketchRNN(ModelConfig(**SIZES, num_classes=3))
    sentence = "this model has 3 classes, and Magenta's models have none; huggingface keeps them"
    with pytest.raises(ExportError, match=f"^{re.escape(sentence)}$"):
        write_checkpoint(Imported(model, TrainConfig()), tmp_path / "run")
    assert not any(tmp_path.iterdir())


@each_checkpoint
def test_a_golden_checkpoint_is_written_as_tensorflow_did(
    shared: Path, name: str, tmp_path: Path
) -> None:
    source = Bundle(golden(shared, name) / "vector-2")
    written = Bundle(write_checkpoint(read_checkpoint(golden(shared, name)), tmp_path / "run"))
    assert set(written) == set(source)
    for key in source:
        assert written[key].dtype == source[key].dtype
        if "beta" in key:  # TensorFlow multiplies step by step, in float32
            np.testing.assert_allclose(written[key], source[key], rtol=1e-6)
        else:
            np.testing.assert_array_equal(written[key], source[key])


def test_a_folder_without_a_pointer_has_to_name_one_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(small(), tmp_path)
    (tmp_path / "checkpoint").unlink()
    assert read_checkpoint(tmp_path).step == 7
    write_bundle(tmp_path / "vector", {"a": np.zeros(1, np.float32)})
    with pytest.raises(ModelFileError, match="and of checkpoints vector, vector-7; name one"):
        read_checkpoint(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match="of checkpoints none; name one"):
        read_checkpoint(tmp_path / "empty")


def test_an_absolute_path_of_elsewhere_and_one_that_leaves_the_folder_mean_their_last_part(
    tmp_path: Path,
) -> None:
    write_checkpoint(small(), tmp_path / "run")
    pointer = tmp_path / "run" / "checkpoint"
    for path in ("/tmp/elsewhere/vector-7", "../../vector-7"):
        pointer.write_text(f'model_checkpoint_path: "{path}"\n')
        assert read_checkpoint(tmp_path / "run").step == 7
    pointer.write_text('model_checkpoint_path: "vector-9"\n')
    with pytest.raises(ModelFileError, match="names 'vector-9', not there"):
        read_checkpoint(tmp_path / "run")


def test_an_imported_model_has_the_moments_and_goes_on_as_if_it_had_never_left(
    tmp_path: Path,
) -> None:
    data_dir = write_polygons(tmp_path / "polygons.npz").parent
    sizes = {name: SIZES[name] for name in ("enc_rnn_size", "dec_rnn_size", "z_size")}
    model_config = ModelConfig(**sizes, num_mixture=2)
    config = TrainConfig(
        data_set=("polygons.npz",), batch_size=8, num_steps=6, save_every=3, augment_stroke_prob=0.0
    )
    straight, halted = tmp_path / "straight", tmp_path / "halted"
    train(model_config, config, straight, data_dir=data_dir)
    half = TrainConfig(**{**config.__dict__, "num_steps": 3})
    train(model_config, half, halted, data_dir=data_dir)

    # Out to TensorFlow's form, in again, and on.
    folder = checkpoints.find(halted, "last")
    model = checkpoints.load_model(folder)
    optimiser = Optimiser(model.parameters(), 1.0)
    checkpoints.resume(halted, model, optimiser)
    moments = [optimiser.moments(parameter) for parameter in model.parameters()]
    write_checkpoint(Imported(model, config, 3, moments), tmp_path / "magenta")
    imported = import_model(str(tmp_path / "magenta"), tmp_path / "again", data_dir=data_dir)
    assert imported.step == 3
    assert imported.model.config == model.config
    train(imported.model.config, config, tmp_path / "again", data_dir=data_dir, resume=True)

    expected = checkpoints.load_model(checkpoints.find(straight, "last")).state_dict()
    found = checkpoints.load_model(checkpoints.find(tmp_path / "again", "last")).state_dict()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("form", ["no file", "a list of names"])
def test_data_that_a_source_does_not_name_is_not_taken_for_the_built_in(
    tmp_path: Path, form: str
) -> None:
    write_checkpoint(small(), tmp_path / "source")
    config = tmp_path / "source" / "model_config.json"
    config.unlink()
    if form == "a list of names":
        config.write_text('["data_set", "max_seq_len"]')
    source, changes = str(tmp_path / "source"), {"hyper_num_units": 5, "hyper_embedding_size": 2}
    unknown = "the scale factor of what it was trained on is not known: it is 1, so that"
    imported = import_model(source, tmp_path / "plain", changes=changes)
    assert float(imported.model.scale_factor) == 1.0
    assert imported.model.config.max_seq_len == ModelConfig().max_seq_len
    assert any(note.startswith(unknown) for note in imported.notes)
    imported = import_model(source, tmp_path / "told", changes=changes, scale_factor=5.0)
    assert float(imported.model.scale_factor) == 5.0
    assert not any("scale factor" in note for note in imported.notes)
    with pytest.raises(UserError, match="does not say what it was trained on; with a data_dir"):
        import_model(source, tmp_path / "dir", changes=changes, data_dir=tmp_path)
    assert not (tmp_path / "dir").exists()
    named = {**changes, "data_set": ["hershey"]}
    imported = import_model(source, tmp_path / "hershey", changes=named)
    assert float(imported.model.scale_factor) > 10


def test_nothing_is_left_of_an_import_that_fails(shared: Path, tmp_path: Path) -> None:
    folder = copied(shared, tmp_path / "run", {"batch_size": 0})
    with pytest.raises(ModelFileError):
        import_model(str(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert magenta_checkpoint.is_checkpoint(folder)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(sorted(field_types())) | st.text(max_size=6), json_values)
    | json_values
)
@settings(deadline=None, max_examples=60)
def test_no_configuration_is_more_than_refused(
    tmp_path_factory: pytest.TempPathFactory, values: Any
) -> None:
    folder = tmp_path_factory.mktemp("run")
    prefix = write_checkpoint(small(conditional=False), folder)
    (folder / "model_config.json").write_text(json.dumps(values))
    try:
        imported = read_checkpoint(prefix)
    except ModelFileError as error:
        sentence = str(error)
    else:
        sentence = ""
        assert imported.model.config.dec_rnn_size == 6
    assert "\n" not in sentence.replace("\\n", "")
    assert len(sentence) < 600
