"""Nothing is timed against a peer that does not first compute what ours computes."""

from __future__ import annotations

from torch import Tensor

MOST_OUTPUT_ERROR = 1e-5
MOST_GRADIENT_ERROR = 1e-4


class DisagreementError(Exception):
    """A peer does not compute what ours computes, so there is nothing to compare."""


def check(
    name: str,
    ours: tuple[Tensor, tuple[Tensor, ...]],
    peer: tuple[Tensor, tuple[Tensor, ...]],
) -> None:
    """Refuse a peer whose output or gradients differ from ours.

    Raises:
        DisagreementError: names the peer, what differs and by how much.
    """
    (output, gradients), (peer_output, peer_gradients) = ours, peer
    check_close(name, "the output", output, peer_output, MOST_OUTPUT_ERROR)
    pairs = zip(gradients, peer_gradients, strict=True)
    for number, (gradient, peer_gradient) in enumerate(pairs):
        what = f"gradient {number} of shape {list(gradient.shape)}"
        check_close(name, what, gradient, peer_gradient, MOST_GRADIENT_ERROR)


def check_close(name: str, what: str, ours: Tensor, peer: Tensor, most: float) -> None:
    """Compare by the norm of the difference over the norm of ours."""
    ours, peer = ours.detach().double(), peer.detach().double()
    error = float((ours - peer).norm() / ours.norm())
    if not error <= most:
        raise DisagreementError(
            f"{name}: {what} differs from ours by {error:.1e} of its norm, more than {most:g}; "
            "no time is taken of things that differ"
        )
