"""Whether a layer may be computed in another way than its modules say: only where nobody watches them."""

from __future__ import annotations

import torch
from torch import nn


def is_eager() -> bool:
    """Whether operations run as they are called: no compiler, no export, no tracer, no functional transform."""
    return not (
        torch.compiler.is_compiling()
        or torch.compiler.is_exporting()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
    )


def is_hooked(module: nn.Module) -> bool:
    """Whether a call of this module would call a hook of its own too."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
