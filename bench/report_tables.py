"""The tables of docs/benchmarks.md, two runs side by side."""

from __future__ import annotations

from collections.abc import Callable

import tables
from records import Record

Key = tuple[str, str]
Table = Callable[[list[Record], list[Record]], str]

HEAD = (
    "| case | peer | ours | peer's | ratio, first run | ratio, second run | share of the floor |\n"
    "|---|---|---|---|---|---|---|"
)
# Those of `scaling` are points of a plot, too many for a table.
PLOTTED = ("N", "B", "T")


def of_suite(suite: str) -> Table:
    """Every comparison of a suite that no other table has."""

    def table(first: list[Record], second: list[Record]) -> str:
        return compared(*(list(filter(in_table, run)) for run in (first, second)))

    def in_table(one: Record) -> bool:
        is_point = suite == "scaling" and (one.get("sweep") or {}).get("axis") in PLOTTED
        is_other = bool(one.get("part")) or one["unit"] == "exponent"
        return one["suite"] == suite and not is_point and not is_other

    return table


def compared(first: list[Record], second: list[Record]) -> str:
    """A row for each case and peer of either run."""
    of_first, of_second = (
        {(one["case"], one["peer"]): one for one in run} for run in (first, second)
    )
    rows, case_before = [], None
    for key in dict.fromkeys([*of_first, *of_second]):
        both = of_first.get(key), of_second.get(key)
        peer, case = key[1], key[0] + losses(both)
        rows.append(
            [
                case if case != case_before else "",
                peer,
                pair(both, lambda one: tables.amount(one, "ours")),
                pair(both, lambda one: tables.amount(one, "peer")),
                *(tables.ratio(one) if one else "–" for one in both),
                pair(both, share) if any(one and one["floor_s"] for one in both) else "",
            ]
        )
        case_before = case
    return "\n".join([HEAD, *map(row, rows)]) if rows else ""


def losses(both: tuple[Record | None, Record | None]) -> str:
    """Where a case is the reaching of a loss, that loss in both runs."""
    if not any(one and "loss" in one for one in both):
        return ""
    return f" ({pair(both, lambda one: format(one['loss'], '.3f'))})"


def parts(first: list[Record], second: list[Record]) -> str:
    """Milliseconds of each part of a training step."""
    of_both = [
        {(one["part"]["of"], one["part"]["name"]): one for one in run if one.get("part")}
        for run in (first, second)
    ]
    steps = list(dict.fromkeys(step for step, _ in of_both[0]))
    names = list(dict.fromkeys(name for _, name in of_both[0]))
    if not steps:
        return ""
    lines = [row(["step", *names]), "|---" * (len(names) + 1) + "|"]
    for step in steps:
        cells = []
        for name in names:
            both = tuple(of.get((step, name)) for of in of_both)
            cells.append(pair(both, lambda one: f"{one['ours_s'] * 1e3:.3g}"))
        lines.append(row([step, *cells]))
    return "\n".join(lines)


def exponents(first: list[Record], second: list[Record]) -> str:
    """The fitted exponents, ours and the peers'."""
    of_both = [
        {(one["case"], one["peer"]): one for one in run if one["unit"] == "exponent"}
        for run in (first, second)
    ]
    if not of_both[0]:
        return ""
    lines = ["| fit | ours | peer | peer's |", "|---|---|---|---|"]
    for key in of_both[0]:
        both = tuple(of.get(key) for of in of_both)
        lines.append(
            row(
                [
                    key[0],
                    pair(both, lambda one: f"{one['ours_exponent']:.2f}"),
                    key[1],
                    pair(both, lambda one: f"{one['peer_exponent']:.2f}"),
                ]
            )
        )
    return "\n".join(lines)


def static(first: list[Record], second: list[Record]) -> str:
    """Kernels as compiled, of the first run; nothing of it is a measurement."""
    found = [one for one in first if one["suite"] == "static"]
    if not found:
        return ""
    lines = ["| kernel | target | spills | registers | shared bytes |", "|---|---|---|---|---|"]
    for one in found:
        cells = (one[name] for name in ("target", "spills", "registers", "shared_bytes"))
        lines.append(row([one["case"], *("" if cell is None else str(cell) for cell in cells)]))
    return "\n".join(lines)


def pair(both: tuple[Record | None, ...], show: Callable[[Record], str]) -> str:
    """Both runs' figures, the unit once where it is the same."""
    first, second = (show(one) if one else "–" for one in both)
    number, _, unit = first.rpartition(" ")
    if unit and second.endswith(f" {unit}"):
        return f"{number}, {second}"
    return f"{first}, {second}"


def share(one: Record) -> str:
    return "–" if one["floor_share"] is None else f"{one['floor_share']:.0%}"


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


TABLES: dict[str, Table] = {
    **{
        suite: of_suite(suite)
        for suite in (
            *("startup", "data", "ops", "sample", "train", "memory", "scaling", "quality"),
            *("bidirectional", "sizes", "gpu"),
        )
    },
    "train parts": parts,
    "exponents": exponents,
    "static": static,
}
