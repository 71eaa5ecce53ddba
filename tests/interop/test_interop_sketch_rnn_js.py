"""Models for sketch-rnn-js: what is read, what is written, and what is refused."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import INTEGERS, SHAPES, UNITS, content
from tolerances import assert_close

from sketchrnn_fast import ModelConfig, SketchRNN, TrainConfig, generation
from sketchrnn_fast.interop import magenta, sketch_rnn_js
from sketchrnn_fast.interop.errors import ExportError, ModelFileError
from sketchrnn_fast.interop.sketch_rnn_js import read_imported, read_model, write_model

PUBLISHED = {"bear": (175, 62.4323), "bicycle": (139, 86.8476), "rabbit": (155, 61.0124)}


def write(folder: Path, value: Any) -> Path:
    path = folder / "knot.gen.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize("mode", [2, "gen"])
def test_a_decoder_is_read_as_an_unconditional_model(tmp_path: Path, mode: Any) -> None:
    value = content()
    value[0]["mode"] = mode
    model = read_model(write(tmp_path, value))
    config = model.config
    assert (config.conditional, config.dec_model, config.dec_rnn_size) == (False, "lstm", UNITS)
    assert (config.num_mixture, config.max_seq_len) == (20, 30)
    assert float(model.scale_factor) == 50.5
    assert model.decoder_cell.forget_bias == 1.0
    assert not model.training


def test_a_weight_is_ten_times_its_share_of_32767(tmp_path: Path) -> None:
    found = magenta.variables(read_model(write(tmp_path, content())))
    for name, integers in zip(found, INTEGERS, strict=True):
        expected = 10 * integers.astype(np.float64) / 32767
        np.testing.assert_allclose(found[name], expected, rtol=2e-7, atol=0)


def test_sketches_come_in_the_files_units(tmp_path: Path) -> None:
    model = read_model(write(tmp_path, content()))
    in_units = generation.sample(model, 4, seed=3)
    model.scale_factor.fill_(1.0)
    for sketch, plain in zip(in_units, generation.sample(model, 4, seed=3), strict=True):
        assert_close(sketch[:, :2], 50.5 * plain[:, :2], torch.float32)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_decoder_draws_sketches_that_end(shared: Path, name: str) -> None:
    model = read_model(shared / "data" / "pretrained_js" / f"{name}.gen.json")
    assert model.config.dec_rnn_size == 512
    max_seq_len, scale_factor = PUBLISHED[name]
    assert model.config.max_seq_len == max_seq_len
    assert float(model.scale_factor) == pytest.approx(scale_factor)
    sketches = generation.sample(model, 6, temperature=0.25, mode="js", seed=1)
    extents = [np.ptp(np.cumsum(sketch[:, :2], axis=0), axis=0).max() for sketch in sketches]
    assert 100 < np.median(extents) < 1500  # pixels of a canvas
    for sketch in sketches:
        assert 1 <= sketch[:, 2].sum() < len(sketch) / 3
    assert min(map(len, sketches)) < max_seq_len


def with_info(**changes: Any) -> Callable[[list[Any]], Any]:
    return lambda value: [{**value[0], **changes}, *value[1:]]


def with_text(place: int, change: Callable[[str], Any]) -> Callable[[list[Any]], Any]:
    def changed(value: list[Any]) -> list[Any]:
        value[2][place] = change(value[2][place])
        return value

    return changed


def with_shapes(shapes: Any) -> Callable[[list[Any]], Any]:
    return lambda value: [value[0], shapes, value[2]]


BROKEN: dict[str, tuple[Callable[[list[Any]], Any], str]] = {
    "empty": (lambda _: "", "it is no JSON, or it is cut short"),
    "cut short": (lambda value: json.dumps(value)[:-90], "it is no JSON, or it is cut short"),
    "deep": (lambda _: "[" * 9000, "it is no JSON, or it is cut short"),
    "an object": (lambda value: value[0], "it is not an array of an object, shapes and weights"),
    "two items": (lambda value: value[:2], "it is not an array of an object, shapes and weights"),
    "swapped": (lambda value: value[::-1], "it is not an array of an object, shapes and weights"),
    "a decoder as a VAE": (with_info(mode=1), "its shapes are [[3, 123], [123], [5, 12], [3, 12]"),
    "mode true": (with_info(mode=True), "its mode is True; a decoder has"),
    "no mode": (lambda value: [{}, *value[1:]], "its mode is None; a decoder has"),
    "a list as mode": (with_info(mode=[2]), "its mode is [2]; a decoder has"),
    "no points": (with_info(max_seq_len=0), "its max_seq_len is 0; it must be a number of points"),
    "half a point": (with_info(max_seq_len=1.5), "its max_seq_len is 1.5; it must be a number"),
    "endless": (
        with_info(max_seq_len=10**9),
        "its max_seq_len is 1000000000; it must be a number of points, 1 to 1048576",
    ),
    "scale 0": (with_info(scale_factor=0), "its scale_factor is 0; it must be a number above 0"),
    "scale NaN": (with_info(scale_factor=math.nan), "its scale_factor is nan; it must be"),
    "scale denormal": (with_info(scale_factor=1e-45), "its scale_factor is 1e-45; it must be a"),
    "scale 0 in float32": (with_info(scale_factor=1e-60), "its scale_factor is 1e-60; it must be"),
    "scale infinite": (with_info(scale_factor=1e39), "its scale_factor is 1e+39; it must be"),
    "scale text": (with_info(scale_factor="1"), "its scale_factor is '1'; it must be a number"),
    "no shapes": (with_shapes([]), "its shapes are []; a decoder of N units, at most 2048"),
    "four shapes": (with_shapes(SHAPES[:4]), "its shapes are [[3, 123], [123], [5, 12], [3, 12]]"),
    "K of 5": (with_shapes([[3, 33], [33], *SHAPES[2:]]), "its shapes are [[3, 33], [33],"),
    "no units": (with_shapes([[0, 123], [123], [5, 0], [0, 0], [0]]), "its shapes are [[0, 123]"),
    "huge": (with_shapes([[10**9, 123], [123], [5, 4], [4], [4]]), "its shapes are [[1000000000,"),
    "numbers": (with_shapes([3, 123]), "its shapes are [3, 123]; a decoder"),
    "four weights": (
        lambda value: [*value[:2], value[2][:4]],
        "it has 4 weights for 5 shapes",
    ),
    "integers": (
        with_text(1, lambda _: [0] * 123),
        "output_b is a list; with shape [123] it takes a string of 328 characters",
    ),
    "a short string": (
        with_text(4, lambda text: text[4:]),
        "bias is 28 characters; with shape [12] it takes a string of 32 characters",
    ),
    "no base64": (with_text(2, lambda text: "!" + text[1:]), "W_xh is no base64"),
    "beyond ASCII": (with_text(2, lambda text: "é" + text[1:]), "W_xh is no base64"),
    "padding": (
        with_text(4, lambda text: text[:-4] + "AA=="),
        "bias holds 22 bytes; [12] takes 24",
    ),
}


@pytest.mark.parametrize(("change", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_malformed_file_is_one_clear_sentence(
    tmp_path: Path, change: Callable[[list[Any]], Any], sentence: str
) -> None:
    path = write(tmp_path, change(copy.deepcopy(content())))
    with pytest.raises(ModelFileError, match=f"^{re.escape(f'{path}: {sentence}')}") as error:
        read_model(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        *(with_info(mode=value) for value in ("a" * 10**7, ["a" * 10**6] * 9, int("9" * 4000))),
        *(with_info(max_seq_len=value) for value in ("b" * 10**6, 10**3999, {"b" * 999: 1})),
        *(with_info(scale_factor=value) for value in ("c" * 10**6, 10**3999, [[[[["c"]]]]] * 99)),
        *(with_shapes(value) for value in ([10**3999], ["d" * 10**6] * 9, [[[9]] * 99] * 9)),
    ],
)
def test_what_a_message_quotes_is_cut(
    tmp_path: Path, change: Callable[[list[Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path(), change(copy.deepcopy(content())))
    with pytest.raises(ModelFileError) as error:
        read_model("knot.gen.json")
    assert len(str(error.value)) < 300


def test_a_file_of_countless_values_is_refused_in_little_memory(tmp_path: Path) -> None:
    path = write(tmp_path, "[" + "[]," * 10**6 + "[]]")
    tracemalloc.start()
    with pytest.raises(ModelFileError, match=r"it holds more values than a model has$"):
        read_model(path)
    assert tracemalloc.get_traced_memory()[1] < 3 * path.stat().st_size
    tracemalloc.stop()


def test_the_largest_model_that_is_taken_sets_the_size_of_its_file(tmp_path: Path) -> None:
    most = sketch_rnn_js.most_bytes()
    sizes = dict.fromkeys(("dec_rnn_size", "enc_rnn_size", "z_size"), 2048)
    model = SketchRNN(sketch_rnn_js.js_config(**sizes), device="meta")
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert 0 < most - 2 * weights * 4 / 3 <= 2**20
    path = tmp_path / "huge.gen.json"
    with path.open("wb") as stream:
        stream.truncate(most + 1)
    with pytest.raises(ModelFileError, match=r"it has more than \d+ bytes; no model is that"):
        read_model(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nowhere.gen.json cannot be read: No such file"):
        read_model(tmp_path / "nowhere.gen.json")
    with pytest.raises(ModelFileError, match=r"cannot be read: Is a directory"):
        read_model(tmp_path)
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    for name in ("pipe.json", "endless.json"):
        with pytest.raises(ModelFileError, match="it is no file, but a device or a pipe"):
            read_model(tmp_path / name)
    (tmp_path / "binary.gen.json").write_bytes(bytes(range(256)))
    with pytest.raises(ModelFileError, match="it is no JSON, or it is cut short"):
        read_model(tmp_path / "binary.gen.json")


# --------------------------------------------------------------------------------------------
# Models with encoder, other forms, and writing

SIZES = {"enc_rnn_size": 4, "dec_rnn_size": 6, "z_size": 3, "max_seq_len": 30}


def js_model(**changes: Any) -> SketchRNN:
    torch.manual_seed(2)
    model = SketchRNN(ModelConfig(**{**SIZES, **changes}))
    model.scale_factor.fill_(61.0124)
    return model.eval()


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("suffix", [".json", ".js"])
def test_a_model_written_and_read_differs_by_no_more_than_the_rounding(
    tmp_path: Path, conditional: bool, suffix: str
) -> None:
    model = js_model(conditional=conditional)
    path = tmp_path / f"knot.gen{suffix}"
    report = write_model(model, path, name="knot")
    again = read_model(path)
    expected, found = magenta.variables(model), magenta.variables(again)
    assert [row.name for row in report] == list(expected) == list(found)
    for row in report:
        error = np.abs(found[row.name].astype(np.float64) - expected[row.name])
        assert row.largest_error == error.max() <= 10 / 32767 / 2 + 1e-6
        assert row.mean_square_error == pytest.approx(np.sqrt((error**2).mean()))
        assert row.saturated == 0
    assert again.config.max_seq_len == 30
    assert float(again.scale_factor) == float(model.scale_factor)
    assert json.loads(path.read_text().split("'")[suffix == ".js"])[0] == {
        "mode": 1 if conditional else 2,
        "version": 6,
        "max_seq_len": 30,
        "name": "knot",
        "scale_factor": 61.0124,
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_decoder_goes_out_as_it_came_in(
    shared: Path, tmp_path: Path, name: str
) -> None:
    path = shared / "data" / "pretrained_js" / f"{name}.gen.json"
    report = write_model(read_model(path), tmp_path / "again.gen.json", name=name)
    before, after = (json.loads(file.read_text()) for file in (path, tmp_path / "again.gen.json"))
    assert after[1:] == before[1:]
    assert after[0]["scale_factor"] == before[0]["scale_factor"]
    assert all(row.largest_error == 0.0 for row in report)


def test_weights_beyond_ten_are_cut_and_counted(tmp_path: Path) -> None:
    model = js_model()
    with torch.no_grad():
        model.decoder_cell.bias[:3] = torch.tensor([11.0, -25.0, 10.0])
    report = write_model(model, tmp_path / "knot.vae.json", name="knot")
    row = report[-1]
    assert (row.name, row.saturated, row.largest_error) == (
        "vector_rnn/RNN/LSTMCell/bias",
        2,
        15.0,
    )
    found = magenta.variables(read_model(tmp_path / "knot.vae.json"))
    assert found[row.name][:3].tolist() == [10.0, -10.0, 10.0]


def test_arrays_are_in_the_readers_order(tmp_path: Path) -> None:
    write_model(js_model(), tmp_path / "knot.vae.json", name="knot")
    shapes = json.loads((tmp_path / "knot.vae.json").read_text())[1]
    encoder = [[5, 16], [4, 16], [16]]
    posterior = [[8, 3], [3], [8, 3], [3]]
    decoder = [[3, 12], [12], [6, 123], [123], [5 + 3, 24], [6, 24], [24]]
    assert shapes == [*encoder, *encoder, *posterior, *decoder]


REFUSED: dict[str, tuple[dict[str, Any], bool, str]] = {
    "cells": ({"dec_model": "hyper"}, False, "this model's cells are hyper and lstm; the readers"),
    "Gaussians": ({"num_mixture": 19}, False, "num_mixture 19; the readers in JavaScript take 20"),
    "classes": (
        {"num_classes": 2},
        False,
        "2 classes, and the readers in JavaScript know none",
    ),
    "encoder": ({}, True, "this model has an encoder, and @magenta/sketch reads decoders only"),
}


@pytest.mark.parametrize(("changes", "decoder_only", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_model_that_the_readers_cannot_run_is_refused(
    tmp_path: Path, changes: dict[str, Any], decoder_only: bool, sentence: str
) -> None:
    path = tmp_path / "knot.json"
    with pytest.raises(ExportError, match=sentence):
        write_model(js_model(**changes), path, name="knot", decoder_only=decoder_only)
    assert not path.exists()


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = js_model()
    with torch.no_grad():
        model.decoder_cell.bias[3] = math.inf
    with pytest.raises(ExportError, match="LSTMCell/bias is not all finite"):
        write_model(model, tmp_path / "knot.json", name="knot")


def test_a_name_that_would_end_the_statement_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "knot.gen.js"
    for name in ("it's", "back\\slash", "line\u2028"):
        with pytest.raises(ExportError, match=r"cannot stand in a \.js file"):
            write_model(js_model(), path, name=name)
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "data_set"),
    [("bear", "bear.npz"), ("cat-dog 2", "cat-dog 2.npz"), ("../x", "knot.npz"), (3, "knot.npz")],
)
def test_the_name_stands_for_the_dataset(tmp_path: Path, name: Any, data_set: str) -> None:
    value = content()
    value[0]["name"] = name
    imported = read_imported(write(tmp_path, value))
    assert imported.train_config == TrainConfig(data_set=(data_set,))
    assert data_set in imported.notes[0]


def test_a_decoder_of_seventeen_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "knot.vae.json"
    write_model(js_model(), path, name="knot")
    value = json.loads(path.read_text())
    value[0]["mode"] = "gen"
    path.write_text(json.dumps(value))
    with pytest.raises(ModelFileError, match=r"a decoder of N units, at most 2048, has \[\[N, 123"):
        read_model(path)
