"""The benchmarks run, refuse what they must, and write what they promise; speed is not judged."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import agreement
import data
import datasets
import layers
import ops
import original_process
import peers
import plots
import pytest
import quality
import report
import report_tables
import results
import run
import sample
import scaling
import startup
import timing
import torch
import two_ranks
from eager_sampler import EagerSampler
from layers import SMALL
from peers.known import LAYER_PEERS
from peers.torch_eager import EAGER
from plan import QUICK, Plan, SuiteError
from records import CONTRACT, fitted, record, static
from rich.console import Console
from timing import Effort, interleaved, wall_seconds

from sketchrnn_fast.config import ModelConfig

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {"cpu": "a CPU", "gpu": None, "threads": 1, "torch": "2", "commit": "c"}
ENVIRONMENT |= {"cores": 2, "level": "v3", "python": "3", "load": 0.1, "time": "now"}
QUICK_SUITES = ("startup", "data", "ops", "sample", "train", "memory", "scaling", "quality")


def bench(*arguments: object, script: str = "run.py") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ)


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
        (["ops", "--json", "docs"], "--json is docs, which is not a regular file; one would be"),
        (["ops", "--json", "/dev/null"], "--json is /dev/null, which is not a regular file; one"),
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


def wrong_build(op: str, inputs: layers.Inputs, keep_prob: float) -> peers.Running:
    """An eager peer whose hidden states are off by a thousandth."""
    running = EAGER.build(op, inputs, keep_prob)
    assert running.as_ours is not None
    hidden, gradients = running.as_ours()
    return peers.Running(running.run, lambda: (hidden * 1.001, gradients))


def test_a_peer_that_disagrees_is_refused_before_it_is_timed() -> None:
    wrong = peers.Peer("a wrong one", {"lstm": "lstm"}, wrong_build)
    inputs = layers.make_inputs("lstm", SMALL)
    with pytest.raises(agreement.DisagreementError, match=r"^a wrong one of lstm at N=32: the out"):
        peers.start(wrong, "lstm", SMALL, inputs)


def test_a_gradient_that_disagrees_is_refused() -> None:
    inputs = layers.make_inputs("lstm", SMALL)
    hidden, gradients = layers.ours("lstm", inputs, 1.0)
    changed = (*gradients[:1], gradients[1] * 1.01, *gradients[2:])
    with pytest.raises(agreement.DisagreementError, match="gradient 1 of shape"):
        agreement.check("a peer", (hidden, gradients), (hidden, changed))


def test_results_that_are_not_numbers_are_refused() -> None:
    hidden = torch.full((2, 2), float("nan"))
    with pytest.raises(agreement.DisagreementError):
        agreement.check_close("a peer", "the output", torch.ones(2, 2), hidden, 1.0)


def test_ours_is_refused_where_it_is_not_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    right = layers.ours
    calls: list[int] = []

    def off_at_first(*arguments: Any) -> layers.Pass:
        hidden, gradients = right(*arguments)
        calls.append(0)
        return (hidden + 0.01 if len(calls) == 1 else hidden), gradients

    monkeypatch.setattr(layers, "ours", off_at_first)
    with pytest.raises(agreement.DisagreementError, match="our lstm at N=32: the output"):
        layers.check_ours("lstm", SMALL)


def test_a_run_that_disagrees_reports_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, 'bench'); import agreement, run;"
        "agreement.ON_CPU = agreement.Tolerance(1e-12, 1e-12);"
        f"sys.argv = ['run.py', 'ops', '--quick', '--out', {str(tmp_path / 'out')!r}]; run.app()"
    )
    command = [sys.executable, "-c", code]
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


# Peers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "peer"),
    [
        pytest.param(op, peer, id=f"{op}-{peer.name}")
        for op in layers.OPS
        for peer in LAYER_PEERS
        if peer.in_quick and op in peer.computes and not peer.missing(torch.device("cpu"))
    ],
)
def test_a_peer_computes_what_ours_computes(op: str, peer: peers.Peer) -> None:
    sizes = SMALL._replace(T=5, B=3, N=24)
    peers.check(peer, peer.computes[op], sizes, layers.make_inputs(op, sizes))


def test_a_peer_that_is_not_installed_is_left_out_with_a_reason() -> None:
    assert peers.not_installed("no_such_package")(torch.device("cpu")) == (
        "no_such_package is not installed"
    )
    assert peers.gpu_only("torch")(torch.device("cpu")) == "it runs on GPUs alone"


def test_a_peers_name_says_what_it_leaves_out() -> None:
    titles = {peer.name: peer.title("layer_norm_lstm") for peer in LAYER_PEERS if peer.name != ""
              and "layer_norm_lstm" in peer.computes}  # fmt: skip
    assert titles["torch.nn.LSTM"] == "torch.nn.LSTM, no layer norm, no dropout"
    assert titles["eager PyTorch"] == "eager PyTorch"


def test_a_peer_that_is_broken_is_left_out_with_a_reason() -> None:
    def breaks(op: str, inputs: layers.Inputs, keep_prob: float) -> peers.Running:
        raise RuntimeError("no C++ compiler\nand more")

    broken = peers.Peer("a broken one", {"lstm": "lstm"}, breaks)
    said = io.StringIO()
    plan = Plan(QUICK, console=Console(file=said))
    records = ops.layer_records(plan, "lstm", SMALL, (broken, EAGER))
    assert [one["peer"] for one in records] == [EAGER.name]
    assert said.getvalue() == (
        "ops: lstm without a broken one, which cannot run here: no C++ compiler\n"
    )


def test_the_eager_sampler_draws_the_same_where_it_drops_sketches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stroke(sampler: EagerSampler, params: torch.Tensor, temperature: float) -> torch.Tensor:
        """By the parameters alone, so that no sketch depends on which others are drawn."""
        ends = (params[:, 3] * 300.0).sin() > 0.9
        made = torch.zeros(len(params), 5)
        made[:, :2] = params[:, 4:6]
        made[:, 4], made[:, 2] = ends.float(), (~ends).float()
        return made

    torch.manual_seed(0)
    monkeypatch.setattr(EagerSampler, "_stroke", stroke)
    model = sample.random_model("layer_norm", sample.QUICK_MODEL)
    eager, z = EagerSampler(model), torch.randn(30, model.config.z_size)
    whole = eager.draw(30, 40, z, 1.0)
    dropping = eager.draw(30, 40, z, 1.0, drop_ended=True)
    lengths = [len(points) for points in whole]
    assert min(lengths) < 8 < sorted(lengths)[-2]
    assert lengths == [len(points) for points in dropping]
    for one, other in zip(whole, dropping, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_quality_looks_at_the_first_steps_of_every_run() -> None:
    runs = quality.train(Plan(QUICK), datasets.splits(datasets.name(), 30))
    for one in runs.values():
        assert len(one.curve) >= min(one.steps, quality.EARLY_STEPS) // 2
        assert one.curve[-1][0] == one.seconds
        assert [at for at, _ in one.curve] == sorted({at for at, _ in one.curve})
        assert one.marks[-1] == (one.seconds, one.steps)
        assert all(seconds > 0 for seconds in one.step_seconds())


def test_the_original_is_given_only_what_it_knows() -> None:
    given = original_process.hparams(ModelConfig())
    # Magenta's own names, of those that define a model.
    assert set(given) == {
        *("enc_model", "enc_rnn_size", "dec_model", "dec_rnn_size", "z_size", "num_mixture"),
        *("conditional", "max_seq_len", "use_recurrent_dropout", "recurrent_dropout_prob"),
        *("use_input_dropout", "input_dropout_prob", "use_output_dropout", "output_dropout_prob"),
    }


# The GPU suite, but for the GPU -----------------------------------------------------------------


def test_the_gpu_suites_code_runs_on_the_cpus_backend() -> None:
    import gpu

    records = gpu.run_on(Plan(QUICK), "native", "native")
    assert {one["suite"] for one in records} == {"gpu"}
    cases = " ".join(one["case"] for one in records)
    for part in (*layers.OPS, "mixture_density", "one sketch", "20 sketches", "exponent"):
        assert part in cases


def test_the_gpu_suite_refuses_a_sampler_that_draws_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import gpu

    model = sample.random_model("lstm", sample.QUICK_MODEL)
    gpu.check_drawings(model, "native")
    right = gpu.Sampler.draw

    def shifted(sampler: Any, *arguments: Any, **options: Any) -> Any:
        drawings = right(sampler, *arguments, **options)
        is_ours = sampler.backend == "native"
        return drawings._replace(points=drawings.points + 0.1) if is_ours else drawings

    monkeypatch.setattr(gpu.Sampler, "draw", shifted)
    with pytest.raises(agreement.DisagreementError, match="our native engine with a lstm decoder"):
        gpu.check_drawings(model, "native")


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


def test_the_op_benchmarks_run_under_pytest() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "bench"]
    command.append("--benchmark-disable")
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "13 passed" in done.stdout
