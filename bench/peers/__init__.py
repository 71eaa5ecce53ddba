"""What ours is compared with: each peer's adapter, one file each.

A peer is given the inputs of a pass (`layers.Inputs`) and makes of them whatever its framework
wants. It is timed only after its outputs and gradients, brought back into our order and layout,
agreed with ours (dropout off, since every framework draws its own). What a peer leaves out
(dropout, layer norm) is a part of its name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import agreement
import layers
import torch
from layers import Inputs, Pass, Sizes


class Running(NamedTuple):
    """A peer with inputs of its own making.

    Attributes:
        run: one forward and one backward pass; on a CPU it is over when the call returns.
        as_ours: the same pass, its results as `layers.ours` gives them; None where a peer computes
            something else, and its name says so.
    """

    run: Callable[[], object]
    as_ours: Callable[[], Pass] | None


@dataclass(frozen=True)
class Peer:
    """One way of computing a recurrent layer.

    Attributes:
        name: as tables show it.
        computes: by our op, the op that the peer computes beside it: the same one, or a simpler one
            where the peer has nothing else.
        build: from the op that it computes, the inputs and keep_prob to something that runs.
        has_dropout: whether it takes keep_prob below 1.
        missing: why it cannot run on that device here, in one sentence; None if it can.
        is_core: whether a tour of the machine takes it along.
        in_quick: whether the quick run does; building some of them takes longer than that may.
        warm_up: how many passes it takes until its code is made.
    """

    name: str
    computes: Mapping[str, str]
    build: Callable[[str, Inputs, float], Running]
    has_dropout: bool = True
    missing: Callable[[torch.device], str | None] = lambda device: None
    is_core: bool = True
    in_quick: bool = True
    warm_up: int = 1

    def title(self, op: str) -> str:
        """Its name beside our `op`, with what it leaves out."""
        without = []
        if "norm" in op and self.computes[op] == "lstm":
            without.append("no layer norm")
        if not self.has_dropout:
            without.append("no dropout")
        return ", ".join([self.name, *without])


def start(peer: Peer, op: str, sizes: Sizes, inputs: Inputs) -> Callable[[], object]:
    """A peer's pass on these inputs, warm, after it was found to compute what it says.

    Raises:
        DisagreementError: it does not.
    """
    computed = peer.computes[op]
    given = inputs if computed == op else layers.make_inputs(computed, sizes, inputs.device)
    check(peer, computed, sizes, inputs)
    one_pass = peer.build(computed, given, layers.KEEP_PROB if peer.has_dropout else 1.0).run
    for _ in range(peer.warm_up):
        one_pass()
    return one_pass


def check(peer: Peer, op: str, sizes: Sizes, like: Inputs) -> None:
    """Compare a peer's pass with ours on a short sequence of the same layer, without dropout."""
    given = layers.check_inputs(op, sizes, like)
    running = peer.build(op, given, 1.0)
    if running.as_ours is None:
        return
    expected = layers.ours(op, given, 1.0)
    name = f"{peer.name} of {op} at N={sizes.N}"
    agreement.check(name, expected, running.as_ours(), agreement.tolerance(like.x))


def not_installed(*modules: str) -> Callable[[torch.device], str | None]:
    """A `Peer.missing` for what needs these packages."""

    def missing(device: torch.device) -> str | None:
        absent = [name for name in modules if importlib.util.find_spec(name) is None]
        return f"{' and '.join(absent)} is not installed" if absent else None

    return missing


def gpu_only(*modules: str) -> Callable[[torch.device], str | None]:
    """A `Peer.missing` for what needs these packages and a GPU."""
    installed = not_installed(*modules)

    def missing(device: torch.device) -> str | None:
        return installed(device) if device.type == "cuda" else "it runs on GPUs alone"

    return missing
