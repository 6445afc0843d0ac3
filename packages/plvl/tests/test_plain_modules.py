"""The networks are plain modules: hooks, tracers, exporters, transforms and copies see what the layers compute."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_plvl import EEVG, TINY, inputs, tiny
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

CONFIGS = {"plvl": {}, "eevg": {"config": EEVG, "elimination": 0.0}, "mask": {"rec": False}}
STILL = {"drop_path_rate": 0.0, "cross_dropout": 0.0, "decoder_dropout": 0.0, "text_dropout": 0.0}


class Answer(nn.Module):
    """The network with a tuple of the tensors that it has."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *x: Tensor) -> tuple[Tensor, ...]:
        output = self.model(*x)
        return (output,) if isinstance(output, Tensor) else tuple(y for y in output if y is not None)


@pytest.fixture(params=[*CONFIGS, "backbone"])
def network(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, tuple[Tensor, ...]]]:
    """Every network class with its inputs."""
    torch.manual_seed(0)
    images, ids, mask, _ = inputs()
    if request.param == "backbone":
        text = torch.randn(2, 7, TINY.text_dim)
        yield Answer(tiny(**STILL).backbone), (images, text, mask.bool())
    else:
        yield Answer(tiny(**CONFIGS[request.param], **STILL)), (images, ids, mask)


Network = tuple[nn.Module, tuple[Tensor, ...]]


@pytest.mark.parametrize("mode", ["train", "eval", "no_grad"])
def test_hooks_see_what_the_layers_computed(network: Network, mode: str) -> None:
    model, x = network
    model.train(mode == "train")
    seen: list[tuple[nn.Module, Any, Any]] = []
    leaves = [module for module in model.modules() if not list(module.children())]
    norms = [module for module in leaves if isinstance(module, nn.BatchNorm2d)]
    handles = [
        module.register_forward_hook(lambda m, args, out: seen.append((m, args, out))) for module in leaves
    ]
    with torch.no_grad() if mode == "no_grad" else nullcontext():
        answer = model(*x)
    for handle in handles:
        handle.remove()
    called = {id(module) for module, _, _ in seen}
    assert {id(m) for m in leaves if isinstance(m, nn.Linear | nn.Conv2d | nn.LayerNorm)} <= called
    for norm in norms:
        norm.momentum = 0.0
    with torch.no_grad():
        for module, args, out in seen:
            torch.testing.assert_close(module(*args), out)
        expected = model(*x)
    for one, other in zip(answer, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_blocks_are_called_as_modules(network: Network) -> None:
    model, x = network
    calls: list[int] = []
    backbone = model.model.backbone if hasattr(model.model, "backbone") else model.model
    for block in backbone.blocks:
        block.register_forward_hook(lambda m, args, out: calls.append(out.shape[0]))
    model(*x)
    assert calls == [2] * len(backbone.blocks)


def test_trace(network: Network) -> None:
    model, x = network
    traced = torch.jit.trace(model, x)  # runs its own check
    for one, other in zip(traced(*x), model(*x), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("training", [True, False])
def test_no_graph_breaks(network: Network, training: bool) -> None:
    model, x = network
    torch.compiler.reset()
    model.train(training)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for one, other in zip(compiled(*x), model(*x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def scalar(model: nn.Module, x: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    return (
        lambda weights, images: sum(  # type: ignore[return-value]
            y.square().mean() for y in functional_call(model, weights, (images, *x[1:]))
        )
    )


def test_functional_call_and_double_backward(network: Network) -> None:
    model, x = network
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    with sdpa_kernel(SDPBackend.MATH):
        images = x[0].clone().requires_grad_()
        (first,) = torch.autograd.grad(scalar(model, x)(weights, images), images, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), images)
    assert second.isfinite().all()
    assert second.abs().sum() > 0
    doubled = {name: 2 * value for name, value in weights.items()}
    for one, other in zip(functional_call(model, weights, x), model(*x), strict=True):
        torch.testing.assert_close(one, other)
    changed = functional_call(model, doubled, x)
    assert any(not torch.equal(one, other) for one, other in zip(changed, model(*x), strict=True))


def test_vmap_of_grad(network: Network) -> None:
    model, x = network
    weights = {name: value.detach() for name, value in model.named_parameters()}

    def loss(one: Tensor, *rest: Tensor) -> Tensor:
        answer = functional_call(model, weights, (one[None], *(y[None] for y in rest)))
        return sum(y.square().mean() for y in answer)  # type: ignore[return-value]

    with sdpa_kernel(SDPBackend.MATH):
        together = vmap(grad(loss))(*x)
        apart = torch.stack([grad(loss)(*(y[i] for y in x)) for i in range(2)])
    torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-6)


def test_copies(network: Network, tmp_path: Path) -> None:
    model, x = network
    model(*x)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    loaded = copy.deepcopy(model)
    loaded.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
        for one, same in zip(other(*x), model(*x), strict=True):
            assert torch.equal(one, same)
