"""The schedules of the KL weight, by name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchrnn_fast.config import KL_SCHEDULES, ConfigError, TrainConfig
from sketchrnn_fast.training.schedules import kl_weight


def weights(steps: int = 100, **fields: Any) -> np.ndarray:
    config = TrainConfig(kl_weight=0.9, kl_weight_start=0.1, **fields)
    return np.array([kl_weight(config, step) for step in range(steps)])


def test_constant_is_the_final_weight_throughout() -> None:
    assert set(weights(kl_schedule="constant")) == {0.9}


def test_magentas_comes_near_the_end_exponentially() -> None:
    found = weights(kl_schedule="magenta", kl_decay_rate=0.9)
    np.testing.assert_allclose(0.9 - found, 0.8 * 0.9 ** np.arange(100), rtol=1e-9)
    assert TrainConfig().kl_schedule == "magenta"


def test_linear_rises_in_equal_steps_and_stays() -> None:
    found = weights(kl_schedule="linear", kl_ramp_steps=40)
    np.testing.assert_allclose(found[:41], np.linspace(0.1, 0.9, 41), rtol=1e-12)
    assert set(found[40:]) == {0.9}


def test_cyclical_rises_and_stays_in_each_cycle() -> None:
    """Cycles of 20 steps of which the first 10 rise: 0, 1/10, … of the way, then all of it."""
    found = weights(kl_schedule="cyclical", kl_cycle_steps=20, kl_cycle_ramp=0.5)
    cycle = np.concatenate([np.linspace(0.1, 0.9, 11), np.full(9, 0.9)])
    np.testing.assert_allclose(found, np.tile(cycle, 5), rtol=1e-12)


@given(
    name=st.sampled_from(KL_SCHEDULES),
    step=st.integers(0, 10**9),
    steps=st.integers(1, 10**6),
    ramp=st.floats(0, 1),
)
def test_every_schedule_lies_between_start_and_end(
    name: str, step: int, steps: int, ramp: float
) -> None:
    config = TrainConfig(
        kl_schedule=name, kl_ramp_steps=steps, kl_cycle_steps=steps, kl_cycle_ramp=ramp
    )
    found = kl_weight(config, step)
    assert math.isfinite(found)
    assert 0.01 <= found <= 0.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kl_schedule": "cosine"}, "kl_schedule is 'cosine'; it takes magenta or constant or"),
        ({"kl_ramp_steps": 0}, "kl_ramp_steps is 0"),
        ({"kl_cycle_steps": 0}, "kl_cycle_steps is 0"),
        ({"kl_cycle_ramp": 1.5}, "kl_cycle_ramp is 1.5"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0; it must be at least 0 and below 1"),
        ({"micro_batch_size": -1}, "micro_batch_size is -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**fields)
