"""A fault of torch on some CPUs that tests of tiny networks in bf16 meet."""

from __future__ import annotations

import torch
from torch.nn import functional


def patches_are_right_in_bf16() -> bool:
    """Whether torch computes the small network's embedding of patches: 2.15 with AMX is off by the answer itself."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*s, generator=generator).bfloat16() for s in ((2, 16, 16, 16), (24, 16, 4, 4)))
    right = functional.conv2d(x.double(), weight.double(), stride=4)
    return bool((functional.conv2d(x, weight, stride=4) - right).abs().max() < 0.02 * right.abs().max())
