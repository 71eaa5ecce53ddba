"""TensorBoard's files, written at once: no thread, so that a failure is told where it happens and
a kill loses nothing.

A file is a sequence of records, each a serialised `Event` with its length and checksums.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from sketchrnn_fast.files import WholeAppends

_VERSION = "brain.Event:2"
_RGBA = 4


class Events:
    """Appends scalars and pictures to a file of their own in the log root.

    Args:
        log_root: an existing folder.
        step: the updates done; TensorBoard leaves out what earlier files have of later steps.
    """

    def __init__(self, log_root: Path, step: int) -> None:
        # As TensorFlow names them. The last part keeps two of one second apart, and in the order in
        # which they were begun, since TensorBoard reads them by name.
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        name = f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{os.getpid()}"
        self._file = WholeAppends(log_root / f"{name}.{nanoseconds:09d}-{uuid.uuid4().hex[:8]}")
        self._records = RecordWriter(self._file)
        self._write(0, file_version=_VERSION)
        self._write(step + 1 if step else 0, session_log=SessionLog(status=SessionLog.START))

    def scalar(self, tag: str, value: float, step: int) -> None:
        """A point of a curve."""
        self._value(step, tag=tag, simple_value=value)

    def picture(self, tag: str, file: Path, step: int) -> None:
        """A PNG."""
        content = file.read_bytes()
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        image = Summary.Image(
            height=height, width=width, colorspace=_RGBA, encoded_image_string=content
        )
        self._value(step, tag=tag, image=image)

    def sync(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()

    def _value(self, step: int, **value: Any) -> None:
        self._write(step, summary=Summary(value=[Summary.Value(**value)]))

    def _write(self, step: int, **what: Any) -> None:
        event = Event(wall_time=time.time(), step=step, **what)
        self._records.write(event.SerializeToString())
