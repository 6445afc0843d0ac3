from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from fanet.config import DataConfig, ModelConfig
from fanet.data import ClassificationSamples, SegmentationSamples, load_image, load_mask, open_split
from fanet.data.cache import PixelCache
from fanet.data.samples import segmentation_batch
from fanet.toy import write_zerowaste
from fanet.transforms import classification_transform, normalization, train_transform
from papers_shared.errors import UserError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    folder = tmp_path_factory.mktemp("samples")
    write_zerowaste(folder / "toy", train=4, val=1, test=1, size=(64, 96))
    return DataConfig(root=str(folder / "toy"), cache=str(folder / "cache"), crop_size=32, scale=(96, 48))


def _samples(data: DataConfig, seed: int = 0, cache: PixelCache | None = None) -> SegmentationSamples:
    transform = train_transform(data, ModelConfig())
    rows, size = open_split(data, "train"), data.crop_size
    return SegmentationSamples(rows, transform, seed, size=size, num_classes=5, cache=cache)


def test_sample_is_a_function_of_seed_epoch_and_index(data: DataConfig) -> None:
    cache = PixelCache(data.cache, 1.0)
    first, again = _samples(data), _samples(data, cache=cache)
    before = torch.get_rng_state()
    sample = first[(3, 1)]
    assert torch.equal(before, torch.get_rng_state())
    assert sample["image"].shape == (3, 32, 32)
    assert sample["image"].dtype == sample["labels"].dtype == torch.uint8
    assert type(sample["image"]) is type(sample["labels"]) is torch.Tensor
    torch.manual_seed(99)
    for samples in (first, again, again):  # the last one reads the cache
        assert torch.equal(samples[(3, 1)]["image"], sample["image"])
        assert torch.equal(samples[(3, 1)]["labels"], sample["labels"])
    assert not torch.equal(first[(4, 1)]["image"], sample["image"])
    assert not torch.equal(_samples(data, seed=1)[(3, 1)]["image"], sample["image"])


def test_an_image_smaller_than_the_crop_lies_on_the_mean_colour_and_ignored_labels(data: DataConfig) -> None:
    wide = replace(data, crop_size=48, scale=(48, 24), ratio_range=(1.0, 1.0))
    normalize = normalization(ModelConfig())
    batch = segmentation_batch(default_collate([_samples(wide)[0, 0], _samples(wide)[0, 1]]), normalize)
    assert batch["image"].shape == (2, 3, 48, 48)
    assert batch["image"].dtype == torch.float32
    assert batch["labels"].dtype == torch.int64
    assert batch["inside"].tolist() == [[0, 0, 24, 36]] * 2
    for part, fill in ((batch["image"][:, 0], 0), (batch["labels"], 255)):
        assert (part[:, 24:] == fill).all()
        assert (part[..., 36:] == fill).all()
        assert (part[:, :24, :36] != fill).float().mean() > 0.9


def test_loader_processes_give_the_same_samples(data: DataConfig) -> None:
    samples = _samples(data, cache=PixelCache(data.cache, 1.0))
    threads = cv2.getNumThreads()
    order = [(0, 2), (0, 0), (1, 3), (1, 1)]
    batches = [list(DataLoader(samples, sampler=order, batch_size=2, num_workers=n)) for n in (0, 2)]
    for alone, shared in zip(*batches, strict=True):
        assert alone["name"] == shared["name"]
        assert torch.equal(alone["image"], shared["image"])
        assert torch.equal(alone["labels"], shared["labels"])
    assert cv2.getNumThreads() == threads


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda mask: np.where(mask == mask.max(), 7, mask), "holds the value 7, but the classes are 0 to 4"),
        (lambda mask: mask[:-1], "is 96x63 pixels and its image 96x64"),
        (lambda mask: np.stack([mask, mask * 40, mask], -1), "is a colour image"),
        (lambda mask: mask.astype(np.uint16) + 300, r"outside 0\.\.255"),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_a_wrong_mask_is_named_when_it_is_loaded(spoil, message: str, cached: bool, tmp_path: Path) -> None:
    write_zerowaste(tmp_path / "toy", train=1, val=0, test=0, size=(64, 96))
    (file,) = (tmp_path / "toy" / "train" / "sem_seg").iterdir()
    Image.fromarray(spoil(np.asarray(Image.open(file)))).save(file)
    data = DataConfig(root=str(tmp_path / "toy"), cache=str(tmp_path / "cache"), crop_size=32)
    samples = _samples(data, cache=PixelCache(data.cache, 1.0) if cached else None)
    for _ in range(2):
        with pytest.raises(UserError, match=f"{file.name}.*{message}"):
            samples[(0, 0)]


def test_grey_mask_is_named_where_255_is_no_ignored_value(tmp_path: Path) -> None:
    write_zerowaste(tmp_path / "toy", train=1, val=0, test=0, size=(64, 96))
    (file,) = (tmp_path / "toy" / "train" / "sem_seg").iterdir()
    Image.fromarray((np.asarray(Image.open(file)) > 0).astype(np.uint8) * 255).save(file)
    row = open_split(DataConfig(root=str(tmp_path / "toy"), cache=str(tmp_path / "cache")), "train")[0]
    with pytest.raises(UserError, match="0/255 mask"):
        load_mask(row, 5, ignore_index=254)


def test_a_changed_file_is_decoded_again(tmp_path: Path) -> None:
    write_zerowaste(tmp_path / "toy", train=1, val=0, test=0, size=(64, 96))
    data = DataConfig(root=str(tmp_path / "toy"), cache=str(tmp_path / "cache"))
    cache, row = PixelCache(data.cache, 1.0), open_split(data, "train")[0]
    before = np.array(load_image(row, cache))
    Image.fromarray(255 - before).save(row["image"]["path"])
    np.testing.assert_array_equal(load_image(row, cache), 255 - before)


def test_palette_and_grey_rgb_masks_are_index_masks(tmp_path: Path) -> None:
    labels = np.arange(48, dtype=np.uint8).reshape(6, 8) % 4
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "frame.png")
    palette = Image.fromarray(labels)
    palette.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    assert palette.mode == "P"
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.stack([labels] * 3, -1)).save(tmp_path / "rgb.png")
    Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "deep.png")
    for name in ("palette", "rgb", "deep"):
        image, mask = ({"path": str(tmp_path / f"{stem}.png"), "bytes": None} for stem in ("frame", name))
        np.testing.assert_array_equal(load_mask({"name": "x", "image": image, "mask": mask}, 4), labels)


def test_frame_turned_by_exif_fits_its_turned_mask(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "frame.jpg", exif=exif)
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(tmp_path / "mask.png")
    image, mask = ({"path": str(tmp_path / name), "bytes": None} for name in ("frame.jpg", "mask.png"))
    row = {"name": "x", "image": image, "mask": mask}
    assert load_image(row).shape == (8, 6, 3)
    assert load_mask(row, 2).shape == (8, 6)


def test_classification_sample_is_a_function_of_seed_epoch_and_index(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(
            tmp_path / "train" / name / "x.png"
        )
    data = DataConfig(root=str(tmp_path), cache=str(tmp_path / "cache"), crop_size=32)
    transform = classification_transform(data, ModelConfig(), train=True)
    samples = ClassificationSamples(open_split(data, "train"), transform, seed=0)
    states = random.getstate(), torch.get_rng_state()
    first = [samples[(epoch, 1)] for epoch in range(4)]
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    random.seed(5)
    for epoch, sample in enumerate(first):
        assert torch.equal(samples[(epoch, 1)]["image"], sample["image"])
    assert first[0]["label"] == 1
    assert not torch.equal(first[0]["image"], first[1]["image"])
