"""Small pictures with and without a noisy patch, and an untrained small localizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cabl_cgsr.config import CamConfig, ModelConfig
from cabl_cgsr.modeling.localizer import Localizer
from papers_shared.runs import forked_rng


def write_pictures(root: Path, number: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> Path:
    """`authentic/`, `manipulated/` and `masks/`: gradients, half of them with a patch of noise."""
    generator = np.random.default_rng(seed)
    height, width = size
    for folder in ("authentic", "manipulated", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(number):
        ramp = np.linspace(40, 200, width)[None, :, None] * generator.uniform(0.5, 1, 3)
        picture = np.repeat(ramp, height, axis=0) + generator.normal(0, 2, (height, width, 3))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / f"authentic/a{index:02d}.png")
        top, left = generator.integers(4, height // 2), generator.integers(4, width // 2)
        mask = np.zeros(size, np.uint8)
        mask[top : top + height // 3, left : left + width // 3] = 255
        noisy = picture + generator.normal(0, 60, picture.shape)
        pasted = np.where(mask[..., None] > 0, noisy, picture)
        Image.fromarray(pasted.clip(0, 255).astype(np.uint8)).save(root / f"manipulated/m{index:02d}.png")
        Image.fromarray(mask).save(root / f"masks/m{index:02d}.png")
    return root


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 6)


@pytest.fixture(scope="session")
def small_config() -> ModelConfig:
    return ModelConfig(backbone="test_conformer", drop_path_rate=0.2, cam=CamConfig(sizes=(32, 48)))


@pytest.fixture(scope="session")
def localizer(small_config: ModelConfig) -> Localizer:
    """Untrained, on maps with some structure: batch norm has seen noise."""
    with forked_rng(0):
        model = Localizer.from_config(small_config)
        model.train()
        with torch.no_grad():
            for _ in range(3):
                model(torch.randn(4, 3, 48, 48))
    return model.eval()


@pytest.fixture(scope="session")
def model_folder(localizer: Localizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return localizer.save_pretrained(tmp_path_factory.mktemp("models") / "small")
