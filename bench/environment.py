"""What the figures were taken on: machine, threads, versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import sketchrnn_fast
from sketchrnn_fast.ops import backends

PACKAGES = ("torch", "numpy", "triton", "jax", "flax", "keras", "tensorflow", "flashrnn", "haste")


def environment() -> dict[str, Any]:
    """A flat description, one word or number each."""
    versions = {name: found for name in PACKAGES if (found := _version(name)) is not None}
    reports = backends.native_reports()
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu(),
        "cores": len(usable_cores()),
        "level": None if reports is None else reports[1]["kernels"],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "sketchrnn_fast": sketchrnn_fast.__version__,
        "commit": commit(),
        **versions,
    }


def same_package() -> dict[str, str]:
    """The variables of a new process that is to import the package that this one has.

    With `-c` and `-m` Python looks into the current folder first, where a checkout has the package
    without its native module: such a process is started in an empty folder.
    """
    paths = [str(Path(sketchrnn_fast.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def cpu() -> str:
    """The CPU's model, where the system tells it."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def usable_cores() -> set[int]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def commit() -> str:
    """The checkout's commit; `unknown` outside a checkout.

    With `+` where files differ from it, or those of the package that is timed from the checkout's.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "..")
        differs = bool(changed) or package_differs()
        return git("rev-parse", "--short=10", "HEAD") + ("+" if differs else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def package_differs() -> bool:
    """Whether the package that is imported here has other Python files than the checkout's."""
    installed = Path(sketchrnn_fast.__file__).parent
    root = Path(__file__).parents[1]

    def sources(folder: Path, under: str = "") -> dict[str, bytes]:
        files = folder.rglob("*.py")
        return {f"{under}{file.relative_to(folder)}": file.read_bytes() for file in files}

    # An installed package has the folder `kernels` within it.
    checkout = sources(root / "sketchrnn_fast") | sources(root / "kernels", "kernels/")
    return installed != root / "sketchrnn_fast" and sources(installed) != checkout


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
