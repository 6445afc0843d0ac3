"""Training samples of 640x480 JPEG pictures: plvl's loader beside decode + stretch with PIL."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.loaders import rates, write_picture
from plvl.config import DataConfig, ModelConfig
from plvl.data import GroundingSamples, open_split
from plvl.transforms import train_transform

HEIGHT, WIDTH = 480, 640


def measure(pictures: int, rounds: int, side: int) -> dict[str, Any]:
    """{"rates": {name: [samples per second of each round]}} of one process on one thread, epoch by epoch in turns.

    plvl's samples have box and mask and are augmented; PIL's are the picture stretched to the square.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = [root / f"{number:03d}.jpg" for number in range(pictures)]
        box, polygon = [160, 120, 420, 360], [160, 120, 420, 160, 380, 360, 200, 340]
        entries = []
        for number, path in enumerate(paths):
            write_picture(path, HEIGHT, WIDTH, number)
            entries.append({"image": path.name, "expression": "the man", "box": box, "mask": polygon})
        (root / "train.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        data, model = DataConfig(root=str(root)), ModelConfig(image_size=side)
        samples = GroundingSamples(open_split(data, "train"), train_transform(data, model), seed=0)
        epochs = {
            "plain PIL": lambda epoch, index: stretched(paths[index], side),
            "plvl": lambda epoch, index: samples[epoch, index],
        }
        return {"rates": rates(epochs, pictures, rounds), "pictures": pictures}


def stretched(path: Path, side: int) -> np.ndarray:
    """(side, side, 3) float32 in 0..1."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32) / 255
