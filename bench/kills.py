"""A training run killed again and again, and resumed: is it the run that nobody killed?

    python bench/kills.py --data_dir DATA --kills 10 --hparams "data_set=[aaron_sheep.npz],…"

Runs `sketchrnn-fast train` twice with the same hyper-parameters and a record of every step: once
from end to end, once ended by SIGKILL at random moments and resumed each time. Prints a line for
each kill, and ends with an error unless losses, weights and moments are equal to the bit.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sketchrnn_fast.config import TrainConfig
from sketchrnn_fast.training import checkpoints
from sketchrnn_fast.training.metrics import FILE, read_records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", default=".")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--hparams", required=True)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options = parser.parse_args()
    steps = TrainConfig.from_hparams(options.hparams).num_steps
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        command = [*(sys.executable, "-m", "sketchrnn_fast", "train", "--log=plain")]
        command += ["--data_dir", options.data_dir, "--hparams", options.hparams, "--log_every=1"]
        subprocess.run([*command, "--log_root", str(whole)], check=True, stdout=subprocess.DEVNULL)
        draw = random.Random(options.seed)
        moments = sorted(draw.sample(range(2, steps), options.kills))
        for at in moments:
            kill([*command, "--log_root", str(killed)], killed, at, draw.random())
        finish = [*command, "--log_root", str(killed), "--resume_training"]
        subprocess.run(finish, check=True, stdout=subprocess.DEVNULL)
        compare(whole, killed)


def kill(command: list[str], log_root: Path, at: int, delay: float) -> None:
    """Start or resume the run, and kill it up to a second after it reports the step `at`."""
    is_begun = (log_root / checkpoints.FOLDER / "last").exists()
    start = last_step(log_root) if is_begun else 0
    process = subprocess.Popen(
        [*command, *(["--resume_training"] if is_begun else [])],
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdout is not None
    seen = start
    for line in process.stdout:
        words = line.split()
        if words[0] == "step" and "/" in words[1]:
            seen = int(words[1].split("/")[0])
        if seen >= at:
            break
    select.select([], [], [], delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    recorded = max((one["step"] for one in read_records(log_root / FILE)), default=0)
    saved = last_step(log_root) if (log_root / checkpoints.FOLDER / "last").exists() else 0
    print(
        f"started at step {start}, killed after step {recorded}, resumes at step {saved}: "
        f"{recorded - saved} steps to do again",
        flush=True,
    )


def last_step(log_root: Path) -> int:
    return checkpoints.read_state(checkpoints.find(log_root, "last")).step


def compare(whole: Path, killed: Path) -> None:
    """End with an error unless the two runs are equal."""
    records, others = (
        [*map(without_times, (root / FILE).read_text().splitlines())] for root in (whole, killed)
    )
    if records != others:
        sys.exit("the records of the two runs differ")
    folders = [checkpoints.find(root, "last") for root in (whole, killed)]
    for name in (checkpoints.MODEL, checkpoints.OPTIMISER, checkpoints.STATE):
        one, other = ((folder / name).read_bytes() for folder in folders)
        if one != other:
            sys.exit(f"{name} of the two runs differs")
    print(
        f"equal: {len(records)} records of losses, the weights, the moments, and the state at "
        f"step {last_step(killed)}"
    )


def without_times(line: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(line).items() if "second" not in name}


if __name__ == "__main__":
    main()
