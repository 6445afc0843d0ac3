"""The layers for the CPU answer, and learn, as the layers that they were."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from papers_shared import cpu
from papers_shared.cpu import DirectLinear, PackedLinear, direct_linears, gelu_linear, pack_linears


@pytest.fixture(autouse=True)
def _small_layers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "WORTH", 0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 8, bias=False)).eval()


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_the_packed_weights_are_used_and_agree() -> None:
    plain = network()
    packed = pack_linears(copy.deepcopy(plain))
    x = torch.randn(3, 5, 24)
    with torch.no_grad():
        torch.testing.assert_close(packed(x), plain(x))
    first = packed[0]
    assert isinstance(first, PackedLinear)
    assert first._packed is not None
    assert list(packed.state_dict()) == list(plain.state_dict())


def test_changed_weights_are_seen() -> None:
    packed, other = pack_linears(network()), network()
    x = torch.randn(2, 24)
    with torch.no_grad():
        packed(x)
        for parameter in other.parameters():
            parameter.mul_(2)
        packed.load_state_dict(other.state_dict())
        torch.testing.assert_close(packed(x), other(x))


def test_packed_layers_copy_learn_and_change_type_as_torchs() -> None:
    packed, plain = pack_linears(network()), network()
    x = torch.randn(2, 24)
    with torch.no_grad():
        packed(x)
        torch.testing.assert_close(copy.deepcopy(packed)(x), plain(x))
        torch.testing.assert_close(packed.double()(x.double()), plain.double()(x.double()))
        torch.testing.assert_close(packed.float()(x), plain.float()(x))
        with torch.autocast("cpu", torch.bfloat16):
            assert packed(x).dtype == torch.bfloat16
        assert packed(x[:0]).shape == (0, 8)
    packed(x).sum().backward()
    plain(x).sum().backward()
    for ours, theirs in zip(packed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_direct_layers_learn_as_torchs() -> None:
    plain = network()
    direct = direct_linears(copy.deepcopy(plain))
    assert isinstance(direct[0], DirectLinear)
    answers = []
    for net in (direct, plain):
        x = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = net(x)
        y.square().sum().backward()
        answers.append([y, x.grad, *(parameter.grad for parameter in net.parameters())])
    assert "_Linear" in type(direct[0](torch.randn(2, 24)).grad_fn).__name__
    for ours, theirs in zip(*answers, strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(direct(x), plain(x))
    direct[0].requires_grad_(False)
    direct.zero_grad()
    direct(torch.randn(2, 24)).sum().backward()
    assert direct[0].weight.grad is None
    assert direct[2].weight.grad is not None


def test_gelu_before_a_linear_layer_is_not_kept() -> None:
    first, last = nn.Linear(24, 40), nn.Linear(40, 8)
    x = torch.randn(3, 5, 24)

    def learn(whole: bool) -> tuple[list[torch.Tensor | None], int]:
        kept: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.numel() == 3 * 5 * 40:
                kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        for layer in (first, last):
            layer.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            hidden = first(x)
            y = last(torch.nn.functional.gelu(hidden)) if whole else gelu_linear(hidden, last)
        y.square().sum().backward()
        return [y.detach(), *(p.grad for layer in (first, last) for p in layer.parameters())], len(kept)

    ours, kept = learn(whole=False)
    expected, kept_by_torch = learn(whole=True)
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert kept_by_torch == 2
    assert kept == (1 if torch.backends.mkldnn.is_available() else 2)
    with torch.no_grad():
        torch.testing.assert_close(gelu_linear(first(x), last), expected[0])


def test_a_hooked_or_wrapped_layer_is_called() -> None:
    seen: list[str] = []
    layer = nn.Linear(4, 2)
    handle = layer.register_forward_hook(lambda *_: seen.append("hook"))
    gelu_linear(torch.randn(3, 4), layer)
    handle.remove()

    class Adapter(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            seen.append("adapter")
            return super().forward(input)

    gelu_linear(torch.randn(3, 4), Adapter(4, 2))
    assert seen == ["hook", "adapter"]
