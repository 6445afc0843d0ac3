"""What a training step must not do on a GPU, seen on a CPU; and its numbers, where a GPU is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tiny_plvl import inputs, tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from papers_shared.devices import autocast, use_precision
from papers_shared.training.config import OptimConfig
from papers_shared.training.optimizer import make_adamw, parameter_groups
from plvl.config import LossConfig
from plvl.losses import count_targets, grounding_losses
from plvl.modeling.attention import attend_appended, attend_biased, relative_positions


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


def batch() -> dict[str, torch.Tensor]:
    """Targets of two samples, one of them without a mask."""
    boxes = torch.tensor([[0.5, 0.5, 0.25, 0.5], [0.99, 0.3, 0.01, 0.2]])
    masks = torch.zeros(1, 1, 32, 32)
    masks[..., 8:16, 8:16] = 1
    return {"boxes": boxes, "masks": masks, "boxed": torch.arange(2), "masked": torch.tensor([1])}


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("form", ["sound", "official"])
def test_a_step_waits_for_nothing(form: Any, half: bool) -> None:
    network = tiny().train()
    images, ids, attention_mask, _ = inputs()
    targets, loss = batch(), LossConfig(form=form)
    with Waits() as waits:
        total = torch.stack([count_targets(targets, (8, 8), form)]).sum(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            output = network(images, ids, attention_mask)
            losses = grounding_losses(output, targets, loss, total)
        sum(losses.values()).backward()
    assert not waits.found


def test_a_wait_would_be_seen() -> None:
    with Waits() as waits:
        x = torch.arange(3.0)
        float(x.sum())
        x[x > 1]
        torch.tensor([1.0, 2.0])
        x.double()
    assert [name.partition(" ")[0] for name in waits.found] == [
        "_local_scalar_dense",
        "index",
        "lift_fresh",
        "_to_copy",
    ]


@pytest.mark.parametrize(("height", "width"), [(3, 5), (4, 4)])
@pytest.mark.parametrize("table", [4, 6], ids=["resized", "as it is"])
def test_appended_positions_attend_as_a_bias_does(height: int, width: int, table: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, height * width, 8, generator=generator).requires_grad_() for _ in range(3))
    tables = [torch.randn(2 * table - 1, 8, generator=generator).requires_grad_() for _ in range(2)]
    found = []
    for attend in (attend_biased, attend_appended):
        rel = [relative_positions(one, side) for one, side in zip(tables, (height, width), strict=True)]
        answer = attend(q, k, v, *rel)
        gradients = torch.autograd.grad(answer.square().sum(), [q, k, v, *tables])
        found.append([answer, *gradients])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


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
    network = tiny().to(device, dtype)
    images, ids, attention_mask, _ = inputs()
    targets = {name: value.to(device) for name, value in batch().items()}
    use_precision(precision, torch.device(device))
    optimizer = make_adamw(parameter_groups(network, OptimConfig()), OptimConfig(), torch.device(device))
    with autocast(network, precision):
        output = network(images.to(device, dtype), ids.to(device), attention_mask.to(device))
    losses = grounding_losses(output, targets, LossConfig(), count_targets(targets, (8, 8), "sound"))
    outputs = [output.score_logits, output.mask_logits]
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
