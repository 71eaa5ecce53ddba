"""A run that is to be killed, in a process of its own.

The process is forked from a server that has imported everything and done nothing: quick to start,
and without the threads of autograd, which a machine with a GPU has and which do not outlive a fork.
"""

from __future__ import annotations

import io
import multiprocessing
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # torch's optimiser imports it at its first step, which takes seconds
from rich.console import Console
from training.conftest import MODEL, TRAIN

from sketchrnn_fast.training import checkpoints, loop, train
from sketchrnn_fast.training.display import Display

STEP, IS_SAVING = 0, 1  # what a run tells of itself

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([__name__])


class KilledRun:
    """A run that saves after every step, and goes on until it is killed.

    Args:
        resume: from the last checkpoint in the log root.

    Attributes:
        told: by the run: the steps it has done, and whether it is writing a checkpoint.
    """

    def __init__(self, log_root: Path, data_dir: Path, resume: bool) -> None:
        self.told: Any = _server.RawArray("q", 2)
        self._news, news = _server.Pipe(duplex=False)
        self._process = _server.Process(
            target=_run, args=(log_root, data_dir, resume, self.told, news)
        )
        self._process.start()
        news.close()
        assert self._news.recv() == "begins"

    def wait_for_a_step(self) -> None:
        """Return when it has done its first step."""
        assert self._news.recv() == "goes on"

    def kill_after(self, seconds: float) -> None:
        """Kill it after this time; it must not have ended by itself."""
        self._process.join(seconds)
        assert self._process.exitcode is None
        self._process.kill()
        self._process.join()


def _run(log_root: Path, data_dir: Path, resume: bool, told: Any, news: Connection) -> None:
    torch.set_num_threads(1)
    advance, save = Display.advance, checkpoints.save

    def advanced(self: Display, step: int) -> None:
        told[STEP] = step
        if not told_of_a_step:
            told_of_a_step.append(step)
            news.send("goes on")
        advance(self, step)

    def saved(*arguments: Any, **options: Any) -> Path:
        told[IS_SAVING] = 1
        folder = save(*arguments, **options)
        told[IS_SAVING] = 0
        return folder

    told_of_a_step: list[int] = []
    Display.advance = advanced  # type: ignore[method-assign]
    loop.checkpoints.save = saved  # type: ignore[assignment]
    loop.loss_curves = lambda *_: None  # type: ignore[assignment]
    news.send("begins")
    train(
        MODEL,
        replace(TRAIN, num_steps=10_000, save_every=1, log_every=1, keep=2),
        log_root,
        data_dir=data_dir,
        resume=resume,
        console=Console(file=io.StringIO()),
        pictures=0,
    )
