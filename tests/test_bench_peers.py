"""The peers compute what ours computes, and what does not is refused."""

from __future__ import annotations

import io
from typing import Any

import agreement
import datasets
import layers
import ops
import original_process
import peers
import pytest
import quality
import sample
import torch
from eager_sampler import EagerSampler
from layers import SMALL
from peers.known import LAYER_PEERS
from peers.torch_eager import EAGER
from plan import QUICK, Plan
from rich.console import Console

from sketchrnn_fast.config import ModelConfig


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
