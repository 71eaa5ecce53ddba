"""Times, the records made of them, and the page made of the records."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import plots
import pytest
import report
import report_tables
import results
import scaling
import timing
from benchmarks import ENVIRONMENT, QUICK_SUITES, bench
from records import CONTRACT, fitted, record, static
from timing import Effort, interleaved, wall_seconds

# Times and records ------------------------------------------------------------------------------


def test_cases_take_turns() -> None:
    calls: list[str] = []
    cases = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = interleaved(cases, Effort(3, 5, 0.0), clock=wall_seconds)
    assert calls == list("ab" * 4)  # a warm-up, and three turns
    assert [len(of_case) for of_case in seconds.values()] == [3, 3]


def test_turns_end_at_the_most() -> None:
    cases = {"a": lambda: None}
    assert len(interleaved(cases, Effort(1, 5, 60.0), clock=wall_seconds)["a"]) == 5


def test_a_case_begins_when_no_thread_works_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "LOOK_S", 0.1)  # a busy machine lets a thread wait for long
    over = threading.Event()

    def works_on() -> None:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
        over.set()

    found: list[bool] = []
    cases = {
        "one that returns too early": lambda: threading.Thread(target=works_on).start(),
        "the next": lambda: found.append(over.is_set()),
    }
    interleaved(cases, Effort(2, 2, 0.0), clock=wall_seconds, warm_up=0)
    assert found[0]


def test_a_process_that_never_rests_is_timed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "MOST_LOOKS", 3)
    monkeypatch.setattr(timing, "AT_REST", -1.0)
    assert len(interleaved({"a": lambda: None}, Effort(1, 1, 0.0), clock=wall_seconds)["a"]) == 1


def test_a_record_has_medians_and_the_ratios_of_each_turn() -> None:
    one = record("ops", "case", "peer", [1.0, 2.0, 4.0], [2.0, 6.0, 8.0], [0.5, 0.5, 0.5])
    assert (one["ours_s"], one["peer_s"], one["ratio"]) == (2.0, 6.0, 2.0)
    assert (one["floor_s"], one["floor_share"]) == (0.5, 0.25)
    assert record("ops", "case", "peer", [1.0, 2.0, 4.0], [9.0, 2.0, 8.0])["ratio"] == 2.0
    assert one["ratio_p20"] == pytest.approx(2.0)
    assert one["ratio_p80"] == pytest.approx(2.6)


def test_memory_has_no_seconds() -> None:
    one = record("memory", "case", "peer", [1.0], [2.0], unit="mib")
    assert (one["ours_s"], one["ours_mib"], one["ratio"]) == (None, 1.0, 2.0)


def test_a_static_record_has_what_its_suite_promises() -> None:
    one = static("lstm, forward", "sm_90", spills=0, registers=128, shared_bytes=1024)
    assert all(name in one for name in (*CONTRACT, "spills", "registers", "shared_bytes", "target"))
    assert one["suite"] == "static"


def test_a_power_law_gives_its_exponent() -> None:
    sizes = [1.0, 2.0, 4.0, 16.0]
    assert scaling.exponent(sizes, [3.0 * size**1.7 for size in sizes]) == pytest.approx(1.7)


# The page ---------------------------------------------------------------------------------------


def some_run(factor: float) -> list[dict[str, Any]]:
    ours, peer = [1e-3 * factor, 1.1e-3 * factor], [3e-3, 3.3e-3]
    made = [
        record("ops", "lstm", "eager PyTorch", ours, peer, [5e-4, 5e-4], work=(10, "steps")),
        record("ops", "lstm", "torch.nn.LSTM", ours, peer, [5e-4, 5e-4], work=(10, "steps")),
        fitted("scaling", "lstm: time ~ B^exponent", "eager PyTorch", 0.9, 0.5),
        {**record("train", "a: data", "the whole step", ours, peer),
         "part": {"of": "a", "name": "data"}},
        {**static("k", "sm_90", spills=0, registers=1, shared_bytes=2)},
    ]  # fmt: skip
    return [{**one, "environment": ENVIRONMENT} for one in made]


def test_two_runs_stand_side_by_side_in_a_table() -> None:
    table = report_tables.TABLES["ops"](some_run(1.0), some_run(1.5))
    lines = table.splitlines()
    assert lines[2].startswith("| lstm | eager PyTorch | 1.05, 1.57 ms | 3.15, 3.15 ms | 3 (")
    assert lines[3].startswith("|  | torch.nn.LSTM |")
    assert lines[2].endswith("| 48%, 32% |")


def test_the_report_fills_a_page_and_keeps_what_it_quotes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- ops -->\nold\n<!-- /ops -->\nafter\n<!-- static -->\n<!-- /static -->\n"
    )
    for name, factor in (("a", 1.0), ("b", 1.2)):
        results.write(some_run(factor), tmp_path / name)
    quoted = tmp_path / "quoted"
    arguments = (tmp_path / "a", tmp_path / "b", "--page", page, "--quoted", quoted)
    done = bench(*arguments, script="report.py")
    assert (done.returncode, done.stderr) == (0, "")
    text = page.read_text()
    assert text.startswith("before\n<!-- ops -->\n| case |")
    assert "old" not in text
    assert "| k | sm_90 | 0 | 1 | 2 |" in text
    assert (tmp_path / "images" / "benchmarks" / "ratios.png").is_file()
    check = ("--check", "--page", page, "--quoted", quoted)
    assert bench(*check, script="report.py").returncode == 0
    page.write_text(text.replace("sm_90", "sm_80"))
    done = bench(*check, script="report.py")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_runs_of_different_machines_are_not_put_side_by_side(tmp_path: Path) -> None:
    other = [{**one, "environment": {**ENVIRONMENT, "threads": 2}} for one in some_run(1.0)]
    results.write(some_run(1.0), tmp_path / "a")
    results.write(other, tmp_path / "b")
    done = bench(tmp_path / "a", tmp_path / "b", script="report.py")
    assert done.returncode == 2
    assert done.stderr == "bench/report.py: the two runs differ in threads: 1 and 2\n"


def test_the_docs_are_what_the_quoted_runs_give() -> None:
    done = bench("--check", script="report.py")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_docs_have_a_table_or_plot_for_every_suite() -> None:
    text = report.PAGE.read_text(encoding="utf-8")
    for suite in (*QUICK_SUITES, "gpu", "static", "bidirectional", "sizes"):
        assert f"<!-- {suite} -->" in text, suite


def test_throughput_is_drawn_for_ours_each_peer_and_the_floor() -> None:
    points = [
        record("s", "c", "p", [t], [2 * t], [t / 2], work=(6.0, "steps"), sweep=("lstm", "N", n))
        for n, t in ((1.0, 1.0), (2.0, 3.0))
    ]
    assert plots.lines(points) == {
        "ours": {1.0: 6.0, 2.0: 2.0},
        "p": {1.0: 3.0, 2.0: 1.0},
        plots.FLOOR: {1.0: 12.0, 2.0: 4.0},
    }
