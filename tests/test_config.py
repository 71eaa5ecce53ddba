"""Hyper-parameters: Magenta's text form, the JSON form, and every refusal."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchrnn_fast.config import (
    ConfigError,
    ModelConfig,
    TrainConfig,
    field_types,
    from_json,
    parse_hparams,
    split_hparams,
    to_json,
)

# The original's names, types and defaults (model_spec section 0), but for data_set and those that
# a command decides.
ORIGINAL_DEFAULTS = {
    "num_steps": 10000000,
    "save_every": 500,
    "max_seq_len": 250,
    "dec_rnn_size": 512,
    "dec_model": "lstm",
    "enc_rnn_size": 256,
    "enc_model": "lstm",
    "z_size": 128,
    "kl_weight": 0.5,
    "kl_weight_start": 0.01,
    "kl_tolerance": 0.2,
    "batch_size": 100,
    "grad_clip": 1.0,
    "num_mixture": 20,
    "learning_rate": 0.001,
    "decay_rate": 0.9999,
    "kl_decay_rate": 0.99995,
    "min_learning_rate": 0.00001,
    "use_recurrent_dropout": True,
    "recurrent_dropout_prob": 0.90,
    "use_input_dropout": False,
    "input_dropout_prob": 0.90,
    "use_output_dropout": False,
    "output_dropout_prob": 0.90,
    "random_scale_factor": 0.15,
    "augment_stroke_prob": 0.10,
    "conditional": True,
}
OURS = {
    *("data_set", "hyper_num_units", "hyper_embedding_size", "objective", "seed"),
    *("num_classes", "label_embedding_size", "class_names", "micro_batch_size"),
    *("kl_schedule", "kl_ramp_steps", "kl_cycle_steps", "kl_cycle_ramp", "ema_decay"),
    *("log_every", "keep", "patience", "on_nan"),
}


def test_every_hyper_parameter_of_the_original_has_its_name_type_and_default() -> None:
    ours = {**to_json(ModelConfig()), **to_json(TrainConfig())}
    assert {name: ours[name] for name in ORIGINAL_DEFAULTS} == ORIGINAL_DEFAULTS
    for name, value in ORIGINAL_DEFAULTS.items():
        assert field_types()[name] is type(value)
    assert set(ours) - set(ORIGINAL_DEFAULTS) == OURS


def test_every_field_says_what_it_is() -> None:
    for config in (ModelConfig, TrainConfig):
        for field in dataclasses.fields(config):
            assert field.metadata["help"]


# ---- The text form: the table in model_spec 5.2, and what follows from its grammar ----

ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    (
        "use_recurrent_dropout=0,conditional=false",
        {"use_recurrent_dropout": False, "conditional": False},
    ),
    ("conditional=true", {"conditional": True}),
    ("conditional=True", {"conditional": True}),
    ("conditional=False", {"conditional": False}),
    ("conditional=7", {"conditional": True}),
    ("data_set=[a.npz, b.npz]", {"data_set": ("a.npz", "b.npz")}),
    ("data_set=[a.npz b.npz,,c.npz]", {"data_set": ("a.npz", "b.npz", "c.npz")}),
    ("data_set=['a.npz']", {"data_set": ("'a.npz'",)}),
    ("data_set=[a.npz],z_size=3", {"data_set": ("a.npz",), "z_size": 3}),
    ("kl_weight=1", {"kl_weight": 1.0}),
    ("learning_rate=1e-4", {"learning_rate": 1e-4}),
    ("z_size = 3,  dec_model=hyper,", {"z_size": 3, "dec_model": "hyper"}),
    ("dec_model=hyper ,z_size=3", {"dec_model": "hyper ", "z_size": 3}),
    ("is_training=0", {"is_training": False}),
]


@pytest.mark.parametrize(("text", "values"), ACCEPTED)
def test_hparams_are_read_as_the_original_reads_them(text: str, values: dict[str, Any]) -> None:
    parsed = parse_hparams(text)
    assert parsed == values
    assert {name: type(value) for name, value in parsed.items()} == {
        name: type(value) for name, value in values.items()
    }


REFUSED = [
    ("data_set=a.npz", "data_set is 'a.npz'; it takes a list, as in data_set=[a.npz,b.npz]"),
    (
        "data_set[0]=q",
        "hparams cannot be read from 'data_set[0]=q' on; "
        'the form is "name=value,name=[value,value]"',
    ),
    ("save_every=1e3", "save_every is '1e3'; it takes a whole number"),
    ("z_size=3,z_size=3", "hparams names z_size twice; each may be given once"),
    ("conditional=yes", "conditional is 'yes'; it takes true, false or an integer"),
    ("is_training=maybe", "is_training is 'maybe'; it takes true, false or an integer"),
    ("conditional=", "conditional is ''; it takes true, false or an integer"),
    ("kl_weight=much", "kl_weight is 'much'; it takes a number"),
    ("z_size=[3]", "z_size is a list; it takes one value"),
    (
        " z_size=3",
        "hparams cannot be read from ' z_size=3' on; the form is \"name=value,name=[value,value]\"",
    ),
    (
        "z_size=3,kl_weight",
        "hparams cannot be read from 'kl_weight' on; the form is \"name=value,name=[value,value]\"",
    ),
    (
        "data_set=[a.npz",
        "hparams cannot be read from 'data_set=[a.npz' on; "
        'the form is "name=value,name=[value,value]"',
    ),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_what_the_original_refuses_is_refused_in_one_clear_sentence(
    text: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        parse_hparams(text)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"^hparams has no 'enc_size'; it has .*enc_rnn_size"):
        parse_hparams("enc_size=3")
    with pytest.raises(ConfigError, match=r"^there is no hyper-parameter enc_size$"):
        split_hparams({"enc_size": 3})


def test_a_trailing_space_stays_in_the_value_and_is_refused_there() -> None:
    with pytest.raises(ConfigError, match=r"^dec_model is 'hyper '; it takes lstm or layer_norm"):
        ModelConfig.from_hparams("dec_model=hyper ,z_size=3")


def test_the_text_fills_both_configurations() -> None:
    text = "dec_model=hyper,kl_weight=1,data_set=[a.npz],is_training=1"
    assert ModelConfig.from_hparams(text) == ModelConfig(dec_model="hyper")
    expected = TrainConfig(kl_weight=1.0, data_set=("a.npz",))
    assert TrainConfig.from_hparams(text) == expected
    assert split_hparams(parse_hparams(text)) == (ModelConfig(dec_model="hyper"), expected)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_as_a_config_error(text: str) -> None:
    try:
        values = parse_hparams(text)
    except ConfigError:
        return
    assert set(values) <= {*field_types(), "is_training"}


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_min=True), st.booleans())
def test_values_survive_the_text_form(size: int, probability: float, flag: bool) -> None:
    text = f"z_size={size},input_dropout_prob={probability!r},conditional={flag}"
    config = ModelConfig.from_hparams(text)
    assert (config.z_size, config.input_dropout_prob, config.conditional) == (
        size,
        probability,
        flag,
    )


# ---- Values outside what is accepted ----

BAD_MODEL_VALUES = [
    ("enc_model", "gru", "enc_model is 'gru'; it takes lstm or layer_norm or hyper"),
    ("dec_model", "LSTM", "dec_model is 'LSTM'; it takes lstm or layer_norm or hyper"),
    *(
        (name, 0, f"{name} is 0; it must be at least 1")
        for name in (
            "enc_rnn_size",
            "dec_rnn_size",
            "z_size",
            "num_mixture",
            "max_seq_len",
            "hyper_num_units",
            "hyper_embedding_size",
        )
    ),
    *(
        (
            f"{kind}_dropout_prob",
            value,
            f"{kind}_dropout_prob is {value}; it is the probability to keep, above 0 and up to 1",
        )
        for kind in ("recurrent", "input", "output")
        for value in (0.0, 1.5)
    ),
    ("z_size", 3.0, "z_size is 3.0; it takes a value of type int"),
    ("z_size", True, "z_size is True; it takes a value of type int"),
    ("conditional", 1, "conditional is 1; it takes a value of type bool"),
    ("recurrent_dropout_prob", "0.9", "recurrent_dropout_prob is '0.9'; it takes a value of type"),
    (
        "recurrent_dropout_prob",
        float("nan"),
        "recurrent_dropout_prob is nan; it takes a finite number",
    ),
]
BAD_TRAIN_VALUES = [
    ("objective", "both", "objective is 'both'; it takes magenta or masked"),
    ("data_set", (), "data_set is empty; it takes one or more names of datasets"),
    ("data_set", ("",), "data_set is empty; it takes one or more names of datasets"),
    ("data_set", ("a.npz", 3), "data_set is ('a.npz', 3); it takes a list of names"),
    *(
        (name, 0, f"{name} is 0; it must be at least 1")
        for name in ("num_steps", "save_every", "batch_size")
    ),
    *((name, 0.0, f"{name} is 0.0; it must be above 0") for name in ("learning_rate", "grad_clip")),
    *(
        (name, -0.1, f"{name} is -0.1; it must be at least 0")
        for name in ("min_learning_rate", "kl_weight", "kl_weight_start", "kl_tolerance")
    ),
    *(
        (name, 1.5, f"{name} is 1.5; it must lie between 0 and 1")
        for name in ("decay_rate", "kl_decay_rate", "random_scale_factor", "augment_stroke_prob")
    ),
    ("learning_rate", float("inf"), "learning_rate is inf; it takes a finite number"),
    ("seed", 2**64, f"seed is {2**64}; it must fit in 64 bits"),
    ("seed", -(2**63) - 1, f"seed is {-(2**63) - 1}; it must fit in 64 bits"),
]


@pytest.mark.parametrize(("name", "value", "sentence"), BAD_MODEL_VALUES)
def test_a_bad_model_value_is_one_clear_sentence(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}"):
        ModelConfig(**{name: value})


@pytest.mark.parametrize(("name", "value", "sentence"), BAD_TRAIN_VALUES)
def test_a_bad_training_value_is_one_clear_sentence(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}"):
        TrainConfig(**{name: value})


def test_a_config_error_is_a_value_error() -> None:
    assert issubclass(ConfigError, ValueError)


def test_whole_numbers_pass_for_floats_and_nothing_can_be_changed() -> None:
    config = TrainConfig(kl_weight=1)
    assert type(config.kl_weight) is float
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.kl_weight = 2.0  # type: ignore[misc]


# ---- The JSON form ----


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(),
        ModelConfig(enc_model="hyper", conditional=False, recurrent_dropout_prob=0.5),
        TrainConfig(),
        TrainConfig(data_set=("a.npz", "b.npz"), seed=-5, objective="masked"),
    ],
)
def test_json_round_trip(config: ModelConfig | TrainConfig) -> None:
    assert from_json(type(config), json.loads(json.dumps(to_json(config)))) == config


def test_json_with_keys_missing_takes_the_defaults() -> None:
    assert from_json(ModelConfig, {"z_size": 3}) == ModelConfig(z_size=3)


def test_json_with_unknown_keys_or_types_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^ModelConfig has no field batch_size, depth$"):
        from_json(ModelConfig, {"depth": 3, "batch_size": 1})
    with pytest.raises(ConfigError, match=r"^conditional is 1; it takes a value of type bool$"):
        from_json(ModelConfig, {"conditional": 1})
