"""Suite `ops`: forward and backward of each op, beside its peers and its floor.

float32, on torch's threads. Ours has recurrent dropout; so have the peers whose name does not say
otherwise. Gradients are those that training a decoder needs (`layers`): weights, initial state and
static input, not x. What the peers are allowed is said in `peers.eager`, what the floor is in
`floor`. Ours is first held against the reference, dropout and lengths included, and each peer
against ours, dropout off; one that does not agree ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import agreement
import datasets
import layers
import peers
import torch
from agreement import DisagreementError
from floor import floor
from layers import DECODER, KEEP_PROB, OPS, SMALL, Pass, Sizes, make_inputs
from peers import Peer, eager
from peers.known import LAYER_PEERS
from peers.torch_eager import EAGER
from plan import Plan
from records import Record, record
from torch import Tensor

import sketchrnn_fast as srf
from sketchrnn_fast import nn, ops

SUITE = "ops"
ROWS, MIXTURES = 25_000, 20
CELL_STEPS = 100


class Setting(NamedTuple):
    """What `ops` measures."""

    sizes: Sizes
    rows: int  # of the mixture density
    peers: tuple[Peer, ...]


def setting(plan: Plan) -> Setting:
    chosen = tuple(
        peer for peer in LAYER_PEERS if (peer.in_quick if plan.quick else peer.is_core or plan.full)
    )
    return Setting(SMALL if plan.quick else DECODER, 100 if plan.quick else ROWS, chosen)


def run(plan: Plan) -> list[Record]:
    torch.manual_seed(0)
    of = setting(plan)
    records = mixture_density_records(plan, of.rows)
    for op in OPS:
        records += layer_records(plan, op, of.sizes, of.peers)
        records.append(lengths_record(plan, op, of.sizes))
    for rows in (1, 100):
        records += cell_records(plan, rows, of.sizes.N)
    return records


def available(plan: Plan, op: str, candidates: Sequence[Peer]) -> list[Peer]:
    """The peers that have this op and can run here; of the others that have it, a line each."""
    found = []
    for peer in candidates:
        if op not in peer.computes:
            continue
        reason = peer.missing(plan.device)
        if reason is None:
            found.append(peer)
        else:
            plan.say(f"{SUITE}: {op} without {peer.name}: {reason}")
    return found


def layer_records(
    plan: Plan,
    op: str,
    sizes: Sizes,
    candidates: Sequence[Peer],
    *,
    dtype: torch.dtype = torch.float32,
    suite: str = SUITE,
    sweep: tuple[str, str, float] | None = None,
) -> list[Record]:
    """A layer against its peers and its floor.

    Args:
        dtype: of the storage; only peers that keep our dtype are asked for others than float32.
        sweep: where this is a point of a plot (`records.record`).
    """
    inputs = make_inputs(op, sizes, plan.device, dtype)
    layers.check_ours(op, sizes, inputs)
    case = f"{op} {sizes}" + ("" if dtype == torch.float32 else f" {str(dtype).split('.')[1]}")
    cases: dict[str, Callable[[], object]] = {
        "ours": lambda: layers.ours(op, inputs, KEEP_PROB),
        "floor": floor(op, sizes, plan.device, dtype),
    }
    titles = []
    for peer in available(plan, op, candidates):
        try:
            one_pass = peers.start(peer, op, sizes, inputs)
        except DisagreementError:
            raise
        except Exception as error:  # installed, but broken: no compiler, another version, …
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            plan.say(f"{suite}: {op} without {peer.name}, which cannot run here: {first_line}")
            continue
        titles.append(peer.title(op))
        cases[titles[-1]] = one_pass
    # The peers are warm from their start.
    cases["ours"]()
    cases["floor"]()
    # A turn of all peers takes so long that there would be few.
    effort = plan.scale.effort._replace(least=5) if plan.full and suite == SUITE else None
    seconds = plan.measure(f"{suite}: {case}", cases, warm_up=0, effort=effort)
    return [
        record(
            suite,
            case,
            title,
            seconds["ours"],
            seconds[title],
            seconds["floor"],
            work=(sizes.steps, "steps"),
            sweep=sweep,
        )
        for title in titles
    ]


def lengths_record(plan: Plan, op: str, sizes: Sizes, suite: str = SUITE) -> Record:
    """Ours on the lengths of real drawings, beside itself at full length."""
    inputs, lengths = make_inputs(op, sizes, plan.device), _lengths(sizes).to(plan.device)
    mean = f"mean {float(lengths.double().mean()):.0f}"
    case = f"{op} {sizes}, lengths of {datasets.name()} ({mean})"
    cases = {
        "lengths": lambda: layers.ours(op, inputs, KEEP_PROB, lengths),
        "full": lambda: layers.ours(op, inputs, KEEP_PROB),
    }
    seconds = plan.measure(f"{suite}: {case}", cases)
    work = (float(lengths.sum()), "steps")
    return record(suite, case, "ours, full length", seconds["lengths"], seconds["full"], work=work)


def _lengths(sizes: Sizes) -> Tensor:
    """Those of the dataset, in proportion where T is not the dataset's."""
    return (datasets.lengths(sizes.B) * sizes.T) // datasets.MOST_POINTS


# Mixture density ------------------------------------------------------------------------------


class MixtureInputs(NamedTuple):
    """Rows of drawings and the parameters of their density; every row counts in full."""

    params: Tensor  # [R, 6K+3]
    target: Tensor  # [R, 5]
    ones: Tensor  # [R]


def mixture_inputs(rows: int, device: torch.device) -> MixtureInputs:
    pen = torch.nn.functional.one_hot(torch.randint(3, (rows,)), 3)
    return MixtureInputs(
        torch.randn(rows, 6 * MIXTURES + 3).to(device).requires_grad_(),
        torch.cat([torch.randn(rows, 2), pen], dim=1).to(device),
        torch.ones(rows, device=device),
    )


def checked_mixture_inputs(rows: int, device: torch.device) -> MixtureInputs:
    """Inputs on which ours was found to agree with the reference, and the eager peer with ours.

    Raises:
        DisagreementError: one of them does not.
    """
    inputs = mixture_inputs(rows, device)
    most = agreement.tolerance(inputs.params)
    found = our_mixture_density(inputs)
    with srf.backend("reference"):
        expected = our_mixture_density(inputs)
    agreement.check("our mixture_density", expected, found, most, "the reference")
    agreement.check(f"{EAGER.name} of mixture_density", found, eager_mixture_density(inputs), most)
    return inputs


def our_mixture_density(inputs: MixtureInputs) -> Pass:
    """Losses, and the gradient of the parameters."""
    params, target, ones = inputs
    return _with_gradient(ops.mixture_density(params, target, ones, ones), params)


def eager_mixture_density(inputs: MixtureInputs) -> Pass:
    return _with_gradient(eager.mixture_density(inputs.params, inputs.target), inputs.params)


def _with_gradient(losses: tuple[Tensor, Tensor], params: Tensor) -> Pass:
    offset, pen = losses
    return torch.stack(losses), torch.autograd.grad(offset.mean() + pen.mean(), params)


def mixture_density_records(plan: Plan, rows: int, suite: str = SUITE) -> list[Record]:
    inputs = checked_mixture_inputs(rows, plan.device)
    case = f"mixture_density, {rows} rows, K={MIXTURES}"
    cases = {
        "ours": lambda: our_mixture_density(inputs),
        "eager": lambda: eager_mixture_density(inputs),
    }
    seconds = plan.measure(f"{suite}: {case}", cases)
    work = (rows, "rows")
    return [record(suite, case, EAGER.name, seconds["ours"], seconds["eager"], work=work)]


# Single steps ---------------------------------------------------------------------------------


@torch.no_grad()
def cell_records(plan: Plan, rows: int, units: int) -> list[Record]:
    """One-step cells without dropout and gradients, as in sampling, a hundred steps in a row."""
    device = plan.device
    x, state = torch.randn(rows, 5), (torch.randn(rows, units), torch.randn(rows, units))
    x, state = x.to(device), (state[0].to(device), state[1].to(device))
    lstm = nn.LSTMCell(5, units, device=device).eval()
    layer_norm_lstm = nn.LayerNormLSTMCell(5, units, device=device).eval()
    torch_lstm = torch.nn.LSTMCell(5, units, device=device)
    eager.fill_torch_lstm(torch_lstm, lstm.weights)
    weights = layer_norm_lstm.weights

    def eager_layer_norm_lstm(x: Tensor, state: eager.State) -> eager.State:
        return eager.layer_norm_lstm_step(x @ weights.w_xh, state, None, weights)

    records = []
    for name, ours, peer_name, peer in (
        ("LSTMCell", lstm, "torch.nn.LSTMCell", torch_lstm),
        ("LayerNormLSTMCell", layer_norm_lstm, EAGER.name, eager_layer_norm_lstm),
    ):
        expected, found = _one_step(ours(x, state)), _one_step(peer(x, state))
        agreement.check(f"{peer_name} for {name}", expected, found, agreement.tolerance(x))
        case = f"{name} B={rows} N={units}, {CELL_STEPS} steps"
        cases = {
            "ours": lambda cell=ours: _steps(cell, x, state),
            "peer": lambda cell=peer: _steps(cell, x, state),
        }
        seconds = plan.measure(f"{SUITE}: {case}", cases)
        work = (CELL_STEPS * rows, "steps")
        records.append(record(SUITE, case, peer_name, seconds["ours"], seconds["peer"], work=work))
    return records


def _one_step(state: eager.State) -> Pass:
    return torch.cat(tuple(state)), ()


def _steps(
    cell: Callable[[Tensor, eager.State], eager.State], x: Tensor, state: eager.State
) -> None:
    for _ in range(CELL_STEPS):
        state = cell(x, state)
