"""The training and test pipelines of the official configuration, as torchvision v2 transforms.

They take tv_tensors: `Image` (3, H, W) uint8 RGB and `Mask` (H, W) uint8. The pixels are computed by OpenCV
(bilinear without antialiasing, 8-bit HSV), so that they equal mmsegmentation's. All randomness comes from
torch's default CPU generator. Each class can be used in a `v2.Compose` of one's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as PILImage
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from fanet.config import DataConfig, ModelConfig
from papers_shared.errors import UserError
from papers_shared.normalization import Normalization, value_table


def keep_ratio_size(height: int, width: int, scale: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the largest image of this shape whose long and short sides stay within `scale`."""
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def train_transform(data: DataConfig, model: ModelConfig) -> v2.Compose:
    """Training pipeline: (Image, Mask) -> (Image (3, h, w), Mask (h, w)), neither side above `crop_size`.

    Padding and normalisation follow: see `pad` and `normalization`.

    Raises:
        UserError: The network takes another number of channels than images have.
    """
    check_channels(model)
    steps: list[v2.Transform] = [
        RandomScaleResize(data.scale, data.ratio_range),
        LabelAwareCrop(data.crop_size, data.cat_max_ratio, data.ignore_index),
        RandomFlip(data.flip),
    ]
    if data.photometric:
        steps.append(PhotometricDistortion())
    return v2.Compose(steps)


def pad(values: Tensor, size: int, fill: int) -> Tensor:
    """(..., h, w) at the upper left of (..., size, size), with `fill` right of it and below."""
    height, width = values.shape[-2:]
    return F.pad(values, (0, size - width, 0, size - height), value=fill)


def normalization(model: ModelConfig) -> Normalization:
    """What the bytes of images become where the network computes: the numbers of `normalized`, or for a classifier
    those of torchvision's ToTensor and Normalize, which divide in float32.
    """
    if model.task == "segment":
        return Normalization(value_table(model.mean, model.std))
    levels = torch.arange(256, dtype=torch.float32).div(255).expand(model.in_chans, 1, 256)
    return Normalization(v2.functional.normalize(levels, *_timm_statistics(model)).flatten(1).numpy())


def check_channels(model: ModelConfig) -> None:
    """Refuse a network that takes other images than RGB.

    Raises:
        UserError: `--model.in-chans` is not 3.
    """
    if model.in_chans != 3:
        raise UserError(
            f"--model.in-chans is {model.in_chans}: give 3, as images are read as RGB (grey ones too)"
        )


def test_transform(model: ModelConfig) -> v2.Compose:
    """Test pipeline: Image -> float32 Image, normalised. Masks keep their size: they are scored at it."""
    return v2.Compose([TestResize(model.test_scale, model.test_divisor), Normalize(model.mean, model.std)])


def prepare_image(
    image: PILImage.Image | np.ndarray, model: ModelConfig, ratio: float = 1.0, flip: bool = False
) -> Tensor:
    """One image through the test pipeline.

    Args:
        image: Pillow image, or (H, W, 3) uint8 RGB.
        ratio: multiplies the limits of the keep-ratio resize (multi-scale testing).
        flip: mirror it left to right, after the resizes.

    Returns:
        float32 (1, 3, h, w), normalised; both sides are multiples of `model.test_divisor`.

    Raises:
        UserError: The network takes another number of channels.
    """
    check_channels(model)
    pixels = np.asarray(image.convert("RGB") if isinstance(image, PILImage.Image) else image)
    resized = TestResize(model.test_scale, model.test_divisor, ratio).resize(pixels)
    if flip:
        resized = np.ascontiguousarray(resized[:, ::-1])
    return normalized(resized, model.mean, model.std)[None]


def classification_transform(data: DataConfig, model: ModelConfig, train: bool) -> Callable[..., Tensor]:
    """Pillow image -> (3, S, S), S = `crop_size`; timm's ImageNet pipelines.

    Training: random resized crop, flip, RandAugment (magnitude 9, std 0.5), random erasing 0.25; float32, normalised,
    since erasing lays noise on the image that no byte can hold.
    Evaluation: shorter side to S / 0.875 (256 for 224), bicubic, centre crop; uint8, for `normalization`.
    """
    from timm.data import create_transform

    check_channels(model)
    common: dict[str, Any] = {
        "input_size": (model.in_chans, data.crop_size, data.crop_size),
        "interpolation": "bicubic",
    }
    if not train:
        return create_transform(**common, is_training=False, crop_pct=0.875, normalize=False)
    mean, std = _timm_statistics(model)
    return create_transform(
        **common,
        mean=mean,
        std=std,
        is_training=True,
        hflip=data.flip,
        auto_augment="rand-m9-mstd0.5-inc1",
        re_prob=0.25,
        re_mode="pixel",
    )


def _timm_statistics(model: ModelConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of images in 0..1."""
    return tuple(value / 255 for value in model.mean), tuple(value / 255 for value in model.std)


class _Pair(v2.Transform):
    """A transform of images and masks; other inputs pass."""

    _transformed_types: tuple[type, ...] = (tv_tensors.Image, tv_tensors.Mask)


class RandomScaleResize(_Pair):
    """Keep-ratio resize to `scale` times a ratio drawn uniformly; images bilinear, masks nearest.

    The limits of the long and the short side are truncated to integers after the multiplication.
    """

    def __init__(self, scale: tuple[int, int], ratio_range: tuple[float, float] = (1.0, 1.0)) -> None:
        super().__init__()
        self.scale, self.ratio_range = scale, ratio_range

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        ratio = _uniform(*self.ratio_range)
        limits = (int(self.scale[0] * ratio), int(self.scale[1] * ratio))
        height, width = v2.functional.get_size(flat_inputs[0])
        return {"size": keep_ratio_size(height, width, limits)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return _like(inpt, _resize(_view(inpt), params["size"], nearest=isinstance(inpt, tv_tensors.Mask)))


class TestResize(_Pair):
    """Keep-ratio resize, then a second bilinear resize up to multiples of `divisor`; masks are left alone."""

    _transformed_types = (tv_tensors.Image,)
    __test__ = False

    def __init__(self, scale: tuple[int, int], divisor: int = 32, ratio: float = 1.0) -> None:
        super().__init__()
        self.scale = (int(scale[0] * ratio), int(scale[1] * ratio))
        self.divisor = divisor

    def resize(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (h, w, 3) uint8."""
        height, width = keep_ratio_size(pixels.shape[0], pixels.shape[1], self.scale)
        pixels = _resize(pixels, (height, width))
        return _resize(pixels, (self._aligned(height), self._aligned(width)))

    def _aligned(self, side: int) -> int:
        return -(-side // self.divisor) * self.divisor

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return _like(inpt, self.resize(_view(inpt)))


class LabelAwareCrop(_Pair):
    """Crop of `size` x `size` (less where the image is smaller) in which no class fills too much.

    A crop is drawn anew, up to 10 times, until it holds more than one class and the largest share of its
    labelled pixels is below `cat_max_ratio`; the eleventh draw is taken unchecked. Without a mask the first
    draw is taken.
    """

    draws = 10

    def __init__(self, size: int, cat_max_ratio: float = 1.0, ignore_index: int = 255) -> None:
        super().__init__()
        self.size, self.cat_max_ratio, self.ignore_index = size, cat_max_ratio, ignore_index

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = v2.functional.get_size(flat_inputs[0])
        mask = next((_view(inpt) for inpt in flat_inputs if isinstance(inpt, tv_tensors.Mask)), None)
        window = self._draw(height, width)
        if mask is not None and self.cat_max_ratio < 1:
            for _ in range(self.draws):
                if self._mixed(mask[window]):
                    break
                window = self._draw(height, width)
        return {"window": window}

    def _draw(self, height: int, width: int) -> tuple[slice, slice]:
        top = _integer(0, max(height - self.size, 0))
        left = _integer(0, max(width - self.size, 0))
        return slice(top, top + self.size), slice(left, left + self.size)

    def _mixed(self, labels: np.ndarray) -> bool:
        counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).reshape(-1)
        if 0 <= self.ignore_index < 256:
            counts[self.ignore_index] = 0
        total = counts.sum()
        return bool((counts > 0).sum() > 1 and counts.max() / total < self.cat_max_ratio)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return _like(inpt, _view(inpt)[params["window"]])


class RandomFlip(_Pair):
    """Left-right mirror with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"flip": _uniform(0.0, 1.0) < self.p}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return _like(inpt, cv2.flip(_view(inpt), 1)) if params["flip"] else inpt


class PhotometricDistortion(_Pair):
    """Brightness, contrast, saturation and hue, each with probability 1/2, on uint8 images.

    Brightness + U(-b, b); contrast * U(c) before or after the colour steps (a fair coin); saturation * U(s)
    in OpenCV's 8-bit HSV; hue + an integer in [-h, h) modulo 180. Steps clip to 0..255 and truncate to uint8.
    """

    _transformed_types = (tv_tensors.Image,)

    def __init__(
        self,
        brightness: float = 32.0,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: int = 18,
    ) -> None:
        super().__init__()
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {
            "brightness": _uniform(-self.brightness, self.brightness) if _coin() else None,
            "contrast_first": _coin(),
            "contrast": _uniform(*self.contrast) if _coin() else None,
            "saturation": _uniform(*self.saturation) if _coin() else None,
            "hue": _integer(-self.hue, self.hue - 1) if _coin() else None,
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        pixels = _view(inpt)
        if params["brightness"] is not None:
            pixels = cv2.LUT(pixels, _linear(1.0, params["brightness"]))
        contrast = None if params["contrast"] is None else _linear(params["contrast"], 0.0)
        if contrast is not None and params["contrast_first"]:
            pixels = cv2.LUT(pixels, contrast)
        if params["saturation"] is not None:
            pixels = _in_hsv(pixels, 1, _linear(params["saturation"], 0.0))
        if params["hue"] is not None:
            pixels = _in_hsv(pixels, 0, ((np.arange(256) + params["hue"]) % 180).astype(np.uint8))
        if contrast is not None and not params["contrast_first"]:
            pixels = cv2.LUT(pixels, contrast)
        return _like(inpt, pixels)


class Normalize(_Pair):
    """(x - mean) / std on 0..255: uint8 Image -> float32 Image."""

    _transformed_types = (tv_tensors.Image,)

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return tv_tensors.Image(normalized(_view(inpt), self.mean, self.std))


def normalized(pixels: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(H, W, 3) uint8 -> contiguous float32 (3, H, W): (x - mean) / std, by table."""
    planes = np.empty((len(mean), *pixels.shape[:2]), np.float32)
    for channel, table in enumerate(value_table(mean, std)):
        planes[channel] = cv2.LUT(np.ascontiguousarray(pixels[..., channel]), table)
    return torch.from_numpy(planes)


def _linear(factor: float, offset: float) -> np.ndarray:
    """Table of clip(x * factor + offset) truncated to uint8, computed in float32."""
    line = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(offset)
    return np.clip(line, 0, 255).astype(np.uint8)


def _in_hsv(pixels: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    """RGB -> 8-bit HSV, one channel through `table`, and back."""
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    identity = np.arange(256, dtype=np.uint8)
    tables = [table if index == channel else identity for index in range(3)]
    return cv2.cvtColor(cv2.LUT(hsv, np.stack(tables, axis=-1)[None]), cv2.COLOR_HSV2RGB)


def _resize(pixels: np.ndarray, size: tuple[int, int], nearest: bool = False) -> np.ndarray:
    interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return cv2.resize(pixels, (size[1], size[0]), interpolation=interpolation)


def _view(inpt: Tensor) -> np.ndarray:
    """The pixels of a tv_tensor as OpenCV has them, (H, W, 3) or (H, W), without a copy."""
    plain = inpt.as_subclass(Tensor)
    return (plain if plain.ndim == 2 else plain.permute(1, 2, 0)).numpy()


def _like(inpt: Tensor, pixels: np.ndarray) -> Tensor:
    """`pixels` as a tv_tensor of the kind of `inpt`."""
    plain = torch.from_numpy(pixels)
    return tv_tensors.wrap(plain if plain.ndim == 2 else plain.permute(2, 0, 1), like=inpt)


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), dtype=torch.float64).item()


def _integer(low: int, high: int) -> int:
    """Uniform over low, ..., high, both included."""
    return int(torch.randint(low, high + 1, ()).item())


def _coin() -> bool:
    return _integer(0, 1) == 1
