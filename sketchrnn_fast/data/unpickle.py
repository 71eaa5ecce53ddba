"""NumPy's object arrays from a pickle, with nothing in the pickle ever called.

A pickle is a program. This machine runs the few instructions that NumPy's writers emit for an
object array of number arrays, and nothing else: the globals that such pickles name
(`_reconstruct`, `ndarray`, `dtype`, `_codecs.encode`) stand for functions of this file, which
make plain records; shapes, types and byte counts are checked before NumPy sees them.

It is built on the standard library's machine in Python (`pickle._Unpickler`), not on the one in C:
the C machine sets aside, and fills, memory for whatever memo index the pickle names (nine bytes
ask for 32 GiB), and neither its instructions nor its BUILD can be narrowed down.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data.errors import DatasetError

_DTYPE_CODES = re.compile(r"[iu][1248]|f[248]|O[48]")
_BYTE_ORDERS = "<>|="

# What NumPy 1 and 2 emit, under Python 2 and 3, for object arrays in protocols 2 to 4; and
# Python's numbers, which are the items of an object array of shape [n, L, 3].
_INSTRUCTIONS = (
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET"),
    *("LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1"),
    *("BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "EMPTY_TUPLE", "TUPLE", "TUPLE1"),
    *("TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS", "GLOBAL", "STACK_GLOBAL", "REDUCE"),
)


class PickledDtype:
    """What the pickle says of a dtype; only plain numbers and objects are let through."""

    __slots__ = ("byte_order", "code")

    def __init__(self, code: str) -> None:
        self.code = code
        self.byte_order = "="

    def set_state(self, state: Any) -> None:
        """Take (version, byte order, subarray, names, fields, size, alignment, flags)."""
        if not isinstance(state, tuple) or len(state) < 5:
            raise DatasetError("the state of a dtype is not what NumPy writes")
        if state[1] not in tuple(_BYTE_ORDERS) or any(part is not None for part in state[2:5]):
            raise DatasetError("a dtype has fields or a subarray; it must be of plain numbers")
        self.byte_order = state[1]

    @property
    def is_object(self) -> bool:
        return self.code.startswith("O")

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.byte_order + self.code)


class PickledArray:
    """An array of the pickle: `numbers` of a number dtype, or `items` of an object array."""

    __slots__ = ("items", "numbers", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.numbers: NDArray[Any] | None = None
        self.items: list[Any] | None = None

    def set_state(self, state: Any) -> None:
        """Take (version, shape, dtype, Fortran order, bytes or list of items)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise DatasetError("the state of an array is not what NumPy writes")
        _, shape, dtype, fortran, content = state
        if not is_shape(shape) or not isinstance(dtype, PickledDtype):
            raise DatasetError("the state of an array is not what NumPy writes")
        self.shape = shape
        if dtype.is_object:
            if not isinstance(content, list) or len(content) != math.prod(shape):
                raise DatasetError(f"an object array claims shape {list(shape)}; its items differ")
            self.items = content
        else:
            content = content.encode("latin1") if isinstance(content, str) else content
            if not isinstance(content, bytes):
                raise DatasetError("the numbers of an array are not bytes")
            order = "F" if fortran else "C"
            self.numbers = numbers_from_bytes(content, shape, dtype.numpy(), order)


def is_shape(shape: object) -> bool:
    """Whether this is a tuple of whole numbers, none below 0."""
    return isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)


def numbers_from_bytes(
    content: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], order: str
) -> NDArray[Any]:
    """A read-only array over the bytes, of exactly the size that the shape claims."""
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != len(content):
        raise DatasetError(
            f"an array claims shape {list(shape)} of {dtype}, which is {claimed} bytes; "
            f"{len(content)} are there"
        )
    flat = np.frombuffer(content, dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


# --------------------------------------------------------------------------------------------
# The globals that a pickle of arrays names. `ndarray` is an argument of `_reconstruct` only.

_NDARRAY = object()


def _reconstruct(kind: object, shape: object, code: object) -> PickledArray:
    if kind is not _NDARRAY:
        raise DatasetError("an array is of another class than numpy.ndarray")
    return PickledArray()


def _dtype(code: object, align: object = False, copy: object = True) -> PickledDtype:
    if not isinstance(code, str) or not _DTYPE_CODES.fullmatch(code):
        kind = repr(code) if isinstance(code, str) and len(code) < 20 else "something else"
        raise DatasetError(f"an array has dtype {kind}; it must be of integers or floats")
    return PickledDtype(code)


def _encode(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise DatasetError("_codecs.encode is called with something else than text and latin1")
    return text.encode("latin1")


_GLOBALS: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
}


# --------------------------------------------------------------------------------------------
# The machine


class _Dispatch(dict[int, Callable[[Any], None]]):
    def __missing__(self, code: int) -> Callable[[Any], None]:
        names = (op.name for op in pickletools.opcodes if op.code == chr(code))
        name = next(names, f"number {code}")
        raise DatasetError(
            f"the pickle uses the instruction {name}, which no array of sketches needs; refused"
        )


def _build(machine: Any) -> None:
    state = machine.stack.pop()
    record = machine.stack[-1]
    if not isinstance(record, PickledArray | PickledDtype):
        raise DatasetError("the pickle sets the state of something that is no array; refused")
    record.set_state(state)


def _dispatch() -> _Dispatch:
    codes = [ord(op.code) for op in pickletools.opcodes if op.name in _INSTRUCTIONS]
    handlers: dict[int, Any] = {code: pickle._Unpickler.dispatch[code] for code in codes}
    return _Dispatch({**handlers, pickle.BUILD[0]: _build})


class _ArrayUnpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = _dispatch()

    def find_class(self, module: str, name: str) -> Any:
        found = _GLOBALS.get((module, name))
        if found is None:
            raise DatasetError(
                f"the pickle asks for {module}.{name}; only number arrays are accepted, "
                "and nothing in a pickle is called"
            )
        return found


def unpickle_array(content: bytes) -> PickledArray:
    """Read one pickled array.

    Raises:
        DatasetError: the pickle is cut short or broken, or holds or calls anything else.
    """
    machine = _ArrayUnpickler(io.BytesIO(content), encoding="latin1")
    try:
        array = machine.load()
    except DatasetError:
        raise
    except EOFError:
        raise DatasetError("the pickle ends before its array does") from None
    except (
        *(ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError),
        *(pickle.UnpicklingError, RecursionError, OSError),
    ) as error:
        raise DatasetError(f"the pickle is broken ({type(error).__name__})") from None
    if not isinstance(array, PickledArray):
        raise DatasetError(f"the pickle holds a {type(array).__name__}; it must hold an array")
    return array
