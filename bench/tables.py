"""Records as words: the final table on the terminal, and the machine."""

from __future__ import annotations

from typing import Any

from records import EXTRA, Record
from rich.table import Table

UNITS = {"s": "s", "mib": "MiB", "exponent": ""}


def tables(records: list[Record]) -> list[Table]:
    """One of what was timed and one of what was compiled, as far as there is any."""
    static = [one for one in records if one["suite"] == "static"]
    measured = [one for one in records if one["suite"] != "static"]
    made = []
    if measured:
        made.append(measured_table(measured))
    if static:
        made.append(static_table(static))
    return made


def measured_table(records: list[Record]) -> Table:
    table = Table("suite", "case", "ours", "peer", "peer's", "ratio", "floor", "share", "rate")
    for column in table.columns:
        column.no_wrap = column.header not in ("case", "peer")
    for one in records:
        table.add_row(
            one["suite"],
            one["case"],
            amount(one, "ours"),
            one["peer"],
            amount(one, "peer"),
            ratio(one),
            seconds(one["floor_s"]),
            "" if one["floor_share"] is None else f"{one['floor_share']:.0%}",
            rate(one),
        )
    return table


def static_table(records: list[Record]) -> Table:
    table = Table("case", *EXTRA)
    for one in records:
        table.add_row(one["case"], *("" if one[name] is None else str(one[name]) for name in EXTRA))
    return table


def amount(record: Record, whose: str) -> str:
    """The median of ours or the peer's in its unit."""
    unit = record["unit"]
    value = record[f"{whose}_{unit}"]
    return seconds(value) if unit == "s" else f"{value:.3g} {UNITS[unit]}".strip()


def seconds(value: float | None) -> str:
    """With three digits, in the unit that suits."""
    if value is None:
        return ""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1.0 or unit == "µs":
            return f"{value * factor:.3g} {unit}"
    return ""


def ratio(record: Record) -> str:
    if record["ratio"] is None:
        return ""
    if len(record["ours_samples"]) == 1:
        return f"{record['ratio']:.3g}"
    return f"{record['ratio']:.3g} ({record['ratio_p20']:.3g}–{record['ratio_p80']:.3g})"


def rate(record: Record) -> str:
    """Ours, work over time."""
    if record["work"] is None or record["ours_s"] is None:
        return ""
    return f"{record['work'] / record['ours_s']:.3g} {record['work_unit']}/s"


def machine(of: dict[str, Any]) -> str:
    """What `environment` found, as a sentence."""
    where = of["cpu"] if of["gpu"] is None else f"{of['gpu']}, {of['cpu']}"
    return (
        f"{where}, {of['threads']} threads on {of['cores']} cores, level {of['level']}; "
        f"PyTorch {of['torch']}, Python {of['python']}, commit {of['commit']}, "
        f"load {of['load']} at the start, {of['time']}"
    )
