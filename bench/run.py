"""Benchmarks, side by side with their peers in one run.

    python bench/run.py                     a tour of this machine, about five minutes
    python bench/run.py SUITE …             these suites in full
    python bench/run.py --full              every suite that the tour has, in full
    python bench/run.py --quick             small sizes, under 90 seconds: does everything work

The table shows medians. A ratio above 1 means that ours takes less than the peer, and the two
figures behind it are the 20th and 80th percentile of the ratio from turn to turn. The floor is the
time of the least that must be done (the same matrix products alone; in `sample`, reading the
weights alone), and the share is the floor over ours. A run whose outputs do not first agree with
the reference, and each peer's with ours, reports nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import plots
import results
import tables
import torch
import typer
from agreement import DisagreementError
from environment import environment
from original_process import OriginalError
from plan import FULL, QUICK, TOUR, Plan, Scale, SuiteError
from records import Record
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.ops import backends
from sketchrnn_fast.training import checkpoints

# Those of the tour, and those that are run by name alone.
TOURED = ("startup", "data", "ops", "sample", "train", "memory", "scaling", "quality")
NAMED = ("bidirectional", "sizes", "static", "gpu")
SUITES = (*TOURED, *NAMED)
OUT = Path(__file__).parent / "results" / "last"
UNFINISHED = "unfinished.json"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help="\n\n".join(__doc__.split("\n\n")))
def main(
    suites: Annotated[
        list[str] | None, typer.Argument(metavar="[SUITE]…", help=", ".join(SUITES))
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="small sizes, two turns each")] = False,
    full: Annotated[bool, typer.Option("--full", help="all peers and turns")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="write the records to this file too")
    ] = None,
    out: Annotated[Path, typer.Option(help="where records, samples and plots go; replaced")] = OUT,
    threads: Annotated[
        int | None, typer.Option(min=1, help="of PyTorch and of ours; PyTorch's own choice if not")
    ] = None,
    magenta: Annotated[
        Path | None, typer.Option(help="a checkout of Magenta, for train and sample")
    ] = None,
    magenta_python: Annotated[
        Path | None, typer.Option(help="a Python that has TensorFlow 2, for --magenta")
    ] = None,
    sketches: Annotated[
        Path | None, typer.Option(help="a training run's log root, for sample to draw with")
    ] = None,
) -> None:
    chosen = checked(suites, quick, full, magenta, magenta_python)
    check_writable(out, json_file)
    if set(chosen) - {"static", "gpu"}:
        check_backend()
    if sketches is not None:
        try:
            checkpoints.find(sketches)
        except UserError as error:
            refuse(f"--sketches: {error}")
    if quick or threads is not None:
        # Sizes are tiny in a quick run, and on a busy machine threads wait for each other.
        torch.set_num_threads(threads or 1)
    scale = QUICK if quick else FULL if full or suites else TOUR
    about = environment()
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(tables.machine(about), highlight=False)
    keep = keeper(out, about)
    records, failures = measured(chosen, scale, magenta, magenta_python, sketches, keep)
    if not records:
        refuse("; ".join(failures), status=1)
    records = [{**record, "environment": about} for record in records]
    console.print(*tables.tables(records))
    plots.remove(results.read_if_any(out), out)
    written = results.write(records, out) + plots.draw(records, out)
    keep([])
    if json_file is not None:
        written.append(results.write_json(records, json_file))
    console.print(f"written: {', '.join(map(str, written))}", highlight=False, soft_wrap=True)
    if failures:
        refuse("; ".join(failures), status=1)


def keeper(out: Path, about: dict[str, Any]) -> Callable[[list[Record]], None]:
    """What writes the records of a run that has not ended; given none, it removes what it wrote."""
    unfinished = out / UNFINISHED

    def keep(records: list[Record]) -> None:
        if records:
            results.write_json([{**record, "environment": about} for record in records], unfinished)
        else:
            unfinished.unlink(missing_ok=True)

    return keep


def checked(
    suites: list[str] | None,
    quick: bool,
    full: bool,
    magenta: Path | None,
    magenta_python: Path | None,
) -> list[str]:
    """The suites to run, in the order given, each once; ends the program where words do not fit."""
    unknown = [name for name in suites or () if name not in SUITES]
    if unknown:
        refuse(f"there is no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    if quick and full:
        refuse("--quick and --full exclude each other")
    if (magenta is None) != (magenta_python is None):
        refuse("--magenta and --magenta-python go together")
    if magenta is not None and not magenta.is_dir():
        refuse(f"--magenta is {magenta}, which is not a folder; it takes a checkout of Magenta")
    if magenta_python is not None and shutil.which(magenta_python) is None:
        refuse(f"--magenta-python is {magenta_python}, which is no program that can be run")
    return list(dict.fromkeys(suites or TOURED))


def check_writable(out: Path, json_file: Path | None) -> None:
    """End the program before anything is measured where the results could not be written."""
    if json_file is not None and json_file.exists() and not json_file.is_file():
        refuse(
            f"--json is {json_file}, which is not a regular file; it takes one to write or replace"
        )
    for folder in (out, *([json_file.parent] if json_file else [])):
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            refuse(f"{folder} cannot be made: {there} is a file")
        if not os.access(there, os.W_OK):
            refuse(f"{there} cannot be written to")


def check_backend() -> None:
    """End the program where what is called ours would not be our kernels."""
    for op in backends.implemented("native") or ("lstm",):
        try:
            chosen = backends.select(op, torch.device("cpu"))
        except backends.BackendError as error:
            refuse(str(error), status=1)
        if chosen != "native":
            refuse(
                f"{op} would run on the {chosen} backend; benchmarks are of the native one "
                "(see `sketchrnn-fast info`)",
                status=1,
            )


def measured(
    suites: list[str],
    scale: Scale,
    magenta: Path | None,
    magenta_python: Path | None,
    sketches: Path | None,
    keep: Callable[[list[Record]], None],
) -> tuple[list[Record], list[str]]:
    """The records of all suites, and of those that cannot run here why.

    `keep` is called after each suite with what there is so far, so that a run that is stopped in
    its tenth minute has not lost nine. Ends the program where something does not agree: then no
    figure of the run is worth anything, and `keep` is given none.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    records: list[Record] = []
    failures: list[str] = []
    console = Console(stderr=True)
    hidden = not console.is_terminal
    keep([])
    with Progress(*columns, console=console, transient=True, disable=hidden) as display:
        overall = display.add_task("", total=len(suites))
        plan = Plan(scale, torch.device("cpu"), magenta, magenta_python, sketches, console, display)
        for name in suites:
            display.update(overall, description=f"[bold]{name}")
            start = time.perf_counter()
            try:
                # One by one, so that a suite that fails late has not lost what it had.
                for record in suite(name).run(plan):
                    records.append(record)
            except DisagreementError as error:
                display.stop()
                keep([])
                refuse(f"{name}: {error}", status=1)
            except (SuiteError, OriginalError, UserError) as error:
                failures.append(f"{name}: {error}")
            else:
                plan.say(f"{name}: {time.perf_counter() - start:.0f} s")
            keep(records)
            display.advance(overall)
    return records, failures


def suite(name: str) -> Any:
    """The module of a suite; it has `run(plan)`."""
    if importlib.util.find_spec(name) is None:
        raise SuiteError(f"this checkout has no bench/{name}.py")
    return importlib.import_module(name)


def refuse(why: str, status: int = 2) -> NoReturn:
    """End with one sentence on standard error."""
    print(f"bench/run.py: {why}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    app()
