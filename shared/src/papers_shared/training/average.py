"""The moving average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage:
    """A copy of a network whose weights follow it: w <- decay * w + (1 - decay) * new, and at first w <- new.

    The same numbers as torch's `AveragedModel`, but updates are counted in Python, where counting never waits for a
    GPU, and all weights are averaged at once.

    Args:
        network: Copied to its device as it is.
        decay: In [0, 1].
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.module: Any = copy.deepcopy(network)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Let the weights follow; buffers, such as the statistics of batch norm, are copied."""
        weights: list[Tensor] = list(self.module.parameters())
        new: list[Tensor] = list(network.parameters())
        if self.updates:
            torch._foreach_lerp_(weights, new, 1 - self.decay)
        else:
            torch._foreach_copy_(weights, new)
        buffers = list(self.module.buffers())
        if buffers:
            torch._foreach_copy_(buffers, list(network.buffers()))
        self.updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Weights as `module.NAME`, and `n_averaged`, the number of updates."""
        weights = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        return {"n_averaged": torch.tensor(self.updates), **weights}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """What `state_dict` returned.

        Raises:
            RuntimeError: It is the state of another network.
        """
        weights = dict(state)
        updates = weights.pop("n_averaged", None)
        if updates is None:
            raise RuntimeError("n_averaged is missing")
        self.module.load_state_dict({name.removeprefix("module."): value for name, value in weights.items()})
        self.updates = int(updates)
