"""The training and test pipelines: image, sentence, box and mask to the square that the network takes.

Two forms. `official` is the authors' pipeline as their code computes it: boxes cut to whole pixels, "left" and
"right" swapped inside words, no crop where five words occur even inside others, a crop accepted when the box
centre's x lies beyond the region's top edge and its y beyond its left edge (so that a box can end up empty), boxes
scaled by a ratio that the rounded sides do not have. `default` corrects these: see `plvl.directions` for the
sentences, a crop always holds the whole box, and boxes are exact. Images and masks go the same way in both.

All randomness comes from torch's default CPU generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from plvl.config import DataConfig, ModelConfig
from plvl.directions import may_be_cropped, mirrored_sentence, official_may_crop, swapped_letters

Form = Literal["default", "official"]
OFFICIAL_SIDE = 448
"""The side of the square that the authors' sizes below are meant for; other squares take them in proportion."""
LONGEST = tuple(OFFICIAL_SIDE - 32 * step for step in range(7))
SHORTEST_BEFORE_CROP = (400, 500, 600)
CROP_SIDES = (384, 600)
JITTER = 0.4
JITTER_PROBABILITY = 0.8


@dataclass(frozen=True)
class Sample:
    """What the transforms work on."""

    image: Image.Image
    """RGB."""
    sentence: str
    box: np.ndarray | None = None
    """float64 (4,) x0, y0, x1, y1 in pixels of `image`."""
    mask: Image.Image | None = None
    """Mode L of the size of `image`, 0 and 1."""


def train_transform(data: DataConfig, model: ModelConfig) -> Callable[[Sample], dict[str, Any]]:
    """Training pipeline: Sample -> the tensors of `ToTensors`.

    Crop or not, longest side to one of seven lengths, colour jitter, flip; `Stretch` follows.
    """
    form, side = data.transform, model.image_size
    return v2.Compose(
        [
            *([CutToIntegers()] if form == "official" else []),
            RandomCrop(form, data.crop, side),
            RandomLongestSide(form, _in_proportion(LONGEST, side)),
            ColourJitter(),
            RandomFlip(form, data.flip),
            ToTensors(side),
        ]
    )


def test_transform(model: ModelConfig, form: Form = "default") -> Callable[[Sample], dict[str, Any]]:  # noqa: PT028
    """Test pipeline: Sample -> the tensors of `ToTensors`; `Stretch` follows.

    The longest side becomes S. `official` cuts the box to whole pixels and scales it as the authors do: the target of
    their evaluation.
    """
    side = model.image_size
    return v2.Compose(
        [
            *([CutToIntegers()] if form == "official" else []),
            RandomLongestSide(form, (side,)),
            ToTensors(side),
        ]
    )


test_transform.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks of its name


def prepare_image(image: Image.Image, model: ModelConfig) -> Tensor:
    """One image through the test pipeline; `stretch_on` follows.

    Args:
        image: RGB, upright.

    Returns:
        uint8 (3, h, w), the longest side S.
    """
    pixels: Tensor = test_transform(model)(Sample(image, ""))["image"]
    return pixels


class CutToIntegers:
    """How the official code reads a box: x, y, width and height cut to integers (of their flickr and referit lists the
    corners; here all sets are read alike); sentences in lower case."""

    def __call__(self, sample: Sample) -> Sample:
        box = sample.box
        if box is not None:
            left, top, width, height = np.trunc([box[0], box[1], *_exact(box[2:] - box[:2])])
            box = np.array([left, top, left + width, top + height])
        return replace(sample, sentence=sample.sentence.lower(), box=box)


class RandomCrop:
    """With probability `p`: shortest side to one of three lengths, then a crop with sides 384 to 600.

    default: only where the sentence allows it; a crop that holds the whole box, uniformly among these; none where
    the box is larger than the crop. official: the authors' rules, 20 tries, see the module.
    """

    tries = 20

    def __init__(self, form: Form, p: float, side: int) -> None:
        self.form, self.p = form, p
        self.shortest = _in_proportion(SHORTEST_BEFORE_CROP, side)
        self.sides = _in_proportion(CROP_SIDES, side)

    def __call__(self, sample: Sample) -> Sample:
        allowed = official_may_crop if self.form == "official" else may_be_cropped
        if not allowed(sample.sentence) or not _uniform(0, 1) < self.p:
            return sample
        scaled = resize(sample, _choice(self.shortest), longest=False, exact=self.form == "default")
        window = self._official(scaled) if self.form == "official" else self._around_box(scaled)
        if window is None:
            return scaled if self.form == "official" else sample
        return crop(scaled, *window)

    def _size(self, image: Image.Image) -> tuple[int, int]:
        low, high = self.sides
        width = _integer(min(low, image.width), min(image.width, high))
        return width, _integer(min(low, image.height), min(image.height, high))

    def _official(self, sample: Sample) -> tuple[int, int, int, int] | None:
        for _ in range(self.tries):
            width, height = self._size(sample.image)
            top = _integer(0, sample.image.height - height)
            left = _integer(0, sample.image.width - width)
            if sample.box is None:
                return left, top, width, height
            x, y = (sample.box[:2] + sample.box[2:]) / 2
            if x > top and y > left:
                return left, top, width, height
        return None

    def _around_box(self, sample: Sample) -> tuple[int, int, int, int] | None:
        size = self._size(sample.image)
        corner = []
        for axis in (0, 1):
            low, high = 0, sample.image.size[axis] - size[axis]
            if sample.box is not None:
                low = max(low, int(np.ceil(sample.box[axis + 2] - size[axis])))
                high = min(high, int(np.floor(sample.box[axis])))
            if low > high:
                return None
            corner.append(_integer(low, high))
        return corner[0], corner[1], *size


class RandomLongestSide:
    """Keep-ratio resize that makes the longest side one of `lengths`."""

    def __init__(self, form: Form, lengths: Sequence[int]) -> None:
        self.form, self.lengths = form, lengths

    def __call__(self, sample: Sample) -> Sample:
        length = self.lengths[0] if len(self.lengths) == 1 else _choice(self.lengths)
        return resize(sample, length, longest=True, exact=self.form == "default")


class ColourJitter:
    """With probability 0.8: brightness, contrast and saturation by factors in 0.6..1.4, in random order."""

    def __call__(self, sample: Sample) -> Sample:
        if not _uniform(0, 1) < JITTER_PROBABILITY:
            return sample
        adjust = v2.functional
        steps = [adjust.adjust_brightness, adjust.adjust_contrast, adjust.adjust_saturation]
        factors = [_uniform(1 - JITTER, 1 + JITTER) for _ in steps]
        image = sample.image
        for index in torch.randperm(len(steps)).tolist():
            image = steps[index](image, factors[index])
        return replace(sample, image=image)


class RandomFlip:
    """With probability `p`: left-right mirror of image, box, mask and sentence (default: where it can be)."""

    def __init__(self, form: Form, p: float) -> None:
        self.form, self.p = form, p

    def __call__(self, sample: Sample) -> Sample:
        if not _uniform(0, 1) < self.p:
            return sample
        swap = swapped_letters if self.form == "official" else mirrored_sentence
        sentence = swap(sample.sentence)
        return sample if sentence is None else replace(flip(sample), sentence=sentence)


class ToTensors:
    """A sample as it travels to the network's device: bytes, an eighth of what normalised squares take.

    Returns `image` uint8 (3, h, w), `sentence`, `box` float32 (4,) cx, cy, w, h as fractions of the image, `mask`
    uint8 (1, S, S) of 0 and 1, stretched to the square (nearest), and `has_box`, `has_mask` float32 scalars; a missing
    one is all zero.
    """

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, sample: Sample) -> dict[str, Any]:
        size = (self.side, self.side)
        mask, box = torch.zeros(1, *size, dtype=torch.uint8), torch.zeros(4)
        if sample.mask is not None:
            mask = torch.from_numpy(np.array(sample.mask))[None]
            mask = F.interpolate(mask[None], size, mode="nearest")[0]
        if sample.box is not None:
            x0, y0, x1, y1 = sample.box / np.tile(sample.image.size, 2)
            box = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dtype=torch.float32)
        return {
            "image": torch.from_numpy(np.array(sample.image)).permute(2, 0, 1),
            "sentence": sample.sentence,
            "box": box,
            "mask": mask,
            "has_box": torch.tensor(float(sample.box is not None)),
            "has_mask": torch.tensor(float(sample.mask is not None)),
        }


class Stretch(nn.Module):
    """Images as the network takes them: stretched to its square (bilinear, corners aligned) and normalised.

    What the stretch gives are no bytes, so it is done where the network computes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.side = side
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, 3, S, S) float32.

        Args:
            sizes: Height and width of each image, which lies at the upper left of its frame.
        """
        pixels, square = images.float().div_(255), (self.side, self.side)
        squares = [
            F.interpolate(one[None, :, :height, :width], square, mode="bilinear", align_corners=True)
            for one, (height, width) in zip(pixels, sizes, strict=True)
        ]
        return torch.cat(squares).sub_(self.mean).div_(self.std)


def stretch_on(device: torch.device, model: ModelConfig) -> Stretch:
    """The stretch of a network's images, kept on the device for the next call."""
    return _stretch_on(device, model.image_size, tuple(model.mean), tuple(model.std))


@lru_cache(maxsize=16)
def _stretch_on(device: torch.device, side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Stretch:
    return Stretch(side, mean, std).to(device)


def resize(sample: Sample, length: int, *, longest: bool, exact: bool) -> Sample:
    """Make the longest (or shortest) side `length` pixels, keeping the ratio of the sides up to rounding.

    Args:
        exact: scale the box as the rounded sides say; False: by length / side, as the authors do.
    """
    width, height = sample.image.size
    ratio = length / (max(width, height) if longest else min(width, height))
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    scale = np.array([size[0] / width, size[1] / height] if exact else [ratio, ratio])
    return replace(
        sample,
        image=sample.image.resize(size, Image.Resampling.BILINEAR),
        mask=sample.mask and sample.mask.resize(size, Image.Resampling.BILINEAR),
        box=None if sample.box is None else sample.box * np.tile(scale, 2),
    )


def crop(sample: Sample, left: int, top: int, width: int, height: int) -> Sample:
    """Cut a window out; the box is clamped to it."""
    window = (left, top, left + width, top + height)
    box = sample.box
    if box is not None:
        box = np.clip(box - np.tile([left, top], 2), 0, np.tile([width, height], 2))
    mask = sample.mask and sample.mask.crop(window)
    return replace(sample, image=sample.image.crop(window), mask=mask, box=box)


def flip(sample: Sample) -> Sample:
    """Mirror image, mask and box; the sentence is left alone."""
    box = sample.box
    if box is not None:
        width = sample.image.width
        box = np.array([width - box[2], box[1], width - box[0], box[3]])
    mirror = Image.Transpose.FLIP_LEFT_RIGHT
    mask = sample.mask and sample.mask.transpose(mirror)
    return replace(sample, image=sample.image.transpose(mirror), mask=mask, box=box)


def _exact(values: np.ndarray) -> np.ndarray:
    """Without the last bits that a subtraction leaves: 40.999999999999996 is 41 before it is cut."""
    return np.round(values, 6)


def _in_proportion(lengths: Sequence[int], side: int) -> tuple[int, ...]:
    return tuple(max(1, round(length * side / OFFICIAL_SIDE)) for length in lengths)


def _choice(values: Sequence[int]) -> int:
    return values[_integer(0, len(values) - 1)]


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), dtype=torch.float64).item()


def _integer(low: int, high: int) -> int:
    """Uniform over low, ..., high, both included."""
    return int(torch.randint(low, high + 1, ()).item())
