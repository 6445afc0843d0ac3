"""Compiled blocks and captured calls: equal answers, one graph for each size, copies that stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from papers_shared import compiling
from papers_shared.compiling import Graphs, speed_up
from papers_shared.devices import autocast
from papers_shared.errors import UserError


class Output(NamedTuple):
    values: Tensor
    missing: Tensor | None


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.second = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)

    def fsdp_units(self) -> list[nn.Module]:
        return [self.first, self.second]

    def forward(self, images: Tensor) -> Output:
        return Output(self.second(self.norm(self.first(images)).relu()), None)


def test_graphs_need_a_gpu() -> None:
    with pytest.raises(UserError, match="--cuda-graphs needs a CUDA device, and the network lies on cpu"):
        speed_up(Network(), "fp32", graphs=True)


def test_each_size_is_captured_once_and_answers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the capture: what it replays is written over what it answered first."""
    captures: list[int] = []

    def captured(call: Callable[[], Output]) -> tuple[Callable[[], Any], Output]:
        captures.append(1)
        answer = call()
        return lambda: answer.values.copy_(call().values), answer

    monkeypatch.setattr(compiling, "captured", captured)
    network = Network().eval()
    graphs = Graphs(network, network.forward)
    images = [torch.randn(1, 3, side, side) for side in (8, 12, 8, 8, 12)]
    with torch.no_grad():
        found = [graphs(image) for image in images]
        for answer, image in zip(found, images, strict=True):
            assert answer.missing is None
            torch.testing.assert_close(answer.values, network(image).values)
        assert len(captures) == 2
        monkeypatch.setattr(compiling, "GRAPHS_KEPT", 1)
        for image in (*images[:2], *images[:2]):
            graphs(torch.cat([image, image]))
        assert len(captures) == 2 + 4


def test_compiled_blocks_answer_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compiled.append(self))
    network = Network()
    speed_up(network, "fp32", compiled=True)
    assert compiled == network.fsdp_units()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_replays_answer_as_the_network(precision: Any) -> None:
    plain, fast = Network().eval().cuda(), Network().eval().cuda()
    speed_up(fast, precision, graphs=True)
    for side in (16, 24, 16):
        images = torch.randn(2, 3, side, side, device="cuda")
        with torch.no_grad(), autocast(plain, precision):
            expected, found = plain(images).values, fast(images).values
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
