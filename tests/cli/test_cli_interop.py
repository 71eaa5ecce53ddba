"""`import` and `export`: as a user would call them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from published import write_decoder

from sketchrnn_fast.interop.exporting import FORMS
from sketchrnn_fast.interop.magenta_checkpoint import read_checkpoint
from sketchrnn_fast.training import checkpoints


def test_a_checkpoint_goes_out_comes_in_and_trains_on(
    command, trained: Path, data_dir: Path, tmp_path: Path
) -> None:
    magenta, again = tmp_path / "magenta", tmp_path / "again"
    code, out, err = command("export", trained, "--format", "tensorflow", "--out", magenta)
    assert (code, err) == (0, "")
    assert str(magenta) in out
    step = checkpoints.read_state(checkpoints.find(trained)).step
    assert read_checkpoint(magenta).step == step
    code, out, err = command("import", magenta, "--out", again, "--data_dir", data_dir)
    assert (code, err) == (0, "")
    assert f"{step} steps done" in out
    arguments = ("--log_root", again, "--data_dir", data_dir, f"--num_steps={step + 2}")
    code, out, err = command("train", "--resume_training", *arguments)
    assert (code, err) == (0, "")
    assert f"done: {step + 2} steps" in out
    assert command("evaluate", again, "--data_dir", data_dir)[0] == 0


def test_a_place_that_the_system_refuses_is_named_without_its_number(
    command, tmp_path: Path
) -> None:
    source = write_decoder(tmp_path / "knot.gen.json")
    code, out, err = command("import", source, "--out", "/proc/x")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: /proc/\S*: [A-Z][a-z ]+\n", err)


def test_a_published_decoder_is_imported_trained_on_evaluated_and_drawn_with(
    command, data_dir: Path, tmp_path: Path
) -> None:
    source, model = write_decoder(tmp_path / "knot.gen.json"), tmp_path / "model"
    hparams = "data_set=[polygons.npz],batch_size=8,num_steps=2,save_every=1"
    arguments = ("--out", model, "--hparams", hparams, "--data-dir", data_dir)
    code, out, err = command("import", source, *arguments)
    assert (code, err) == (0, "")
    assert "note: max_seq_len " in out
    assert "sketchrnn-fast train --log_root" in out
    places = ("--data_dir", data_dir)
    assert command("train", "--resume_training", "--log_root", model, *places)[0] == 0
    assert command("evaluate", model, *places)[0] == 0
    assert command("sample", model, "--count=2", "--out", tmp_path / "grid.svg")[0] == 0


def test_the_scale_factor_can_be_said(command, trained: Path, tmp_path: Path) -> None:
    magenta = tmp_path / "magenta"
    assert command("export", trained, "--format=tensorflow", "--out", magenta)[0] == 0
    code, out, _ = command("import", magenta, "--out", tmp_path / "plain")
    assert code == 0
    assert "note: the scale factor of polygons.npz is not known: it is 1" in out
    arguments = ("--out", tmp_path / "scaled", "--scale-factor", 7.5)
    assert command("import", magenta, *arguments)[0] == 0
    assert float(checkpoints.load_model(tmp_path / "scaled").scale_factor) == 7.5


@pytest.mark.parametrize("format", ["magenta-js", "sketch-rnn-js"])
def test_a_javascript_export_reports_the_rounding(command, tmp_path: Path, format: str) -> None:
    source, out = write_decoder(tmp_path / "knot.gen.json"), tmp_path / "again.gen.json"
    code, printed, err = command(
        "export", source, "--format", format, "--out", out, "--name", "knot"
    )
    assert (code, err) == (0, "")
    assert "vector_rnn/RNN/LSTMCell/W_hh" in printed
    assert "largest error" in printed
    assert json.loads(out.read_text())[1:] == json.loads(source.read_text())[1:]


@pytest.mark.parametrize("format", ["onnx", "torch", "huggingface"])
def test_other_formats_are_folders(command, tmp_path: Path, format: str) -> None:
    source, out = write_decoder(tmp_path / "knot.gen.json"), tmp_path / format
    code, printed, err = command("export", source, "--format", format, "--out", out)
    assert (code, err) == (0, "")
    assert f"written: {out}" in printed
    assert any(out.iterdir())
    if format == "onnx":
        assert "step: onnxruntime differs from PyTorch by" in printed
    code, _, err = command("export", source, "--format", format, "--out", out)
    assert code == 2
    assert "exists and is no empty folder" in err
    assert {file.name for file in tmp_path.iterdir()} == {source.name, format}


def test_a_card_has_the_figures_of_the_run(command, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "hub"
    assert command("export", trained, "--format=huggingface", "--out", out)[0] == 0
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    step = checkpoints.read_state(checkpoints.find(trained)).step
    cost = next(r["cost"] for r in records if (r["step"], r["split"]) == (step, "valid"))
    assert f"| valid cost | {cost:.4f} |" in (out / "README.md").read_text()
    assert command("sample", out, "--count=1", "--out", tmp_path / "grid.svg")[0] == 0


BAD_EXPORTS = {
    "format": (["--format=gif", "--out=x"], "format is 'gif'; it takes magenta-js, sketch-rnn-js,"),
    "cells": (["--format=magenta-js", "--out=x.json"], "num_mixture|cells are|has an encoder"),
    "no folder": (["--format=onnx", "--out=nowhere/x"], "cannot be written: there is no folder"),
    "a folder": (["--format=sketch-rnn-js", "--out=."], "is a folder; a file is written there"),
}


@pytest.mark.parametrize(("arguments", "sentence"), BAD_EXPORTS.values(), ids=BAD_EXPORTS)
def test_a_bad_export_is_one_sentence_and_writes_nothing(
    command,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command("export", trained, *arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert re.search(sentence, err)
    assert err.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.fixture
def trained_on_classes(command, data_dir: Path, tmp_path: Path) -> Path:
    """The log root of a run of a decoder that the JavaScript readers would take but for classes."""
    for name in ("cat", "bus"):
        shutil.copyfile(data_dir / "polygons.npz", tmp_path / f"{name}.npz")
    hparams = (
        "data_set=[cat.npz,bus.npz],num_classes=2,conditional=false,dec_rnn_size=8,batch_size=8,"
        "num_steps=2,save_every=2"
    )
    log_root = tmp_path / "classes"
    arguments = ("--data_dir", tmp_path, "--log_root", log_root, "--hparams", hparams)
    assert command("train", *arguments, "--pictures=0")[0] == 0
    return log_root


@pytest.mark.parametrize("format", sorted(set(FORMS) - {"huggingface"}))
def test_a_model_with_classes_is_refused_where_they_have_no_place(
    command, trained_on_classes: Path, tmp_path: Path, format: str
) -> None:
    before = {*tmp_path.iterdir()}
    arguments = ("--format", format, "--out", tmp_path / "out")
    code, _, err = command("export", trained_on_classes, *arguments)
    assert code == 2
    whose = r"(the readers in JavaScript know|Magenta's models have|the exported parts take)"
    sentence = f"error: this model has 2 classes, and {whose} none; huggingface keeps them\n"
    assert re.fullmatch(sentence, err)
    assert {*tmp_path.iterdir()} == before


def test_a_hugging_face_folder_keeps_the_classes(
    command, trained_on_classes: Path, tmp_path: Path
) -> None:
    out, grid = tmp_path / "hub", tmp_path / "grid.svg"
    arguments = ("--format=huggingface", "--out", out)
    assert command("export", trained_on_classes, *arguments)[0] == 0
    assert checkpoints.load_model(out).config.class_names == ("cat", "bus")
    assert command("sample", out, "--count=1", "--class=bus", "--out", grid)[0] == 0


def test_a_missing_library_names_the_extra(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_decoder(tmp_path / "knot.gen.json")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, err = command("export", source, "--format=onnx", "--out", tmp_path / "x")
    assert code == 2
    assert "onnxruntime is not installed; ONNX files need sketchrnn-fast[onnx]" in err
    monkeypatch.delitem(sys.modules, "sketchrnn_fast.interop.hub", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    code, _, err = command("export", source, "--format=huggingface", "--out", tmp_path / "x")
    assert code == 2
    assert "huggingface_hub is not installed; Hugging Face folders need sketchrnn-fast[hub]" in err


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: None, "source does not exist; a source is"),
        (lambda folder: folder.mkdir(), "holds no model from elsewhere; read are Magenta's"),
        (lambda folder: folder.write_bytes(b"\0"), "holds no model from elsewhere"),
    ],
)
def test_a_bad_source_is_one_sentence_and_leaves_nothing(
    command, tmp_path: Path, make, sentence: str
) -> None:
    make(tmp_path / "source")
    code, _, err = command("import", tmp_path / "source", "--out", tmp_path / "out")
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_bad_options_of_an_import_are_refused(command, trained: Path, tmp_path: Path) -> None:
    source = write_decoder(tmp_path / "knot.gen.json")
    for arguments, sentence in (
        (("--out", trained), "holds a run already"),
        (("--out", tmp_path / "x", "--scale-factor=0"), "scale_factor is 0.0; it must be a number"),
        (("--out", tmp_path / "x", "--scale-factor=nan"), "scale_factor is nan; it must be"),
        (
            ("--out", tmp_path / "x", "--scale-factor=2", "--data-dir=."),
            "data_dir and scale_factor are both given",
        ),
        (("--out", tmp_path / "x", "--hparams=dec_rnn_size=4"), "dec_rnn_size is 4, but the file"),
        (("--out", tmp_path / "x", "--hparams=num_classes=3"), "num_classes is 3, but the file"),
        (("--out", tmp_path / "x", "--data-dir", tmp_path), "knot.npz does not exist"),
    ):
        code, _, err = command("import", source, *arguments)
        assert code == 2
        assert sentence in err
    assert not (tmp_path / "x").exists()
