"""Rows -> training samples. A sample is a pure function of (seed, epoch, index)."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import tv_tensors

from fanet.data.cache import PixelCache
from fanet.data.masks import load_mask
from fanet.data.pixels import load_image
from fanet.transforms import pad
from papers_shared.errors import UserError
from papers_shared.normalization import Normalization
from papers_shared.seeding import forked_rng, sample_seed


class SegmentationSamples(Dataset):
    """`samples[(epoch, index)]` -> {"image": (3, S, S) uint8, "inside": (4,), "labels": (S, S) uint8, "name": str}.

    `inside` says where the image lies in its square: top, left, bottom, right. The labels beside it are `ignore_index`.

    Args:
        rows: of `fanet.data.open_split`.
        transform: from tv_tensors.Image (3, H, W) uint8 and tv_tensors.Mask (H, W) uint8 to the same pair, with
            sides of at most S; draws from torch's default CPU generator only.
        size: S.
        num_classes: a mask with a value that is no class and not `ignore_index` raises UserError when loaded.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        transform: Callable[..., Any],
        seed: int,
        *,
        size: int,
        num_classes: int,
        ignore_index: int = 255,
        cache: PixelCache | None = None,
    ) -> None:
        need_column(rows, "mask", "segment")
        self.rows, self.transform, self.seed = rows, transform, seed
        self.size, self.num_classes, self.ignore_index, self.cache = size, num_classes, ignore_index, cache

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: tuple[int, int]) -> dict[str, Any]:
        epoch, index = position
        row = self.rows[index]
        pixels = torch.from_numpy(load_image(row, self.cache))
        shape = (pixels.shape[0], pixels.shape[1])
        labels = torch.from_numpy(load_mask(row, self.num_classes, self.ignore_index, self.cache, shape))
        with forked_rng(sample_seed(self.seed, epoch, index)):
            image, mask = self.transform(tv_tensors.Image(pixels.permute(2, 0, 1)), tv_tensors.Mask(labels))
        return {
            "image": pad(image.as_subclass(torch.Tensor), self.size, 0),
            "inside": torch.tensor([0, 0, *mask.shape]),
            "labels": pad(mask.as_subclass(torch.Tensor), self.size, self.ignore_index),
            "name": row["name"],
        }


def segmentation_batch(batch: dict[str, Any], normalize: Normalization) -> dict[str, Any]:
    """A batch of `SegmentationSamples` as network and loss take it.

    `image` is float32, normalised, 0 beside the image; `labels` are int64.
    """
    image = normalize(batch["image"], batch["inside"])
    return {**batch, "image": image, "labels": batch["labels"].long()}


class ClassificationSamples(Dataset):
    """`samples[(epoch, index)]` -> {"image": (3, H, W), "label": int, "name": str}.

    Args:
        rows: of `fanet.data.open_split` of class folders.
        transform: takes a Pillow image; may draw from torch, numpy and random (timm's do), all seeded here.
    """

    def __init__(self, rows: datasets.Dataset, transform: Callable[..., Any], seed: int) -> None:
        need_column(rows, "label", "classify")
        self.rows, self.transform, self.seed = rows, transform, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: tuple[int, int]) -> dict[str, Any]:
        epoch, index = position
        row = self.rows[index]
        seed = sample_seed(self.seed, epoch, index)
        pixels = Image.fromarray(load_image(row))
        with forked_rng(seed), _forked_python_rng(seed):
            image = self.transform(pixels)
        return {"image": image, "label": row["label"], "name": row["name"]}


def need_column(rows: datasets.Dataset, column: str, task: str) -> None:
    """Refuse rows of another task.

    Raises:
        UserError: The rows have no such column.
    """
    if column not in rows.column_names:
        what = "masks and no labels" if column == "label" else "labels and no masks"
        raise UserError(f"--model.task {task} does not fit the data: it has {what}")


@contextlib.contextmanager
def _forked_python_rng(seed: int) -> Iterator[None]:
    """Seed `random` and numpy's global generator, which timm draws from; put both back afterwards."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
