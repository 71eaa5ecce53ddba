"""`sketchrnn-fast info`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

CHIPS = ("sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "gfx942")
DTYPES = ("float32", "bfloat16", "float16")


def info(
    units: Annotated[
        int | None, typer.Option(min=1, help="say which Triton kernels so many units take")
    ] = None,
    dtype: Annotated[str, typer.Option(help=f"of their tensors: {', '.join(DTYPES)}")] = "float32",
    chip: Annotated[
        str | None, typer.Option(help=f"{', '.join(CHIPS)}; this machine's GPU if not given")
    ] = None,
) -> None:
    """Print versions, the machine, the backends, and which kernels the cells take."""
    import platform

    import torch
    from rich.console import Console
    from rich.table import Table

    import sketchrnn_fast
    from sketchrnn_fast.ops import backends

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("sketchrnn-fast", sketchrnn_fast.__version__)
    table.add_row("Python", platform.python_version())
    table.add_row("PyTorch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    table.add_row("Triton", _triton_version())
    for name, value in _native_rows().items():
        table.add_row(name, value)
    table.add_row("GPU", _gpus())
    for name in backends.BACKENDS:
        reason = backends.unavailable(name)
        state = ", ".join(backends.implemented(name)) if reason is None else f"no: {reason}"
        table.add_row(f"backend {name}", state)
    if units is not None:
        for name, plan in _plans(units, dtype, chip).items():
            table.add_row(name, plan)
    Console().print(table)


def _plans(units: int, dtype: str, chip: str | None) -> dict[str, Any]:
    """The form of the Triton kernels of each cell."""
    import torch

    from sketchrnn_fast.errors import UserError
    from sketchrnn_fast.ops.triton import plan_sentence

    if dtype not in DTYPES:
        raise UserError(f"--dtype is {dtype}; it takes {', '.join(DTYPES)}")
    if chip is not None and chip not in CHIPS:
        raise UserError(f"--chip is {chip}; it takes {', '.join(CHIPS)}")
    if chip is None and not torch.cuda.is_available():
        raise UserError("PyTorch finds no GPU, so --units needs a --chip beside it")
    return {
        f"{op} of {units}": plan_sentence(op, units, getattr(torch, dtype), chip)
        for op in ("lstm", "layer_norm_lstm", "hyper_lstm")
    }


def _native_rows() -> dict[str, str]:
    from sketchrnn_fast.ops.backends import native_reports

    reports = native_reports()
    if reports is None:
        return {"native module": "not installed, or it cannot be loaded"}
    build, cpu = reports
    cuda = build["cuda_toolkit_version"]
    return {
        "native module": f"{build['version']}, {build['cxx_standard']} by {build['compiler']} "
        f"{build['compiler_version']}, {build['build_type']}",
        "CUDA": f"toolkit {cuda} at build time; kernels built: {len(build['cuda_kernels'])}"
        if cuda
        else "left out: no toolkit was found at build time",
        "CPU": f"{cpu['model'] or cpu['architecture']}, level {cpu['level']}; "
        f"kernels of {cpu['kernels'] or 'no level'}",
    }


def _triton_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("triton")
    except PackageNotFoundError:
        return "not installed"


def _gpus() -> str:
    import torch

    if not torch.cuda.is_available():
        return "PyTorch finds none"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
