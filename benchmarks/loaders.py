"""What the loader cases of the packages share: pictures, and samples per second of one process on one thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch

TEXTURE = ((240, 60.0), (60, 30.0), (12, 14.0), (1, 1.6))
"""Cell size in pixels and strength of each octave of noise."""


def rates(
    epochs: Mapping[str, Callable[[int, int], object]],
    samples: int,
    rounds: int,
    prepare: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Samples per second of each pipeline, epoch by epoch in turns, on one thread as a loader worker runs.

    Args:
        epochs: Name -> function of (epoch, index) that makes a sample.
        prepare: Called before each round.
    """
    found: dict[str, list[float]] = {name: [] for name in epochs}
    with _one_thread():
        for number in range(rounds):
            prepare()
            for offset, (name, sample) in enumerate(epochs.items()):
                began = time.perf_counter()
                for index in range(samples):
                    sample(number * len(epochs) + offset, index)
                found[name].append(samples / (time.perf_counter() - began))
    return found


def textured(number: int, height: int, width: int) -> np.ndarray:
    """(height, width, 3) float32 RGB about 0: noise in octaves, so that files are of a photograph's size."""
    rng = np.random.default_rng(number)
    return sum(smooth_noise(rng, height, width, cell, 3) * weight for cell, weight in TEXTURE)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: int, channels: int) -> np.ndarray:
    """Normal noise on a grid of `cell` pixels, smoothly enlarged to (height, width, channels)."""
    shape = (height // cell + 2, width // cell + 2, channels)
    grid = rng.standard_normal(shape, dtype=np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def write_picture(path: Path, height: int, width: int = 0, number: int = 0) -> None:
    """A textured picture as the suffix says; a square where no width is given."""
    pixels = np.clip(textured(number, height, width or height) + 118, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels[..., ::-1])[1].tobytes())


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
