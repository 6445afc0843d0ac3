"""Training samples of 384x256 JPEG pictures: cabl-cgsr's loader beside decode + resize + crop with PIL."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.loaders import rates, write_picture
from cabl_cgsr.config import DataConfig, ModelConfig
from cabl_cgsr.data import LabelSamples, open_split
from cabl_cgsr.transforms import resize_long_side, train_transform

HEIGHT, WIDTH = 256, 384


def measure(pictures: int, rounds: int, side: int) -> dict[str, Any]:
    """{"rates": {name: [samples per second of each round]}} of one process on one thread, epoch by epoch in turns.

    cabl-cgsr's samples are also mirrored, jittered in colour and normalised; PIL's are not.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = [
            root / ("manipulated" if number % 2 else "authentic") / f"{number:03d}.jpg"
            for number in range(pictures)
        ]
        for number, path in enumerate(paths):
            write_picture(path, HEIGHT, WIDTH, number)
        data = DataConfig(root=str(root), layout="folders", crop_size=side, val_share=2 / pictures)
        rows = open_split(data, "train")
        samples = LabelSamples(rows, train_transform(data, ModelConfig()), seed=0)
        rng = np.random.default_rng(0)
        epochs = {
            "plain PIL": lambda epoch, index: plain_crop(paths[index], data, rng),
            "cabl-cgsr": lambda epoch, index: samples[epoch, index],
        }
        return {"rates": rates(epochs, len(rows), rounds), "pictures": len(rows)}


def plain_crop(path: Path, data: DataConfig, rng: np.random.Generator) -> np.ndarray:
    """(S, S, 3) uint8: a long side drawn as in cabl-cgsr's pipeline, a random window, the rest zeros."""
    with Image.open(path) as picture:
        small = np.asarray(
            resize_long_side(picture.convert("RGB"), int(rng.integers(*data.long_side, endpoint=True)))
        )
    crop, side = np.zeros((data.crop_size, data.crop_size, 3), np.uint8), data.crop_size
    top, left = (int(rng.integers(0, max(length - side, 0) + 1)) for length in small.shape[:2])
    window = small[top : top + side, left : left + side]
    crop[: window.shape[0], : window.shape[1]] = window
    return crop
