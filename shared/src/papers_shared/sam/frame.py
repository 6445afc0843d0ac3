"""SAM's frame of reference: between an image and the square that the networks see.

As in Meta's programs. The first SAM and its kin: the longest side becomes `side` by Pillow's bilinear filter on
bytes, sizes rounded half up, so that x and y have ratios of their own; the rest of the square, right and below, is
zeros after the normalisation. From SAM 2 on both sides become `side`. Half a pixel is added to coordinates inside the
networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
PREPROCESSING = 2
"""Number of this preprocessing and of the form of embeddings, in the keys of those that are cached."""


class Preparation(NamedTuple):
    """How an image is brought into the square."""

    stretched: bool = False
    """Both sides fill the square; otherwise the image keeps its form and the rest is padding."""
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD


PADDED, STRETCHED = Preparation(), Preparation(stretched=True)


@dataclass(frozen=True)
class Frame:
    """Where an image lies in the square; sizes are (height, width) in pixels."""

    original: tuple[int, int]
    inner: tuple[int, int]
    side: int
    preparation: Preparation = PADDED

    @staticmethod
    def of(image: np.ndarray, side: int, preparation: Preparation = PADDED) -> Frame:
        height, width = image.shape[:2]
        if preparation.stretched:
            return Frame((height, width), (side, side), side, preparation)
        factor = side / max(height, width)
        return Frame(
            (height, width), (int(height * factor + 0.5), int(width * factor + 0.5)), side, preparation
        )

    def pixels(self, image: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 RGB -> float32 (3, side, side), normalised and padded."""
        resized = Image.fromarray(image).resize(self.inner[::-1], Image.Resampling.BILINEAR)
        values = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()
        mean, std = (
            torch.tensor(part).view(3, 1, 1) for part in (self.preparation.mean, self.preparation.std)
        )
        return F.pad((values - mean) / std, (0, self.side - self.inner[1], 0, self.side - self.inner[0]))

    def to_square(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) pixels x, y of the image -> those of the square."""
        return xy * (self.inner[1] / self.original[1], self.inner[0] / self.original[0])

    def logits(self, low_res: Tensor) -> Tensor:
        """(N, h, w) mask logits over the square -> (N, H, W) over the image; each step bilinear.

        Padding is cut off at the size of the square first; where there is none, one step suffices.
        """
        if self.preparation.stretched:
            return F.interpolate(low_res[None], self.original, mode="bilinear", align_corners=False)[0]
        square = F.interpolate(low_res[None], (self.side, self.side), mode="bilinear", align_corners=False)
        inner = square[..., : self.inner[0], : self.inner[1]]
        return F.interpolate(inner, self.original, mode="bilinear", align_corners=False)[0]
