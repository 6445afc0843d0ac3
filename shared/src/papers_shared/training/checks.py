"""Options of training that are out of range, refused before anything is opened or written."""

from __future__ import annotations

import math

from papers_shared.errors import UserError
from papers_shared.training.config import OptimConfig, RunConfig


def check_options(optim: OptimConfig, run: RunConfig) -> None:
    """Refuse numbers that no training can use.

    Raises:
        UserError: It names the option as the command line spells it, its value, and what it may be.
    """
    for name in ("batch_size", "steps", "epochs", "warmup_steps", "warmup_epochs", "micro_batch"):
        _check("optim", name, getattr(optim, name), 1 if name == "batch_size" else 0, math.inf)
    for name in ("lr", "eps", "weight_decay", "power", "min_lr", "clip_grad"):
        _check("optim", name, getattr(optim, name), 0, math.inf)
    for name in ("warmup_ratio", "ema"):
        _check("optim", name, getattr(optim, name), 0, 1)
    for beta in optim.betas:
        _check("optim", "betas", beta, 0, 1)
    for name in ("checkpoint_every", "keep", "timeout", "log_every"):
        _check("run", name, getattr(run, name), 1, math.inf)
    _check("run", "eval_every", run.eval_every, 0, math.inf)
    _check("run", "seed", run.seed, 0, 2**63 - 1)


def _check(section: str, name: str, value: float, low: float, high: float) -> None:
    if math.isfinite(value) and low <= value <= high:
        return
    allowed = f"{low} or more" if high == math.inf else f"{low} to {high}"
    raise UserError(f"--{section}.{name.replace('_', '-')} is {value!r}: give {allowed}")
