"""The optimiser is Adam in TensorFlow's form on gradients clipped by value."""

from __future__ import annotations

import math

import torch
from tolerances import assert_close

from sketchrnn_fast.config import TrainConfig
from sketchrnn_fast.training.optimiser import Optimiser
from sketchrnn_fast.training.schedules import kl_weight, learning_rate


def tensorflow_adam(
    weight: torch.Tensor, grads: list[torch.Tensor], rates: list[float], clip: float
) -> torch.Tensor:
    """TensorFlow's update, written out."""
    mean, mean_square = torch.zeros_like(weight), torch.zeros_like(weight)
    for t, (grad, rate) in enumerate(zip(grads, rates, strict=True), start=1):
        grad = grad.clamp(-clip, clip)
        mean = 0.9 * mean + 0.1 * grad
        mean_square = 0.999 * mean_square + 0.001 * grad**2
        step = rate * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        weight = weight - step * mean / (mean_square.sqrt() + 1e-8)
    return weight


def gradients(dtype: torch.dtype) -> list[torch.Tensor]:
    """Gradients that reach from far below TensorFlow's epsilon to far above the clip value."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([1e-12, 1e-9, 1e-8, 1e-6, 1e-3, 1.0, 100.0], dtype=dtype)
    return [torch.randn(7, generator=generator, dtype=dtype) * scales for _ in range(5)]


def test_five_steps_equal_tensorflows_adam_with_clipping() -> None:
    for dtype in (torch.float32, torch.float64):
        grads, rates = gradients(dtype), [1e-3, 9e-4, 8e-4, 7e-4, 6e-4]
        parameter = torch.nn.Parameter(torch.zeros(7, dtype=dtype))
        optimiser = Optimiser([parameter], grad_clip=0.5)
        for grad, rate in zip(grads, rates, strict=True):
            parameter.grad = grad.clone()
            optimiser.step(rate)
        expected = tensorflow_adam(torch.zeros(7, dtype=dtype), grads, rates, clip=0.5)
        assert_close(parameter, expected, dtype)


def test_a_step_drops_the_gradients() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    Optimiser([parameter], 1.0).step(0.1)
    assert parameter.grad is None


def test_a_restored_optimiser_goes_on_as_the_first_would() -> None:
    grads = gradients(torch.float32)
    first = torch.nn.Parameter(torch.ones(7))
    optimiser = Optimiser([first], 1.0)
    for grad in grads[:3]:
        first.grad = grad.clone()
        optimiser.step(1e-3)
    second = torch.nn.Parameter(first.detach().clone())
    restored = Optimiser([second], 1.0)
    restored.restore(optimiser.steps, [optimiser.moments(first)])
    for grad in grads[3:]:
        for parameter, one in ((first, optimiser), (second, restored)):
            parameter.grad = grad.clone()
            one.step(1e-3)
    assert torch.equal(first, second)


def test_a_rate_in_a_tensor_is_the_rate() -> None:
    numbers, tensors = (torch.nn.Parameter(torch.ones(7)) for _ in range(2))
    rates = (1e-3, 9e-4, 8e-4, 7e-4, 6e-4)
    for parameter, as_tensor in ((numbers, False), (tensors, True)):
        optimiser = Optimiser([parameter], 1.0)
        for grad, rate in zip(gradients(torch.float32), rates, strict=True):
            parameter.grad = grad
            optimiser.step(torch.tensor(rate, dtype=torch.float64) if as_tensor else rate)
    assert torch.equal(numbers, tensors)


def test_a_skipped_step_drops_the_gradients_and_changes_nothing_else() -> None:
    grads = gradients(torch.float32)
    with_skips, without = (torch.nn.Parameter(torch.ones(7)) for _ in range(2))
    skipping, other = Optimiser([with_skips], 1.0), Optimiser([without], 1.0)
    for step, grad in enumerate(grads):
        if step in (0, 3):
            with_skips.grad = torch.full((7,), math.nan)
            skipping.step(1e-3, torch.tensor(True))
            assert with_skips.grad is None
        for parameter, optimiser in ((with_skips, skipping), (without, other)):
            parameter.grad = grad.clone()
            optimiser.step(1e-3, torch.tensor(False))
    assert torch.equal(with_skips, without)
    assert all(map(torch.equal, skipping.moments(with_skips), other.moments(without)))
    assert skipping.steps == 5


def test_schedules_follow_the_specification() -> None:
    config = TrainConfig()
    assert math.isclose(learning_rate(config, 0), config.learning_rate)
    assert math.isclose(kl_weight(config, 0), config.kl_weight_start)
    assert learning_rate(config, 1000) == (0.001 - 0.00001) * 0.9999**1000 + 0.00001
    assert kl_weight(config, 1000) == 0.5 - (0.5 - 0.01) * 0.99995**1000
    assert math.isclose(learning_rate(config, 10**7), config.min_learning_rate)
    assert math.isclose(kl_weight(config, 10**7), config.kl_weight)
