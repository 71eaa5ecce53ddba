"""Exported parts: the same results as the model in other runtimes, for every size."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_models import SMALL, assert_same_drawing, make_model
from tolerances import assert_close

import sketchrnn_fast
from sketchrnn_fast import SketchRNN, generation
from sketchrnn_fast.interop import onnx_export
from sketchrnn_fast.interop.errors import ExportError
from sketchrnn_fast.interop.onnx_export import write_onnx
from sketchrnn_fast.interop.torch_export import write_programs
from sketchrnn_fast.reference import sampler
from sketchrnn_fast.reference.sampler import Temperature

Runner = Callable[..., list[torch.Tensor]]
STATES = {"lstm": 2, "layer_norm": 2, "hyper": 4}


def model_of(cell: str, conditional: bool) -> SketchRNN:
    model = make_model(enc_model=cell, dec_model=cell, conditional=conditional)
    if conditional:
        with torch.no_grad():
            for linear in (model.posterior_mean, model.posterior_presig):
                linear.weight.normal_()
    model.scale_factor.fill_(12.5)
    return model.eval()


@pytest.mark.parametrize("write", [write_onnx, write_programs])
def test_a_model_with_classes_is_refused_and_nothing_written(
    write: Callable[..., Any], tmp_path: Path
) -> None:
    sentence = "this model has 1 class, and the exported parts take none; huggingface keeps them"
    with pytest.raises(ExportError, match=f"^{re.escape(sentence)}$"):
        write(make_model(num_classes=1), tmp_path / "model")
    assert not any(tmp_path.iterdir())


# The exports take seconds each, so each is made once.
CASES = [("lstm", True), ("layer_norm", True), ("hyper", True), ("hyper", False)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request: pytest.FixtureRequest) -> tuple[SketchRNN, str]:
    return model_of(*request.param), request.param[0]


@pytest.fixture(scope="module")
def onnx_folder(case: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "model"
    differences = write_onnx(case[0], folder)
    assert set(differences) == {file.stem for file in folder.glob("*.onnx")}
    assert all(0 <= value < 1e-6 for value in differences.values())
    return folder


@pytest.fixture(scope="module")
def torch_folder(case: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch") / "model"
    write_programs(case[0], folder)
    return folder


def onnx_runner(file: Path) -> Runner:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(*inputs: torch.Tensor) -> list[torch.Tensor]:
        arrays = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, arrays)]

    return run


def torch_runner(file: Path) -> Runner:
    module = torch.export.load(str(file)).module()

    def run(*inputs: torch.Tensor) -> list[torch.Tensor]:
        with torch.no_grad():
            return list(module(*inputs))

    return run


@pytest.fixture(params=["onnx", "torch"])
def runner(request: pytest.FixtureRequest) -> Callable[[str], Runner]:
    """Gives the function that a part is, in each runtime."""
    folder: Path = request.getfixturevalue(f"{request.param}_folder")
    make = {"onnx": onnx_runner, "torch": torch_runner}[request.param]
    suffix = {"onnx": "onnx", "torch": "pt2"}[request.param]
    return lambda part: make(folder / f"{part}.{suffix}")


def test_every_part_is_there_with_its_configuration(
    case: Any, onnx_folder: Path, torch_folder: Path
) -> None:
    model, cell = case
    parts = {"encoder", "start", "step"} if model.config.conditional else {"step"}
    for folder, suffix in ((onnx_folder, ".onnx"), (torch_folder, ".pt2")):
        assert {file.name for file in folder.iterdir()} == {
            "config.json",
            *(part + suffix for part in parts),
        }
        config = json.loads((folder / "config.json").read_text())
        assert config["scale_factor"] == 12.5
        assert config["model"]["dec_model"] == cell
        widths = [SMALL["dec_rnn_size"]] * 2 + [SMALL["hyper_num_units"]] * 2
        assert list(config["state"].values()) == widths[: STATES[cell]]


@pytest.mark.parametrize(("rows", "points"), [(1, 1), (3, 7), (5, 20)])
def test_the_encoder_gives_the_models_posterior_for_every_size(
    case: Any, runner: Any, rows: int, points: int
) -> None:
    model, cell = case
    if not model.config.conditional:
        with pytest.raises(Exception, match="encoder"):  # there is no such file
            runner("encoder")
        return
    generator = torch.Generator().manual_seed(rows)
    strokes = torch.randn(rows, points, 5, generator=generator)
    lengths = torch.randint(1, points + 1, (rows,), generator=generator)
    lengths[0] = points
    for row, length in enumerate(lengths):
        strokes[row, length:] = torch.nan  # what stands there must not matter
    start = torch.zeros(rows, 1, 5)
    with torch.no_grad():
        expected = model.encode(torch.cat([start, strokes.nan_to_num(9)], 1), lengths)
    found = runner("encoder")(strokes, lengths)
    for result, wanted in zip(found, expected, strict=True):
        assert_close(result, wanted, torch.float32, "hyper" if cell == "hyper" else "value")


def test_the_decoder_steps_give_the_models_parameters(case: Any, runner: Any) -> None:
    model, cell = case
    rows, steps = 3, 6
    generator = torch.Generator().manual_seed(1)
    strokes = torch.randn(rows, steps, 5, generator=generator)
    z: list[torch.Tensor] = []
    state = [torch.zeros(rows, width) for width in model.decoder_cell.state_widths]
    if model.config.conditional:
        z = [torch.randn(rows, model.config.z_size, generator=generator)]
        state = runner("start")(*z)
    step, params = runner("step"), []
    for t in range(steps):
        now, *state = step(strokes[:, t], *z, *state)
        params.append(now)
    with torch.no_grad():
        expected, final = model.decode(strokes, z[0] if z else None)
    kind = "hyper" if cell == "hyper" else "value"
    assert_close(torch.stack(params), expected, torch.float32, kind)
    for part, wanted in zip(state, final, strict=True):
        assert_close(part, wanted, torch.float32, kind)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_whole_generation_loop_draws_the_models_sketches(
    case: Any, onnx_folder: Path, temperature: float
) -> None:
    model, _ = case
    count, seed = 3, 11
    state = [torch.zeros(count, width) for width in model.decoder_cell.state_widths]
    z: list[torch.Tensor] = []
    if model.config.conditional:
        z = [generation.prior(model, count, seed)]
        state = onnx_runner(onnx_folder / "start.onnx")(*z)
    run = onnx_runner(onnx_folder / "step.onnx")

    def step(stroke: torch.Tensor, state: Any) -> Any:
        params, *new_state = run(stroke, *z, *state)
        return params, tuple(new_state)

    seeds = torch.arange(count) + seed
    limit = model.config.max_seq_len
    strokes, lengths = sampler.generate(step, tuple(state), seeds, limit, Temperature(temperature))
    with sketchrnn_fast.backend("reference"):
        expected = generation.sample(model, count, temperature=temperature, seed=seed)
    for row, wanted in enumerate(expected):
        drawn = strokes[: lengths[row], row].numpy()
        found = np.concatenate([drawn[:, :2] * 12.5, drawn[:, 3:4]], axis=1)
        assert_same_drawing(found.astype(np.float32), wanted)


def test_onnx_files_pass_the_checker_name_their_sizes_and_no_path(onnx_folder: Path) -> None:
    for file in onnx_folder.glob("*.onnx"):
        proto = onnx.load(file)
        onnx.checker.check_model(proto, full_check=True)
        axes = [
            [dimension.dim_param for dimension in entry.type.tensor_type.shape.dim]
            for entry in proto.graph.input
        ]
        assert all(names[0] == "B" for names in axes)
        if file.stem == "encoder":
            assert axes[0][1] == "T"
            operators = [node.op_type for node in proto.graph.node]
            assert operators.count("Scan") == 2
        assert b"/sketchrnn_fast/" not in file.read_bytes()


def test_programs_name_no_path(torch_folder: Path) -> None:
    for file in torch_folder.glob("*.pt2"):
        assert b"/sketchrnn_fast/" not in file.read_bytes()


def test_an_export_leaves_the_model_its_mode_and_torch_its_generator(tmp_path: Path) -> None:
    model = model_of("lstm", False).train()
    before = torch.get_rng_state()
    write_programs(model, tmp_path / "model")
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_a_runtime_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "MOST_DIFFERENCE", 1e-12)
    with pytest.raises(ExportError, match="onnxruntime's results of the step differ from"):
        write_onnx(model_of("lstm", False), tmp_path / "model")
    assert not (tmp_path / "model").exists()
