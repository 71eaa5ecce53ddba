"""Writing files so that a reader, or a kill at any moment, finds them whole or not at all."""

from __future__ import annotations

import os
import re
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
    temporary = _temporary(path)
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


def sweep(folder: Path) -> None:
    """Remove what kills left of files that were being written atomically in a folder.

    Only where nobody else writes. A folder that is not there is left so.
    """
    if folder.is_dir():
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name) and path.is_file():
                path.unlink()


def check_takes_files(folder: Path) -> None:
    """Find out, before any work, whether new files can be written in a folder.

    Raises:
        OSError: they cannot; nothing is left behind.
    """
    probe = _temporary(folder / "probe")
    probe.touch(exist_ok=False)
    probe.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}")


class WholeAppends:
    """Appends to a file, each piece whole or not at all, opened by the first one.

    A kill can cut only the last piece short; an error takes what it wrote of it back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def write(self, piece: bytes) -> None:
        """Append a piece; another process sees it when this returns.

        Raises:
            OSError: it cannot be written; what was there before is as it was.
        """
        if self._descriptor is None:
            self._descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
            )
        length = os.fstat(self._descriptor).st_size
        try:
            while piece:
                piece = piece[os.write(self._descriptor, piece) :]
        except OSError as error:
            os.ftruncate(self._descriptor, length)
            raise OSError(error.errno, error.strerror, str(self._path)) from None

    def sync(self) -> None:
        """Have the disk hold what was written."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


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
