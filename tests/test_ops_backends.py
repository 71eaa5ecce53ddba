"""Which backend runs an op: device, context manager, environment variable, and refusals."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from cells import Cell, each_cell, make_case, run_op

from sketchrnn_fast.ops import BackendError, backend, backends

CPU = torch.device("cpu")


class CalledError(Exception):
    """A backend of the test's own has been asked to run."""


@pytest.fixture(autouse=True)
def no_choice_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(backends.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.delenv(backends.INTERPRETER_VARIABLE, raising=False)


@pytest.fixture
def with_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every op with a reference and a native backend, the latter a stand-in."""
    stand_ins = {op: {"reference": None, "native": None} for op in ("lstm", "mixture_density")}
    monkeypatch.setattr(backends, "_implementations", stand_ins)


@pytest.mark.usefixtures("with_native")
def test_a_cpu_runs_native_kernels_where_there_are_some() -> None:
    assert backends.select("lstm", CPU) == "native"


@each_cell
def test_a_cpu_has_native_kernels_for_every_cell(cell: Cell) -> None:
    assert cell.name in backends.implemented("native")
    assert backends.select(cell.name, CPU) == "native"


@pytest.mark.usefixtures("with_native")
def test_a_device_without_kernels_of_its_own_runs_the_reference() -> None:
    assert backends.select("lstm", torch.device("cuda")) == "reference"
    assert backends.select("lstm", torch.device("meta")) == "reference"


@pytest.mark.usefixtures("with_native")
def test_the_context_manager_overrides_the_device_and_restores() -> None:
    with backend("reference"):
        assert backends.select("lstm", CPU) == "reference"
        with backend("native"):
            assert backends.select("lstm", CPU) == "native"
        assert backends.select("lstm", CPU) == "reference"
    assert backends.select("lstm", CPU) == "native"


@pytest.mark.usefixtures("with_native")
def test_the_context_manager_restores_after_an_exception() -> None:
    with pytest.raises(CalledError), backend("reference"):
        raise CalledError
    assert backends.select("lstm", CPU) == "native"


@pytest.mark.usefixtures("with_native")
def test_the_environment_variable_overrides_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, "reference")
    assert backends.select("lstm", CPU) == "reference"
    with backend("native"):
        assert backends.select("lstm", CPU) == "native"


def test_an_unknown_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = "there are reference, native, triton, cuda$"
    with pytest.raises(BackendError, match=rf"^backend\(\) names the backend 'fast'; {accepted}"):
        backend("fast")
    variable = backends.ENVIRONMENT_VARIABLE
    monkeypatch.setenv(variable, "fast")
    with pytest.raises(BackendError, match=f"^{variable} names the backend 'fast'; {accepted}"):
        backends.select("lstm", CPU)


def test_a_backend_that_lacks_the_op_is_refused_and_nothing_falls_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_ins = {"lstm": {"reference": None}, "mixture_density": {"reference": 0, "native": 0}}
    monkeypatch.setattr(backends, "_implementations", stand_ins)
    message = "^the native backend has no lstm; lstm has reference$"
    with backend("native"), pytest.raises(BackendError, match=message):
        backends.select("lstm", CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_triton_without_a_gpu_says_so() -> None:
    message = r"^the triton backend cannot run here: (PyTorch finds no GPU|the package triton is)"
    with pytest.raises(BackendError, match=message):
        backend("triton")


@pytest.mark.skipif(not backends.TRITON_INSTALLED, reason="triton is not installed")
@pytest.mark.parametrize("op", ["lstm", "layer_norm_lstm", "hyper_lstm", "mixture_density"])
def test_a_gpu_runs_every_op_on_triton(op: str) -> None:
    assert backends.select(op, torch.device("cuda")) == "triton"
    assert backends.select(op, CPU) == "native"


def test_triton_refuses_tensors_on_a_cpu_unless_it_is_interpreted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_ins = {"mixture_density": {"reference": None, "triton": None}}
    monkeypatch.setattr(backends, "_implementations", stand_ins)
    monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, "triton")
    message = "^the triton backend runs on GPUs, and mixture_density has tensors on cpu; on a CPU"
    with pytest.raises(BackendError, match=message):
        backends.select("mixture_density", CPU)
    assert backends.select("mixture_density", torch.device("cuda")) == "triton"
    monkeypatch.setenv(backends.INTERPRETER_VARIABLE, "1")
    assert backends.select("mixture_density", CPU) == "triton"
    with pytest.raises(BackendError, match="has tensors on mps"):
        backends.select("mixture_density", torch.device("mps"))


def test_a_missing_triton_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = backends.importlib.util.find_spec

    def find_all_but_triton(wanted: str) -> Any:
        return None if wanted == "triton" else find(wanted)

    monkeypatch.setattr(backends.importlib.util, "find_spec", find_all_but_triton)
    with pytest.raises(BackendError, match=r"cannot run here: the package triton is not installed"):
        backend("triton")


def test_a_missing_native_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("sketchrnn_fast._native", raising=False)
    monkeypatch.setitem(sys.modules, "sketchrnn_fast._native", None)
    reason = "the native module sketchrnn_fast._native is not installed, or cannot be loaded"
    with pytest.raises(BackendError, match=f"^the native backend cannot run here: {reason}$"):
        backend("native")


def test_a_backend_without_kernels_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_implementations", {"lstm": {"reference": None}})
    assert backends.unavailable("native") == "this version has no kernels for it"
    assert backends.unavailable("reference") is None
    assert backends.implemented("reference") == ("lstm",)
    assert backends.implemented("native") == ()


@each_cell
def test_an_op_runs_on_the_backend_that_is_selected(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*_: Any) -> Any:
        raise CalledError

    reference = backends.implementation(cell.name, "reference")
    stand_in = reference._replace(forward=call)
    monkeypatch.setitem(backends._implementations[cell.name], "native", stand_in)
    case = make_case(cell)
    with pytest.raises(CalledError):
        run_op(cell, case)
    with backend("reference"):
        hidden, _ = run_op(cell, case)
    assert hidden.isfinite().all()


def test_the_reference_has_every_op() -> None:
    expected = {"lstm", "layer_norm_lstm", "hyper_lstm", "mixture_density", "sampler"}
    assert set(backends.implemented("reference")) == expected


def test_the_ops_import_no_triton() -> None:
    program = "import sketchrnn_fast.nn, sys; sys.exit('triton' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_one_context_manager_can_be_entered_twice() -> None:
    both = backend("reference")
    with both, both:
        assert backends._override == "reference"
    assert backends._override is None


def test_native_refuses_tensors_that_are_not_on_a_cpu() -> None:
    message = "^the native backend runs on CPUs, and lstm has tensors on cuda$"
    with backend("native"), pytest.raises(BackendError, match=message):
        backends.select("lstm", torch.device("cuda"))


def test_a_backend_that_refuses_to_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends._refusals, "native", "this CPU is too old")
    message = "^the native backend cannot run here: this CPU is too old$"
    with pytest.raises(BackendError, match=message):
        backends.select("lstm", CPU)
    with pytest.raises(BackendError, match=message):
        backend("native")


def test_an_empty_environment_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, "")
    assert backends.select("lstm", CPU) == "native"
