"""Fills the tables and plots of docs/benchmarks.md from two runs, so that no figure is typed.

    python bench/run.py --full --out bench/results/first
    python bench/run.py --full --out bench/results/second
    python bench/report.py bench/results/first bench/results/second

The records of both runs are copied to bench/results/quoted/, plots go to docs/images/benchmarks/,
and what stands between markers such as `<!-- ops -->` and `<!-- /ops -->` is replaced. Without
folders, the page is filled from what is quoted already; `--check` only says whether it is.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import plots
import results
import tables
import typer
from records import Record
from report_tables import TABLES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
IMAGES = "images/benchmarks"
QUOTED = Path(__file__).parent / "results" / "quoted"
RUNS = ("first", "second")
NONE_YET = "No run has been quoted yet."
NOT_QUOTED = "Not among the quoted runs."
MARKED = re.compile(r"<!-- ([a-z ]+) -->\n.*?<!-- /\1 -->", re.DOTALL)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__.splitlines()[0])
def main(
    first: Annotated[Path | None, typer.Argument(help="folder of the first run")] = None,
    second: Annotated[Path | None, typer.Argument(help="folder of the second run")] = None,
    page: Annotated[Path, typer.Option(help="the page to fill")] = PAGE,
    quoted: Annotated[Path, typer.Option(help="where the quoted records are kept")] = QUOTED,
    check: Annotated[bool, typer.Option("--check", help="change nothing")] = False,
) -> None:
    if (first is None) != (second is None):
        refuse("it takes two runs, or none")
    if first is not None and second is not None:
        runs = tuple(read(folder) for folder in (first, second))
        if check:
            refuse("--check compares the page with what is quoted, and takes no runs")
        check_same_machine(*runs)
        for name, records in zip(RUNS, runs, strict=True):
            results.write_json(records, quoted / f"{name}.json")
    text = page.read_text(encoding="utf-8")
    runs = tuple(read_quoted(quoted, name) for name in RUNS)
    filled = fill(text, *runs)
    if check:
        if filled != text:
            refuse(f"{page.name} is not what bench/results/quoted gives; run bench/report.py", 1)
        return
    draw(runs[0], runs[1], page.parent / IMAGES)
    page.write_text(filled, encoding="utf-8")


def read(folder: Path) -> list[Record]:
    path = folder / "records.json"
    if not path.is_file():
        refuse(f"{path} does not exist; bench/run.py --out {folder} writes it")
    return results.read(path)


def read_quoted(folder: Path, run: str) -> list[Record]:
    """The records of a quoted run; none where no run is."""
    path = folder / f"{run}.json"
    return results.read(path) if path.is_file() else []


def check_same_machine(first: list[Record], second: list[Record]) -> None:
    """Refuse two runs that do not say the same of different days on one machine."""
    about = [records[0]["environment"] if records else {} for records in (first, second)]
    for name in ("cpu", "gpu", "threads", "torch", "commit"):
        values = [of.get(name) for of in about]
        if values[0] != values[1]:
            refuse(f"the two runs differ in {name}: {values[0]} and {values[1]}")


def fill(text: str, first: list[Record], second: list[Record]) -> str:
    """The page with what stands between markers replaced."""

    def between(found: re.Match[str]) -> str:
        name = found.group(1)
        return f"<!-- {name} -->\n{content(name, first, second)}\n<!-- /{name} -->"

    return MARKED.sub(between, text)


def content(name: str, first: list[Record], second: list[Record]) -> str:
    if not first or not second:
        return NONE_YET
    if name == "machine":
        about = [records[0]["environment"] for records in (first, second)]
        return (
            f"* First run: {tables.machine(about[0])}.\n* Second run: {tables.machine(about[1])}."
        )
    if name.startswith("plots "):
        pictures = (f"![{path}]({IMAGES}/{path})" for path in plotted(first, name[6:]))
        return "\n\n".join(pictures) or NOT_QUOTED
    if name not in TABLES:
        refuse(f"the page has a marker {name!r}; there are machine, plots …, {', '.join(TABLES)}")
    return TABLES[name](first, second) or NOT_QUOTED


def plotted(records: list[Record], suite: str) -> list[str]:
    """The names of a suite's plots."""
    if suite == "ratios":
        return ["ratios.png"]
    return [name for name in plots.names(records) if name.startswith(suite)]


def draw(first: list[Record], second: list[Record], folder: Path) -> None:
    """All plots, from the first run; the ratios from both."""
    if not first or not second:
        return
    folder.mkdir(parents=True, exist_ok=True)
    plots.draw(first, folder)
    plots.draw_ratios(first, second, folder / "ratios.png")


def refuse(why: str, status: int = 2) -> None:
    """End with one sentence on standard error."""
    print(f"bench/report.py: {why}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    app()
