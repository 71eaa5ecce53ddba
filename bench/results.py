"""Records as files: JSON with everything, a CSV of records and a CSV of samples."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from records import EXTRA, Record

SUMMARY = (
    *("suite", "case", "peer", "unit", "ours_s", "ours_p20", "ours_p80"),
    *("peer_s", "peer_p20", "peer_p80", "ours_mib", "peer_mib", "ours_exponent", "peer_exponent"),
    *("ratio", "ratio_p20", "ratio_p80", "floor_s", "floor_share", "work", "work_unit"),
    *EXTRA,
)
SAMPLE = ("suite", "case", "peer", "whose", "turn", "value", "unit")


def write(records: list[Record], folder: Path) -> list[Path]:
    """`records.json`, `records.csv` and `samples.csv` in that folder; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_json(records, folder / "records.json"),
        _write_csv(folder / "records.csv", list(_summaries(records))),
        _write_csv(folder / "samples.csv", list(_samples(records))),
    ]


def write_json(records: list[Record], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Replaced in one step: a kill in the middle leaves what was there before.
    path = path.resolve()  # of a link what it points to is replaced
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def read(path: Path) -> list[Record]:
    """What `write_json` wrote."""
    records: list[Record] = json.loads(path.read_text(encoding="utf-8"))
    return records


def read_if_any(folder: Path) -> list[Record]:
    """The records of an earlier run in that folder; none where there was no run."""
    path = folder / "records.json"
    return read(path) if path.is_file() else []


def _summaries(records: list[Record]) -> Iterator[dict[str, Any]]:
    for one in records:
        sweep = one.get("sweep") or {}
        yield {
            **{name: one.get(name) for name in SUMMARY},
            **{f"sweep_{name}": sweep.get(name) for name in ("of", "axis", "value")},
            **one["environment"],
        }


def _samples(records: list[Record]) -> Iterator[dict[str, Any]]:
    for one in records:
        for whose in ("ours", "peer", "floor"):
            for turn, value in enumerate(one.get(f"{whose}_samples") or ()):
                yield {
                    **{name: one[name] for name in ("suite", "case", "peer")},
                    **{"whose": whose, "turn": turn, "value": value},
                    "unit": "s" if whose == "floor" else one["unit"],
                }


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else SAMPLE)
        writer.writeheader()
        writer.writerows(rows)
    return path
