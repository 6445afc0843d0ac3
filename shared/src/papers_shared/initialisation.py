"""Initial weights."""

from __future__ import annotations

from torch import Tensor, nn


def trunc_normal_(weight: Tensor, std: float = 0.02) -> Tensor:
    """Fill a weight in place from a normal distribution, cut off at five standard deviations.

    torch's and timm's functions of the same name cut off at 2 by default, whatever `std` is, and about one value in
    2^24 is exactly that: a weight of a hundred standard deviations in most networks of 30 M parameters.
    """
    return nn.init.trunc_normal_(weight, std=std, a=-5 * std, b=5 * std)
