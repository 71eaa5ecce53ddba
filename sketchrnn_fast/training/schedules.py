"""The schedules of the learning rate and of the KL weight (Ha & Eck 2017, section 3.3)."""

from __future__ import annotations

from sketchrnn_fast.config import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of the update after `step` updates: exponential decay to its floor."""
    span = config.learning_rate - config.min_learning_rate
    return span * config.decay_rate**step + config.min_learning_rate


def kl_weight(config: TrainConfig, step: int) -> float:
    """The weight of the KL term after `step` updates: annealed from its start to its end."""
    span = config.kl_weight - config.kl_weight_start
    return config.kl_weight - span * config.kl_decay_rate**step
