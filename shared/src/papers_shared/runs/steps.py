"""How long a run takes, the mode a network is in while it does, and what an optimizer decays."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from papers_shared.errors import UserError


class Durations(Protocol):
    """The options that say how long to train: in steps or, where `epochs` is above 0, in epochs."""

    @property
    def batch_size(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def epochs(self) -> int: ...
    @property
    def warmup_epochs(self) -> int: ...


class Decay(Protocol):
    """The options that say what weight decay is applied to."""

    @property
    def weight_decay(self) -> float: ...
    @property
    def decay_norms(self) -> bool: ...


def durations(optim: Durations, num_samples: int) -> tuple[int, int]:
    """(steps, warm-up steps): as given, or from epochs; an epoch's last incomplete batch is rounded off.

    Raises:
        UserError: Neither steps nor epochs make a single step.
    """
    steps, warmup_steps = optim.steps, optim.warmup_steps
    if optim.epochs:
        steps = optim.epochs * num_samples // optim.batch_size
        warmup_steps = optim.warmup_epochs * num_samples // optim.batch_size
    if steps < 1:
        raise UserError(
            f"nothing to train: optim.epochs {optim.epochs} and optim.steps {optim.steps} with {num_samples} samples "
            f"and a batch of {optim.batch_size} make no step"
        )
    return steps, warmup_steps


def training_mode(model: nn.Module, norm_eval: bool) -> None:
    """Training mode; with `norm_eval` batch norm stays on its running statistics."""
    model.train()
    if norm_eval:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def parameter_groups(network: nn.Module, optim: Decay) -> list[dict[str, Any]]:
    """The optimizer's groups: all parameters; or, with `decay_norms` off, those of one dimension apart, undecayed."""
    trained = [value for value in network.parameters() if value.requires_grad]
    if optim.decay_norms:
        return [{"params": trained, "weight_decay": optim.weight_decay}]
    return [
        {"params": [value for value in trained if value.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [value for value in trained if value.ndim <= 1], "weight_decay": 0.0},
    ]
