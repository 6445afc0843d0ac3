"""Training crops from 1920x1080 PNG frames: fanet's loader beside decode + resize + crop with PIL."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from fanet.cache import PixelCache
from fanet.config import ZEROWASTE_CLASSES, DataConfig, ModelConfig
from fanet.data import SegmentationSamples, open_split
from fanet.transforms import keep_ratio_size, train_transform

HEIGHT, WIDTH = 1080, 1920
TEXTURE = ((240, 60.0), (60, 30.0), (12, 14.0), (1, 1.6))
"""Cell size in pixels and strength of each octave of noise."""


def measure(frames: int, rounds: int, crop: int) -> dict[str, Any]:
    """Crops per second of one process on one thread, epoch by epoch, interleaved.

    Each round is an epoch with PIL, then one of fanet's pipeline on an empty cache and one on a full cache.
    fanet's also flips, distorts colours, looks at the classes of a crop and normalises; PIL's does not.

    Returns:
        {"rates": {name: [crops per second of each round]}, "frame_megabytes": mean size of a PNG frame}.
    """
    with _one_thread(), tempfile.TemporaryDirectory() as temporary:
        root, cache_folder = Path(temporary, "data"), Path(temporary, "cache")
        pairs = write_frames(root, frames)
        data = DataConfig(root=str(root), layout="zerowaste", crop_size=crop, cache=str(cache_folder))
        cache = PixelCache(data.cache, data.cache_gb)
        samples = SegmentationSamples(
            open_split(data, data.train_split),
            train_transform(data, ModelConfig(class_names=ZEROWASTE_CLASSES)),
            seed=0,
            num_classes=len(ZEROWASTE_CLASSES),
            cache=cache,
        )
        rng = np.random.default_rng(0)
        rates: dict[str, list[float]] = {"plain PIL": [], "fanet, first epoch": [], "fanet, cached epoch": []}
        for number in range(rounds):
            rates["plain PIL"].append(_rate(lambda index: plain_crop(*pairs[index], data, rng), frames))
            cache.clear()
            for offset, name in enumerate(("fanet, first epoch", "fanet, cached epoch")):
                epoch = 2 * number + offset
                rates[name].append(_rate(partial(_sample, samples, epoch), frames))
        size = sum(image.stat().st_size for image, _ in pairs) / frames / 1e6
    return {"rates": rates, "frame_megabytes": round(size, 2), "frames": frames}


def plain_crop(
    image: Path, mask: Path, data: DataConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Decode, resize and crop as one does it first: PIL, every pixel of every frame in every epoch.

    The size is drawn as in fanet's pipeline. Returns uint8 (S, S, 3) and (S, S), less if the frame is.
    """
    ratio = rng.uniform(*data.ratio_range)
    limits = (int(data.scale[0] * ratio), int(data.scale[1] * ratio))
    with Image.open(image) as picture, Image.open(mask) as labels:
        height, width = keep_ratio_size(picture.height, picture.width, limits)
        picture_small = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        labels_small = labels.resize((width, height), Image.Resampling.NEAREST)
    top = int(rng.integers(0, max(height - data.crop_size, 0) + 1))
    left = int(rng.integers(0, max(width - data.crop_size, 0) + 1))
    window = (left, top, min(left + data.crop_size, width), min(top + data.crop_size, height))
    return np.array(picture_small.crop(window)), np.array(labels_small.crop(window))


def write_frames(root: Path, frames: int) -> list[tuple[Path, Path]]:
    """Textured frames of a photo's PNG size (3 to 4 MB) in the ZeroWaste-f layout, 85 % background."""
    pairs = []
    for folder in ("data", "sem_seg"):
        (root / "train" / folder).mkdir(parents=True)
    for number in range(frames):
        rng = np.random.default_rng(number)
        picture = sum(_noise(rng, cell, 3) * weight for cell, weight in TEXTURE)
        height_map = _noise(rng, 120, 1)
        levels = np.quantile(height_map, (0.85, 0.89, 0.94, 0.95))
        labels = np.digitize(height_map, levels).astype(np.uint8)
        name = f"01_frame_{number:06d}.PNG"
        pair = (root / "train" / "data" / name, root / "train" / "sem_seg" / name)
        pixels = np.clip(picture + 110 + 12 * labels[..., None], 0, 255).astype(np.uint8)
        for path, array in zip(pair, (pixels, labels), strict=True):
            path.write_bytes(cv2.imencode(".png", array)[1].tobytes())
        pairs.append(pair)
    return pairs


def _noise(rng: np.random.Generator, cell: int, channels: int) -> np.ndarray:
    """Normal noise on a grid of `cell` pixels, smoothly enlarged to (1080, 1920, channels)."""
    shape = (HEIGHT // cell + 2, WIDTH // cell + 2, channels)
    grid = rng.standard_normal(shape, dtype=np.float32)
    return cv2.resize(grid, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """As a loader worker runs: parallelism comes from workers."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _sample(samples: SegmentationSamples, epoch: int, index: int) -> dict[str, Any]:
    return samples[epoch, index]


def _rate(sample: Callable[[int], object], frames: int) -> float:
    began = time.perf_counter()
    for index in range(frames):
        sample(index)
    return frames / (time.perf_counter() - began)
