"""What a training step must not do on a GPU, seen on a CPU; and its numbers, where a GPU is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fanet.losses import classification_losses, count_images, count_pixels, segmentation_losses
from fanet.modeling.classifier import Classifier
from fanet.modeling.segmenter import Segmenter
from fanet.recipes import RECIPES
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
@pytest.mark.parametrize("average", ["valid", "all"])
def test_a_step_of_the_segmenter_waits_for_nothing(average: Any, half: bool) -> None:
    recipe = RECIPES["toy"]()
    network = Segmenter.from_config(replace(recipe.model, class_names=("ground", "thing"))).train()
    images, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 2, (2, 64, 64))
    with Waits() as waits:
        total = torch.stack([count_pixels(labels, 255)]).sum(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses = segmentation_losses(
                network(images), labels, replace(recipe.loss, average=average), total, 255
            )
        sum(losses.values()).backward()
    assert not waits.found


def test_a_step_of_the_classifier_waits_for_nothing() -> None:
    recipe = RECIPES["toy"]()
    config = replace(recipe.model, task="classify", class_names=("a", "b", "c"))
    network = Classifier.from_config(config).train()
    labels = torch.tensor([0, 2])
    with Waits() as waits:
        total = torch.stack([count_images(labels)]).sum(0)
        losses = classification_losses(network(torch.randn(2, 3, 64, 64)), labels, recipe.loss, total)
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
    recipe = RECIPES["toy"]()
    network = Segmenter.from_config(replace(recipe.model, class_names=("ground", "thing")))
    images, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 2, (2, 64, 64)).to(device)
    network.to(device, dtype).eval()
    use_precision(precision, torch.device(device))
    optimizer = make_adamw(parameter_groups(network, OptimConfig()), OptimConfig(), torch.device(device))
    with autocast(network, precision):
        output = network(images.to(device, dtype))
    total = count_pixels(labels, 255)
    losses = segmentation_losses(output, labels, recipe.loss, total, 255)
    outputs = [output.logits]
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
