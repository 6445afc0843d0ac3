"""Types that more than one module names; importing them is free."""

from __future__ import annotations

from typing import Literal

RGB = tuple[int, int, int]
"""Red, green, blue in 0..255."""

Device = str
"""Where a network computes: auto, cpu, cuda, cuda:N or mps; auto: on a GPU if there is one."""

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
"""What matrix products and convolutions compute in. fp32: float32; tf32: the same, but a GPU rounds the factors to ten
bits; bf16, fp16: autocast."""

AskedPrecision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
"""A `Precision`, or auto: bf16 on a GPU that has it, fp32 elsewhere."""
