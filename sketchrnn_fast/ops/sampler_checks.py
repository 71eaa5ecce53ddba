"""The checks of the sampler's arguments: each refuses in one sentence, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.ops import backends
from sketchrnn_fast.reference.sampler import MODES, Temperature

STORAGES = ("float32", "bfloat16", "float16")  # the last of the cuda backend alone
MOST_INT32, MOST_INT64 = 2**31 - 1, 2**63 - 1
_FLOAT32 = torch.finfo(torch.float32)


def check_storage(storage: str) -> None:
    """Refuse what is no storage.

    Raises:
        UserError: it is unknown.
    """
    if storage not in STORAGES:
        raise UserError(f"storage is {storage!r}; it takes {', '.join(STORAGES)}")


def check_temperature(temperature: Temperature) -> None:
    """Refuse what is no temperature.

    Raises:
        UserError: the value is negative, not finite or past float32's range, or the mode unknown.
    """
    if not 0.0 <= temperature.value < float("inf"):
        raise UserError(f"temperature is {temperature.value}; it must be a number of at least 0")
    if temperature.value > _FLOAT32.max:
        raise UserError(f"temperature is {temperature.value}; it must be at most {_FLOAT32.max}")
    if temperature.mode not in MODES:
        raise UserError(f"mode is {temperature.mode!r}; it takes {' or '.join(MODES)}")


def in_float32(temperature: Temperature) -> Temperature:
    """The same, greedy where an engine that computes in float32 would divide by nothing."""
    if temperature.value < _FLOAT32.tiny:
        return temperature._replace(value=0.0)
    return temperature


def check_whole(name: str, value: Any, least: int, most: int) -> int:
    """Refuse what is no whole number from `least` to `most`; NumPy's are taken, and become int.

    Raises:
        UserError: it is none.
    """
    if not isinstance(value, int | np.integer) or not least <= value <= most:
        raise UserError(f"{name} is {value}; it must be a whole number from {least} to {most}")
    return int(value)


def check_device(device: torch.device | str) -> torch.device:
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise backends.BackendError(f"the device {device} cannot be used here: {reason}") from None
    if found.type == "meta":
        raise backends.BackendError("the device meta holds no values; nothing is drawn there")
    return found


def check_seeds(seeds: Tensor | NDArray[np.int64]) -> Tensor:
    if not isinstance(seeds, Tensor | np.ndarray):
        raise UserError(f"seeds is a {type(seeds).__name__}; it takes int64 [count], one a sketch")
    if str(seeds.dtype) not in ("torch.int64", "int64") or seeds.ndim != 1:
        raise UserError(
            f"seeds is {seeds.dtype} {list(seeds.shape)}; it takes int64 [count], one a sketch"
        )
    if seeds.shape[0] < 1:
        raise UserError("seeds is empty; there must be at least one sketch to draw")
    return seeds.contiguous() if isinstance(seeds, Tensor) else torch.tensor(seeds.copy())


def check_z(z: Tensor | None, rows: int, width: int, device: torch.device) -> Tensor | None:
    """z [rows, width] in float32 on the device; None where the decoder takes none (width 0)."""
    if width == 0:
        if z is not None:
            raise UserError("z was given, but this model is unconditional")
        return None
    if z is None:
        raise UserError(f"z is missing; this model is conditional and takes [{rows}, {width}]")
    if not isinstance(z, Tensor):
        raise UserError(
            f"z is a {type(z).__name__}; it takes a tensor [{rows}, {width}], one row a sketch"
        )
    if tuple(z.shape) != (rows, width):
        raise UserError(
            f"z has shape {list(z.shape)}; it takes [{rows}, {width}], one row a sketch"
        )
    z = z.detach().to(device, torch.float32).contiguous()
    if not bool(torch.isfinite(z).all()):
        raise UserError("z has values that are not finite")
    return z


def check_prefixes(
    prefixes: Sequence[ArrayLike] | None, count: int, limit: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All prefixes laid end to end, float32 [P, 3], and where each begins, int64 [count + 1]."""
    if prefixes is None:
        return np.zeros((0, 3), np.float32), np.zeros(count + 1, np.int64)
    if not isinstance(prefixes, Sequence | np.ndarray | Tensor):
        raise UserError(
            f"prefixes is a {type(prefixes).__name__}; it takes a sequence of one sketch a seed"
        )
    if len(prefixes) != count:
        raise UserError(
            f"there are {len(prefixes)} prefixes for {count} seeds; it takes one a seed"
        )
    arrays = [check_stroke3(prefix, f"prefix {index}") for index, prefix in enumerate(prefixes)]
    for index, array in enumerate(arrays):
        if len(array) > limit:
            raise UserError(
                f"prefix {index} has {len(array)} points; with limit {limit} it may have at most "
                "as many"
            )
    offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
    return np.concatenate(arrays, dtype=np.float32, casting="unsafe"), offsets


def check_stroke3(sketch: ArrayLike | Tensor, name: str) -> NDArray[Any]:
    """A stroke-3 sketch as an array [N, 3]; `[]` stands for one without points.

    A tensor is taken from its device and becomes float32, its gradient left aside.

    Raises:
        UserError: the shape or type is another, an offset is not finite in float32, or a pen is
            neither 0 nor 1.
    """
    if isinstance(sketch, Tensor):
        sketch = sketch.detach().float().numpy(force=True)
    try:
        array = np.asarray(sketch)
    except (ValueError, TypeError, RuntimeError):  # rows of different lengths, and the like
        raise UserError(f"{name} is no array; it takes numbers of shape [points, 3]") from None
    if array.shape == (0,):
        array = array.reshape(0, 3)
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iuf":
        raise UserError(
            f"{name} is {array.dtype} {list(array.shape)}; it takes numbers of shape [points, 3]"
        )
    with np.errstate(over="ignore"):
        is_finite = np.isfinite(array[:, :2].astype(np.float32)).all(axis=1)
    if not is_finite.all():
        raise UserError(f"{name}, point {is_finite.argmin()} has an offset that is not finite")
    is_pen = (array[:, 2] == 0) | (array[:, 2] == 1)
    if not is_pen.all():
        point = int(is_pen.argmin())
        raise UserError(f"{name}, point {point} has the pen {array[point, 2]}; it must be 0 or 1")
    return array


def threads_or_torchs(threads: int | None) -> int:
    if threads is None:
        return torch.get_num_threads()
    return check_whole("threads", threads, 1, MOST_INT32)
