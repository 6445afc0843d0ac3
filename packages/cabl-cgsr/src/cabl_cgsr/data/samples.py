"""Rows -> training samples. A sample is a pure function of (seed, epoch, index)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cabl_cgsr.data.pixels import load_image
from papers_shared.errors import UserError
from papers_shared.normalization import Normalization
from papers_shared.seeding import forked_rng, sample_seed


class LabelSamples(Dataset):
    """`samples[(epoch, index)]` -> {"image": (3, S, S) uint8, "inside": (4,), "label": float32 (), "name": str}.

    `inside` says where the image lies in its square: top, left, bottom, right.

    Args:
        rows: of `cabl_cgsr.data.training_split`. They have no `mask`: training knows image labels only.
        transform: from (H, W, 3) uint8 RGB to `image` and `inside`; draws from torch's default CPU generator only.

    Raises:
        UserError: the rows have masks.
    """

    def __init__(
        self, rows: datasets.Dataset, transform: Callable[[np.ndarray], tuple[Tensor, Tensor]], seed: int
    ) -> None:
        if "mask" in rows.column_names:
            raise UserError("training takes image labels only: open the rows without masks")
        self.rows, self.transform, self.seed = rows, transform, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: tuple[int, int]) -> dict[str, Any]:
        epoch, index = position
        row = self.rows[index]
        pixels = load_image(row)
        with forked_rng(sample_seed(self.seed, epoch, index)):
            image, inside = self.transform(pixels)
        label = torch.tensor(float(row["label"]))
        return {"image": image, "inside": inside, "label": label, "name": row["name"]}


def label_batch(batch: dict[str, Any], normalize: Normalization) -> dict[str, Any]:
    """A batch of `LabelSamples` as the network takes it: `image` is float32, normalised, 0 beside the image."""
    return {**batch, "image": normalize(batch["image"], batch["inside"])}
