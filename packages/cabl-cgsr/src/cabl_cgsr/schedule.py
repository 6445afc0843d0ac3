"""The learning rate as a pure function of the step: nothing to save, nothing that depends on the processes."""

from __future__ import annotations

import math

from cabl_cgsr.config import OptimConfig


def learning_rate(optim: OptimConfig, step: int, steps: int, warmup_steps: int) -> float:
    """Rate of optimizer step `step` (from 0) of `steps`.

    constant: `lr`; poly: `(lr - min_lr) * (1 - step / steps) ** power + min_lr`; cosine: half a period from
    `lr` to `min_lr`. During the first `warmup_steps` it is multiplied by a line from `warmup_ratio` to 1.
    """
    if optim.schedule == "constant":
        rate = optim.lr
    else:
        done = step / steps
        decay = (
            (1 - done) ** optim.power if optim.schedule == "poly" else 0.5 * (1 + math.cos(math.pi * done))
        )
        rate = (optim.lr - optim.min_lr) * decay + optim.min_lr
    if step < warmup_steps:
        rate *= 1 - (1 - step / warmup_steps) * (1 - optim.warmup_ratio)
    return rate
