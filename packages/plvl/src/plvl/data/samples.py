"""Rows -> samples -> batches. A sample is a pure function of (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from papers_shared.seeding import forked_rng, sample_seed
from plvl.data.masks import load_mask
from plvl.data.pixels import load_image
from plvl.tokenizer import Tokenizer
from plvl.transforms import Sample, Stretch

Batch = dict[str, Any]


class GroundingSamples(Dataset):
    """`samples[(epoch, index)]` -> one sentence with its image, box and mask in the square of side S.

    `image` uint8 (3, h, w), no side above S; `sentence` str; `box` float32 (4,) cx, cy, w, h in [0, 1]; `mask` uint8
    (1, S, S), 0 or 1; `has_box`, `has_mask` 1.0 where there is one (else it is all zero); `name` str.

    Args:
        rows: Of `plvl.data.open_split`.
        transform: `plvl.transforms.train_transform` or `test_transform`; draws from torch's default CPU
            generator only.
        masks: Decode the masks; False gives zeros, for models without that task.

    A plain index is read as (0, index).
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        transform: Callable[[Sample], dict[str, Any]],
        seed: int,
        *,
        masks: bool = True,
    ) -> None:
        self.rows, self.transform, self.seed, self.masks = rows, transform, seed, masks

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: tuple[int, int] | int) -> dict[str, Any]:
        epoch, index = position if isinstance(position, tuple) else (0, position)
        row = self.rows[index]
        mask = load_mask(row) if self.masks else None
        sample = Sample(
            image=Image.fromarray(load_image(row)),
            sentence=row["expression"],
            box=None if row["box_xyxy"] is None else np.asarray(row["box_xyxy"], np.float64),
            mask=None if mask is None else Image.fromarray(mask.view(np.uint8)),
        )
        with forked_rng(sample_seed(self.seed, epoch, index)):
            return {**self.transform(sample), "name": row["name"]}


class Collate:
    """Samples of `GroundingSamples` -> one batch: images, word pieces, and the boxes and masks that there are."""

    def __init__(self, tokenizer: Tokenizer, *, rec: bool, res: bool) -> None:
        self.tokenizer, self.rec, self.res = tokenizer, rec, res

    def __call__(self, samples: Sequence[dict[str, Any]]) -> Batch:
        """`image` (B, 3, S, S) with each image at the upper left, `sizes` (height and width of each), `input_ids` and
        `attention_mask` (B, N), `boxes` (b, 4) cxcywh of the samples `boxed` (b,), `masks` (m, 1, S, S) of the samples
        `masked` (m,), `name` (B strings).
        """
        boxed = [i for i, sample in enumerate(samples) if self.rec and sample["has_box"]]
        masked = [i for i, sample in enumerate(samples) if self.res and sample["has_mask"]]
        side = samples[0]["mask"].shape[-1]
        images = torch.zeros(len(samples), 3, side, side, dtype=torch.uint8)
        sizes = [(sample["image"].shape[1], sample["image"].shape[2]) for sample in samples]
        for frame, sample, (height, width) in zip(images, samples, sizes, strict=True):
            frame[:, :height, :width] = sample["image"]
        input_ids, attention_mask = self.tokenizer([sample["sentence"] for sample in samples])
        return {
            "image": images,
            "sizes": sizes,
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "boxes": _stack([samples[i]["box"] for i in boxed], torch.zeros(0, 4)),
            "masks": _stack([samples[i]["mask"] for i in masked], images[:0, :1]),
            "boxed": torch.tensor(boxed, dtype=torch.long),
            "masked": torch.tensor(masked, dtype=torch.long),
            "name": [sample["name"] for sample in samples],
        }


def grounding_batch(batch: Batch, stretch: Stretch) -> Batch:
    """A batch of `Collate` as network and losses take it: `image` float32 (B, 3, S, S), `masks` float32."""
    return {**batch, "image": stretch(batch["image"], batch["sizes"]), "masks": batch["masks"].float()}


def _stack(tensors: list[Tensor], nothing: Tensor) -> Tensor:
    return torch.stack(tensors) if tensors else nothing
