"""`sketchrnn-fast info`."""

from __future__ import annotations


def info() -> None:
    """Print versions, the machine, and the backends."""
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
    Console().print(table)


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
