"""The training passes that store less: the same numbers as autograd's own, less memory, and out of the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import timm
import torch
from torch import Tensor, nn

import fanet.registry  # noqa: F401
from fanet.modeling import lean


def network(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_fanet", features_only=True, drop_path_rate=0.0, **options)


def gradients(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(1)
    sum((out.float() * torch.randn(out.shape)).sum() for out in model(images)).backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@contextmanager
def plain_autograd(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(lean, "is_lean", lambda *_: False)
        yield


def saved_bytes(model: nn.Module, images: Tensor) -> int:
    """Bytes of the distinct storages that the forward pass keeps for the backward pass."""
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = model(images)
    del outputs
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_are_those_of_autograd(monkeypatch: pytest.MonkeyPatch, autocast: bool) -> None:
    model, images = network(), torch.randn(2, 3, 70, 66)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        with plain_autograd(monkeypatch):
            expected = gradients(model, images)
        found = gradients(model, images)
    assert found.keys() == expected.keys()
    assert len(found) == len(list(model.parameters()))
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-5, atol=1e-6 * float(value.abs().max()), msg=name
        )


def test_a_third_less_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = network(), torch.randn(1, 3, 128, 128)
    ours = saved_bytes(model, images)
    with plain_autograd(monkeypatch):
        plain = saved_bytes(model, images)
    assert ours < 0.75 * plain


def test_checkpointed_and_frozen_blocks_have_the_same_gradients() -> None:
    model, images = network(), torch.randn(1, 3, 64, 64)
    expected = gradients(model, images)
    model.set_grad_checkpointing(True)
    for name, value in gradients(model, images).items():
        torch.testing.assert_close(value, expected[name])
    model.set_grad_checkpointing(False)
    frozen = [name for name, _ in model.named_parameters() if "mlp.fc1" in name]
    for name, value in model.named_parameters():
        value.requires_grad_(name not in frozen)
    found = gradients(model, images)
    assert found.keys() == expected.keys() - set(frozen)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name])


def test_hooks_and_wrapped_layers_are_seen() -> None:
    model, images, seen = network(), torch.randn(1, 3, 32, 32), []
    block = model.stage1.blocks[0]
    handle = block.mlp.conv.register_forward_hook(lambda *_: seen.append("hook"))
    gradients(model, images)
    handle.remove()

    class Adapted(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            seen.append("adapter")
            return super().forward(x)

    fc1 = block.mlp.fc1
    block.mlp.fc1 = Adapted(fc1.in_channels, fc1.out_channels, 1)
    gradients(model, images)
    assert seen == ["hook", "adapter"]


def test_functional_transforms_work() -> None:
    model, images = network(), torch.randn(1, 3, 32, 32)
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return sum(out.sum() for out in torch.func.functional_call(model, parameters, images))

    found = torch.func.grad(loss)(parameters)
    loss(parameters).backward()
    for name, value in parameters.items():
        torch.testing.assert_close(found[name], value.grad, rtol=1e-4, atol=1e-4)


def test_a_gradient_in_another_layout_enters_as_channels_last() -> None:
    x = torch.randn(1, 4, 3, 3, requires_grad=True).contiguous(memory_format=torch.channels_last) * 1
    seen: list[Tensor] = []
    x.register_hook(seen.append)
    y = lean.channels_last_gradient(x * 1)
    y.backward(torch.randn(1, 4, 3, 3))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_without_gradients_the_callers_tensors_stay() -> None:
    model, images = network().eval(), torch.randn(1, 3, 32, 32)
    before = images.clone()
    with torch.no_grad():
        first, second = model(images), model(images)
    assert torch.equal(images, before)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(first, model(images), strict=True):
        torch.testing.assert_close(one, other)


def test_shapes_without_weights() -> None:
    with torch.device("meta"):
        outputs = network()(torch.randn(1, 3, 64, 64))
    assert [tuple(out.shape[-2:]) for out in outputs] == [(16, 16), (8, 8), (4, 4), (2, 2)]
