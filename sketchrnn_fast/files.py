"""Writing files so that a reader, or a kill at any moment, finds them whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from sketchrnn_fast.errors import UserError


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file beside its place, sync it, and rename it: it is whole or not there.

    A symbolic link is followed; what is no regular file (a device, a pipe) is written to directly.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        with path.open("wb") as stream:
            stream.write(content)
        return
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_can_write(path: Path) -> None:
    """Refuse, before any work, a file that could not be written for want of its folder.

    Raises:
        UserError: the path is a folder, or its folder does not exist.
    """
    try:
        path.resolve().exists()
    except (OSError, RuntimeError) as error:  # a link onto itself
        raise UserError(f"{path} cannot be written: {error}") from None
    if path.is_dir():
        raise UserError(f"{path} is a folder; a file is written there")
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.parent}")


def sync(path: Path) -> None:
    """Have the disk hold a file or the entries of a folder before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
