"""`bench/run.py` runs, refuses what it must, and writes what it promises; speed is not judged."""

from __future__ import annotations

import csv
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import agreement
import data
import plots
import pytest
import results
import run
import startup
import torch
import two_ranks
from benchmarks import ENVIRONMENT, QUICK_SUITES, ROOT, bench
from plan import QUICK, Plan, SuiteError
from records import CONTRACT, record


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a quick run of everything prints, and the folder that it fills."""
    out = tmp_path_factory.mktemp("bench")
    done = bench("--quick", "--out", out, "--json", out / "asked.json")
    assert done.returncode == 0, done.stderr
    return done.stdout, out


# A whole quick run ------------------------------------------------------------------------------


def test_a_quick_run_ends_in_a_table_with_every_suite(quick: tuple[str, Path]) -> None:
    printed, _ = quick
    for suite in QUICK_SUITES:
        assert re.search(rf"│ {suite} +│", printed), suite


def test_every_record_keeps_the_contract(quick: tuple[str, Path]) -> None:
    _, out = quick
    records = json.loads((out / "asked.json").read_text())
    assert records == json.loads((out / "records.json").read_text())
    assert {one["suite"] for one in records} == set(QUICK_SUITES)
    for one in records:
        assert all(name in one for name in CONTRACT), one
        assert one["environment"]["commit"]
        assert one["environment"]["threads"] == 1
        assert len(one["ours_samples"]) == len(one["peer_samples"])
        if one["unit"] == "s":
            turns = zip(one["ours_samples"], one["peer_samples"], strict=True)
            assert one["ratio"] == pytest.approx(statistics.median(p / o for o, p in turns))
            assert one["ratio_p20"] <= one["ratio"] <= one["ratio_p80"]
        if one["floor_s"] is not None:
            assert one["floor_share"] == pytest.approx(one["floor_s"] / one["ours_s"])
            assert len(one["floor_samples"]) == len(one["ours_samples"])


def test_the_csv_files_have_every_record_and_every_sample(quick: tuple[str, Path]) -> None:
    _, out = quick
    records = results.read(out / "records.json")
    with (out / "records.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["peer"]) for row in rows] == [
        (one["case"], one["peer"]) for one in records
    ]
    assert float(rows[0]["ours_s"]) == records[0]["ours_s"]
    with (out / "samples.csv").open() as file:
        samples = list(csv.DictReader(file))
    assert len(samples) == sum(
        len(one[f"{whose}_samples"] or ()) for one in records for whose in ("ours", "peer", "floor")
    )


def test_the_plots_are_written(quick: tuple[str, Path]) -> None:
    _, out = quick
    expected = {f"scaling-{axis}.png" for axis in ("N", "B", "T", "threads")}
    expected |= {"quality.png", "train-parts.png", "sample-points.png", "sample-temperature.png"}
    assert {path.name for path in out.glob("*.png")} == expected
    assert all(path.stat().st_size > 5_000 for path in out.glob("*.png"))


def test_the_parts_of_a_training_step_make_up_the_whole(quick: tuple[str, Path]) -> None:
    _, out = quick
    parts = [one for one in results.read(out / "records.json") if one.get("part")]
    steps = {one["part"]["of"] for one in parts}
    assert len(steps) == 6  # three cells, two objectives
    for step in steps:
        of_step = [one for one in parts if one["part"]["of"] == step]
        assert {one["part"]["name"] for one in of_step} == {
            *("data", "encoder", "decoder", "loss", "backward", "optimiser")
        }
        for turn, whole in enumerate(of_step[0]["peer_samples"]):
            assert sum(one["ours_samples"][turn] for one in of_step) == pytest.approx(whole)


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["opps"], "there is no suite opps; there are startup, data, ops,"),
        (["--quick", "--full"], "--quick and --full exclude each other"),
        (["ops", "--magenta", "."], "--magenta and --magenta-python go together"),
        (["ops", "--out", "README.md"], "README.md cannot be made: README.md is a file"),
        (["ops", "--json", "docs"], "--json is docs, which is not a regular file; it takes one to"),
        (
            ["ops", "--json", "/dev/null"],
            "--json is /dev/null, which is not a regular file; it takes",
        ),
        (
            ["ops", "--magenta", "nowhere", "--magenta-python", sys.executable],
            "--magenta is nowhere, which is not a folder; it takes a checkout of Magenta",
        ),
        (
            ["ops", "--magenta", ".", "--magenta-python", "docs"],
            "--magenta-python is docs, which is no program that can be run",
        ),
        (["sample", "--sketches", "nowhere"], "--sketches: nowhere does not exist; a model is"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(arguments: list[str], sentence: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"bench/run.py: {sentence}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_gpu_suite_says_that_there_is_no_gpu(tmp_path: Path) -> None:
    done = bench("gpu", "--quick", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr == "bench/run.py: gpu: it needs a GPU, and PyTorch finds none here\n"
    assert not (tmp_path / "out").exists()


def test_a_run_that_disagrees_reports_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, 'bench'); import agreement, run;"
        "agreement.ON_CPU = agreement.Tolerance(1e-12, 1e-12);"
        f"sys.argv = ['run.py', 'ops', '--quick', '--out', {str(tmp_path / 'out')!r}]; run.app()"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "no time is taken of things that differ" in done.stderr
    assert not (tmp_path / "out").exists()
    assert "│" not in done.stdout


def test_another_backend_is_not_timed_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKETCHRNN_FAST_BACKEND", "reference")
    done = bench("ops", "--quick")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(r"bench/run.py: \w+ would run on the reference backend; ", done.stderr)
    monkeypatch.setenv("SKETCHRNN_FAST_BACKEND", "fastest")
    done = bench("ops", "--quick")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "SKETCHRNN_FAST_BACKEND names the backend 'fastest'" in done.stderr


def test_what_disagrees_in_a_new_process_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, store = data.make_files(tmp_path, 200)
    assert data.in_new_process("load", store)["batch"]
    code = tmp_path / "differs.py"
    code.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / 'bench')!r}); import data\n"
        "made = data.loop_batch\n"
        "data.loop_batch = lambda *given: made(*given) + 1\n"
        "data.main()\n"
    )
    monkeypatch.setattr(data, "__file__", str(code))
    with pytest.raises(agreement.DisagreementError, match="makes another batch than ours"):
        data.in_new_process("load", store)


def test_a_suite_that_fails_late_keeps_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    one = record("memory", "case", "peer", [1.0], [2.0])

    def fails_late(plan: Plan) -> Iterator[dict[str, Any]]:
        yield one
        raise SuiteError("out of memory")

    monkeypatch.setattr(run, "suite", {"memory": SimpleNamespace(run=fails_late)}.__getitem__)
    kept: list[int] = []
    records, failures = run.measured(
        ["memory"], QUICK, None, None, None, keep=lambda given: kept.append(len(given))
    )
    assert (records, failures, kept) == ([one], ["memory: out of memory"], [0, 1])


def test_a_suite_that_cannot_run_leaves_the_others_their_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = record("ops", "case", "peer", [1.0], [2.0])

    def fails(plan: Plan) -> list[dict[str, Any]]:
        raise SuiteError("there is no /proc here")

    modules = {"memory": SimpleNamespace(run=fails), "ops": SimpleNamespace(run=lambda plan: [one])}
    monkeypatch.setattr(run, "suite", modules.__getitem__)
    records, failures = run.measured(["memory", "ops"], QUICK, None, None, None, keep=len)
    assert (records, failures) == ([one], ["memory: there is no /proc here"])


@pytest.mark.parametrize(
    ("end", "ending", "is_kept"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, True),
        (agreement.DisagreementError("they differ"), SystemExit, False),
    ],
)
def test_a_stopped_run_keeps_the_suites_that_ended_unless_one_disagreed(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    end: BaseException,
    ending: type[BaseException],
    is_kept: bool,
) -> None:
    one = record("ops", "case", "peer", [1.0], [2.0])

    def ends(plan: Plan) -> list[dict[str, Any]]:
        raise end

    modules = {"ops": SimpleNamespace(run=lambda plan: [one]), "memory": SimpleNamespace(run=ends)}
    monkeypatch.setattr(run, "suite", modules.__getitem__)
    keep = run.keeper(tmp_path, ENVIRONMENT)
    with pytest.raises(ending):
        run.measured(["ops", "memory"], QUICK, None, None, None, keep)
    kept = tmp_path / run.UNFINISHED
    assert kept.exists() == is_kept
    if is_kept:
        assert results.read(kept) == [{**one, "environment": ENVIRONMENT}]


def test_new_processes_import_this_package_and_not_that_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sketchrnn_fast").mkdir()
    (tmp_path / "sketchrnn_fast" / "__init__.py").write_text("raise ImportError('another one')")
    monkeypatch.chdir(tmp_path)
    startup.python("-c", "import sketchrnn_fast")
    monkeypatch.setattr(two_ranks, "STEPS", 2)
    monkeypatch.setattr(two_ranks, "BATCH", 2)
    assert two_ranks.seconds_of_a_step(ranks=1, threads=1) > 0


def test_pictures_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    point = record("scaling", "c", "p", [1.0], [2.0], work=(1, "steps"), sweep=("lstm", "N", 8))
    (tmp_path / "scaling-N.png").touch()
    (tmp_path / "mine.png").touch()
    plots.remove([point], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


# Under pytest-benchmark ------------------------------------------------------------------------


def test_the_op_benchmarks_run_under_pytest() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "bench"]
    command.append("--benchmark-disable")
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "13 passed" in done.stdout
