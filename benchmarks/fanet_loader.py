"""Training crops from 1920x1080 PNG frames: fanet's loader beside decode + resize + crop with PIL."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from benchmarks.loaders import rates, smooth_noise, textured
from fanet.cache import PixelCache
from fanet.config import ZEROWASTE_CLASSES, DataConfig, ModelConfig
from fanet.data import SegmentationSamples, open_split
from fanet.transforms import keep_ratio_size, train_transform

HEIGHT, WIDTH = 1080, 1920


def measure(frames: int, rounds: int, crop: int) -> dict[str, Any]:
    """Crops per second of one process on one thread, epoch by epoch, interleaved.

    Each round is an epoch with PIL, then one of fanet's pipeline on an empty cache and one on a full cache.
    fanet's also flips, distorts colours, looks at the classes of a crop and normalises; PIL's does not.

    Returns:
        {"rates": {name: [crops per second of each round]}, "frame_megabytes": mean size of a PNG frame}.
    """
    with tempfile.TemporaryDirectory() as temporary:
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
        epochs = {
            "plain PIL": lambda epoch, index: plain_crop(*pairs[index], data, rng),
            "fanet, first epoch": lambda epoch, index: samples[epoch, index],
            "fanet, cached epoch": lambda epoch, index: samples[epoch, index],
        }
        found = rates(epochs, frames, rounds, prepare=cache.clear)
        size = sum(image.stat().st_size for image, _ in pairs) / frames / 1e6
    return {"rates": found, "frame_megabytes": round(size, 2), "frames": frames}


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
        height_map = smooth_noise(np.random.default_rng([number, 1]), HEIGHT, WIDTH, 120, 1)
        levels = np.quantile(height_map, (0.85, 0.89, 0.94, 0.95))
        labels = np.digitize(height_map, levels).astype(np.uint8)
        name = f"01_frame_{number:06d}.PNG"
        pair = (root / "train" / "data" / name, root / "train" / "sem_seg" / name)
        picture = textured(number, HEIGHT, WIDTH) + 110 + 12 * labels[..., None]
        pixels = np.clip(picture, 0, 255).astype(np.uint8)
        for path, array in zip(pair, (pixels, labels), strict=True):
            path.write_bytes(cv2.imencode(".png", array)[1].tobytes())
        pairs.append(pair)
    return pairs
