"""Downloads that survive a bad connection, and files that are whole or not there.

A download goes to a file beside its place, is taken up again by HTTP range where it broke off (also
by a later call), is checked, and only then renamed. The standard library's client is enough for
that: what the libraries add, sessions and pools, one file does not need.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sketchrnn_fast.data import registry
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.npz import read_npz
from sketchrnn_fast.files import sync

MOST_BYTES = 1 << 34
_BLOCK = 1 << 16
_ATTEMPTS = 6
_ATTEMPTS_UNANSWERED = 2  # as long as no server has said anything
_TIMEOUT = 30.0
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)$")

Progress = Callable[[int, int | None], None]
Check = Callable[[Path], None]


def fetch(
    name: str,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[Path, bool]:
    """Have a dataset of the registry in the cache.

    Returns:
        its file, and whether it had to be downloaded.

    Raises:
        DatasetError: there is no such name, the download fails, or what comes is another file.
        OSError: the cache cannot be written.
    """
    dataset = registry.find(name)
    if dataset is None:
        near = registry.similar(name)
        raise DatasetError(
            f"there is no published dataset {name!r}"
            + (f"; did you mean {' or '.join(near)}?" if near else "; data list names them")
        )
    path = registry.cached(dataset, cache_dir)
    if path.is_file() and _is_the_one(path, dataset.sha256):
        return path, False
    path.parent.mkdir(parents=True, exist_ok=True)
    check = None if dataset.sha256 else _check_dataset
    download(dataset.url, path, sha256=dataset.sha256, check=check, progress=progress)
    return path, True


def _is_the_one(path: Path, sha256: str | None) -> bool:
    if sha256 is not None:
        return _digest(path) == sha256
    try:
        _check_dataset(path)
    except DatasetError:
        return False
    return True


def _check_dataset(path: Path) -> None:
    read_npz(path)


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    check: Check | None = None,
    progress: Progress | None = None,
    pause: float = 1.0,
) -> None:
    """Download a file to its place, whole and checked, or leave the place as it is.

    Args:
        url: http or https.
        path: its folder must exist.
        sha256: what the file must have.
        check: raises a DatasetError where the file is not what it must be.
        progress: called with the bytes that are there, and with how many there will be, if known.
        pause: seconds before the first repetition; it doubles with each that gets no further.

    Raises:
        DatasetError: the server refuses, breaks off again and again, or sends another file; the
            part that came stays for a later call, but not that of another file.
        OSError: the file cannot be written.
    """
    if not url.startswith(("http://", "https://")):
        raise DatasetError(f"{url} is no http or https address")
    part = path.with_name(f".{path.name}.part")
    with _only_one(part), part.open("a+b") as stream:
        _Transfer(url, part, stream, progress or _no_progress, pause).complete()
        stream.flush()
        os.fsync(stream.fileno())
        found = _digest(part) if sha256 else None
        try:
            if found != sha256:
                raise DatasetError(
                    f"{url} is another file than it was: its SHA-256 is {found}, not {sha256}"
                )
            if check is not None:
                _checked(url, part, check)
        except DatasetError:
            _forget(part)
            raise
    part.replace(path)
    _validators(part).unlink(missing_ok=True)
    sync(path.parent)


def _no_progress(done: int, total: int | None) -> None:
    pass


def _checked(url: str, part: Path, check: Check) -> None:
    try:
        check(part)
    except DatasetError as error:
        raise DatasetError(f"what {url} sends is not what it must be: {error}") from None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validators(part).unlink(missing_ok=True)


def _validators(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _only_one(part: Path) -> Iterator[None]:
    """Keep other processes from the same part, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    lock = part.with_name(f"{part.name}.lock")
    with lock.open("wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(f"another process is downloading {part.name[1:-5]}") from None
        yield  # the lock's file stays: to delete it would let two processes hold it


# --------------------------------------------------------------------------------------------
# The transfer


@dataclass(frozen=True)
class _Answer:
    """What the head of a response says: where its bytes belong, and how many there are in all."""

    start: int
    total: int | None


class _BrokenOffError(Exception):
    """The attempt failed in a way that another one may not."""


class _Transfer:
    def __init__(
        self, url: str, part: Path, stream: IO[bytes], progress: Progress, pause: float
    ) -> None:
        self.url = url
        self.part = part
        self.stream = stream
        self.progress = progress
        self.pause = pause
        self.is_answered = False

    def complete(self) -> None:
        """Attempt until everything is there; attempts that got further do not count."""
        failures = 0
        while True:
            before = self._have()
            try:
                self._attempt(before)
                return
            except _BrokenOffError as reason:
                failures = 1 if self._have() > before else failures + 1
                if failures >= (_ATTEMPTS if self.is_answered else _ATTEMPTS_UNANSWERED):
                    have = self._have()
                    kept = f"; {have} bytes are kept, and the same call goes on from there"
                    raise DatasetError(
                        f"{self.url} cannot be downloaded: {reason}{kept if have else ''}"
                    ) from None
                time.sleep(self.pause * 2 ** (failures - 1))

    def _have(self) -> int:
        return self.stream.seek(0, os.SEEK_END)

    def _attempt(self, have: int) -> None:
        try:
            response = urllib.request.urlopen(self._request(have), timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            self.is_answered = True
            with error:
                self._refused(error, have)
            return
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            raise _BrokenOffError(_reason(error)) from None
        self.is_answered = True
        with response:
            answer = self._answer(response, have)
            if answer.start != have:
                self.stream.truncate(answer.start)
            self._remember(response)
            self._receive(response, answer)

    def _request(self, have: int) -> urllib.request.Request:
        headers = {"Accept-Encoding": "identity", "User-Agent": "sketchrnn-fast"}
        validator = self._validator()
        if have and validator:
            # Should the file have changed, it is sent as a whole.
            headers.update({"Range": f"bytes={have}-", "If-Range": validator})
        elif have:
            self.stream.truncate(0)
        return urllib.request.Request(self.url, headers=headers)

    def _refused(self, error: urllib.error.HTTPError, have: int) -> None:
        if error.code == 416 and have:  # there is nothing after what is here
            total = re.match(r"bytes \*/(\d+)$", error.headers.get("Content-Range", ""))
            if total and int(total[1]) == have:
                return
            self.stream.truncate(0)
            raise _BrokenOffError("the server does not know the part that is left")
        sentence = f"the server answers {error.code} {error.reason}"
        if error.code in _RETRIED:
            raise _BrokenOffError(sentence)
        raise DatasetError(f"{self.url} cannot be downloaded: {sentence}")

    def _answer(self, response: Any, have: int) -> _Answer:
        length = response.headers.get("Content-Length", "")
        size = int(length) if length.isdigit() else None
        start, total = 0, size
        if response.status == 206:
            found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            if not found or int(found[1]) != have:
                self.stream.truncate(0)
                raise _BrokenOffError("the server sends another range than was asked for")
            start, total = have, int(found[3])
        if total is not None and total > MOST_BYTES:
            raise DatasetError(f"{self.url} claims {total} bytes; at most {MOST_BYTES} are taken")
        return _Answer(start, total)

    def _receive(self, response: Any, answer: _Answer) -> None:
        self.stream.seek(0, os.SEEK_END)
        done = answer.start
        self.progress(done, answer.total)
        while True:
            try:
                block = response.read(_BLOCK)
            except http.client.IncompleteRead as error:
                self.stream.write(error.partial)
                raise _BrokenOffError("the connection broke off") from None
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenOffError(_reason(error)) from None
            if not block:
                break
            self.stream.write(block)
            done += len(block)
            self.progress(done, answer.total)
            if done > MOST_BYTES:
                raise DatasetError(f"{self.url} sends more than {MOST_BYTES} bytes")
        if answer.total is not None and done < answer.total:
            raise _BrokenOffError(f"the connection broke off after {done} of {answer.total} bytes")

    def _remember(self, response: Any) -> None:
        """Keep what tells whether the file is still the same: a strong ETag, or its date."""
        etag = response.headers.get("ETag", "")
        validator = (
            etag
            if etag and not etag.startswith("W/")
            else response.headers.get("Last-Modified", "")
        )
        content = json.dumps({"url": self.url, "validator": validator})
        _validators(self.part).write_text(content, encoding="utf-8")

    def _validator(self) -> str:
        try:
            kept = json.loads(_validators(self.part).read_text(encoding="utf-8"))
            return str(kept["validator"]) if kept["url"] == self.url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return getattr(reason, "strerror", None) or f"{reason}" or type(error).__name__
