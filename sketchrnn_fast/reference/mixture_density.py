"""Negative log-likelihood of strokes under the decoder's mixture density: equations and derivative.

A row of parameters [6K+3] holds, in this order, 3 pen logits and K each of: mixture logits,
means of x and y, log standard deviations of x and y, and the correlation before its tanh. With
n = target - mean, ρ = tanh(corr), r = 1 - ρ²:

    log N_k = -log(2π σ_x σ_y √r) - [(n_x/σ_x - ρ n_y/σ_y)² / r + (n_y/σ_y)²] / 2
    offset  = -log(Σ_k π_k N_k + 1e-6)               (through logaddexp, so that nothing overflows)
    pen     = cross entropy of softmax(pen logits) with the target's pen state

Source: Ha & Eck 2017, section 3.2 and equations 5 to 9; the epsilon and the column order are
Magenta's. The original overflows when a standard deviation vanishes or |ρ| rounds to 1; here log σ
is kept above -20 and the correlation before its tanh within ±9, beyond which no gradient flows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

LOG_EPSILON = math.log(1e-6)
LEAST_LOG_SIGMA = -20.0
MOST_CORRELATION = 9.0  # before the tanh; 1 - tanh(9)² is 6e-8


class Mixture(NamedTuple):
    """The columns of the parameters: the pen's [..., 3], the others [..., K]."""

    pen_logits: Tensor
    pi_logits: Tensor
    mean_x: Tensor
    mean_y: Tensor
    log_sigma_x: Tensor
    log_sigma_y: Tensor
    correlation: Tensor  # before its tanh


def split_parameters(params: Tensor) -> Mixture:
    """The parameters [..., 6K+3] by name, unguarded."""
    mixtures = (params.shape[-1] - 3) // 6
    return Mixture(*params.split([3] + [mixtures] * 6, dim=-1))


def mixture_density(
    params: Tensor, target: Tensor, offset_weight: Tensor, pen_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The weighted losses of each row, differentiable by autograd.

    Args:
        params: [R, 6K+3].
        target: [R, 5], stroke-5 rows.
        offset_weight, pen_weight: [R], factors of the two losses. A row of weight 0 has loss and
            gradient 0, whatever its parameters.

    Returns:
        Offset and pen losses, each [R], in at least float32.
    """
    params, target, offset_weight, pen_weight = _compute(params, target, offset_weight, pen_weight)
    mixture = guard(split_parameters(params))
    joint = torch.log_softmax(mixture.pi_logits, dim=-1) + _gaussian(mixture, target).log_density
    offset = -_log_density(joint)
    pen = -(target[:, 2:] * torch.log_softmax(mixture.pen_logits, dim=-1)).sum(-1)
    return offset_weight * offset, pen_weight * pen


def mixture_density_gradient(
    params: Tensor, target: Tensor, offset_weight: Tensor, pen_weight: Tensor
) -> Tensor:
    """The gradient [R, 6K+3]: of the pen loss in columns 0 to 2, of the offset loss in the rest."""
    params, target, offset_weight, pen_weight = _compute(params, target, offset_weight, pen_weight)
    raw = split_parameters(params)
    mixture = guard(raw)
    terms = _gaussian(mixture, target)
    log_pi = torch.log_softmax(mixture.pi_logits, dim=-1)
    joint = log_pi + terms.log_density
    share = torch.exp(
        joint - _log_density(joint)[:, None]
    )  # of each Gaussian in the density, 1e-6 included

    by_a = (terms.a - terms.rho * terms.b) / terms.r
    by_b = (terms.b - terms.rho * terms.a) / terms.r
    inside_x = mixture.log_sigma_x == raw.log_sigma_x
    inside_y = mixture.log_sigma_y == raw.log_sigma_y
    inside_correlation = mixture.correlation == raw.correlation

    def shared(factor: Tensor) -> Tensor:
        """share · factor, 0 where the share is: there the factor may have overflowed."""
        return torch.where(share == 0, 0.0, share * factor)

    by_correlation = terms.rho + terms.a * terms.b - terms.rho * terms.distance
    offset_gradient = torch.cat(
        [
            torch.exp(log_pi) * share.sum(-1, keepdim=True) - share,
            shared(-by_a * torch.exp(-mixture.log_sigma_x)),
            shared(-by_b * torch.exp(-mixture.log_sigma_y)),
            shared(1 - terms.a * by_a) * inside_x,
            shared(1 - terms.b * by_b) * inside_y,
            shared(-by_correlation) * inside_correlation,
        ],
        dim=-1,
    )
    pen = target[:, 2:]
    pen_gradient = torch.softmax(mixture.pen_logits, dim=-1) * pen.sum(-1, keepdim=True) - pen
    return torch.cat(
        [pen_weight[:, None] * pen_gradient, offset_weight[:, None] * offset_gradient], dim=-1
    )


def guard(mixture: Mixture) -> Mixture:
    """The mixture with log σ and the correlation kept where float32 can follow."""
    return mixture._replace(
        log_sigma_x=mixture.log_sigma_x.clamp(min=LEAST_LOG_SIGMA),
        log_sigma_y=mixture.log_sigma_y.clamp(min=LEAST_LOG_SIGMA),
        correlation=mixture.correlation.clamp(-MOST_CORRELATION, MOST_CORRELATION),
    )


class _Gaussian(NamedTuple):
    """One bivariate normal's terms at the target, each [R, K]."""

    a: Tensor  # (x - mean) / sigma
    b: Tensor  # (y - mean) / sigma
    rho: Tensor
    r: Tensor  # 1 - rho²
    distance: Tensor  # the squared Mahalanobis distance
    log_density: Tensor


def _gaussian(mixture: Mixture, target: Tensor) -> _Gaussian:
    a = (target[:, 0:1] - mixture.mean_x) * torch.exp(-mixture.log_sigma_x)
    b = (target[:, 1:2] - mixture.mean_y) * torch.exp(-mixture.log_sigma_y)
    rho = torch.tanh(mixture.correlation)
    r = torch.cosh(mixture.correlation) ** -2  # 1 - tanh², without its cancellation
    distance = (a - rho * b) ** 2 / r + b**2
    log_scale = mixture.log_sigma_x + mixture.log_sigma_y + 0.5 * torch.log(r)
    return _Gaussian(a, b, rho, r, distance, -0.5 * distance - log_scale - math.log(2 * math.pi))


def _log_density(joint: Tensor) -> Tensor:
    """log(Σ_k π_k N_k + 1e-6) from log π_k N_k [R, K]."""
    log_mixture = torch.logsumexp(joint, dim=-1)
    return torch.logaddexp(log_mixture, torch.full_like(log_mixture, LOG_EPSILON))


def _compute(
    params: Tensor, target: Tensor, offset_weight: Tensor, pen_weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All in at least float32; parameters that no weight lets count are replaced by zeros."""
    dtype = torch.promote_types(params.dtype, torch.float32)
    params, target, offset_weight, pen_weight = (
        tensor.to(dtype) for tensor in (params, target, offset_weight, pen_weight)
    )
    pen, rest = params.split([3, params.shape[-1] - 3], dim=-1)
    pen = torch.where(pen_weight[:, None] == 0, 0.0, pen)
    rest = torch.where(offset_weight[:, None] == 0, 0.0, rest)
    return torch.cat([pen, rest], dim=-1), target, offset_weight, pen_weight
