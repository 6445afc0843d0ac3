"""Durations and learning rates as pure functions: nothing to save, nothing that depends on the processes."""

from __future__ import annotations

import math

from papers_shared.errors import UserError
from papers_shared.training.config import OptimConfig


def durations(optim: OptimConfig, num_samples: int) -> tuple[int, int]:
    """(steps, warm-up steps): as given or, with `optim.steps` 0, from epochs, whose last incomplete batch is left out.

    Raises:
        UserError: Neither steps nor epochs make a single step.
    """
    steps, warmup_steps = optim.steps, optim.warmup_steps
    if not steps and optim.epochs:
        steps = optim.epochs * num_samples // optim.batch_size
        warmup_steps = optim.warmup_epochs * num_samples // optim.batch_size or optim.warmup_steps
    if steps < 1:
        raise UserError(
            f"nothing to train: --optim.steps {optim.steps} and --optim.epochs {optim.epochs} with {num_samples} "
            f"samples and a batch of {optim.batch_size} make no step"
        )
    return steps, warmup_steps


def epoch_of(step: int, batch_size: int, num_samples: int) -> int:
    """The epoch, from 0, in which optimizer step `step` (from 0) begins."""
    return step * batch_size // num_samples


def learning_rate(optim: OptimConfig, step: int, num_samples: int, *, base: float | None = None) -> float:
    """Rate of optimizer step `step` (from 0).

    With t the share of the training that is done (of whole epochs with `decay_per` epoch) and lr the full rate:
    constant: lr; poly: (lr - min_lr) (1 - t)^power + min_lr; cosine: half a period from lr to min_lr. During the
    warm-up it is multiplied by a line from `warmup_ratio` to 1, the form of mmcv's linear warm-up.

    Args:
        base: lr of a parameter group; None: `optim.lr`.
    """
    rate = optim.lr if base is None else base
    steps, warmup_steps = durations(optim, num_samples)
    if optim.schedule != "constant":
        done = step / steps
        if optim.decay_per == "epoch":
            last = epoch_of(steps - 1, optim.batch_size, num_samples)
            epochs = last + 1 if optim.steps else optim.epochs
            done = epoch_of(step, optim.batch_size, num_samples) / epochs
        decay = (
            (1 - done) ** optim.power if optim.schedule == "poly" else 0.5 * (1 + math.cos(math.pi * done))
        )
        rate = (rate - optim.min_lr) * decay + optim.min_lr
    if step < warmup_steps:
        rate *= 1 - (1 - step / warmup_steps) * (1 - optim.warmup_ratio)
    return rate
