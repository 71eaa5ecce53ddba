"""The schedules of the learning rate and of the KL weight (Ha & Eck 2017, section 3.3)."""

from __future__ import annotations

from sketchrnn_fast.config import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of the update after `step` updates: exponential decay to its floor."""
    span = config.learning_rate - config.min_learning_rate
    return span * config.decay_rate**step + config.min_learning_rate


def kl_weight(config: TrainConfig, step: int) -> float:
    """The weight of the KL term after `step` updates, between its start and its end.

    By `kl_schedule`: `magenta` comes near the end exponentially; `constant` is the end throughout;
    `linear` rises to it in `kl_ramp_steps`; `cyclical` (Fu et al. 2019, equations 6 and 7) rises
    linearly in the first part of each cycle and stays there for the rest, again and again.
    """
    return config.kl_weight - (config.kl_weight - config.kl_weight_start) * _left(config, step)


def _left(config: TrainConfig, step: int) -> float:
    """What is left of the way from the start to the end: 1 at the start, 0 at the end."""
    if config.kl_schedule == "magenta":
        return config.kl_decay_rate**step
    if config.kl_schedule == "linear":
        return max(0.0, 1.0 - step / config.kl_ramp_steps)
    if config.kl_schedule == "cyclical":
        done = step % config.kl_cycle_steps / config.kl_cycle_steps
        return max(0.0, 1.0 - done / config.kl_cycle_ramp) if config.kl_cycle_ramp else 0.0
    return 0.0
