"""The native module as it is installed: its levels of the instruction set, its threads' runtime.

The level is chosen once a process, and what a process has loaded cannot be unloaded, so each of
these runs in a process of its own.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tolerances import assert_close
from torch import Tensor

from sketchrnn_fast import _native

LEVELS = ["x86-64-v2", "x86-64-v3", "x86-64-v4"]
MODULE = Path(_native.__file__)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files and /proc")
on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86 has several levels")


def run(program: str, *arguments: str | Path, level: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "SKETCHRNN_FAST_CPU_LEVEL": level,
        "SKETCHRNN_FAST_BACKEND": "native",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", program, *map(str, arguments)]
    # From a folder beside the sources, which would hide the installed package.
    folder = Path(__file__).parent
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def output(program: str, *arguments: str | Path, level: str = "") -> str:
    result = run(program, *arguments, level=level)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def usable_levels() -> list[str]:
    of_cpu = _native.cpu_features()["level"]
    return [level for level in LEVELS if level <= of_cpu]


LEVEL_THAT_RUNS = """
from sketchrnn_fast import _native
features = _native.cpu_features()
print(features["kernels"] or features["refused"])
"""


def refusal(level: str) -> str:
    usable = ", ".join(reversed(usable_levels())) or "none"
    return f"SKETCHRNN_FAST_CPU_LEVEL is {level}; this module and CPU have {usable}"


@on_x86
@pytest.mark.parametrize("level", LEVELS)
def test_a_level_can_be_forced_where_the_cpu_has_it(level: str) -> None:
    expected = level if level in usable_levels() else refusal(level)
    assert output(LEVEL_THAT_RUNS, level=level) == expected


@on_x86
def test_without_a_wish_the_highest_level_runs() -> None:
    assert output(LEVEL_THAT_RUNS) == usable_levels()[-1]


@on_x86
def test_an_unknown_level_is_refused_in_one_sentence() -> None:
    call = "from sketchrnn_fast import _native; _native.dropout_keep(0, 1, 1, 1, 0.5)"
    result = run(call, level="x86-64-v9")
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1] == f"RuntimeError: {refusal('x86-64-v9')}"


# Outputs and gradients of a small layer of each kind, and of a mixture density, to a file.
RESULTS_OF_LEVEL = """
import sys, torch
from sketchrnn_fast import nn, ops

torch.set_num_threads(1)
torch.manual_seed(0)
T, B, X, S = 7, 9, 5, 3
results = {}
for dtype in (torch.float32, torch.float64):
    for make in (nn.LSTM, nn.LayerNormLSTM, nn.HyperLSTM):
        layer = make(X, 37, static_size=S, recurrent_keep_prob=0.8, bidirectional=True).to(dtype)
        x = torch.randn(T, B, X, dtype=dtype, requires_grad=True)
        hidden, _ = layer(
            x,
            static=torch.randn(B, S, dtype=dtype),
            lengths=torch.randint(0, T + 1, (B,)),
            seed=torch.tensor([3]),
        )
        leaves = [x, *layer.parameters()]
        grads = torch.autograd.grad((hidden * torch.randn_like(hidden)).sum(), leaves)
        results[make.__name__, dtype] = [hidden.detach(), *grads]
    params = torch.randn(50, 6 * 7 + 3, dtype=dtype, requires_grad=True)
    weight = torch.ones(50, dtype=dtype)
    offset, pen = ops.mixture_density(params, torch.randn(50, 5, dtype=dtype), weight, weight)
    (grad,) = torch.autograd.grad((offset + pen).sum(), [params])
    results["mixture_density", dtype] = [torch.stack([offset, pen]).detach(), grad]
torch.save(results, sys.argv[1])
"""


@on_x86
def test_all_levels_agree(tmp_path: Path) -> None:
    all_results: list[dict[tuple[str, torch.dtype], list[Tensor]]] = []
    for level in usable_levels():
        output(RESULTS_OF_LEVEL, tmp_path / level, level=level)
        all_results.append(torch.load(tmp_path / level))
    highest = all_results.pop()
    for results in all_results:
        for (name, dtype), (value, *grads) in results.items():
            expected_value, *expected_grads = highest[name, dtype]
            assert_close(
                value, expected_value, dtype, "hyper" if "Hyper" in name else "value", name
            )
            for grad, expected in zip(grads, expected_grads, strict=True):
                assert_close(grad, expected, dtype, "gradient", name)


def needed_tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        message = f"{name} is missing (apt install binutils)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@on_linux
def test_the_module_exports_nothing_but_its_entry() -> None:
    command = [needed_tool("nm"), "-D", "--defined-only", "--format=posix", MODULE]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["PyInit__native"]


@on_linux
def test_the_module_links_neither_openmp_nor_torch() -> None:
    command = [needed_tool("readelf"), "--dynamic", MODULE]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    needed = [line.split("[")[1].rstrip("]") for line in text.splitlines() if "(NEEDED)" in line]
    system = ("libstdc++", "libgcc_s", "libc.", "libm.", "libpthread", "libdl", "ld-linux")
    assert [name for name in needed if not name.startswith(system)] == []


THREADS_OF_PROCESS = """
import os, re
import torch
from sketchrnn_fast import nn

def new_threads(call):
    before = len(os.listdir("/proc/self/task"))
    call()
    return len(os.listdir("/proc/self/task")) - before

torch.set_num_threads(1)
layer, x, large = nn.LSTM(5, 64), torch.randn(9, 40, 5), torch.randn(1000, 1000)
torch.set_num_threads(2)
with torch.no_grad():
    print("native", new_threads(lambda: layer(x)))
    print("torch", new_threads(lambda: large.exp_()))
mapped = {line.split()[-1] for line in open("/proc/self/maps")}
print("runtimes", sum(re.search("/lib(g|i)?omp[^/]*$", path) is not None for path in mapped))
"""


@on_linux
def test_the_kernels_run_on_the_threads_of_torch() -> None:
    assert output(THREADS_OF_PROCESS).splitlines() == ["native 1", "torch 0", "runtimes 1"]


# The child has the calling thread alone: if it waited for the others, it would wait forever.
FORK_AFTER_THREADS = """
import os, signal
import torch
from sketchrnn_fast import nn

torch.set_num_threads(2)
layer, x = nn.LayerNormLSTM(5, 64), torch.randn(9, 40, 5)
with torch.no_grad():
    expected, _ = layer(x)
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        torch.set_num_threads(1)
        os._exit(0 if torch.equal(layer(x)[0], expected) else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
"""


@on_linux
def test_a_forked_child_can_run_on_one_thread() -> None:
    assert output(FORK_AFTER_THREADS) == "0"
