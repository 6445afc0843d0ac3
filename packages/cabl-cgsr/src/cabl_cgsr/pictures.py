"""The network over the rows of a set: each picture once, on any number of processes, from the cache if it is there."""

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
from cabl_cgsr.data import load_picture
from cabl_cgsr.inference import ViewMaps, network_maps, network_scores, prepare_views
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.predictions import PredictionCache, joined_key, model_key, picture_key
from papers_shared.runs import Progress

Row = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """Something done to a picture before anything else sees it; it keeps the size."""

    name: str = ""
    """Tells it from every other change: predictions are stored under it."""
    apply: Callable[[np.ndarray], np.ndarray] | None = None
    """(H, W, 3) uint8 RGB to the same; a function that loader processes can be given."""

    def load(self, row: Row) -> np.ndarray:
        """The changed picture of a row."""
        picture = load_picture(row)
        return picture if self.apply is None else self.apply(picture)


def predict_rows(
    localizer: Localizer,
    rows: Any,
    *,
    cache: PredictionCache,
    accelerator: Accelerator,
    batch_size: int = 1,
    workers: int = 0,
    change: Change | None = None,
    progress: bool = False,
) -> Iterator[tuple[Row, ViewMaps]]:
    """The rows of this process with what the network says about them.

    A batch is always made of the same neighbours, so the figures do not depend on the number of processes.
    """
    key = model_key(localizer, accelerator.mixed_precision)
    chunks = _chunks(len(rows), batch_size, accelerator)
    data = _Batches(rows, chunks, localizer.config, change or Change(), cache, key)
    bar = Progress(len(chunks), unit="batch") if progress and accelerator.is_main_process else None
    localizer.eval()
    loader = DataLoader(data, batch_size=None, num_workers=workers, collate_fn=_as_it_is)
    for number, (indices, keys, stored, views, sizes) in enumerate(loader, start=1):
        if stored is None:
            with accelerator.autocast():
                stored = network_maps(localizer, [view.to(accelerator.device) for view in views], sizes)
            for name, maps in zip(keys, stored, strict=True):
                cache.store_maps(name, maps)
        for index, maps in zip(indices, stored, strict=True):
            yield rows[index], maps
        if bar is not None:
            bar.update(number)
    if bar is not None:
        bar.close()


def score_rows(
    localizer: Localizer, rows: Any, *, accelerator: Accelerator, batch_size: int = 8, workers: int = 0
) -> dict[str, tuple[int, float]]:
    """Label and image score by the name of this process's rows: no maps, so attention stays fused."""
    chunks = _chunks(len(rows), batch_size, accelerator)
    data = _Batches(rows, chunks, localizer.config, Change(), PredictionCache(None), "")
    found = {}
    localizer.eval()
    for indices, _, _, views, _ in DataLoader(
        data, batch_size=None, num_workers=workers, collate_fn=_as_it_is
    ):
        with accelerator.autocast():
            scores = network_scores(localizer, [view.to(accelerator.device) for view in views])
        for index, score in zip(indices, scores, strict=True):
            row = rows[index]
            found[row["name"]] = (int(row["label"]), score)
    return found


class _Batches(Dataset):
    """(indices, cache keys, stored maps or None, a batch of views for each size or None, picture sizes)."""

    def __init__(
        self,
        rows: Any,
        chunks: list[range],
        config: ModelConfig,
        change: Change,
        cache: PredictionCache,
        key: str,
    ) -> None:
        self.rows, self.chunks, self.config = rows, chunks, config
        self.change, self.cache, self.key = change, cache, key

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(
        self, position: int
    ) -> tuple[range, list[str], list[ViewMaps] | None, list[Tensor] | None, list[tuple[int, int]]]:
        indices = self.chunks[position]
        rows = [self.rows[index] for index in indices]
        keys = []
        if self.cache.folder is not None:
            keys = [joined_key(self.key, picture_key(row["image"], self.change.name)) for row in rows]
            stored = [self.cache.maps(key) for key in keys]
            if None not in stored:
                return indices, keys, [maps for maps in stored if maps is not None], None, []
        pictures = [self.change.load(row) for row in rows]
        views = [prepare_views(Image.fromarray(picture), self.config) for picture in pictures]
        sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
        return (
            indices,
            keys or [""] * len(rows),
            None,
            [torch.stack(view) for view in zip(*views, strict=True)],
            sizes,
        )


def _chunks(number: int, batch_size: int, accelerator: Accelerator) -> list[range]:
    chunks = [range(start, min(start + batch_size, number)) for start in range(0, number, batch_size)]
    return chunks[accelerator.process_index :: accelerator.num_processes]


def _as_it_is(item: Any) -> Any:
    return item
