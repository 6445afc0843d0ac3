"""What is timed and what is compared, the same for every package: a forward pass, an optimizer step, two answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases import Case


def forward_pass(network: nn.Module, case: Case, device: torch.device, *inputs: Any) -> Callable[[], object]:
    """The network on these inputs, in eval mode, without gradients, in the precision of the case."""
    network.eval()

    def forward() -> object:
        with torch.no_grad(), _precision(case, device):
            return network(*inputs)

    return forward


def optimizer_step(
    network: nn.Module,
    images: Tensor,
    loss_of: Callable[[Any], Tensor],
    optimizer: torch.optim.Optimizer,
    case: Case,
) -> Callable[[], float]:
    """Forward in the precision of the case, loss, backward, step; it answers the loss.

    Args:
        loss_of: What the network answers -> the loss, a scalar.
    """

    def step() -> float:
        with _precision(case, images.device):
            output = network(images)
        loss = loss_of(output)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def _precision(case: Case, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=case.precision == "bf16")


def whole_patches(sides: Iterable[int], patch: int) -> list[int]:
    """Sides rounded up to multiples of a patch, each once."""
    return list(dict.fromkeys(-(-side // patch) * patch for side in sides))


def differences(what: str, ours: Mapping[str, Tensor], plain: Mapping[str, Tensor]) -> dict[str, float]:
    """`what` and name -> max |ours - plain| / max |plain| of each tensor."""
    return {
        f"{what} {name}": float((ours[name] - expected).abs().max() / expected.abs().max())
        for name, expected in plain.items()
    }


def hold_to(bound: float, package: str, found: dict[str, float]) -> dict[str, float]:
    """`found` itself, of `differences`.

    Raises:
        AssertionError: one exceeds the bound, or is NaN.
    """
    for name, difference in found.items():
        assert difference <= bound, f"{name}: {package} differs from plain by {difference:.2e}"
    return found
