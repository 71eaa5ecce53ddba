"""Hyper-parameters: frozen dataclasses whose field names are Magenta's, and Magenta's text form.

Every hyper-parameter of the original keeps its name, type and default (`HParams` in
`magenta/models/sketch_rnn/model.py`), but for `data_set`, whose default is the built-in dataset.
Fields that the original fixes in code, and those that this project adds, say so in their help.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sketchrnn_fast.errors import UserError

CELLS = ("lstm", "layer_norm", "hyper")
OBJECTIVES = ("magenta", "masked")
ON_NAN = ("stop", "skip")
KL_SCHEDULES = ("magenta", "constant", "linear", "cyclical")
MOST_SIZE = 2**20  # of units, Gaussians, and points in a sketch

# Known to the original, decided here by the command that runs: accepted and left aside.
IGNORED_HPARAMS = ("is_training",)

_Config = TypeVar("_Config", bound="ModelConfig | TrainConfig")


class ConfigError(UserError):
    """A hyper-parameter is unknown, has the wrong type, or lies outside what is accepted."""


def _field(default: Any, help: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class ModelConfig:
    """What defines the network: its cells, sizes and dropout.

    Raises:
        ConfigError: a value lies outside what is accepted; the message names it.
    """

    enc_model: str = _field("lstm", "encoder cell: lstm, layer_norm or hyper")
    enc_rnn_size: int = _field(256, "encoder units in each direction")
    dec_model: str = _field("lstm", "decoder cell: lstm, layer_norm or hyper")
    dec_rnn_size: int = _field(512, "decoder units")
    z_size: int = _field(128, "size of the latent vector z")
    num_mixture: int = _field(20, "number of Gaussians in the output mixture")
    conditional: bool = _field(True, "with an encoder; without it, the decoder alone")
    use_recurrent_dropout: bool = _field(True, "dropout on the cells' candidate values")
    recurrent_dropout_prob: float = _field(0.90, "probability to keep, in recurrent dropout")
    use_input_dropout: bool = _field(False, "dropout on the decoder's input")
    input_dropout_prob: float = _field(0.90, "probability to keep, in input dropout")
    use_output_dropout: bool = _field(False, "dropout on the decoder's output")
    output_dropout_prob: float = _field(0.90, "probability to keep, in output dropout")
    max_seq_len: int = _field(250, "most points in a sketch; taken from the data when training")
    hyper_num_units: int = _field(256, "units of the HyperLSTM's inner cell (fixed in Magenta)")
    hyper_embedding_size: int = _field(32, "embedding of the HyperLSTM (fixed in Magenta)")
    num_classes: int = _field(
        0, "classes that the decoder is told, one a file of data_set; 0: it is told none (ours)"
    )
    label_embedding_size: int = _field(32, "embedding of a class, beside z (ours)")
    class_names: tuple[str, ...] = _field(
        (), "names of the classes; taken from the data when training (ours)"
    )

    def __post_init__(self) -> None:
        _check_types(self)
        _check_choice(self, "enc_model", CELLS)
        _check_choice(self, "dec_model", CELLS)
        for name in (
            "enc_rnn_size",
            "dec_rnn_size",
            "z_size",
            "num_mixture",
            "max_seq_len",
            "hyper_num_units",
            "hyper_embedding_size",
            "label_embedding_size",
        ):
            _check_at_least(self, name, 1)
            _check_interval(self, name, 1, MOST_SIZE)
        for name in ("recurrent_dropout_prob", "input_dropout_prob", "output_dropout_prob"):
            _check_keep_probability(self, name)
        _check_interval(self, "num_classes", 0, MOST_SIZE)
        if self.class_names and len(set(self.class_names)) != self.num_classes:
            raise ConfigError(
                f"class_names has {len(set(self.class_names))} different names, and num_classes is "
                f"{self.num_classes}; each class has a name of its own"
            )

    @property
    def condition_size(self) -> int:
        """Width of what the decoder is told of a sketch: z, and the embedding of its class."""
        z_size = self.z_size if self.conditional else 0
        return z_size + (self.label_embedding_size if self.num_classes else 0)

    @classmethod
    def from_hparams(cls, text: str) -> ModelConfig:
        """Parse Magenta's `"name=value,name=[a,b]"`; names of `TrainConfig` are left aside."""
        return _construct(cls, parse_hparams(text))


@dataclass(frozen=True)
class TrainConfig:
    """What defines a training run: data, schedules, optimiser.

    Raises:
        ConfigError: a value lies outside what is accepted; the message names it.
    """

    data_set: tuple[str, ...] = _field(
        ("hershey",), "files merged into one dataset, or `hershey`, the built-in one"
    )
    num_steps: int = _field(10_000_000, "training steps in all, those before a resume included")
    save_every: int = _field(500, "steps between evaluations and checkpoints")
    batch_size: int = _field(100, "sketches in a batch")
    learning_rate: float = _field(0.001, "learning rate at the start")
    decay_rate: float = _field(0.9999, "decay of the learning rate in each step")
    min_learning_rate: float = _field(0.00001, "floor of the learning rate")
    grad_clip: float = _field(1.0, "each element of a gradient is clipped to this magnitude")
    kl_weight: float = _field(0.5, "weight of the KL term at the end")
    kl_weight_start: float = _field(0.01, "weight of the KL term at the start")
    kl_decay_rate: float = _field(0.99995, "annealing of the KL weight in each step")
    kl_tolerance: float = _field(0.2, "floor of the KL term")
    kl_schedule: str = _field(
        "magenta", "of the KL weight: magenta, constant, linear or cyclical (ours)"
    )
    kl_ramp_steps: int = _field(10_000, "linear: steps from kl_weight_start to kl_weight (ours)")
    kl_cycle_steps: int = _field(10_000, "cyclical: steps in a cycle (ours)")
    kl_cycle_ramp: float = _field(0.5, "cyclical: the rising part of a cycle (ours)")
    ema_decay: float = _field(
        0.0, "decay of an average of the weights, kept beside them; 0: none is kept (ours)"
    )
    random_scale_factor: float = _field(0.15, "augmentation: each axis scaled by 1 ± this")
    augment_stroke_prob: float = _field(0.10, "augmentation: probability of dropping a point")
    micro_batch_size: int = _field(
        0, "sketches of a batch that are in memory at once; 0: as many as there are (ours)"
    )
    objective: str = _field(
        "magenta",
        "magenta: the pen loss counts padding, as the original; masked: real rows only (ours)",
    )
    seed: int = _field(0, "governs every random draw of the run (ours; Magenta has none)")
    log_every: int = _field(20, "steps between records of training (fixed in Magenta)")
    keep: int = _field(0, "newest checkpoints to keep besides the best and the last (ours)")
    patience: int = _field(
        0, "stop after this many evaluations without a better one; 0 never stops (ours)"
    )
    on_nan: str = _field(
        "stop", "a loss or gradient that is not finite: stop, or skip the batch's update (ours)"
    )

    def __post_init__(self) -> None:
        _check_types(self)
        _check_choice(self, "objective", OBJECTIVES)
        _check_choice(self, "on_nan", ON_NAN)
        _check_choice(self, "kl_schedule", KL_SCHEDULES)
        if not self.data_set or not all(self.data_set):
            raise ConfigError("data_set is empty; it takes one or more names of datasets")
        for name in (
            *("num_steps", "save_every", "batch_size", "log_every"),
            *("kl_ramp_steps", "kl_cycle_steps"),
        ):
            _check_at_least(self, name, 1)
        for name in ("micro_batch_size", "keep", "patience"):
            _check_at_least(self, name, 0)
        for name in ("learning_rate", "grad_clip"):
            _check_positive(self, name)
        for name in ("min_learning_rate", "kl_weight", "kl_weight_start", "kl_tolerance"):
            _check_at_least(self, name, 0)
        for name in ("decay_rate", "kl_decay_rate"):
            _check_interval(self, name, 0, 1)
        _check_interval(self, "random_scale_factor", 0, 1)
        _check_interval(self, "kl_cycle_ramp", 0, 1)
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay is {self.ema_decay}; it must be at least 0 and below 1")
        _check_interval(self, "augment_stroke_prob", 0, 1)
        if not -(2**63) <= self.seed < 2**64:
            raise ConfigError(f"seed is {self.seed}; it must fit in 64 bits")

    @classmethod
    def from_hparams(cls, text: str) -> TrainConfig:
        """Parse Magenta's `"name=value,name=[a,b]"`; names of `ModelConfig` are left aside."""
        return _construct(cls, parse_hparams(text))


# --------------------------------------------------------------------------------------------
# Text form

_HPARAM = re.compile(
    r"""
    (?P<name>[a-zA-Z][\w.]*)
    (?P<index>\[\d+\])?
    \s*=\s*
    (?: \[(?P<list>[^\]]*)\] | (?P<scalar>[^,\[]*) )
    (?: ,\s* | $ )
    """,
    re.VERBOSE,
)


def parse_hparams(text: str) -> dict[str, Any]:
    """Parse Magenta's `--hparams` form into typed values by name.

    The grammar is the original's: comma-separated `name=value`, where a value is a scalar or a
    list `[a,b]`; booleans are `true`, `false` or an integer.

    Raises:
        ConfigError: the text does not parse, a name is unknown or given twice, or a value is not
            of its field's type.
    """
    values: dict[str, Any] = {}
    position = 0
    while position < len(text):
        match = _HPARAM.match(text, position)
        if match is None or match["index"]:
            raise ConfigError(
                f"hparams cannot be read from {text[position:]!r} on; "
                'the form is "name=value,name=[value,value]"'
            )
        name = match["name"]
        if name in values:
            raise ConfigError(f"hparams names {name} twice; each may be given once")
        field_type = field_types().get(name)
        if field_type is None and name not in IGNORED_HPARAMS:
            raise ConfigError(f"hparams has no {name!r}; it has {', '.join(sorted(field_types()))}")
        if match["list"] is not None:
            items = tuple(item for item in re.split(r"[, ]", match["list"]) if item)
            values[name] = _parse_list(name, items, field_type or bool)
        else:
            values[name] = parse_value(name, match["scalar"], field_type or bool)
        position = match.end()
    return values


def split_hparams(values: Mapping[str, Any]) -> tuple[ModelConfig, TrainConfig]:
    """Build both configurations from typed values by name; a missing one keeps its default."""
    unknown = set(values) - set(field_types()) - set(IGNORED_HPARAMS)
    if unknown:
        raise ConfigError(f"there is no hyper-parameter {', '.join(sorted(unknown))}")
    return _construct(ModelConfig, values), _construct(TrainConfig, values)


def field_types() -> dict[str, type]:
    """The type of every hyper-parameter by name; `tuple` stands for a list of names."""
    return {**_types_of(ModelConfig), **_types_of(TrainConfig)}


def parse_value(name: str, text: str, field_type: type) -> Any:
    """Read one scalar as the type of its field."""
    if field_type is tuple:
        raise ConfigError(f"{name} is {text!r}; it takes a list, as in {name}=[a.npz,b.npz]")
    if field_type is str:
        return text
    if field_type is bool:
        if text in ("true", "True", "false", "False"):
            return text in ("true", "True")
        return bool(_parse_number(name, text, int, "true, false or an integer"))
    if field_type is int:
        return _parse_number(name, text, int, "a whole number")
    return _parse_number(name, text, float, "a number")


def _parse_number(name: str, text: str, number: type[int] | type[float], accepted: str) -> float:
    try:
        return number(text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; it takes {accepted}") from None


def _parse_list(name: str, items: tuple[str, ...], field_type: type) -> tuple[str, ...]:
    if field_type is not tuple:
        raise ConfigError(f"{name} is a list; it takes one value")
    return items


# --------------------------------------------------------------------------------------------
# JSON form


def to_json(config: ModelConfig | TrainConfig) -> dict[str, Any]:
    """The configuration as an object that `from_json` reads back."""
    return dataclasses.asdict(config)


def from_json(cls: type[_Config], values: Mapping[str, Any]) -> _Config:
    """Build a configuration from an object of its fields; a missing one keeps its default.

    `data_set` may be a string, as in Magenta's older files.

    Raises:
        ConfigError: a key is unknown or a value is not of its field's type.
    """
    if isinstance(values.get("data_set"), str):
        values = {**values, "data_set": [values["data_set"]]}
    unknown = set(values) - set(_types_of(cls))
    if unknown:
        raise ConfigError(f"{cls.__name__} has no field {', '.join(sorted(unknown))}")
    return _construct(cls, values)


def _construct(cls: type[_Config], values: Mapping[str, Any]) -> _Config:
    types = _types_of(cls)
    own: dict[str, Any] = {
        name: tuple(value) if types[name] is tuple and isinstance(value, list) else value
        for name, value in values.items()
        if name in types
    }
    return cls(**own)


def _types_of(cls: type[Any]) -> dict[str, type]:
    hints = typing.get_type_hints(cls)
    return {
        field.name: typing.get_origin(hints[field.name]) or hints[field.name]
        for field in dataclasses.fields(cls)
    }


# --------------------------------------------------------------------------------------------
# Checks

_MOST_DIGITS = 10**300  # a whole number beyond this is no float


def _check_types(config: ModelConfig | TrainConfig) -> None:
    """Whole numbers pass for floats and become floats; nothing else is converted."""
    for name, field_type in _types_of(type(config)).items():
        value = getattr(config, name)
        if field_type is float and type(value) is int and abs(value) < _MOST_DIGITS:
            object.__setattr__(config, name, float(value))
        elif field_type is tuple:
            if type(value) is not tuple or not all(type(item) is str for item in value):
                raise ConfigError(f"{name} is {value!r}; it takes a list of names")
        elif type(value) is not field_type:
            raise ConfigError(
                f"{name} is {value!r}; it takes a value of type {field_type.__name__}"
            )
        if field_type is float and not math.isfinite(getattr(config, name)):
            raise ConfigError(f"{name} is {value!r}; it takes a finite number")


def _check_choice(config: Any, name: str, choices: tuple[str, ...]) -> None:
    if getattr(config, name) not in choices:
        raise ConfigError(f"{name} is {getattr(config, name)!r}; it takes {' or '.join(choices)}")


def _check_at_least(config: Any, name: str, least: float) -> None:
    if getattr(config, name) < least:
        raise ConfigError(f"{name} is {getattr(config, name)}; it must be at least {least}")


def _check_positive(config: Any, name: str) -> None:
    if getattr(config, name) <= 0:
        raise ConfigError(f"{name} is {getattr(config, name)}; it must be above 0")


def _check_interval(config: Any, name: str, low: float, high: float) -> None:
    if not low <= getattr(config, name) <= high:
        raise ConfigError(
            f"{name} is {getattr(config, name)}; it must lie between {low} and {high}"
        )


def _check_keep_probability(config: Any, name: str) -> None:
    if not 0 < getattr(config, name) <= 1:
        raise ConfigError(
            f"{name} is {getattr(config, name)}; it is the probability to keep, above 0 and up to 1"
        )
