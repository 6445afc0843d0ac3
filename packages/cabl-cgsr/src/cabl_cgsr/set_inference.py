"""The road of `inference` over the rows of a set: each image once, on any number of processes, cached on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cabl_cgsr.config import ModelConfig
from cabl_cgsr.data.pixels import Row, load_image
from cabl_cgsr.inference import ViewMaps, network_maps, network_scores, prepare_views
from cabl_cgsr.prediction_cache import PredictionCache, image_key, joined_key, model_key
from papers_shared.progress import Progress


@dataclass(frozen=True)
class Degradation:
    """Something done to an image before anything else sees it; it keeps the size. By default nothing."""

    name: str = ""
    """Tells it from every other one: predictions are stored under it."""
    apply: Callable[[np.ndarray], np.ndarray] | None = None
    """(H, W, 3) uint8 RGB to the same; a function that loader processes can be given."""

    def load(self, row: Row) -> np.ndarray:
        """The degraded image of a row, (H, W, 3) uint8 RGB."""
        image = load_image(row)
        return image if self.apply is None else self.apply(image)


def predict_rows(
    localizer: Any,
    rows: Any,
    config: ModelConfig,
    *,
    cache: PredictionCache,
    accelerator: Accelerator,
    batch_size: int = 1,
    workers: int = 0,
    degradation: Degradation | None = None,
    progress: bool = False,
) -> Iterator[tuple[Row, ViewMaps]]:
    """The rows of this process with what the network says about them.

    A batch is always made of the same neighbours, so the metrics do not depend on the number of processes.
    """
    precision = accelerator.mixed_precision
    key = model_key(localizer, config, precision) if cache.enabled else ""
    batches = _Batches(rows, config, degradation or Degradation(), cache, key, batch_size, accelerator)
    shown = progress and accelerator.is_main_process
    with Progress(len(batches), unit="batch", enabled=shown) as bar:
        for number, (indices, keys, stored, views, sizes) in enumerate(batches.loader(workers), start=1):
            if stored is None:
                stored = network_maps(localizer, views, sizes, config, precision)
                for name, maps in zip(keys, stored, strict=True):
                    cache.store_maps(name, maps)
            for index, maps in zip(indices, stored, strict=True):
                yield rows[index], maps
            bar.update(number)


def score_rows(
    localizer: Any, rows: Any, *, accelerator: Accelerator, batch_size: int = 8, workers: int = 0
) -> dict[str, tuple[int, float]]:
    """Label and image score by the name of this process's rows: no maps, so attention stays fused."""
    config, cache = localizer.config, PredictionCache(None)
    batches = _Batches(rows, config, Degradation(), cache, "", batch_size, accelerator)
    found = {}
    for indices, _, _, views, _ in batches.loader(workers):
        scores = network_scores(localizer, views, config, accelerator.mixed_precision)
        for index, score in zip(indices, scores, strict=True):
            row = rows[index]
            found[row["name"]] = (int(row["label"]), score)
    return found


class _Batches(Dataset):
    """(indices, cache keys, stored maps or None, a batch of views for each size or None, image sizes)."""

    def __init__(
        self,
        rows: Any,
        config: ModelConfig,
        degradation: Degradation,
        cache: PredictionCache,
        key: str,
        batch_size: int,
        accelerator: Accelerator,
    ) -> None:
        self.rows, self.config, self.degradation = rows, config, degradation
        self.cache, self.key = cache, key
        chunks = [range(i, min(i + batch_size, len(rows))) for i in range(0, len(rows), batch_size)]
        self.chunks = chunks[accelerator.process_index :: accelerator.num_processes]

    def loader(self, workers: int) -> DataLoader:
        return DataLoader(self, batch_size=None, num_workers=workers, collate_fn=_unchanged)

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(
        self, position: int
    ) -> tuple[range, list[str], list[ViewMaps] | None, list[Tensor] | None, list[tuple[int, int]]]:
        indices = self.chunks[position]
        rows = [self.rows[index] for index in indices]
        keys = [""] * len(rows)
        if self.cache.enabled:
            keys = [joined_key(self.key, image_key(row["image"], self.degradation.name)) for row in rows]
            stored = [self.cache.maps(key) for key in keys]
            if None not in stored:
                return indices, keys, [maps for maps in stored if maps is not None], None, []
        images = [self.degradation.load(row) for row in rows]
        views = [prepare_views(Image.fromarray(image), self.config) for image in images]
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        return indices, keys, None, [torch.stack(view) for view in zip(*views, strict=True)], sizes


def _unchanged(item: Any) -> Any:
    return item
