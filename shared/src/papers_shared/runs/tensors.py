"""Named tensors as one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors of any device and layout; those that share memory are written once per name.

    safetensors makes files that only their owner can read: this one gets the rights of its folder.
    """
    plain = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    save_file(plain, path, metadata={"format": "pt"})
    path.chmod(path.parent.stat().st_mode & 0o666)
