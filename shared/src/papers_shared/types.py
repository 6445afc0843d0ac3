"""Types that more than one module names; importing them is free."""

from __future__ import annotations

from typing import Literal

RGB = tuple[int, int, int]
"""Red, green, blue in 0..255."""

Device = Literal["auto", "cpu", "cuda"]
"""Where a network computes; auto: on a GPU if there is one."""

Precision = Literal["no", "bf16", "fp16"]
"""What autocast computes in; no: float32."""
