"""The native core (csrc/bindings.cpp)."""

from typing import SupportsIndex, TypedDict

import numpy as np
from numpy.typing import NDArray

class CpuFeatures(TypedDict):
    architecture: str
    level: str
    vendor: str | None
    model: str | None
    flags: dict[str, bool]

class BuildReport(TypedDict):
    version: str
    compiler: str
    compiler_version: str
    build_type: str
    cxx_standard: str
    pybind11_version: str
    cuda_toolkit_version: str | None
    cuda_kernels: list[str]

def philox4x32(counter: NDArray[np.uint32], seed: SupportsIndex) -> NDArray[np.uint32]:
    """Philox4x32-10 words for counters [n, 4] = (block, t, row, stream): uint32 [n, 4].

    The seed is taken modulo 2**64.

    Raises:
        ValueError: an argument has another type, dtype or shape.
    """

def dropout_keep(
    seed: SupportsIndex,
    time_steps: SupportsIndex,
    rows: SupportsIndex,
    units: SupportsIndex,
    keep_prob: float,
    stream: SupportsIndex = 0,
    row_offset: SupportsIndex = 0,
) -> NDArray[np.uint8]:
    """Which units dropout keeps: uint8 [time_steps, rows, units], 1 = kept.

    The draws are those of every backend; csrc/core/philox.h has the rule. `row_offset` is the
    global row of the first row.

    Raises:
        ValueError: a size does not fit, or keep_prob is not in (0, 1].
    """

def cpu_features() -> CpuFeatures:
    """What the CPU offers and the operating system has enabled.

    `flags` has the names of /proc/cpuinfo and is empty elsewhere than on x86; `vendor` and `model`
    are None where they are not known.
    """

def build_report() -> BuildReport:
    """What this module was built from and with."""
