"""Signals that end a run: noted when they come, obeyed where the run can be saved.

The first SIGINT, SIGTERM or SIGHUP is noted and the step in progress ends; the run is saved and
left. After it, SIGINT has its plain effect again: a second one ends the process at once, which
loses nothing that was saved.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_MESSAGE = "\nstopping after this step; Ctrl-C again leaves at once\n"
# A live line hides the cursor, and a process that is ended at once cannot bring it back.
_SHOW_CURSOR = "\x1b[?25h"


class StopRequested(BaseException):
    """A signal asked the run to stop; raised where nothing is half done."""


class StopSignals:
    """Notes the signals that come in its block.

    Outside the main thread, where Python allows no handlers, none is noted. A signal that the
    process was told to ignore, as by nohup, stays ignored.

    Attributes:
        received: the number of the first signal, None before.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise `StopRequested` if a signal came."""
        if self.received is not None:
            raise StopRequested

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            return
        self.received = number
        if signal.SIGINT in self._before:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        with contextlib.suppress(OSError):  # standard error may be gone, as after a hangup
            os.write(2, (_MESSAGE + (_SHOW_CURSOR if os.isatty(2) else "")).encode())
