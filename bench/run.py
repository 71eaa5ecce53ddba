"""Benchmarks, side by side with their peers in one run.

    python bench/run.py [SUITE …] [--json FILE]

Suites: startup, data. The table shows medians in seconds; a ratio above 1 means that ours takes
less time than the peer.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

SUITES = ("startup", "data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    accepted = ", ".join(SUITES)
    parser.add_argument("suites", nargs="*", default=SUITES, metavar="SUITE", help=accepted)
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    arguments = parser.parse_args()
    unknown = set(arguments.suites) - set(SUITES)
    if unknown:
        parser.error(f"there is no suite {', '.join(sorted(unknown))}; there are {accepted}")

    records = []
    for suite in arguments.suites:
        records += importlib.import_module(suite).run()
    table = Table("suite", "case", "ours, s", "peer", "peer, s", "ratio")
    for one in records:
        table.add_row(
            one["suite"],
            one["case"],
            f"{one['ours_s']:.4f}",
            one["peer"],
            f"{one['peer_s']:.4f}",
            f"{one['ratio']:.2f}",
        )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
