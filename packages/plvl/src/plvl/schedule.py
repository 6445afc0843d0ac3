"""Rates and durations as pure functions: nothing to save, nothing that depends on the number of processes."""

from __future__ import annotations

from typing import Any

from torch import nn

from plvl.config import OptimConfig


def total_steps(optim: OptimConfig, num_samples: int) -> int:
    """Optimizer steps of a training: as given, or as many whole batches as the epochs hold."""
    return optim.steps or max(1, optim.epochs * num_samples // optim.batch_size)


def epoch_of(step: int, optim: OptimConfig, num_samples: int) -> int:
    """The epoch, from 0, in which optimizer step `step` (from 0) begins."""
    return step * optim.batch_size // num_samples


def rate_factor(optim: OptimConfig, step: int, num_samples: int) -> float:
    """What every group's rate is multiplied by at optimizer step `step` (from 0).

    `(1 - e / E) ** power` with e whole epochs done of E, as the authors' code, or with steps for epochs; in the
    first `warmup_steps` times a line from 1 / warmup_steps to 1.
    """
    steps = total_steps(optim, num_samples)
    if optim.schedule == "epoch":
        epochs = epoch_of(steps - 1, optim, num_samples) + 1 if optim.steps else optim.epochs
        done = epoch_of(step, optim, num_samples) / epochs
    else:
        done = step / steps
    factor = (1 - done) ** optim.power
    return factor * min(1.0, (step + 1) / optim.warmup_steps) if optim.warmup_steps else factor


def parameter_groups(network: nn.Module, optim: OptimConfig) -> list[dict[str, Any]]:
    """The optimizer's groups, with their full rate as `base_lr`: language, vision and the rest, by `lr_groups`.

    With `decay_norms` off, parameters of one dimension form groups of their own, undecayed.
    """
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        part = part_of(name, optim)
        decay = optim.weight_decay if optim.decay_norms or parameter.ndim > 1 else 0.0
        rate = getattr(optim, part)
        group = {"params": [], "lr": rate, "base_lr": rate, "weight_decay": decay}
        groups.setdefault((part, decay), group)["params"].append(parameter)
    return list(groups.values())


def part_of(name: str, optim: OptimConfig) -> str:
    """Which rate of `OptimConfig` a parameter takes: lr_text, lr_vision or lr."""
    if name.startswith("language."):
        return "lr_text"
    if name.startswith("backbone.") and (optim.lr_groups == "official" or ".guide." not in name):
        return "lr_vision"
    return "lr"
