"""A file system that fails at a chosen moment, for tests of what a run leaves behind.

Opening for writing, making, renaming and removing are seen through Python's audit events, which
nothing passes by; writing and syncing through their functions.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_active: Faults | None = None
_NEEDS_SPACE = ("open", "mkdir", "write", "fsync")
_EVENTS = {
    "open": "open",
    "os.mkdir": "mkdir",
    "os.rename": "rename",
    "os.remove": "remove",
    "os.rmdir": "rmdir",
}


class Faults:
    """Counts what is asked of the file system below a folder, and acts from a point on.

    Args:
        folder: what lies outside is left alone.
        act: called at point `at`, and again later as `is_full` says.
        is_full: the disk stays full: everything after the point that needs space fails too.
    """

    def __init__(
        self,
        folder: Path,
        at: int = -1,
        act: Callable[[], None] | None = None,
        is_full: bool = False,
    ) -> None:
        self.folder = str(folder)
        self.at, self.act, self.is_full = at, act, is_full
        self.points: list[str] = []

    def point(self, what: str, path: object) -> None:
        if not str(path).startswith(self.folder):
            return
        number = len(self.points)
        self.points.append(f"{what} {path}")
        is_hit = number == self.at
        if self.is_full and 0 <= self.at < number and what in _NEEDS_SPACE:
            is_hit = True
        if is_hit and self.act is not None:
            self.act()


def fails_with(number: int) -> Callable[[], None]:
    """An action that raises the error of the system with this number."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


def crash() -> None:
    """End the process as a kill would: nothing more runs."""
    os._exit(77)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _active is None or event not in _EVENTS:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, int) or not flags & (os.O_WRONLY | os.O_RDWR):
            return
    path = arguments[0]
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    # Removing a tree names its entries relative to an open folder.
    folder = arguments[-1] if event in ("os.remove", "os.rmdir") else -1
    if folder not in (-1, None):
        path = f"{os.readlink(f'/proc/self/fd/{folder}')}/{path}"
    _active.point(_EVENTS[event], path)


sys.addaudithook(_audit)


@contextmanager
def faulty(faults: Faults) -> Iterator[Faults]:
    """The file system of the block is that of `faults`."""
    global _active
    with pytest.MonkeyPatch.context() as patch:
        real_write, real_bytes = os.write, Path.write_bytes

        def write(descriptor: int, data: bytes) -> int:
            try:
                faults.point("write", _path(descriptor))
            except OSError:
                real_write(descriptor, data[: len(data) // 2])
                raise
            return real_write(descriptor, data)

        def fsync(descriptor: int) -> None:
            faults.point("fsync", _path(descriptor))  # and no more: no power fails here

        def write_bytes(path: Path, data: bytes) -> int:
            try:
                faults.point("write", path)
            except OSError:
                real_bytes(path, data[: len(data) // 2])
                raise
            return real_bytes(path, data)

        patch.setattr(os, "write", write)
        patch.setattr(os, "fsync", fsync)
        patch.setattr(Path, "write_bytes", write_bytes)
        _active = faults
        try:
            yield faults
        finally:
            _active = None


def _path(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def in_child(action: Callable[[], None]) -> int:
    """Run an action in a forked process; gives its exit status, 0 if it came to its end."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
