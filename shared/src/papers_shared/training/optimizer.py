"""The optimizer, what it decays, and how a network is set for training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import AdamW

from papers_shared.training.config import OptimConfig

FUSED_DEVICES = ("cpu", "cuda")
"""Where torch has an AdamW that updates all parameters in one call."""


def make_adamw(groups: Sequence[dict[str, Any]], optim: OptimConfig, device: torch.device) -> AdamW:
    """AdamW over the groups, fused where the device has it; each group keeps its full rate as `base_lr`."""
    groups = [{**group, "base_lr": group.get("lr", optim.lr)} for group in groups]
    return AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps, fused=device.type in FUSED_DEVICES)


def parameter_groups(network: nn.Module, optim: OptimConfig) -> list[dict[str, Any]]:
    """The optimizer's groups: all parameters; or, with `decay_norms` off, those of one dimension apart, undecayed."""
    trained = [value for value in network.parameters() if value.requires_grad]
    if optim.decay_norms:
        return [{"params": trained, "weight_decay": optim.weight_decay}]
    return [
        {"params": [value for value in trained if value.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [value for value in trained if value.ndim <= 1], "weight_decay": 0.0},
    ]


def training_mode(model: nn.Module, norm_eval: bool) -> None:
    """Training mode; with `norm_eval` batch norm stays on its running statistics."""
    model.train()
    if norm_eval:
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
