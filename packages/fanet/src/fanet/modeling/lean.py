"""Training passes that keep less: what a GELU made is computed again in the backward pass, not stored.

Autograd stores both sides of every GELU: its input for its own gradient, its output for that of the next layer. The
functions here store the input alone and reuse buffers, which gives the same numbers with a third less memory.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from papers_shared.eager import is_eager, is_hooked

aten = torch.ops.aten
PLAIN = (nn.Conv2d, LayerNorm2d)
Gradients = tuple[Tensor | None, ...]


def is_lean(x: Tensor, *modules: nn.Module) -> bool:
    """Whether the functions of this file may stand in for `modules`: in eager training, where nothing is hooked
    to a module or wrapped around it.
    """
    return is_training(x) and all(type(module) in PLAIN and not is_hooked(module) for module in modules)


def is_training(x: Tensor | torch.fx.Proxy) -> bool:
    """Whether eager autograd records what is done to `x`: no tracer, no compiler, no functional transform."""
    if isinstance(x, torch.fx.Proxy):
        return False
    return torch.is_grad_enabled() and x.requires_grad and is_eager()


def channels_last_gradient(x: Tensor) -> Tensor:
    """`x` itself, whose gradient will be in channels-last memory too.

    A loss may hand back a gradient in another layout, which the residual path would then carry through every
    block; each operation on two layouts takes up to three times as long.
    """
    if is_training(x):
        x.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
    return x


def conv_gelu_norm(x: Tensor, conv: nn.Conv2d, norm: nn.LayerNorm) -> Tensor:
    """LN(GELU(conv(x))) of a channels-last (B, C, H, W)."""
    return _ConvGeluNorm.apply(*_cast(x, *_weights(conv)), norm.weight, norm.bias, norm.eps, _geometry(conv))


def conv_mlp(x: Tensor, fc1: nn.Conv2d, conv: nn.Conv2d, fc2: nn.Conv2d) -> Tensor:
    """fc2(h + GELU(conv(h))) with h = GELU(fc1(x)), of a channels-last (B, C, H, W)."""
    weights = (*_weights(fc1), *_weights(conv), *_weights(fc2))
    return _ConvMlp.apply(*_cast(x, *weights), tuple(map(_geometry, (fc1, conv, fc2))))


class _ConvGeluNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        scale: Tensor,
        shift: Tensor,
        eps: float,
        geometry: Any,
    ) -> Tensor:
        before = _convolve(x, weight, bias, geometry)
        after = _gelu(before)
        normed, mean, rstd = aten.native_layer_norm(_last(after), scale.shape, scale, shift, eps)
        ctx.save_for_backward(x, before, weight, scale, shift, mean, rstd)
        ctx.geometry = geometry
        return normed.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        x, before, weight, scale, shift, mean, rstd = ctx.saved_tensors
        after = _gelu(before)
        gradient, g_scale, g_shift = aten.native_layer_norm_backward(
            _last(gradient), _last(after), scale.shape, mean, rstd, scale, shift, [True, True, True]
        )
        gradient = _gelu_backward_(gradient.permute(0, 3, 1, 2), before)
        gradients = _convolve_backward(gradient, x, weight, ctx.geometry, ctx.needs_input_grad[0])
        return *gradients, g_scale, g_shift, None, None


class _ConvMlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w1: Tensor,
        b1: Tensor,
        w2: Tensor,
        b2: Tensor,
        w3: Tensor,
        b3: Tensor,
        geometry: Any,
    ) -> Tensor:
        before = _convolve(x, w1, b1, geometry[0])
        hidden = _gelu(before)
        mixed = _convolve(hidden, w2, b2, geometry[1])
        ctx.save_for_backward(x, before, mixed, w1, w2, w3)
        ctx.geometry = geometry
        return _convolve(hidden.add_(_gelu(mixed)), w3, b3, geometry[2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Gradients:
        x, before, mixed, w1, w2, w3 = ctx.saved_tensors
        hidden = _gelu(before)
        total = _gelu(mixed).add_(hidden)
        skip, g_w3, g_b3 = _convolve_backward(gradient, total, w3, ctx.geometry[2])
        aten.gelu_backward.grad_input(_last(skip), _last(mixed), grad_input=_last(total))
        gradient, g_w2, g_b2 = _convolve_backward(total, hidden, w2, ctx.geometry[1])
        gradient = _gelu_backward_(gradient.add_(skip), before)
        g_x, g_w1, g_b1 = _convolve_backward(gradient, x, w1, ctx.geometry[0], ctx.needs_input_grad[0])
        return g_x, g_w1, g_b1, g_w2, g_b2, g_w3, g_b3, None


def _weights(conv: nn.Conv2d) -> tuple[Tensor, Any]:
    return conv.weight, conv.bias


def _geometry(conv: nn.Conv2d) -> tuple[Any, Any, Any, int]:
    return conv.stride, conv.padding, conv.dilation, conv.groups


def _cast(*tensors: Tensor) -> list[Tensor]:
    """To the type in which autocast would run a convolution; autograd carries the gradients back."""
    kind = tensors[0].device.type
    if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        return list(tensors)
    return [tensor.to(torch.get_autocast_dtype(kind)) for tensor in tensors]


def _last(x: Tensor) -> Tensor:
    """(B, C, H, W) seen as (B, H, W, C)."""
    return x.permute(0, 2, 3, 1)


def _gelu(x: Tensor) -> Tensor:
    return aten.gelu(_last(x)).permute(0, 3, 1, 2)


def _gelu_backward_(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient before GELU(x), written over `gradient`."""
    aten.gelu_backward.grad_input(_last(gradient), _last(x), grad_input=_last(gradient))
    return gradient


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, geometry: Any) -> Tensor:
    stride, padding, dilation, groups = geometry
    return aten.convolution(x, weight, bias, stride, padding, dilation, False, [0, 0], groups)


def _convolve_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, geometry: Any, input_too: bool = True
) -> tuple[Any, Tensor, Tensor]:
    stride, padding, dilation, groups = geometry
    return aten.convolution_backward(
        gradient,
        x,
        weight,
        weight.shape[:1],
        stride,
        padding,
        dilation,
        False,
        [0, 0],
        groups,
        [input_too, True, True],
    )
