"""Whole training runs in one process and in two, under torchrun: a part of the suite `scaling`.

Each is `sketchrnn-fast train` on the built-in dataset at default sizes; what counts is what its
metrics say of the second half of its steps. Each process has one thread, and the run in one process
with all threads stands beside, because that is what somebody with these cores chooses between.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from environment import same_package, usable_cores
from plan import Plan, SuiteError
from records import Record, record

SUITE = "scaling"
STEPS, BATCH = 40, 100


def records(plan: Plan) -> list[Record]:
    """Ours in two ranks beside ours in one process; nothing in a quick run."""
    if plan.quick:
        plan.say(f"{SUITE}: without ranks, whose processes take longer than a quick run may")
        return []
    cores = len(usable_cores())
    if cores < 2:
        plan.say(f"{SUITE}: without ranks, because this process may use one core alone")
        return []
    runs = {"two ranks": (2, 1), "one process, one thread": (1, 1)}
    runs["one process, two threads"] = (1, 2)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(2 if plan.full else 1):
        for name, (ranks, threads) in runs.items():
            plan.show(f"{SUITE}: training, {name}, turn {turn + 1}")
            rates[name].append(seconds_of_a_step(ranks, threads))
    case = f"training step on hershey, B={BATCH}, two ranks of one thread"
    work = (BATCH, "sketches")
    return [
        record(SUITE, case, f"ours, {peer}", rates["two ranks"], rates[peer], work=work)
        for peer in list(runs)[1:]
    ]


def seconds_of_a_step(ranks: int, threads: int) -> float:
    """Seconds of a step in the second half of a new training run."""
    hparams = f"num_steps={STEPS},log_every={STEPS // 2},batch_size={BATCH}"
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *(launch if ranks > 1 else ()), "-m", "sketchrnn_fast", "train"]
        command += ["--log_root", folder + "/run", "--hparams", hparams, "--device", "cpu"]
        variables = {**same_package(), "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=folder)
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
            status = f"training in {ranks} ranks ended with status {done.returncode}"
            raise SuiteError(f"{status}; its last word: {last[0]}")
        lines = Path(folder, "run", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    of_training = [one for one in map(json.loads, lines) if one["split"] == "train"]
    return BATCH / float(of_training[-1]["sketches_per_second"])
