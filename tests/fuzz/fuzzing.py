"""What the fuzzers share: a reader gets bytes that atheris makes up, and may only refuse them.

    python tests/fuzz/tf_bundle.py SECONDS

Each file in this folder but this one is a fuzzer of one reader. Anything that a reader raises other
than its own error ends the run, and so does a call of more than a minute or a process of more
than 2 GB. What it found is left in the working folder, and the same command with that file's path
behind it runs that input alone. With a folder's path behind it a run goes on from the inputs that
an earlier run has left there.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

MOST_SECONDS, MOST_MEGABYTES, MOST_BYTES, MOST_CHARACTERS = 60, 2048, 1 << 16, 1000


def fuzz(target: Callable[[bytes], None], seeds: Iterable[bytes], refusal: type[Exception]) -> None:
    """Run a fuzzer for as long as the command line says.

    Args:
        target: hands bytes to the reader.
        seeds: files that the reader takes, to start from.
        refusal: what the reader raises for a file that it does not take.
    """

    def once(content: bytes) -> None:
        try:
            target(content)
        except refusal as error:
            sentence = str(error)
            if "\n" in sentence or len(sentence) > MOST_CHARACTERS:
                raise AssertionError(f"no sentence: {sentence[:200]!r}") from error

    seconds, *inputs = sys.argv[1:]
    with tempfile.TemporaryDirectory() as fresh:
        inputs = inputs or [fresh]
        for number, seed in enumerate(seeds):
            once(seed)  # what is imported late does not count as a hang
            if Path(inputs[0]).is_dir():
                (Path(inputs[0]) / f"seed-{number}").write_bytes(seed)
        options = [
            f"-max_total_time={seconds}",
            f"-timeout={MOST_SECONDS}",
            f"-rss_limit_mb={MOST_MEGABYTES}",
            f"-max_len={MOST_BYTES}",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *options, *inputs], once)
        atheris.Fuzz()
