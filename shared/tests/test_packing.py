"""Packed linear layers answer as the layers that they were."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from papers_shared.packing import PackedLinear, pack_linears


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


def test_gradients_other_types_and_copies_take_the_plain_way() -> None:
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
