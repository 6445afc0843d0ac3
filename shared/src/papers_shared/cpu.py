"""The same layers, sooner or with less memory, for float32 on the CPU; everywhere else they are torch's own."""

from __future__ import annotations

from typing import Any, TypeGuard, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from papers_shared.eager import is_eager, is_hooked

Network = TypeVar("Network", bound=nn.Module)
WORTH = 2**24
"""Multiply-adds below which oneDNN's kernels take longer to start than they save."""


def eager_cpu(x: Tensor) -> bool:
    """Whether what is computed from `x` now is computed on the CPU, in float32, and not kept as a graph."""
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and is_eager()
    )


class DirectLinear(nn.Linear):
    """A linear layer that goes to oneDNN's kernels, forward and backward, where torch would ask its BLAS."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if not _fits(input, self):
            return super().forward(input)
        y: Tensor = _Linear.apply(input, self.weight, self.bias, False)
        return y


class PackedLinear(DirectLinear):
    """A linear layer that, without gradients, holds its weights a second time in the order of oneDNN's kernels.

    They are made anew when the weights have changed. Parameters and their names stay.
    """

    _packed: Tensor | None = None
    _packed_from: tuple[int, int] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if torch.is_grad_enabled() or not _fits(input, self):
            return super().forward(input)
        made_from = (self.weight.data_ptr(), self.weight._version)
        if self._packed is None or self._packed_from != made_from:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())
            self._packed_from = made_from
        return _product(input, self._packed, self.bias)

    def __getstate__(self) -> dict[str, Any]:
        """Without the packed weights, which cannot be copied or pickled: a copy packs its own."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_packed")}


def direct_linears(network: Network) -> Network:
    """`network` itself, its `nn.Linear` layers as `DirectLinear`, for training: the same answers to rounding.

    Where torch was built without oneDNN nothing changes.
    """
    return _as(DirectLinear, network)


def pack_linears(network: Network) -> Network:
    """`network` itself, its `nn.Linear` layers as `PackedLinear`, for inference: the same answers to rounding.

    The packed weights take their memory a second time, from the first call on. Where torch was built without oneDNN
    nothing changes.
    """
    return _as(PackedLinear, network)


def gelu_linear(x: Tensor, layer: nn.Module) -> Tensor:
    """`layer(F.gelu(x))`, which needs no second array of the size of `x`.

    While training on the CPU, GELU is computed again in the backward pass instead of kept, where `layer` is a linear
    one without hooks; without gradients `x` is overwritten.

    Args:
        x: (..., in_features); nothing else may read it.
        layer: What follows.

    Returns:
        (..., out_features).
    """
    if not torch.is_grad_enabled():
        y: Tensor = layer(torch.ops.aten.gelu_(x))
    elif _may_stand_in(layer) and _fits(x, layer):
        y = _Linear.apply(x, layer.weight, layer.bias, True)
    else:
        y = layer(F.gelu(x))
    return y


class _Linear(torch.autograd.Function):
    """`F.linear(x, weight, bias)`, or of `F.gelu(x)`, which is not kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.gelu = gelu
        return _product(F.gelu(x) if gelu else x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        flat = grad.flatten(0, -2)
        to_input = to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = flat.T @ (F.gelu(x) if ctx.gelu else x).flatten(0, -2)
        if ctx.needs_input_grad[0]:
            to_input = _product(grad, weight.T, None)
            if ctx.gelu:
                to_input = torch.ops.aten.gelu_backward(to_input, x)
        return to_input, to_weight, flat.sum(0) if ctx.needs_input_grad[2] else None, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def _may_stand_in(layer: nn.Module) -> TypeGuard[nn.Linear]:
    kinds = (nn.Linear, DirectLinear, PackedLinear)
    return torch.backends.mkldnn.is_available() and type(layer) in kinds and not is_hooked(layer)


def _fits(x: Tensor, layer: nn.Linear) -> bool:
    return x.numel() * layer.out_features >= WORTH and eager_cpu(x) and eager_cpu(layer.weight)


def _as(kind: type[DirectLinear], network: Network) -> Network:
    if torch.backends.mkldnn.is_available():
        for module in network.modules():
            if type(module) is nn.Linear:
                module.__class__ = kind
    return network
