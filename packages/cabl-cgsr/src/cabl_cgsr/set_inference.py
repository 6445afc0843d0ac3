"""The road of `inference` over the rows of a set: each image once, on any number of processes, cached on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cabl_cgsr.config import ModelConfig
from cabl_cgsr.data.pixels import Row, load_image
from cabl_cgsr.inference import ViewMaps, network_maps, network_scores, prepare_views
from cabl_cgsr.prediction_cache import PredictionCache, image_key, joined_key, model_key
from papers_shared.errors import UserError
from papers_shared.loading import loaded, make_loader
from papers_shared.progress import Progress
from papers_shared.training.distributed import precision_of

FAILURES = (UserError, OSError, MemoryError, torch.OutOfMemoryError)
"""What is wrong with one image or its mask, or with the machine; the rest of a set goes on without it."""


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
) -> Iterator[tuple[Row, ViewMaps | str]]:
    """The rows of this process with what the network says about them, or with why an image cannot be read.

    A batch is always made of the same neighbours, so the metrics do not depend on the number of processes.
    """
    precision = precision_of(accelerator)
    key = model_key(localizer, config, precision) if cache.enabled else ""
    batches = _Batches(rows, config, degradation or Degradation(), cache, key, batch_size, accelerator)
    shown = progress and accelerator.is_main_process
    with Progress(len(batches), unit="batch", enabled=shown) as bar:
        for number, batch in enumerate(batches.loaded(workers, accelerator.device), start=1):
            for index, problem in batch.failed.items():
                yield rows[index], problem
            stored: list[ViewMaps] | str = batch.stored or []
            if batch.views is not None:
                try:
                    stored = network_maps(localizer, batch.views, batch.sizes, config, precision)
                except FAILURES as error:
                    stored = said(error)
                else:
                    for name, maps in zip(batch.keys, stored, strict=True):
                        cache.store_maps(name, maps)
            for position, index in enumerate(batch.indices):
                yield rows[index], stored if isinstance(stored, str) else stored[position]
            bar.update(number)


def score_rows(
    localizer: Any, rows: Any, *, accelerator: Accelerator, batch_size: int = 8, workers: int = 0
) -> dict[str, tuple[int, float]]:
    """Label and image score by the name of this process's rows: no maps, so attention stays fused.

    Raises:
        UserError: An image cannot be read.
    """
    config, cache = localizer.config, PredictionCache(None)
    batches = _Batches(rows, config, Degradation(), cache, "", batch_size, accelerator)
    found = {}
    for batch in batches.loaded(workers, accelerator.device):
        for problem in batch.failed.values():
            raise UserError(problem)
        scores = network_scores(localizer, batch.views or [], config, precision_of(accelerator))
        for index, score in zip(batch.indices, scores, strict=True):
            row = rows[index]
            found[row["name"]] = (int(row["label"]), score)
    return found


def said(error: BaseException) -> str:
    """What an error says, in one line."""
    return str(error).splitlines()[0] if str(error) else "out of memory"


class _Batch(NamedTuple):
    """Images that are computed together."""

    indices: list[int]
    """Of the rows whose images were read."""
    keys: list[str]
    """Of the cache; empty without one."""
    stored: list[ViewMaps] | None
    """What the network said before; None: it is to be asked."""
    views: list[Tensor] | None
    """A batch for each size; None where it is not to be asked."""
    sizes: list[tuple[int, int]]
    """Height and width of each image."""
    failed: dict[int, str]
    """Rows whose images cannot be read, and why."""


class _Batches(Dataset):
    """Neighbouring rows, read in loader processes."""

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

    def loaded(self, workers: int, device: torch.device) -> Iterator[Any]:
        pin = device.type == "cuda"
        return loaded(make_loader(self, batch_size=None, workers=workers, collate_fn=_unchanged, pin=pin))

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, position: int) -> _Batch:
        indices, keys, failed = [], [], {}
        for index in self.chunks[position]:
            try:
                image = self.rows[index]["image"]
                key = image_key(image, self.degradation.name) if self.cache.enabled else ""
            except FAILURES as error:
                failed[index] = said(error)
            else:
                indices.append(index)
                keys.append(joined_key(self.key, key) if key else "")
        if self.cache.enabled:
            stored = [self.cache.maps(key) for key in keys]
            if None not in stored:
                known = [maps for maps in stored if maps is not None]
                return _Batch(indices, keys, known, None, [], failed)
        views, sizes, read, names = [], [], [], []
        for index, key in zip(indices, keys, strict=True):
            try:
                image = self.degradation.load(self.rows[index])
                views.append(prepare_views(Image.fromarray(image), self.config))
            except FAILURES as error:
                failed[index] = said(error)
            else:
                sizes.append((image.shape[0], image.shape[1]))
                read.append(index)
                names.append(key)
        stacked = [torch.stack(view) for view in zip(*views, strict=True)] if read else None
        return _Batch(read, names, None, stacked, sizes, failed)


def _unchanged(item: Any) -> Any:
    return item
