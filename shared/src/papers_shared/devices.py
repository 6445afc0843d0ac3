"""Where a network computes, and in which precision."""

from __future__ import annotations

import os
import re
import warnings

import torch
from torch import nn

from papers_shared.errors import UserError
from papers_shared.types import AskedPrecision, Device, Precision

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

PIXELS_AT_ONCE = 16 * 512 * 512
"""Pixels that go through a network together on a GPU, where no batch size is given."""


def select_device(device: Device = "auto") -> torch.device:
    """The device that an option names; auto takes the first of cuda, mps and cpu that torch sees.

    Processes that a launcher started on one machine (`LOCAL_RANK`) take its GPUs in turn, unless one is named.

    Raises:
        UserError: It is no such name, or torch does not see that device.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise UserError(f"--device {device}: give auto, cpu, cuda, cuda:N or mps")
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if device == "auto":
        device = "cuda" if cuda else "mps" if mps else "cpu"
    if device == "mps" and not mps:
        raise UserError("--device mps: torch sees no GPU of Apple's here; use --device cpu, or auto")
    if device.startswith("cuda") and not cuda:
        raise UserError(f"--device {device}: torch sees no GPU here; use --device cpu, or auto")
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        device = f"cuda:{int(os.environ['LOCAL_RANK']) % cuda}"
    number = int(device.partition(":")[2] or 0)
    if number and number >= cuda:
        raise UserError(f"--device {device}: torch sees {cuda} GPUs here, counted from 0")
    return torch.device(device)


def device_of(network: nn.Module) -> torch.device:
    """Where the parameters of a network lie."""
    return next(network.parameters()).device


def widest_float(device: torch.device) -> torch.dtype:
    """float64, or float32 on Apple's GPUs, which have no wider one."""
    return torch.float32 if device.type == "mps" else torch.float64


def choose_precision(asked: AskedPrecision, device: torch.device) -> Precision:
    """The precision that a device computes in when it is asked for one; a warning where bf16 is slow."""
    if asked == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(False) else "fp32"
    if asked == "tf32" and device.type != "cuda":
        return "fp32"
    if asked == "bf16" and device.type == "cpu" and not _cpu_has_bf16():
        warnings.warn(
            "this CPU has no bfloat16 instructions: in bf16 it is several times slower than in fp32",
            stacklevel=1,
        )
    return asked


def use_precision(asked: AskedPrecision, device: torch.device) -> Precision:
    """`choose_precision`, and all float32 matrix products and convolutions of this program exact or, for tf32, TF32.

    By torch's own default the products are exact and the convolutions are not. Every command calls this once when it
    begins; the library never does, so that a program of one's own keeps the switches that it has set.
    """
    precision = choose_precision(asked, device)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    return precision


def float32_precision(device: torch.device) -> Precision:
    """What this program's float32 matrix products compute in on a device."""
    return "tf32" if device.type == "cuda" and torch.get_float32_matmul_precision() != "highest" else "fp32"


def inputs_at_once(device: torch.device, pixels: int) -> int:
    """How many inputs of so many pixels go through a network together.

    On a CPU one: more take no less time for each, and more memory.
    """
    return 1 if device.type == "cpu" else max(1, PIXELS_AT_ONCE // pixels)


def autocast(network: nn.Module, precision: Precision) -> torch.autocast:
    """Autocast on the network's device; with fp32 and tf32 it computes in the network's own type."""
    return torch.autocast(device_of(network).type, DTYPES[precision], enabled=precision in ("bf16", "fp16"))


def precision_name(precision: Precision) -> str:
    """What a precision is called in the sentence about a protocol."""
    return "float32" if precision == "fp32" else precision


def _cpu_has_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
