"""Deterministic inputs from names, so that stored values need no stored inputs."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform-looking float64 values in [-1, 1) of the given shape, decided by `name` alone."""
    count = int(np.prod(shape, dtype=np.int64))
    phase = (zlib.crc32(name.encode()) % 100_003) * 0.078233
    wave = np.sin(np.arange(count, dtype=np.float64) * 12.9898 + phase) * 43758.5453
    return (2.0 * (wave - np.floor(wave)) - 1.0).reshape(shape)


def tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """`noise` as a float32 tensor."""
    return torch.from_numpy(noise(name, tuple(shape)).astype(np.float32))
