"""One run at a time writes to a log root: a lock that a dead process does not keep."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from sketchrnn_fast.training.errors import InUseError, WriteError, writing

FILE = ".lock"


@contextlib.contextmanager
def locked(log_root: Path) -> Iterator[None]:
    """Hold the log root in the block.

    The lock is the kernel's (`flock`), so it ends with the process, however that ends. Its file
    tells who holds it, and is removed at the end of the block.

    Args:
        log_root: an existing folder.

    Raises:
        InUseError: another run holds it.
        WriteError: the folder cannot be written, or its file system knows no locks.
    """
    path = log_root / FILE
    descriptor = _acquire(path)
    try:
        with writing(log_root):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        with contextlib.suppress(OSError):  # a file that stays behind holds nothing
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        with writing(path.parent):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 200).decode(errors="replace").strip()
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise WriteError(
                    f"{path.parent} cannot be locked against a second run: {error.strerror}; a "
                    "log_root needs a file system with locks"
                ) from None
            raise InUseError(
                f"log_root {path.parent} is in use by another run ({holder or 'just starting'}); "
                "stop that one, or choose another log_root"
            ) from None
        # The one before may have removed the file between its opening and its lock.
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
        os.close(descriptor)
