"""Fixtures of all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import sketchrnn_fast

# A shell that starts the tests in the background has SIGINT ignored, `nohup` SIGHUP, which every
# process that a test starts would inherit; those that must be stopped by it would run for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The tensors here are tiny, and on a busy machine threads that wait for each other cost a hundred
# times more than they bring. A test of threads sets their number itself.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The project's shared folder of data and golden files, which a stranger's clone lacks."""
    named = os.environ.get("SKETCHRNN_FAST_SHARED")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        message = f"there is no folder {folder}; SKETCHRNN_FAST_SHARED can name another"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def triton_installed() -> None:
    """A developer may lack Triton; the project's own CI has it."""
    if not sketchrnn_fast.ops.backends.TRITON_INSTALLED:
        if os.environ.get("CI"):
            pytest.fail("triton is not installed")
        pytest.skip("triton is not installed")


@pytest.fixture(params=["reference", "native"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs on each backend that a CPU has; gives its name."""
    with sketchrnn_fast.backend(request.param):
        yield request.param


@pytest.fixture(
    params=[
        name
        for name in ("reference", "native")
        if "sampler" in sketchrnn_fast.ops.backends.implemented(name)
    ]
)
def sampler_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs on each engine of the sampler that a CPU has; gives its backend's name."""
    with sketchrnn_fast.backend(request.param):
        yield request.param


@pytest.fixture
def on_native_kernels() -> Iterator[None]:
    """The test runs on the native backend, whatever the environment says."""
    with sketchrnn_fast.backend("native"):
        yield


@pytest.fixture
def threads() -> Iterator[None]:
    """The test may set torch's number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
