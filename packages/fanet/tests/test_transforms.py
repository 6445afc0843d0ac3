"""The pipelines against stored tensors of the official one, and against plain transcriptions of its rules."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2

from fanet import transforms
from fanet.config import DataConfig, ModelConfig

GOLDENS = load_file(Path(__file__).parent / "golden" / "pipeline.safetensors")


def _noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The deterministic image that the goldens were made from."""
    phase = (zlib.crc32(name.encode()) % 100_003) * 0.078233
    wave = np.sin(np.arange(np.prod(shape), dtype=np.float64) * 12.9898 + phase) * 43758.5453
    return (2.0 * (wave - np.floor(wave)) - 1.0).reshape(shape)


def _pair(rng: np.random.Generator, height: int, width: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    labels = rng.integers(0, 5, (height, width), dtype=np.uint8)
    return tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1)), tv_tensors.Mask(
        torch.from_numpy(labels)
    )


@pytest.mark.parametrize("case", sorted(GOLDENS))
def test_the_test_pipeline_gives_the_official_tensors(case: str) -> None:
    height, width = map(int, case.split("x"))
    pixels = np.floor((_noise(f"fanet/image/{case}", (height, width, 3)) + 1) * 127.5).astype(np.uint8)
    prepared = transforms.prepare_image(pixels, ModelConfig())
    assert torch.equal(prepared, transforms.prepare_image(Image.fromarray(pixels), ModelConfig()))
    torch.testing.assert_close(prepared[0, :, ::16, ::16], GOLDENS[case], rtol=0, atol=2e-6)
    composed = transforms.test_transform(ModelConfig())(
        tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
    )
    assert torch.equal(composed.as_subclass(torch.Tensor), prepared[0])


@pytest.mark.parametrize(
    ("size", "ratio", "expected"),
    [
        ((1080, 1920), 1.0, (512, 928)),
        ((1200, 1600), 1.0, (512, 704)),
        ((400, 1700), 1.0, (512, 2048)),
        ((1080, 1920), 0.5, (256, 480)),
    ],
)
def test_sizes_of_the_test_pipeline(size: tuple[int, int], ratio: float, expected: tuple[int, int]) -> None:
    prepared = transforms.prepare_image(np.zeros((*size, 3), np.uint8), ModelConfig(), ratio=ratio)
    assert prepared.shape == (1, 3, *expected)


def test_flip_of_the_test_pipeline_mirrors_the_input() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    plain, flipped = (transforms.prepare_image(pixels, ModelConfig(), flip=flip) for flip in (False, True))
    assert torch.equal(plain.flip(-1), flipped)


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, (256, 455)), (1.0, (512, 910)), (1.999, (1023, 1819))])
def test_training_resize_truncates_the_limits(ratio: float, expected: tuple[int, int]) -> None:
    image, mask = (
        tv_tensors.Image(torch.zeros(3, 1080, 1920, dtype=torch.uint8)),
        tv_tensors.Mask(
            torch.arange(1920, dtype=torch.int64).remainder(5).to(torch.uint8).expand(1080, 1920).contiguous()
        ),
    )
    resized, labels = transforms.RandomScaleResize((2048, 512), (ratio, ratio))(image, mask)
    assert resized.shape[-2:] == labels.shape == expected
    columns = np.floor(np.arange(expected[1]) * (1920 / expected[1])).astype(int)
    assert torch.equal(labels[0].as_subclass(torch.Tensor), mask[0].as_subclass(torch.Tensor)[columns])


def test_photometric_steps_equal_the_plain_formulas() -> None:
    image, _ = _pair(np.random.default_rng(0), 33, 47)
    distortion = transforms.PhotometricDistortion()
    bgr = np.ascontiguousarray(image.as_subclass(torch.Tensor).permute(1, 2, 0).numpy()[..., ::-1])
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        params = distortion.make_params([image])
        seen |= {name for name in params if params[name] is not None}
        expected = _mmseg_distortion(bgr, params)
        result = distortion.transform(image, params).permute(1, 2, 0).numpy()[..., ::-1]
        np.testing.assert_array_equal(result, expected)
    assert seen == {"brightness", "contrast", "contrast_first", "saturation", "hue"}


def _mmseg_distortion(bgr: np.ndarray, params: dict) -> np.ndarray:
    """The notes' rules, pixel by pixel on BGR."""

    def convert(pixels: np.ndarray, alpha: float = 1.0, beta: float = 0.0) -> np.ndarray:
        return np.clip(pixels.astype(np.float32) * np.float32(alpha) + np.float32(beta), 0, 255).astype(
            np.uint8
        )

    if params["brightness"] is not None:
        bgr = convert(bgr, beta=params["brightness"])
    if params["contrast"] is not None and params["contrast_first"]:
        bgr = convert(bgr, alpha=params["contrast"])
    if params["saturation"] is not None:
        hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
        hsv[..., 1] = convert(hsv[..., 1], alpha=params["saturation"])
        bgr = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if params["hue"] is not None:
        hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + params["hue"]) % 180
        bgr = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if params["contrast"] is not None and not params["contrast_first"]:
        bgr = convert(bgr, alpha=params["contrast"])
    return bgr


@pytest.mark.parametrize(
    ("labels", "draws"), [("mixed", 1), ("one class", 11), ("ignored but one class", 11)]
)
def test_crop_is_drawn_again_up_to_ten_times(
    labels: str, draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.zeros(64, 64, dtype=torch.uint8)
    if labels == "mixed":
        values[::2] = 1
    elif labels == "ignored but one class":
        values[::2] = 255
    crop = transforms.LabelAwareCrop(32, 0.75)
    windows, draw = [], crop._draw
    monkeypatch.setattr(crop, "_draw", lambda *size: windows.append(draw(*size)) or windows[-1])
    params = crop.make_params([tv_tensors.Mask(values)])
    assert len(windows) == draws
    assert params["window"] == windows[-1]


def test_crop_refuses_a_window_of_75_percent() -> None:
    values = torch.zeros(8, 8, dtype=torch.uint8)
    values[:2] = 1
    assert not transforms.LabelAwareCrop(8, 0.75)._mixed(values.numpy())
    values[2, 0] = 1
    assert transforms.LabelAwareCrop(8, 0.75)._mixed(values.numpy())


def test_draws_come_from_torchs_default_generator_only() -> None:
    pair = _pair(np.random.default_rng(2), 120, 200)
    transform = v2.Compose(
        [transforms.train_transform(DataConfig(crop_size=64, scale=(256, 96)), ModelConfig())]
    )
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        results.append(transform({"image": pair[0], "labels": pair[1]}))
        np.random.default_rng().random()
    assert torch.equal(results[0]["image"], results[1]["image"])
    assert torch.equal(results[0]["labels"], results[1]["labels"])
    assert not torch.equal(transform(*pair)[0], results[0]["image"])


def test_flip_moves_image_and_mask_together() -> None:
    image, mask = _pair(np.random.default_rng(3), 5, 8)
    flipped = transforms.RandomFlip(1.0)(image, mask)
    assert torch.equal(flipped[0], image.flip(-1))
    assert torch.equal(flipped[1], mask.flip(-1))


@pytest.mark.parametrize("train", [True, False])
def test_classification_transform(train: bool) -> None:
    data = DataConfig(crop_size=224)
    image = Image.fromarray(np.random.default_rng(4).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    transform = transforms.classification_transform(data, ModelConfig(task="classify"), train)
    assert transform(image).shape == (3, 224, 224)
    names = [type(step).__name__ for step in transform.transforms]
    assert ("RandAugment" in names and "RandomErasing" in names) == train
    if not train:
        assert transform(image).dtype == torch.uint8
        assert transform.transforms[0].size == 256


def test_bytes_become_the_same_numbers_on_the_device_as_in_the_pipelines_of_floats() -> None:
    levels = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, -1)
    travelled = torch.from_numpy(levels.transpose(2, 0, 1))[None]
    model = ModelConfig()
    assert torch.equal(
        transforms.normalization(model)(travelled)[0], transforms.normalized(levels, model.mean, model.std)
    )
    statistics = [[value / 255 for value in part] for part in (model.mean, model.std)]
    timms = v1.Compose([v1.ToTensor(), v1.Normalize(*statistics)])
    assert torch.equal(transforms.normalization(ModelConfig(task="classify"))(travelled)[0], timms(levels))
