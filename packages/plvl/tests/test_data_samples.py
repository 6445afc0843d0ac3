"""Rows -> samples: a function of seed, epoch and index, whatever the process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader

from papers_shared.errors import UserError
from plvl.config import DataConfig, ModelConfig
from plvl.data import GroundingSamples, load_image, load_mask, open_split
from plvl.data.commands import run_toy
from plvl.data.samples import Collate, grounding_batch
from plvl.options import DataToyOptions
from plvl.tokenizer import Tokenizer, vocabulary_for
from plvl.transforms import stretch_on, train_transform
from plvl.transforms import test_transform as evaluation_transform

MODEL = ModelConfig(image_size=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    folder = tmp_path_factory.mktemp("samples")
    run_toy(DataToyOptions(str(folder), train=4, val=1, test=1, side=64))
    return DataConfig(root=str(folder / "built"), crop=1.0)


def _samples(data: DataConfig, seed: int = 0, masks: bool = True) -> GroundingSamples:
    return GroundingSamples(open_split(data, "train"), train_transform(data, MODEL), seed, masks=masks)


def test_sample_is_a_function_of_seed_epoch_and_index(data: DataConfig) -> None:
    before = torch.get_rng_state()
    sample = _samples(data)[3, 1]
    assert torch.equal(before, torch.get_rng_state())
    assert len(sample["image"]) == 3
    assert max(sample["image"].shape) <= 64
    assert sample["mask"].shape == (1, 64, 64)
    assert sample["box"].shape == (4,)
    assert sample["image"].dtype == sample["mask"].dtype == torch.uint8
    assert sample["box"].dtype == torch.float32
    assert set(sample["mask"].unique().tolist()) == {0.0, 1.0}
    assert (sample["has_box"], sample["has_mask"]) == (1, 1)
    torch.manual_seed(99)
    again = _samples(data)[3, 1]
    assert all(torch.equal(again[key], sample[key]) for key in ("image", "mask", "box"))
    assert again["sentence"] == sample["sentence"]
    assert not torch.equal(_samples(data)[4, 1]["image"], sample["image"])
    assert not torch.equal(_samples(data, seed=1)[3, 1]["image"], sample["image"])


def test_a_sample_is_the_row_in_the_square(data: DataConfig) -> None:
    rows = open_split(data, "val")
    samples = GroundingSamples(rows, evaluation_transform(MODEL), seed=0)
    for index in range(len(samples)):
        sample, row = samples[index], rows[index]
        assert sample["name"] == row["name"]
        x, y, w, h = (64 * sample["box"]).tolist()
        np.testing.assert_allclose([x - w / 2, y - h / 2, x + w / 2, y + h / 2], row["box_xyxy"], atol=1e-4)
        assert torch.equal(sample["mask"][0].bool(), torch.from_numpy(load_mask(row)))
        assert sample["sentence"] == row["expression"]


def test_masks_are_left_undecoded_where_they_are_not_needed(data: DataConfig) -> None:
    sample = _samples(data, masks=False)[0, 0]
    assert sample["has_mask"] == 0
    assert not sample["mask"].any()
    assert torch.equal(sample["image"], _samples(data)[0, 0]["image"])


def test_loader_processes_give_the_same_samples(data: DataConfig) -> None:
    samples, order = _samples(data), [(0, 2), (0, 0), (1, 3), (1, 1)]
    collate = Collate(Tokenizer(vocabulary_for(MODEL, samples.rows["expression"]), 8), rec=True, res=True)
    options = {"sampler": order, "batch_size": 2, "collate_fn": collate}
    batches = [list(DataLoader(samples, **options, num_workers=n)) for n in (0, 2)]
    for alone, shared in zip(*batches, strict=True):
        assert alone["name"] == shared["name"]
        for part in ("image", "input_ids", "boxes", "masks"):
            assert torch.equal(alone[part], shared[part])


def test_a_batch_travels_as_bytes_and_becomes_what_single_images_become(data: DataConfig) -> None:
    samples, stretch = _samples(data), stretch_on(torch.device("cpu"), MODEL)
    some = [samples[epoch, index] for epoch in range(3) for index in range(4)]
    assert len({sample["image"].shape for sample in some}) > 1
    collate = Collate(Tokenizer(vocabulary_for(MODEL, samples.rows["expression"]), 8), rec=True, res=True)
    travelled = collate(some)
    assert travelled["image"].dtype == travelled["masks"].dtype == torch.uint8
    batch = grounding_batch(travelled, stretch)
    assert batch["image"].shape == (len(some), 3, 64, 64)
    assert batch["image"].dtype == batch["masks"].dtype == torch.float32
    for number, sample in enumerate(some):
        pixels = sample["image"].float() / 255
        alone = F.interpolate(pixels[None], (64, 64), mode="bilinear", align_corners=True)
        mean, std = (torch.tensor(part).view(3, 1, 1) for part in (MODEL.mean, MODEL.std))
        assert torch.equal(batch["image"][number], ((alone - mean) / std)[0])


def test_an_image_of_another_size_is_named(data: DataConfig, tmp_path: Path) -> None:
    row = open_split(data, "val")[0]
    file = tmp_path / "other.png"
    Image.new("RGB", (60, 64)).save(file)
    with pytest.raises(
        UserError, match=r"other\.png is 60x64 pixels, and its box and mask were made for 64x64"
    ):
        load_image({**row, "image": {"path": str(file), "bytes": None}})
    with pytest.raises(UserError, match=r"absent\.png: no such file"):
        load_image({**row, "image": {"path": str(tmp_path / "absent.png"), "bytes": None}})
    with pytest.raises(UserError, match=r"the mask of 'toy/\d+' is not a readable image"):
        load_mask({**row, "mask": b"no image"})
    assert load_mask({**row, "mask": None}) is None
    content = Path(row["image"]["path"]).read_bytes()
    inside = load_image({**row, "image": {"path": None, "bytes": content}})
    np.testing.assert_array_equal(inside, load_image(row))
