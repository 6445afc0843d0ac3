"""Faster linear layers for inference on the CPU."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class PackedLinear(nn.Linear):
    """A linear layer that also holds its weights in the order in which oneDNN's kernels read them.

    They are used for float32 on the CPU without gradients, autocast or compilation, and made anew when the weights
    have changed; elsewhere it is the layer that it was. Parameters and their names stay.
    """

    _packed: Tensor | None = None
    _packed_from: tuple[int, int] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if not self._fits(input):
            return super().forward(input)
        made_from = (self.weight.data_ptr(), self.weight._version)
        if self._packed is None or self._packed_from != made_from:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())
            self._packed_from = made_from
        return torch.ops.mkldnn._linear_pointwise(input, self._packed, self.bias, "none", [], "")

    def __getstate__(self) -> dict[str, Any]:
        """Without the packed weights, which cannot be copied or pickled: a copy packs its own."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_packed")}

    def _fits(self, x: Tensor) -> bool:
        return (
            x.dtype == self.weight.dtype == torch.float32
            and x.device.type == self.weight.device.type == "cpu"
            and x.numel() > 0
            and not torch.is_autocast_enabled("cpu")
            and eager_inference()
        )


def eager_inference() -> bool:
    """Whether what is computed now is neither differentiated nor kept as a graph."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.compiler.is_exporting())


def pack_linears(network: Network) -> Network:
    """`network` itself, its `nn.Linear` layers as `PackedLinear`: the same answers to rounding, sooner on the CPU.

    The packed weights take their memory a second time, from the first call on. Where torch was built without oneDNN
    nothing changes.
    """
    if not torch.backends.mkldnn.is_available():
        return network
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = PackedLinear
    return network
