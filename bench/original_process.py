"""The original (`original`), in a process of its own, taking turns with ours."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from sketchrnn_fast.config import ModelConfig

# Those that begin with hyper_ are fixed in the original; classes it does not have.
NOT_THE_ORIGINALS = ("num_classes", "label_embedding_size", "class_names")


class OriginalError(Exception):
    """The original's process ended before it was told to."""


def hparams(config: ModelConfig) -> dict[str, object]:
    """A model's hyper-parameters as the original takes them."""
    return {
        name: value
        for name, value in dataclasses.asdict(config).items()
        if not name.startswith("hyper_") and name not in NOT_THE_ORIGINALS
    }


@contextlib.contextmanager
def start(
    magenta: Path, magenta_python: Path, hparams: Mapping[str, object], task: tuple[str, str]
) -> Iterator[Callable[[], object]]:
    """A function that has the original do the task once; the process lives as long as the context.

    Raises:
        OriginalError: that process ended early; the message has the end of what it wrote.
    """
    script = Path(__file__).with_name("original.py")
    arguments = (magenta_python, script, magenta, json.dumps(hparams), torch.get_num_threads())
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as log,
        subprocess.Popen(
            [*map(str, arguments), *task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            bufsize=1,
        ) as process,
    ):

        def run() -> None:
            try:
                process.stdin.write("go\n")
                answer = process.stdout.readline()
            except BrokenPipeError:
                answer = ""
            if not answer:
                log.seek(0)
                end = log.read()[-2000:]
                raise OriginalError(f"the original's process ended early; it wrote:\n{end}")

        yield run
