"""The networks are plain modules: whatever tool of the field is put to them sees what they compute."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from cabl_cgsr.config import BACKBONES, CablConfig, ModelConfig
from cabl_cgsr.modeling.blocks import attend, attend_by_head
from cabl_cgsr.modeling.cabl import Cabl
from cabl_cgsr.modeling.classifier import Classifier
from cabl_cgsr.modeling.conformer import Conformer
from cabl_cgsr.modeling.localizer import Localizer

SIZES = BACKBONES["test_conformer"]
IMAGES = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


class WithMap(nn.Module):
    """A localizer that also computes the map."""

    def __init__(self, localizer: Localizer) -> None:
        super().__init__()
        self.localizer = localizer

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.localizer(images, cam=True))


def localizer(**cabl: object) -> Localizer:
    return Localizer.from_config(
        ModelConfig(backbone="test_conformer", drop_path_rate=0.0, cabl=CablConfig(**cabl))
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "localizer": localizer,
    "localizer with map": lambda: WithMap(localizer()),
    "localizer, gates first": lambda: localizer(placement="first", gate="max", magnitude="l1"),
    "localizer, gates last": lambda: localizer(placement="last", gate="tanh", structure="ii"),
    "conformer": lambda: Conformer(SIZES, CablConfig()),
    "classifier": lambda: Classifier(SIZES, num_classes=4),
    "cabl, sum": lambda: Cabl(CablConfig(structure="ii")),
    "cabl, product with one edge map": lambda: Cabl(CablConfig(structure="i", channels="summed")),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    built = NETWORKS[request.param]().train()
    with torch.no_grad():
        for norm in built.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = None  # statistics that fit, so that evaluation mode is as tame as training
        built(IMAGES)
        for norm in built.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = 0.1
    return built.eval()


def outputs(network: nn.Module, images: Tensor = IMAGES) -> list[Tensor]:
    found = network(images)
    return [found] if isinstance(found, Tensor) else list(found)


def tensors(nested: object) -> list[Tensor]:
    if isinstance(nested, Tensor):
        return [nested]
    return [tensor for part in nested for tensor in tensors(part)] if isinstance(nested, tuple) else []


@pytest.mark.parametrize("mode", ["train", "eval", "no_grad"])
def test_forward_hooks_see_what_the_layer_computed(network: nn.Module, mode: str) -> None:
    calls = []
    hooks = [
        module.register_forward_hook(lambda *call: calls.append(call), with_kwargs=True)
        for module in network.modules()
    ]
    network.train(mode == "train")
    with torch.set_grad_enabled(mode != "no_grad"):
        network(IMAGES)
        for hook in hooks:
            hook.remove()
        assert calls
        for module, arguments, options, seen in calls:
            again = tensors(module(*arguments, **options))
            torch.testing.assert_close(tensors(seen), again, rtol=1e-5, atol=1e-6)


def test_tracing(network: nn.Module) -> None:
    with torch.no_grad():
        traced = torch.jit.trace(network, IMAGES)
    torch.testing.assert_close(outputs(traced), outputs(network), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "network", ["localizer with map", "localizer, gates first", "localizer, gates last"], indirect=True
)
@pytest.mark.parametrize("training", [True, False])
def test_no_graph_breaks(network: nn.Module, training: bool) -> None:
    """These hold the others' layers."""
    torch.compiler.reset()
    network.train(training)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(outputs(compiled), outputs(network), rtol=1e-4, atol=1e-5)


def test_functional_transforms(network: nn.Module) -> None:
    network.double()
    images = IMAGES.double()
    parameters, buffers = (
        {name: value.detach() for name, value in named}
        for named in (network.named_parameters(), network.named_buffers())
    )
    called = functional_call(network, (parameters, buffers), (images,))
    torch.testing.assert_close(tensors((called,)), outputs(network, images))

    def loss(image: Tensor) -> Tensor:
        found = functional_call(network, (parameters, buffers), (image[None],))
        return torch.stack([part.mean() for part in tensors((found,))]).sum()

    with sdpa_kernel(SDPBackend.MATH):
        together = vmap(grad(loss))(images)
        alone = torch.stack([grad(loss)(image) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-9)


def test_double_backward(network: nn.Module) -> None:
    """The Hessian's product with a direction, by differentiating the gradient backward and forward."""
    network.double()
    image = IMAGES[:1].double()
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(2), dtype=image.dtype)

    def total(x: Tensor) -> Tensor:
        return torch.stack([part.mean() for part in outputs(network, x)]).sum()

    x = image.clone().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        (slope,) = torch.autograd.grad(total(x), x, create_graph=True)
        (second,) = torch.autograd.grad((slope * direction).sum(), x)
        _, expected = jvp(grad(total), (image,), (direction,))
    assert expected.abs().max() > 0
    torch.testing.assert_close(second, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))


def test_copies_and_weights_on_disk(network: nn.Module, tmp_path: Path) -> None:
    expected = outputs(network)
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        torch.testing.assert_close(outputs(copied), expected)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")


def test_both_forms_of_attention_that_is_looked_at_are_equal() -> None:
    q, k, v = torch.randn(3, 2, 4, 10, 8, dtype=torch.float64).requires_grad_().unbind(0)
    for one, other in zip(attend(q, k, v), attend_by_head(q, k, v), strict=True):
        torch.testing.assert_close(one, other)
        (first,) = torch.autograd.grad(one.square().sum(), q, retain_graph=True)
        (second,) = torch.autograd.grad(other.square().sum(), q, retain_graph=True)
        torch.testing.assert_close(first, second)
