"""What a training step must not do on a GPU, seen on a CPU; and its numbers, where a GPU is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cabl_cgsr.losses import classification_losses
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.recipes import RECIPES
from papers_shared.devices import autocast, use_precision
from papers_shared.training.config import OptimConfig
from papers_shared.training.optimizer import make_adamw, parameter_groups


class Waits(TorchDispatchMode):
    """Notes what would make a GPU wait, and what some GPUs lack: values read by Python, sizes that depend on values,
    tensors made of Python's numbers, and float64.
    """

    READ = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh", "equal", "bincount")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        if any(name.startswith(read) for read in self.READ):
            self.found.append(name)
        if name.startswith("index") and any(one.dtype == torch.bool for one in tensors[1:]):
            self.found.append(f"{name} by a mask")
        answer = function(*args, **(kwargs or {}))
        if any(isinstance(one, torch.Tensor) and one.dtype == torch.float64 for one in tree_leaves(answer)):
            self.found.append(f"{name} in float64")
        return answer


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("logits", "activation"), [(1, "sigmoid"), (2, "sigmoid"), (2, "softmax")])
def test_a_step_waits_for_nothing(logits: int, activation: Any, half: bool) -> None:
    config = replace(RECIPES["toy"]().model, num_logits=logits, activation=activation, drop_path_rate=0.2)
    network = Localizer.from_config(config).train()
    labels = torch.tensor([0, 1])
    with Waits() as waits:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            output = network(torch.randn(2, 3, 48, 48))
            losses = classification_losses(
                output.logits_conv, output.logits_trans, labels, activation=activation
            )
        sum(losses.values()).backward()
    assert not waits.found


BOUNDS = {"fp32": 1e-5, "tf32": 2e-3, "bf16": 2e-2, "fp16": 5e-3}
"""Largest distance from float64, relative to the size of all values."""
GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
ON = [("cpu", "fp32"), *(pytest.param("cuda", precision, marks=GPU) for precision in BOUNDS)]


def distance(found: list[torch.Tensor], exact: list[torch.Tensor]) -> float:
    one, other = (torch.cat([x.detach().double().cpu().flatten() for x in part]) for part in (found, exact))
    return float((one - other).norm() / other.norm())


@pytest.fixture
def switches() -> Iterator[None]:
    """Leave torch's switches as they were."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions


def numbers(device: str, dtype: torch.dtype, precision: Any) -> dict[str, list[torch.Tensor]]:
    """What one step on seeded weights and inputs gives."""
    torch.manual_seed(0)
    network = Localizer.from_config(RECIPES["toy"]().model)
    images, labels = torch.randn(2, 3, 64, 64), torch.tensor([0, 1]).to(device)
    network.to(device, dtype).eval()
    use_precision(precision, torch.device(device))
    optimizer = make_adamw(parameter_groups(network, OptimConfig()), OptimConfig(), torch.device(device))
    with autocast(network, precision):
        output = network(images.to(device, dtype))
    losses = classification_losses(output.logits_conv, output.logits_trans, labels)
    outputs = [output.logits_conv, output.logits_trans]
    sum(losses.values()).backward()
    weights = list(network.parameters())
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    optimizer.step()
    return {"outputs": outputs, "gradients": gradients, "weights": weights}


@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize(("device", "precision"), ON)
def test_a_step_is_near_float64_in_every_precision(device: str, precision: Any) -> None:
    exact, found = numbers("cpu", torch.float64, "fp32"), numbers(device, torch.float32, precision)
    for name, bound in (("outputs", 1), ("gradients", 10), ("weights", 1)):
        assert distance(found[name], exact[name]) <= bound * BOUNDS[precision], name
