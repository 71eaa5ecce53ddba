"""The native core (csrc/bindings.cpp)."""

from typing import SupportsIndex, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import NotRequired

class CpuFeatures(TypedDict):
    architecture: str
    level: str
    kernels: str | None
    refused: NotRequired[str]
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
    cuda_targets: list[str]

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

def vector_function(
    name: str, values: NDArray[np.float32] | NDArray[np.float64]
) -> NDArray[np.float32] | NDArray[np.float64]:
    """exp, exp_flushed, log, sigmoid or tanh of a vector [n], as the kernels compute it; for tests.

    Raises:
        ValueError: there is no such function, or the values have another dtype or shape.
    """

def mixture_density(
    params: Tensor,
    target: Tensor,
    offset_weight: Tensor,
    pen_weight: Tensor,
    offset: Tensor,
    pen: Tensor,
    gradient: Tensor | None,
    threads: int,
) -> None:
    """Fill the losses [R] and the gradient [R, 6K+3] (reference/mixture_density.py).

    All tensors are contiguous and of params' dtype, float32 or float64.

    Raises:
        ValueError: a tensor has another dtype or shape, or is not contiguous.
    """

def mixture_density_backward(
    grad_offset: Tensor, grad_pen: Tensor, gradient: Tensor, grad_params: Tensor, threads: int
) -> None:
    """Fill grad_params [R, 6K+3]: columns 0 to 2 of gradient times grad_pen, the rest times
    grad_offset, both [R].

    Raises:
        ValueError: a tensor has another dtype or shape, or is not contiguous.
    """

class RecurrentArguments:
    """The arguments of a recurrent op: contiguous CPU tensors, float32 or float64."""

    def __init__(
        self,
        x: Tensor,
        static_input: Tensor | None,
        weights: list[Tensor],
        state: list[Tensor],
        lengths: Tensor | None,
        seed: Tensor | None,
        reverse: bool,
        forget_bias: float,
        keep_prob: float,
        row_offset: int,
    ) -> None: ...

class RecurrentResults:
    """The results of a recurrent op, or their gradients; None for what there is not."""

    def __init__(
        self, hidden: Tensor | None, final_state: list[Tensor], saved: Tensor | None
    ) -> None: ...

class RecurrentGradients:
    """The gradients that a backward pass fills; None where one is not wanted."""

    def __init__(
        self,
        x: Tensor | None,
        static_input: Tensor | None,
        weights: list[Tensor],
        state: list[Tensor],
    ) -> None: ...

def recurrent_forward(
    op: str, calls: list[RecurrentArguments], results: list[RecurrentResults], threads: int
) -> None:
    """Run `lstm`, `layer_norm_lstm` or `hyper_lstm`; fills the results.

    There may be two calls, which run one after another or side by side, as is faster.

    Raises:
        ValueError: a tensor has another type or shape than the op takes, or is not contiguous.
    """

def recurrent_backward(
    op: str,
    calls: list[RecurrentArguments],
    results: list[RecurrentResults],
    grad_results: list[RecurrentResults],
    gradients: list[RecurrentGradients],
    threads: int,
) -> None:
    """The derivative of `recurrent_forward`; fills `gradients`.

    Final states in `results` are not read; a hidden None in `grad_results` means zeros.

    Raises:
        ValueError: as `recurrent_forward`.
    """

def recurrent_saved_size(
    op: str, entries: int, units: int, hyper_units: int = 0, embedding: int = 0
) -> int:
    """Elements of `saved` for so many entries, one a row and step."""

def empty_float32(count: int) -> NDArray[np.float32]:
    """An uninitialised vector in the kernels' pool of memory, to which it returns by itself."""

def empty_float64(count: int) -> NDArray[np.float64]:
    """As `empty_float32`."""

def memory_use() -> tuple[int, int]:
    """Bytes of the pool's large blocks that are in use, and that are kept for later."""

def release_memory() -> None:
    """Give what the pool keeps back to the system."""

class CudaSampler:
    """A decoder on a GPU, packed for the sampler; only where `build_report` lists its kernels.

    Everything is put on the given stream (`torch.cuda.Stream.cuda_stream`); nothing waits for the
    device or allocates its memory. All tensors are contiguous and on one GPU.
    """

    def __init__(
        self,
        op: str,
        weights: list[Tensor],
        forget_bias: float,
        initial_weight: Tensor | None,
        initial_bias: Tensor | None,
        head_weight: Tensor,
        head_bias: Tensor,
        storage: str,
    ) -> None:
        """Take float32 weights in the layout of `op`; storage is float32, bfloat16 or float16.

        Raises:
            RuntimeError: there is no GPU.
            ValueError: a tensor does not fit; the message names it.
        """

    @property
    def packed_size(self) -> int:
        """Bytes of the packed decoder."""

    def pack(self, packed: Tensor, stream: int) -> None:
        """Pack the decoder, once, into uint8 [packed_size], which the sampler then holds.

        Raises:
            RuntimeError: a CUDA call failed; the message names it.
        """

    def workspace_size(self, count: int) -> int:
        """Bytes that a drawing of so many sketches needs besides its results.

        Raises:
            RuntimeError: this GPU cannot hold the decoder, or a CUDA call failed.
        """

    def draw(
        self,
        seeds: Tensor,
        z: Tensor | None,
        prefix_points: Tensor | None,
        prefix_offsets: Tensor | None,
        softmax: float,
        sigma: float,
        greedy: bool,
        points: Tensor,
        lengths: Tensor,
        outcome: Tensor,
        workspace: Tensor,
        stream: int,
        rounds: int = 0,
        resume: bool = False,
    ) -> None:
        """Draw all sketches in one launch, or so many rounds of it.

        Args:
            seeds: int64 [count].
            z: float32 [count, Z], for a conditional decoder.
            prefix_points: float32 [P, 3], the sketches' beginnings laid end to end.
            prefix_offsets: int64 [count + 1], where each begins. Their values are the caller's to
                check: ascending from 0 to P, no prefix longer than the limit.
            softmax, sigma: what divides logits and multiplies standard deviations.
            points: float32 [count, limit, 3], filled up to each sketch's length.
            lengths: int64 [count], kept up to date; those of sketches without a point and without
                an outcome are left alone.
            outcome: uint8 [count], filled as it becomes known: 0 the limit stopped it, 1 it ended,
                2 its parameters were no numbers at the step that `lengths` names.
            workspace: uint8 [workspace_size(count)], in no other use until the drawing is done.
            rounds: how many rounds to run, in each of which every sketch under way gets a point
                or begins; 0 for as many as it takes.
            resume: go on where the launch before stopped; all other arguments are the same.

        Raises:
            RuntimeError: a CUDA call failed; the message names it.
            ValueError: a tensor does not fit; the message names it.
        """

def cpu_features() -> CpuFeatures:
    """What the CPU offers and the operating system has enabled.

    `level` is the CPU's, `kernels` that of the kernels that run, or None where none can, for the
    reason `refused`. `flags` has the names of /proc/cpuinfo and is empty elsewhere than on x86;
    `vendor` and `model` are None where they are not known.
    """

def build_report() -> BuildReport:
    """What this module was built from and with."""

class SamplerDecoder:
    """A decoder's weights, packed for the sampler; all tensors float32 and contiguous.

    Raises:
        ValueError: a tensor has another dtype or shape than the op takes.
    """

    def __init__(
        self,
        op: str,
        weights: list[Tensor],
        forget_bias: float,
        initial_weight: Tensor | None,
        initial_bias: Tensor | None,
        head_weight: Tensor,
        head_bias: Tensor,
        bfloat16: bool,
    ) -> None: ...
    @property
    def bytes_of_step(self) -> int:
        """Bytes of weights that a step reads."""

    def read_panels(self, threads: int, times: int) -> float:
        """Read those bytes so many times; gives their sum as floats."""

class SamplerRun:
    """Sketches being drawn; fills points [count, limit, 3], lengths and ended [count].

    Raises:
        ValueError: a tensor has another dtype or shape, or a prefix does not fit.
    """

    def __init__(
        self,
        decoder: SamplerDecoder,
        seeds: Tensor,
        z: Tensor | None,
        prefix_points: Tensor | None,
        prefix_offsets: Tensor | None,
        softmax: float,
        sigma: float,
        greedy: bool,
        points: Tensor,
        lengths: Tensor,
        ended: Tensor,
        batch: int,
        threads: int,
    ) -> None: ...
    @property
    def threads(self) -> int:
        """How many it uses, of those that it was given."""

    def advance(self, steps: int) -> bool:
        """Take up to so many steps, one point of each sketch a step; gives whether any is left.

        Raises:
            ValueError: the decoder's parameters, or an offset drawn from them, are not finite.
            RuntimeError: another thread is advancing this run.
        """

def sampler_parameters(
    decoder: SamplerDecoder, inputs: Tensor, z: Tensor | None, parameters: Tensor, threads: int
) -> None:
    """Fill the raw parameters [T, B, 6K+3] that the decoder gives for inputs [T, B, 5].

    Raises:
        ValueError: a tensor has another dtype or shape.
    """
