"""Which implementation of an op runs: by device, by context manager, or by environment variable.

An op registers its implementations here under a backend's name. Without further word the device
decides (`PREFERENCE`); `backend("reference")` overrides it for a block of code and the environment
variable SKETCHRNN_FAST_BACKEND for the whole process. A backend that cannot run what is asked of
it says so; nothing falls back silently.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

import torch

from sketchrnn_fast.errors import UserError

if TYPE_CHECKING:
    from sketchrnn_fast._native import BuildReport, CpuFeatures

BACKENDS = ("reference", "native", "triton", "cuda")
ENVIRONMENT_VARIABLE = "SKETCHRNN_FAST_BACKEND"
INTERPRETER_VARIABLE = "TRITON_INTERPRET"  # Triton's own, which it reads when it is imported

# For each type of device, the backends in the order in which an op takes the first that it has.
PREFERENCE = {"cpu": ("native", "reference"), "cuda": ("triton", "cuda", "reference")}

# Found without importing it: an optional dependency, slow to import, and chosen at its import
# whether it compiles or interprets.
TRITON_INSTALLED = importlib.util.find_spec("triton") is not None

_implementations: dict[str, dict[str, Any]] = {}

# Why a backend that is registered cannot run in this process.
_refusals: dict[str, str] = {}

# A plain variable, because torch.compile cannot trace a ContextVar.
_override: str | None = None


class BackendError(UserError):
    """The backend that was asked for does not exist or cannot run here."""


class backend:  # noqa: N801 - a context manager, named as torch names its own
    """Run the ops inside the block on one backend: `with backend("reference"): …`.

    A backward pass uses the backend of its forward pass, wherever it runs.

    Raises:
        BackendError: there is no backend of that name, or it cannot run here.
    """

    def __init__(self, name: str) -> None:
        _check_name(name, "backend()")
        reason = unavailable(name)
        if reason is not None:
            raise BackendError(f"the {name} backend cannot run here: {reason}")
        self.name = name
        self.before: list[str | None] = []

    def __enter__(self) -> None:
        global _override
        self.before.append(_override)
        _override = self.name

    def __exit__(self, *exception: object) -> None:
        global _override
        _override = self.before.pop()


def register(op: str, name: str, implementation: Any) -> None:
    """Make an implementation of an op known under its backend's name."""
    _implementations.setdefault(op, {})[name] = implementation


def refuse(name: str, reason: str) -> None:
    """Make known that a registered backend cannot run in this process, and why."""
    _refusals[name] = reason


def implementation(op: str, name: str) -> Any:
    return _implementations[op][name]


def select(op: str, device: torch.device) -> str:
    """The name of the backend on which a call of `op` with tensors on `device` runs."""
    available = _implementations[op]
    name = _override or os.environ.get(ENVIRONMENT_VARIABLE) or None
    if name is not None:
        if _override is None:
            _check_name(name, ENVIRONMENT_VARIABLE)
        if name not in available:
            raise BackendError(
                f"the {name} backend has no {op}; {op} has {' and '.join(available)}"
            )
    else:
        preferred = PREFERENCE.get(device.type, ("reference",))
        name = next((choice for choice in preferred if choice in available), None)
        if name is None:
            raise BackendError(f"no backend has {op} for tensors on {device}")
    if name == "cuda" and device.type not in ("cuda", "meta"):
        raise BackendError(f"the cuda backend runs on GPUs, and {op} has tensors on {device}")
    if name == "native" and device.type not in ("cpu", "meta"):
        raise BackendError(f"the native backend runs on CPUs, and {op} has tensors on {device}")
    if name == "triton" and device.type not in ("cuda", "meta") and not interpreted(device):
        raise BackendError(
            f"the triton backend runs on GPUs, and {op} has tensors on {device}; "
            f"on a CPU Triton's interpreter can run it, where {INTERPRETER_VARIABLE}=1 "
            "was set before Python started"
        )
    if name in _refusals:
        raise BackendError(f"the {name} backend cannot run here: {_refusals[name]}")
    return name


def interpreted(device: torch.device) -> bool:
    """Whether Triton's kernels run on tensors of `device` in its interpreter, as the tests do."""
    return device.type == "cpu" and os.environ.get(INTERPRETER_VARIABLE) == "1"


def unavailable(name: str) -> str | None:
    """Why a backend cannot run on this machine, in one sentence; None if it can."""
    ops = [op for op, available in _implementations.items() if name in available]
    if name == "native":
        if native_reports() is None:
            return "the native module sketchrnn_fast._native is not installed, or cannot be loaded"
        if name in _refusals:
            return _refusals[name]
    if name == "triton" and importlib.util.find_spec("triton") is None:
        return "the package triton is not installed (pip install 'sketchrnn-fast[triton]')"
    if name == "cuda" and not ops:
        return "the native module has no CUDA kernels: it was built without a CUDA compiler"
    on_cpu = name == "triton" and interpreted(torch.device("cpu"))
    if name in ("triton", "cuda") and not torch.cuda.is_available() and not on_cpu:
        return "PyTorch finds no GPU"
    if not ops:
        return "this version has no kernels for it"
    return None


def native_reports() -> tuple[BuildReport, CpuFeatures] | None:
    """How the native module was built, and the CPU that it finds; None if it cannot be loaded."""
    try:
        from sketchrnn_fast import _native
    except ImportError:
        return None
    return _native.build_report(), _native.cpu_features()


def implemented(name: str) -> tuple[str, ...]:
    """The ops that a backend has."""
    return tuple(op for op, available in _implementations.items() if name in available)


def _check_name(name: str, where: str) -> None:
    if name not in BACKENDS:
        raise BackendError(f"{where} names the backend {name!r}; there are {', '.join(BACKENDS)}")
