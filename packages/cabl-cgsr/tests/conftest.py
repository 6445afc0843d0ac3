"""Small images with and without a noisy patch, and an untrained small localizer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from calibrated_localizer import calibrated
from PIL import Image

from cabl_cgsr.config import CamConfig, ModelConfig
from cabl_cgsr.modeling.localizer import Localizer

os.environ["PAPERS_UNTRAINED"] = "1"  # most networks here are drawn from a seed, in subprocesses too


def write_images(root: Path, number: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> Path:
    """`authentic/`, `manipulated/` and `masks/`: gradients, half of them with a patch of noise."""
    generator = np.random.default_rng(seed)
    height, width = size
    for folder in ("authentic", "manipulated", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(number):
        ramp = np.linspace(40, 200, width)[None, :, None] * generator.uniform(0.5, 1, 3)
        image = np.repeat(ramp, height, axis=0) + generator.normal(0, 2, (height, width, 3))
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / f"authentic/a{index:02d}.png")
        top, left = generator.integers(4, height // 2), generator.integers(4, width // 2)
        mask = np.zeros(size, np.uint8)
        mask[top : top + height // 3, left : left + width // 3] = 255
        noisy = image + generator.normal(0, 60, image.shape)
        pasted = np.where(mask[..., None] > 0, noisy, image)
        Image.fromarray(pasted.clip(0, 255).astype(np.uint8)).save(root / f"manipulated/m{index:02d}.png")
        Image.fromarray(mask).save(root / f"masks/m{index:02d}.png")
    return root


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's cache folder is left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def image_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), 6)


@pytest.fixture(scope="session")
def small_config() -> ModelConfig:
    return ModelConfig(backbone="test_conformer", drop_path_rate=0.2, cam=CamConfig(sizes=(32, 48)))


@pytest.fixture(scope="session")
def localizer(small_config: ModelConfig) -> Localizer:
    return calibrated(small_config)


@pytest.fixture(scope="session")
def model_folder(localizer: Localizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return localizer.save_pretrained(tmp_path_factory.mktemp("models") / "small")
