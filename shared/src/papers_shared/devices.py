"""Where a network computes, and in which precision."""

from __future__ import annotations

import torch
from torch import nn

from papers_shared.errors import UserError
from papers_shared.types import Device, Precision

DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def select_device(device: Device = "auto") -> torch.device:
    """The device that an option names; auto takes the GPU if torch sees one.

    Raises:
        UserError: A GPU is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; use --device cpu, or auto")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def device_of(network: nn.Module) -> torch.device:
    """Where the parameters of a network lie."""
    return next(network.parameters()).device


def autocast(network: nn.Module, precision: Precision) -> torch.autocast:
    """Autocast on the network's device; with `no` it computes in the network's own type."""
    return torch.autocast(device_of(network).type, DTYPES[precision], enabled=precision != "no")
