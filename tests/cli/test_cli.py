"""The command line does what it says, and bad input ends it with one sentence and exit code 2."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from drawings import TINY_MODEL, write_polygons

from sketchrnn_fast.config import field_types

TINY = [f"--{name}={value}" for name, value in TINY_MODEL.items()]


def test_help_and_the_package_itself_import_neither_torch_nor_matplotlib() -> None:
    for statement in (
        "import sketchrnn_fast",
        "import sketchrnn_fast.cli",
        "import sketchrnn_fast.data, sketchrnn_fast.strokes, sketchrnn_fast.render",
    ):
        code = f"import sys; {statement}; print({{'torch', 'matplotlib'}} & set(sys.modules))"
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == "set()", statement


def test_help_names_every_command_and_hyper_parameter(
    command, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = command("--help")
    assert code == 0
    for name in (
        *("train", "evaluate", "sample", "reconstruct", "interpolate"),
        *("complete", "sweep", "import", "export", "info"),
    ):
        assert name in out
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = command("train", "--help")
    assert code == 0
    for name in ("data_dir", "log_root", "resume_training", "hparams", *field_types()):
        assert f"--{name.replace('_', '-')}" in out


def test_training_leaves_a_model_that_resumes(command, trained: Path, data_dir: Path) -> None:
    assert (trained / "checkpoints" / "last").read_text() == "step-4\n"
    arguments = ("train", "--resume_training", "--log_root", trained, "--data-dir", data_dir)
    code, out, err = command(*arguments, "--num_steps=6")
    assert (code, err) == (0, "")
    assert "done: 6 steps" in out
    assert (trained / "checkpoints" / "last").read_text() == "step-6\n"


def test_evaluate_prints_and_writes_every_figure(command, trained: Path, data_dir: Path) -> None:
    file = data_dir / "figures.json"
    code, out, _ = command("evaluate", trained, "--data_dir", data_dir, "--json", file)
    assert code == 0
    figures = json.loads(file.read_text())
    assert figures["sketches"] == 10
    for name, value in figures.items():
        if name != "sketches":
            assert name in out
            assert f"{value:.4f}" in out


@pytest.mark.parametrize("suffix", [".svg", ".png"])
@pytest.mark.parametrize("source", [[], ["--z", "data"], ["--greedy"], ["--mode", "js"]])
def test_sample_writes_a_grid(
    command, trained: Path, data_dir: Path, tmp_path: Path, suffix: str, source: list[str]
) -> None:
    out = tmp_path / f"grid{suffix}"
    data = ("--data_dir", data_dir) if "data" in source else ()
    arguments = ("--count", 5, "--seed", 3, *data, "--out", out)
    code, printed, err = command("sample", trained, *arguments, *source)
    assert (code, err) == (0, "")
    assert str(out) in printed
    head = out.read_bytes()[:8]
    assert head.startswith(b"<svg" if suffix == ".svg" else b"\x89PNG")


def test_a_model_of_short_sketches_is_shown_the_short_ones(
    command, data_dir: Path, tmp_path: Path
) -> None:
    log_root, out = tmp_path / "run", tmp_path / "grid.svg"
    hparams = "data_set=[polygons.npz],batch_size=4,num_steps=1,max_seq_len=6"
    places = ("--data_dir", data_dir)
    arguments = ("train", *TINY, *places, "--log_root", log_root, "--hparams", hparams)
    assert command(*arguments)[0] == 0
    for arguments in (("evaluate", log_root), ("sample", log_root, "--z=data", "--count=2")):
        extra = ("--out", out) if arguments[0] == "sample" else ()
        code, printed, err = command(*arguments, *places, *extra)
        assert (code, err) == (0, "")
        assert re.search(r"left out: \d+ sketches of more than 6 points", printed)


def test_resuming_takes_the_forms_of_absl_and_says_when_there_is_nothing_to_do(
    command, trained: Path, data_dir: Path
) -> None:
    arguments = ("--log_root", trained, "--data_dir", data_dir, "--num_steps=1")
    code, out, _ = command("train", "--resume_training=true", *arguments)
    assert code == 0
    assert "nothing to do: the run has" in out
    code, _, err = command("train", "--resume_training=false", *arguments)
    assert code == 2
    assert "holds a run already" in err


def test_figures_can_go_to_a_device_and_through_a_link(
    command, trained: Path, data_dir: Path, tmp_path: Path
) -> None:
    target, link = tmp_path / "figures.json", tmp_path / "link.json"
    link.symlink_to(target)
    for path in (link, Path("/dev/null")):
        code, _, err = command("evaluate", trained, "--data_dir", data_dir, "--json", path)
        assert (code, err) == (0, "")
    assert link.is_symlink()
    assert json.loads(target.read_text())["sketches"] == 10
    assert Path("/dev/null").is_char_device()


def test_an_output_that_is_a_folder_is_refused_before_any_work(
    command, trained: Path, data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "grid.svg").mkdir()
    (tmp_path / "loop.svg").symlink_to(tmp_path / "loop.svg")
    for arguments in (
        ("sample", trained, "--out", tmp_path / "grid.svg"),
        ("sample", trained, "--out", tmp_path / "loop.svg"),
        ("evaluate", trained, "--data_dir", data_dir, "--json", tmp_path),
    ):
        code, out, err = command(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_evaluate_gives_the_figures_of_the_run(command, trained: Path, data_dir: Path) -> None:
    file = data_dir / "again.json"
    assert command("evaluate", trained, "--data_dir", data_dir, "--json", file)[0] == 0
    lines = (trained / "metrics.jsonl").read_text().splitlines()
    tests = [record for record in map(json.loads, lines) if record["split"] == "test"]
    assert json.loads(file.read_text())["cost"] == pytest.approx(tests[-1]["cost"], rel=1e-6)


def test_the_same_seed_draws_the_same_grid(command, trained: Path, tmp_path: Path) -> None:
    grids = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / f"{name}.svg"
        assert command("sample", trained, "--seed", seed, "--out", out)[0] == 0
        grids.append(out.read_text())
    assert grids[0] == grids[1] != grids[2]


def test_info_tells_versions_and_backends(command) -> None:
    code, out, _ = command("info")
    assert code == 0
    for word in ("sketchrnn-fast", "Python", "PyTorch", "native module", "CPU", "GPU", "CUDA"):
        assert word in out
    assert "backend reference  hyper_lstm, layer_norm_lstm, lstm, mixture_density" in out
    assert "backend triton     no: " in out or "backend triton     mixture_density" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data_set", "nowhere.npz"], "nowhere.npz does not exist"),
        (["--data_set", "drawing.png"], "there is no dataset 'drawing.png'"),
        (["--data_set", "text.npz"], "text.npz"),
        (["--hparams", "dec_size=3"], "hparams has no 'dec_size'"),
        (["--hparams", "dec_rnn_size=many"], "dec_rnn_size is 'many'; it takes a whole number"),
        (["--hparams", "conditional=yes"], "conditional is 'yes'; it takes true, false or"),
        (["--hparams", "data_set=a.npz"], "data_set is 'a.npz'; it takes a list"),
        (["--hparams", "z_size=3,z_size=4"], "hparams names z_size twice"),
        (["--hparams", "z_size=3", "--z_size=4"], "z_size is given twice"),
        (["--dec_model", "gru"], "dec_model is 'gru'; it takes lstm or layer_norm or hyper"),
        (["--num_mixture=0"], "num_mixture is 0; it must be at least 1"),
        (["--recurrent_dropout_prob=0"], "it is the probability to keep"),
        (["--objective", "mse"], "objective is 'mse'; it takes magenta or masked"),
        (["--batch_size", "41"], "the train split has 40 sketches and batch_size is 41"),
        (["--log_root", "text.npz"], "is a file, not a folder"),
        (["--resume_training"], "does not exist"),
        (["--device", "abacus"], "device is 'abacus'; it takes auto, cpu, cuda"),
        (["--device", "cpu:x"], "the device cpu:x cannot be used here"),
    ],
)
def test_bad_input_to_train_ends_in_one_sentence(
    command,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_polygons(tmp_path / "polygons.npz")
    (tmp_path / "text.npz").write_text("not a zip")
    standard = ["--data_set", "polygons.npz"]
    if "--data_set" in arguments or any("data_set" in argument for argument in arguments):
        standard = []
    code, _, err = command("train", *standard, *TINY, *arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["polygons.npz", "text.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "grid.gif"], ".svg"),
        (["--out", "nowhere/grid.svg"], "there is no folder nowhere"),
        (["--out", "/"], "ends in no suffix"),
        (["--temperature", "inf"], "temperature is inf; it must be a number of at least 0"),
        (["--mode", "python"], "mode is 'python'; it takes magenta or js"),
        (["--z", "nothing"], "z is 'nothing'; it takes prior or data"),
        (["--z", "data", "--split", "all"], "split is 'all'; it takes train, valid, test"),
        (["--z", "data", "--count", "11"], "has 10 sketches; 11 were asked for"),
    ],
)
def test_bad_input_to_sample_ends_in_one_sentence(
    command,
    trained: Path,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command("sample", trained, "--data_dir", data_dir, *arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_not_there_is_named(command, tmp_path: Path) -> None:
    for name in ("sample", "evaluate"):
        code, _, err = command(name, tmp_path / "nowhere")
        assert code == 2
        assert err == f"error: {tmp_path / 'nowhere'} does not exist; a model is a folder\n"
