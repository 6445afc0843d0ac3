"""The pipelines against stored results of the authors' one, and the rules that the default form keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from papers_shared.seeding import forked_rng
from plvl import transforms
from plvl.config import DataConfig, ModelConfig
from plvl.data.masks import decode_shape
from plvl.transforms import Sample

GOLDEN = Path(__file__).parent / "golden"
FACTS: dict[str, Any] = json.loads((GOLDEN / "data.json").read_text())
TENSORS = load_file(GOLDEN / "data.safetensors")
SMALL = ModelConfig(image_size=64)


def _wave(width: int, height: int, phase: float) -> Image.Image:
    """The deterministic image that the goldens were made from."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    wave = np.sin(0.031 * x * (c + 1) + 0.017 * y * (3 - c) + phase)
    return Image.fromarray(np.floor(127.5 + 127 * wave).astype(np.uint8))


def _square(result: dict[str, Any], model: ModelConfig) -> torch.Tensor:
    """What the network takes."""
    pixels = result["image"]
    assert pixels.dtype == result["mask"].dtype == torch.uint8
    return transforms.stretch_on(torch.device("cpu"), model)(
        pixels[None], [(pixels.shape[1], pixels.shape[2])]
    )[0]


def _golden_sample(case: dict[str, Any]) -> Sample:
    image = case["picture"]
    left, top, width, height, *polygons = case["entry"]["box_and_polygons"]
    image = _wave(image["width"], image["height"], image["phase"])
    mask = decode_shape(polygons, image.height, image.width, "golden")
    assert mask is not None
    assert mask.sum() == case["result"]["polygon_pixels_in_the_original"]
    return Sample(
        image,
        case["entry"]["text"],
        np.array([left, top, left + width, top + height]),
        Image.fromarray(mask.view(np.uint8)),
    )


@pytest.mark.parametrize("number", [0, 1])
def test_the_test_pipeline_gives_the_official_tensors(number: int) -> None:
    case = FACTS["samples"][number]
    result = transforms.test_transform(ModelConfig(), "official")(_golden_sample(case))
    expected, name, image = case["result"], f"sample{number}", _square(result, ModelConfig())
    torch.testing.assert_close(image[:, ::16, ::16], TENSORS[f"{name}.image"], rtol=0, atol=3e-6)
    crop = image[:, 200:212, 200:212]
    torch.testing.assert_close(crop, TENSORS[f"{name}.image_crop"], rtol=0, atol=3e-6)
    np.testing.assert_allclose(image.mean((1, 2)), expected["image_mean"], atol=1e-5)
    np.testing.assert_allclose(result["box"], expected["box"], atol=2e-7)
    assert torch.equal(result["mask"][0, ::8, ::8].byte(), TENSORS[f"{name}.mask"])
    assert result["mask"].sum() == expected["mask_pixels"]
    rows, columns = torch.nonzero(result["mask"][0], as_tuple=True)
    bounds = [columns.min(), rows.min(), columns.max(), rows.max()]
    assert [int(value) for value in bounds] == expected["mask_bounds_xyxy"]
    assert result["sentence"] == case["entry"]["text"].lower()


def test_the_default_box_is_exact_and_the_image_the_same() -> None:
    sample = _golden_sample(FACTS["samples"][1])
    result = transforms.test_transform(ModelConfig())(sample)
    official = transforms.test_transform(ModelConfig(), "official")(sample)
    assert torch.equal(result["image"], official["image"])
    assert torch.equal(result["mask"], official["mask"])
    assert sample.box is not None
    x0, y0, x1, y1 = sample.box / [333, 500, 333, 500]
    expected = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
    np.testing.assert_allclose(result["box"], expected, atol=1e-7)
    assert result["sentence"] == sample.sentence
    assert torch.equal(transforms.prepare_image(sample.image, ModelConfig()), result["image"])


@pytest.mark.parametrize("case", FACTS["augmentation"]["resize"])
def test_resize_as_the_authors_do(case: dict[str, Any]) -> None:
    sample = Sample(Image.new("RGB", case["size_before"]), "", np.array([30.0, 40, 130, 240]))
    resized = transforms.resize(sample, case["target"], longest=case["side"] == "longest", exact=False)
    assert list(resized.image.size) == case["size_after"]
    np.testing.assert_allclose(resized.box, case["box_after"], rtol=1e-6)


@pytest.mark.parametrize("case", FACTS["augmentation"]["crop"])
def test_crop_as_the_authors_do(case: dict[str, Any]) -> None:
    top, left, height, width = case["region_top_left_height_width"]
    mask = Image.new("L", (500, 375))
    sample = Sample(Image.new("RGB", (500, 375)), "", np.array(case["box_before"]), mask)
    cropped = transforms.crop(sample, left, top, width, height)
    assert list(cropped.image.size) == case["size_after"]
    np.testing.assert_array_equal(cropped.box, case["box_after"])
    assert cropped.mask is not None
    assert cropped.mask.size == cropped.image.size


@pytest.mark.parametrize("case", FACTS["augmentation"]["flip"])
def test_flip_as_the_authors_do(case: dict[str, Any]) -> None:
    image = Image.new("RGB", (case["width"], 375))
    flipped = transforms.RandomFlip("official", 1.0)(
        Sample(image, case["text_before"], np.array(case["box_before"]))
    )
    assert flipped.sentence == case["text_after"]
    np.testing.assert_array_equal(flipped.box, case["box_after"])


def _scene(rng: np.random.Generator, sentence: str = "red") -> Sample:
    """Noise with one red rectangle, which box and mask surround."""
    width, height = (int(side) for side in rng.integers(60, 140, 2))
    pixels = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
    w, h = (int(rng.integers(6, side // 2)) for side in (width, height))
    x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
    pixels[y : y + h, x : x + w] = (255, 0, 0)
    mask = np.zeros((height, width), np.uint8)
    mask[y : y + h, x : x + w] = 1
    box = np.array([x, y, x + w, y + h], np.float64)
    return Sample(Image.fromarray(pixels), sentence, box, Image.fromarray(mask))


@pytest.mark.parametrize("form", ["default", "official"])
def test_image_box_and_mask_stay_together(form: Any) -> None:
    rng = np.random.default_rng(0)
    transform = transforms.train_transform(DataConfig(transform=form, crop=1.0), SMALL)
    emptied = 0
    for seed in range(60):
        with forked_rng(seed):
            result = transform(_scene(rng))
        pixels = _square(result, SMALL) * torch.tensor(SMALL.std).view(3, 1, 1) + torch.tensor(
            SMALL.mean
        ).view(3, 1, 1)
        red = (pixels[0] - pixels[1]) > 0.3
        inside = result["mask"][0] > 0
        x, y, w, h = result["box"].tolist()
        if form == "official" and not (w > 0 and h > 0):
            emptied += 1
            continue
        assert min(x - w / 2, y - h / 2) > -1e-6
        assert max(x + w / 2, y + h / 2) < 1 + (0.03 if form == "official" else 1e-6)
        if w * h < 0.01:
            continue
        assert (red & inside).sum() / (red | inside).sum() > 0.6
        rows, columns = torch.nonzero(inside, as_tuple=True)
        found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 64
        np.testing.assert_allclose(found, [x - w / 2, y - h / 2, x + w / 2, y + h / 2], atol=0.04)
    assert emptied == 0 or form == "official"


def test_default_crop_holds_the_whole_box_and_takes_every_place() -> None:
    crop = transforms.RandomCrop("default", 1.0, 64)
    rng, corners = np.random.default_rng(1), set()
    scene = _scene(rng)
    assert scene.box is not None
    ratio = (scene.box[2] - scene.box[0]) / (scene.box[3] - scene.box[1])
    cropped = 0
    for seed in range(80):
        with forked_rng(seed):
            result = crop(scene)
        if result is scene:
            continue
        cropped += 1
        assert result.box is not None
        assert (result.box >= 0).all()
        assert (result.box[2:] <= result.image.size).all()
        size = result.box[2:] - result.box[:2]
        assert size.prod() > 0
        assert abs(size[0] / size[1] - ratio) < 0.1
        corners.add(tuple(result.box[:2].round()))
    assert cropped > 20
    assert len(corners) > 10


def test_official_crop_can_lose_the_object_and_default_cannot() -> None:
    """A small object in the lower left corner of a wide image: the mixed-up axes accept windows without it."""
    sample = Sample(Image.new("RGB", (140, 80)), "dog", np.array([2.0, 70, 12, 78]))
    lost = {"official": 0, "default": 0}
    for form in lost:
        crop = transforms.RandomCrop(form, 1.0, 64)  # type: ignore[arg-type]
        for seed in range(60):
            with forked_rng(seed):
                box = crop(sample).box
            lost[form] += not (box[2] > box[0] and box[3] > box[1])
    assert lost["default"] == 0
    assert lost["official"] > 5


def test_a_large_object_is_never_cropped_by_default() -> None:
    sample = Sample(Image.new("RGB", (140, 100)), "dog", np.array([0.0, 0, 140, 100]))
    for seed in range(20):
        with forked_rng(seed):
            assert (
                transforms.RandomCrop("default", 1.0, 64)(sample).image.size[0] > 85
            )  # whole width or no crop


def test_probabilities_of_the_configuration_hold() -> None:
    sample = _scene(np.random.default_rng(3))
    square = transforms.test_transform(SMALL)(sample)["box"]
    still = transforms.train_transform(DataConfig(flip=0.0, crop=0.0), SMALL)
    mirrored = transforms.train_transform(DataConfig(flip=1.0, crop=0.0), SMALL)
    for seed in range(5):
        with forked_rng(seed):
            np.testing.assert_allclose(still(sample)["box"], square, atol=1e-6)
            box = mirrored(sample)["box"]
        np.testing.assert_allclose(box, [1 - square[0], *square[1:]], atol=1e-6)


def test_a_transform_is_decided_by_the_generator() -> None:
    transform, sample = transforms.train_transform(DataConfig(), SMALL), _scene(np.random.default_rng(4))
    results = []
    for seed in (7, 7, 8):
        with forked_rng(seed):
            results.append(transform(sample)["image"])
    assert torch.equal(results[0], results[1])
    assert results[0].shape != results[2].shape or not torch.equal(results[0], results[2])


def test_without_box_or_mask() -> None:
    for form in ("default", "official"):
        transform = transforms.train_transform(DataConfig(transform=form, crop=1.0), SMALL)  # type: ignore[arg-type]
        result = transform(Sample(Image.new("RGB", (80, 60)), "dog"))
        assert (result["has_box"], result["has_mask"]) == (0, 0)
        assert result["mask"].shape == (1, 64, 64)
        assert not result["box"].any()
        assert not result["mask"].any()
