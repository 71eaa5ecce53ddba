"""The commands that draw: what they write, and what they refuse before they begin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawings import TINY_MODEL
from published import write_decoder

from sketchrnn_fast import generation
from sketchrnn_fast.data import load, read_sketches, write_sketches
from sketchrnn_fast.training import checkpoints

COMMANDS = ("sample", "reconstruct", "interpolate", "complete", "sweep")
POLYGON = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [-10, -10, 1]], np.float32)


@pytest.fixture(scope="package")
def unconditional(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    log_root = tmp_path_factory.mktemp("runs") / "unconditional"
    subprocess.run(
        [
            *(sys.executable, "-m", "sketchrnn_fast", "train"),
            *(f"--{name}={value}" for name, value in TINY_MODEL.items()),
            *("--data_dir", str(data_dir), "--log_root", str(log_root), "--no-conditional"),
            *("--hparams", "data_set=[polygons.npz],batch_size=8,num_steps=2,save_every=2"),
        ],
        check=True,
        cwd=data_dir,
    )
    return log_root


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    return write_decoder(tmp_path / "knot.gen.json")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_writes_all_the_files_that_are_asked_for(
    command, trained: Path, data_dir: Path, tmp_path: Path, name: str
) -> None:
    files = [tmp_path / f"drawn{suffix}" for suffix in (".svg", ".png", ".npz")]
    data = () if name in ("sample", "sweep") else ("--data_dir", data_dir)
    outs = [argument for file in files for argument in ("--out", file)]
    code, printed, err = command(name, trained, "--count", 3, *data, *outs)
    assert (code, err) == (0, "")
    assert printed.endswith(f": {', '.join(map(str, files))}\n")
    heads = [file.read_bytes()[:4] for file in files]
    assert heads == [b"<svg", b"\x89PNG", b"PK\x03\x04"]
    counts = {"sample": 3, "reconstruct": 3, "interpolate": 19, "complete": 12, "sweep": 30}
    assert len(read_sketches(files[2])) == counts[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_without_out_an_svg_is_written_here(
    command, trained: Path, data_dir: Path, tmp_path: Path, monkeypatch: Any, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    data = () if name in ("sample", "sweep") else ("--data_dir", data_dir)
    assert command(name, trained, "--count", 2, *data)[0] == 0
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".svg"
    assert file.name in command(name, trained, "--count", 2, *data)[1]


def drawn(command, *arguments: object) -> list[Any]:
    *_, out = arguments
    code, _, err = command(*arguments[:-1], "--out", out)
    assert (code, err) == (0, "")
    assert isinstance(out, Path)
    return read_sketches(out)


def assert_equal(found: list[Any], expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_the_commands_draw_what_the_functions_draw(
    command, trained: Path, data_dir: Path, tmp_path: Path
) -> None:
    model = checkpoints.load_model(trained)
    factor = float(model.scale_factor)
    test = load(["polygons.npz"], data_dir, scale_factor=factor).test
    scale = np.array([factor, factor, 1], np.float32)
    chosen = [test[index] * scale for index in (2, 0, 7)]
    settings = {
        **{"temperature": 0.7, "mode": "js", "seed": 5, "max_len": 9},
        "storage": "bfloat16",
    }
    options = [item for name, value in settings.items() for item in (f"--{name}", value)]
    data = ("--data_dir", data_dir, "--indices", "2,0,7")
    out = tmp_path / "drawn.npz"

    found = drawn(command, "reconstruct", trained, *data, *options, "--z=sample", out)
    assert_equal(found, generation.reconstruct(model, chosen, z_from="sample", **settings))
    found = drawn(
        command, "interpolate", trained, *data, *options, "--steps=4", "--method=lerp", out
    )
    assert_equal(found, generation.interpolate(model, chosen, 4, method="lerp", **settings))
    found = drawn(command, "interpolate", trained, "--z=prior", *options, "--steps=3", out)
    ends = generation.prior(model, 2, 5)
    assert_equal(found, generation.interpolate(model, ends, 3, **settings))
    found = drawn(command, "complete", trained, *data, *options, "--points=2", "--repeats=2", out)
    prefixes = [sketch[:2] for sketch in chosen for _ in range(2)]
    assert_equal(found, generation.complete(model, prefixes, **settings))
    found = drawn(command, "complete", trained, *data, *options, "--repeats=1", "--z=prefix", out)
    prefixes = [sketch[: len(sketch) // 2] for sketch in chosen]
    assert_equal(found, generation.complete(model, prefixes, z="prefix", **settings))
    found = drawn(command, "sample", trained, *data, *options, "--z=data", out)
    z = generation.encode(model, chosen)
    assert_equal(found, generation.sample(model, 3, z=z, **settings))
    found = drawn(command, "sweep", trained, "--temperatures=0,0.5", "--count=2", "--seed=5", out)
    assert_equal(found, generation.temperature_sweep(model, [0, 0.5], 2, seed=5))


def test_a_grid_of_reconstructions_shows_each_sketch_beside_its_own(
    command, trained: Path, data_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "grid.svg"
    arguments = ("--data_dir", data_dir, "--count", 4, "--max_len", 5, "--out", out)
    assert command("reconstruct", trained, *arguments)[0] == 0
    assert 'width="200" height="400"' in out.read_text()


def test_what_one_command_wrote_another_reads(command, unconditional: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    whole = drawn(command, "sample", unconditional, "--count=5", "--seed=3", first)
    arguments = ("--sketches", first, "--repeats=1", "--seed=3")
    assert_equal(drawn(command, "complete", unconditional, *arguments, "--points=3", second), whole)
    longer = drawn(command, "complete", unconditional, *arguments, "--indices=4,0", second)
    for sketch, beginning in zip(longer, (whole[4], whole[0]), strict=True):
        np.testing.assert_array_equal(sketch[: len(beginning)], beginning)
    assert len(drawn(command, "complete", unconditional, *arguments, "--count=2", second)) == 2


@pytest.mark.parametrize("name", ["sample", "sweep", "complete"])
def test_a_published_decoder_is_a_model(command, decoder: Path, tmp_path: Path, name: str) -> None:
    write_sketches(tmp_path / "prefixes.npz", [POLYGON])
    data = ("--sketches", tmp_path / "prefixes.npz") if name == "complete" else ()
    sketches = drawn(command, name, decoder, *data, tmp_path / "drawn.npz")
    assert len(sketches) == {"sample": 16, "sweep": 40, "complete": 4}[name]
    if name == "complete":
        np.testing.assert_array_equal(sketches[0][:4], POLYGON)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError("9 sketches take 99 bytes"), "9 sketches take 99 bytes"),
        (MemoryError(), "there is not enough memory"),
    ],
)
def test_too_little_memory_ends_in_one_sentence(
    command, decoder: Path, monkeypatch: pytest.MonkeyPatch, error: MemoryError, sentence: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(generation, "sample", fails)
    assert command("sample", decoder) == (2, "", f"error: {sentence}\n")


BAD: list[tuple[str, list[str], str]] = [
    *(
        (name, ["--out", "a.svg", "--out", "drawn.gif"], "drawn.gif ends in .gif")
        for name in COMMANDS
    ),
    *((name, ["--out", "x/drawn.npz"], "there is no folder x") for name in COMMANDS),
    *((name, ["--mode", "hot"], "mode is 'hot'; it takes magenta or js") for name in COMMANDS),
    *((name, ["--storage", "int8"], "storage is 'int8'; it takes float32") for name in COMMANDS),
    *((name, ["--device", "abacus"], "device is 'abacus'; it takes") for name in COMMANDS),
    *(
        (name, ["--temperature", "-1"], "temperature is -1.0; it must be a number of at least 0")
        for name in COMMANDS
        if name != "sweep"
    ),
    *(
        (name, ["--z", "x"], f"z is 'x'; it takes {accepted}")
        for name, accepted in (
            ("sample", "prior or data"),
            ("reconstruct", "mean or sample"),
            ("interpolate", "data or prior"),
            ("complete", "prior or prefix"),
        )
    ),
    ("sample", ["--out", "a.svg", "--out", "./a.svg"], "out names one file twice"),
    ("sweep", ["--temperatures", "0.1,warm"], "temperatures is '0.1,warm'; it takes comma-"),
    ("sweep", ["--temperatures", "0.1,nan"], "temperature is nan; it must be a number"),
    ("interpolate", ["--method", "nlerp"], "method is 'nlerp'; it takes slerp or lerp"),
    ("interpolate", ["--indices", "3"], "there is 1 sketch; a path takes at least two"),
    ("reconstruct", ["--split", "all"], "split is 'all'; it takes train, valid, test"),
    ("reconstruct", ["--count", "11"], "split test has 10 sketches; 11 were asked for"),
    ("reconstruct", ["--indices", "3,10"], "has 10 sketches, 0 to 9; index 10 was asked for"),
    ("reconstruct", ["--indices", "-1"], "has 10 sketches, 0 to 9; index -1 was asked for"),
    ("reconstruct", ["--indices", "1;2"], "indices is '1;2'; it takes comma-separated whole"),
    ("reconstruct", ["--indices", "1", "--count", "2"], "indices and count are both given"),
    ("reconstruct", ["--data_set", "no.npz"], "no.npz does not exist"),
    ("complete", ["--sketches", "no.npz"], "no.npz does not exist; a list of sketches is an .npz"),
    *(
        (
            "complete",
            ["--sketches", "a.npz", f"--{option}", value],
            f"sketches and {option} are both",
        )
        for option, value in (("data_set", "b.npz"), ("data_dir", "."), ("split", "test"))
    ),
    *(
        (name, ["--z", "prior", f"--{option}", value], f"{option} is given, but z is prior, for wh")
        for name in ("sample", "interpolate")
        for option, value in (
            *(("data_set", "b.npz"), ("data_dir", "."), ("split", "test")),
            *(("sketches", "a.npz"), ("indices", "1,2")),
        )
    ),
    ("sample", ["--sketches", "a.npz"], "sketches is given, but z is prior"),
    *(
        (name, ["--max_len", str(10**11)], "max_len is 100000000000; it must be a whole number fr")
        for name in COMMANDS
    ),
    ("complete", ["--max_len", "2", "--points", "3"], "prefix 0 has 3 points; with max_len 2"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD)
def test_bad_input_ends_in_one_sentence_and_writes_nothing(
    command,
    trained: Path,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    has_no_data = name in ("sample", "sweep") or {"--sketches", "prior"} & {*arguments}
    data = () if has_no_data else ("--data_dir", data_dir)
    code, out, err = command(name, trained, *data, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_needs_an_encoder_refuses_a_decoder(
    command, decoder: Path, unconditional: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for model in (decoder, unconditional):
        for arguments in (("reconstruct",), ("interpolate",), ("complete", "--z=prefix")):
            code, _, err = command(arguments[0], model, *arguments[1:])
            assert (code, err) == (2, f"error: {model} is unconditional: it has no encoder\n")
    code, _, err = command("complete", decoder)
    assert code == 2
    assert "does not say what it was trained on; name a data_set, or a file of sketches" in err


def test_a_model_that_is_no_model_is_named(command, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no model")
    for name in COMMANDS:
        code, _, err = command(name, tmp_path / "nowhere")
        assert (code, err) == (
            2,
            f"error: {tmp_path / 'nowhere'} does not exist; a model is a folder\n",
        )
        code, _, err = command(name, text)
        assert (code, err) == (2, f"error: {text}: it is no JSON, or it is cut short\n")
