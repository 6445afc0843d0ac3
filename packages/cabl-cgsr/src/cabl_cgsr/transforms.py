"""TransCAM's augmentation, with which the paper's settings agree.

Images are (H, W, 3) uint8 RGB. Resizing is Pillow's bicubic, which smooths when it shrinks. All randomness
comes from torch's default CPU generator.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from cabl_cgsr.config import DataConfig, ModelConfig
from papers_shared.normalization import Normalization, value_table


def train_transform(data: DataConfig) -> Callable[[np.ndarray], tuple[Tensor, Tensor]]:
    """(H, W, 3) uint8 -> (3, S, S) uint8, S = `crop_size`, and (4,) where the image lies in it.

    Resize to a long side drawn uniformly from `long_side` ((0, 0): keep the size), mirror, colour jitter, crop at
    random; what is smaller is laid at a random position. `normalization` follows.
    """
    colours = v2.ColorJitter(*data.jitter) if any(data.jitter) else None

    def transform(pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        image = Image.fromarray(pixels)
        if data.long_side[1]:
            image = resize_long_side(image, _integer(*data.long_side))
        if _uniform() < data.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if colours is not None:
            image = colours(image)
        return random_crop(torch.from_numpy(np.array(image)).permute(2, 0, 1), data.crop_size)

    return transform


def normalization(model: ModelConfig) -> Normalization:
    """What the bytes of images become where the network computes: (x - mean) / std on 0..255, in float32."""
    return Normalization(value_table(model.mean, model.std, np.float32))


def resize_long_side(image: Image.Image, long_side: int) -> Image.Image:
    """Bicubic, aspect ratio kept."""
    factor = long_side / max(image.size)
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def random_crop(image: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(C, H, W) -> (C, size, size): a window at a random position, along a short side the image on zeros.

    Returns:
        The window, and top, left, bottom and right of the image in it.
    """
    crop = image.new_zeros((image.shape[0], size, size))
    source, target = [], []
    for side in image.shape[-2:]:
        offset = _integer(0, abs(side - size))
        length = min(side, size)
        source.append(slice(offset, offset + length) if side > size else slice(0, length))
        target.append(slice(0, length) if side > size else slice(offset, offset + length))
    crop[:, target[0], target[1]] = image[:, source[0], source[1]]
    return crop, torch.tensor([target[0].start, target[1].start, target[0].stop, target[1].stop])


def _uniform() -> float:
    return torch.rand((), dtype=torch.float64).item()


def _integer(low: int, high: int) -> int:
    """Uniform over low, ..., high, both included."""
    return int(torch.randint(low, high + 1, ()).item())
