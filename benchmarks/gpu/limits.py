"""What a GPU can do at best: achieved rates of large matrix products and of copies."""

from __future__ import annotations

from dataclasses import dataclass

from papers_shared.types import Precision


@dataclass(frozen=True)
class Limits:
    tflops: dict[Precision, float]
    """1e12 floating-point operations of matrix products in a second."""
    terabytes: float
    """Read and written in a second, 1e12 bytes."""


_HOPPER: dict[Precision, float] = {"bf16": 790.0, "fp16": 790.0, "tf32": 400.0, "fp32": 55.0}
LIMITS = {"H100": Limits(_HOPPER, 3.0), "H200": Limits(_HOPPER, 4.3)}


def limits_of(gpu: str) -> Limits | None:
    """Those of a GPU by its name; None where they are not known."""
    return next((limits for name, limits in LIMITS.items() if name in gpu), None)
