"""Every network is a plain `nn.Module`: the tools of PyTorch work on it as on any other."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fanet.config import ModelConfig
from fanet.modeling.classifier import Classifier
from fanet.modeling.heads import MultiscaleConv2d
from fanet.modeling.segmenter import Segmenter

CONFIG = ModelConfig(
    backbone="test_fanet",
    class_names=("a", "b", "c"),
    decoder_channels=8,
    auxiliary_channels=8,
    drop_path_rate=0.0,
    dropout=0.0,
)


class Logits(nn.Module):
    """The segmenter with a plain tensor as its output."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> Tensor:
        return self.segmenter(images).logits


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "timm":
        return timm.create_model("test_fanet", num_classes=3, drop_path_rate=0.0)
    if kind == "classifier":
        return Classifier.from_config(CONFIG)
    return Logits(Segmenter.from_config(CONFIG))


@pytest.fixture(params=["timm", "classifier", "segmenter"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return network(request.param).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def gradients(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    model(images).square().sum().backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("mode", ["train", "eval", "no_grad"])
def test_forward_hooks_see_what_each_layer_computed(model: nn.Module, images: Tensor, mode: str) -> None:
    seen: dict[str, tuple[Any, Tensor]] = {}
    model.train(mode == "train")
    leaves = {name: module for name, module in model.named_modules() if not list(module.children())}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            seen.setdefault(name, (inputs, output))

        return hook

    for name, module in leaves.items():
        module.register_forward_hook(keep(name))
    with torch.set_grad_enabled(mode != "no_grad"):
        model(images)
    assert len(seen) > 50
    for name, (inputs, output) in seen.items():
        torch.testing.assert_close(leaves[name](*inputs), output, msg=name)


def test_trace(model: nn.Module, images: Tensor) -> None:
    whole = model.segmenter if isinstance(model, Logits) else model
    traced = torch.jit.trace(whole, images)(images)  # runs its own check
    torch.testing.assert_close(traced if whole is model else traced[0], model(images))


@pytest.mark.parametrize("training", [True, False])
def test_no_graph_breaks(model: nn.Module, images: Tensor, training: bool) -> None:
    torch.compiler.reset()
    model.train(training)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images))


def test_functional_call_second_backward_and_gradients_per_sample(model: nn.Module, images: Tensor) -> None:
    weights = {name: value.detach() for name, value in model.named_parameters()}
    torch.testing.assert_close(functional_call(model, weights, (images,)), model(images))

    def score(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(model, weights, (image[None],)).square().sum()

    each = vmap(grad(score), in_dims=(None, 0))(weights, images)
    for name, value in gradients(model, images).items():
        torch.testing.assert_close(each[name].sum(0), value, rtol=1e-3, atol=1e-4 * float(value.abs().max()))

    leaf = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(leaf).square().sum(), leaf, create_graph=True)
    slope.square().sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_copies_and_files(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    expected = model(images)
    assert torch.equal(copy.deepcopy(model)(images), expected)
    if not isinstance(model, Logits):  # a class of this test module
        assert torch.equal(pickle.loads(pickle.dumps(model))(images), expected)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    model.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(model(images), expected)


def test_checkpointed_and_frozen_blocks_have_the_same_gradients(images: Tensor) -> None:
    model: Any = network("timm").train()
    expected = gradients(model, images)
    model.set_grad_checkpointing(True)
    for name, value in gradients(model, images).items():
        torch.testing.assert_close(value, expected[name])
    frozen = {name for name, _ in model.named_parameters() if "mlp.fc1" in name}
    for name, value in model.named_parameters():
        value.requires_grad_(name not in frozen)
    found = gradients(model, images)
    assert found.keys() == expected.keys() - frozen
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name])


def test_a_wrapped_layer_is_called(images: Tensor) -> None:
    model: Any = network("timm").train()
    seen = []

    class Adapted(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            seen.append("adapter")
            return super().forward(x)

    fc1 = model.stage1.blocks[0].mlp.fc1
    model.stage1.blocks[0].mlp.fc1 = Adapted(fc1.in_channels, fc1.out_channels, 1)
    gradients(model, images)
    assert seen == ["adapter"]


def test_shapes_without_weights() -> None:
    with torch.device("meta"):
        outputs = timm.create_model("test_fanet", features_only=True)(torch.randn(1, 3, 64, 64))
    assert [tuple(out.shape[-2:]) for out in outputs] == [(16, 16), (8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize(
    "sizes",
    [((16, 24), (8, 12), (4, 6), (2, 3)), ((17, 25), (9, 13), (5, 7), (3, 4)), ((5, 6), (1, 1), (5, 6))],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_multiscale_convolution_is_that_of_the_enlarged_maps(
    sizes: tuple[tuple[int, int], ...], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    conv = MultiscaleConv2d(4 * len(sizes), 6).double()
    maps = [
        torch.randn(2, 4, *size, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
        for size in sizes
    ]
    enlarged = [F.interpolate(x, sizes[0], mode="bilinear", align_corners=False) for x in maps]
    plain = F.conv2d(torch.cat(enlarged, 1), conv.weight, padding=1)
    found = conv(maps)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)
    probe = torch.randn_like(plain)
    inputs = (conv.weight, *maps)
    for one, other in zip(
        torch.autograd.grad(found, inputs, probe), torch.autograd.grad(plain, inputs, probe), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    single = conv.float()([x.detach().float() for x in maps])
    assert (single - plain).abs().max() <= 1e-6 * plain.abs().max()


@pytest.mark.parametrize("channels_last", [False, True])
def test_heads_train_in_the_memory_format_of_their_weights(images: Tensor, channels_last: bool) -> None:
    segmenter = Segmenter.from_config(CONFIG).train()
    if channels_last:
        segmenter.to(memory_format=torch.channels_last)
    seen: list[Tensor] = []
    segmenter.decode_head.get_submodule("smooths.0.conv").register_forward_hook(
        lambda _, inputs, __: seen.append(inputs[0])
    )
    segmenter(images)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert seen[0].is_contiguous(memory_format=layout)
