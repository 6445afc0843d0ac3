"""A tiny SAM with the entry names of Meta's checkpoints and weights decided by those names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from named_noise import noise
from safetensors.torch import load_file

FOLDER = Path(__file__).with_name("golden")
GOLDEN: dict[str, Any] = json.loads((FOLDER / "sam.json").read_text())
TENSORS = load_file(FOLDER / "sam.safetensors")
HEADS: int = GOLDEN["config"]["decoder_num_heads"]
PROMPTS = {
    "box": {"box": GOLDEN["prompts"]["box_xyxy"]},
    "positive_point": {
        "points": GOLDEN["prompts"]["points_xy"][:1],
        "labels": GOLDEN["prompts"]["labels"][:1],
    },
    "two_points": {"points": GOLDEN["prompts"]["points_xy"], "labels": GOLDEN["prompts"]["labels"]},
}
PROMPTS["box_two_points"] = PROMPTS["box"] | PROMPTS["two_points"]


def state_dict() -> dict[str, torch.Tensor]:
    """Weights of two or more dimensions scaled by their fan-in, norms near 1, the rest small."""
    state = {}
    for name, (shape, _) in GOLDEN["names"].items():
        unit = noise(name, tuple(shape))
        if len(shape) >= 2:
            unit = unit * np.sqrt(3.0 / np.prod(shape[1:]))
        else:
            unit = 1 + 0.1 * unit if name.endswith(".weight") else 0.1 * unit
        state[name] = torch.from_numpy(np.ascontiguousarray(unit)).float()
    return state


def checkpoint(folder: Path) -> Path:
    """A file in the format of `sam_vit_b_01ec64.pth`."""
    path = folder / "sam_tiny.pth"
    torch.save(state_dict(), path)
    return path


def image() -> np.ndarray:
    """(120, 200, 3) uint8."""
    wave = noise("cabl_cgsr.sam.image", (120, 200, 3))
    smooth = cv2.blur(wave, (7, 7), borderType=cv2.BORDER_REPLICATE)
    return np.clip((4 * smooth + 1) * 127.5, 0, 255).astype(np.uint8)


def sliced(name: str, ours: np.ndarray) -> np.ndarray:
    """The part of a tensor that is stored under `name`."""
    text = GOLDEN["slices"].get(name)
    if text is None:
        return ours
    parts = [part.strip().split(":") for part in text.strip("[]").split(",")]
    return ours[tuple(slice(*(int(n) if n else None for n in part)) for part in parts)]
