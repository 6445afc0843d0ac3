"""Rows -> samples. A sample is a pure function of (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from papers_shared.runs import forked_rng, sample_seed
from plvl.data.rows import load_mask, open_picture
from plvl.transforms import Sample


class GroundingSamples(Dataset):
    """`samples[(epoch, index)]` -> one expression with its picture, box and mask in the square of side S.

    `image` float32 (3, S, S) normalised; `expression` str; `box` float32 (4,) cx, cy, w, h in [0, 1]; `mask` float32
    (1, S, S), 0 or 1; `has_box`, `has_mask` 1.0 where there is one (else it is all zero); `name` str; and of the
    original picture `size` int64 (2,) height, width and `box_xyxy` float32 (4,) in its pixels.

    Args:
        rows: of `plvl.data.open_split`.
        transform: `plvl.transforms.train_transform` or `test_transform`; draws from torch's default CPU
            generator only.
        masks: decode the masks; False gives zeros, for models without that task.

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
        box = None if row["box_xyxy"] is None else np.asarray(row["box_xyxy"], np.float64)
        mask = load_mask(row) if self.masks else None
        sample = Sample(
            image=open_picture(row),
            expression=row["expression"],
            box=box,
            mask=None if mask is None else Image.fromarray(mask.view(np.uint8)),
        )
        with forked_rng(sample_seed(self.seed, epoch, index)):
            result = self.transform(sample)
        result["name"] = row["name"]
        result["size"] = torch.tensor([row["height"], row["width"]])
        result["box_xyxy"] = torch.tensor(row["box_xyxy"] or [0.0] * 4, dtype=torch.float32)
        return result
