"""Predictions on disk: what the network and the refiner said about an image, so that it is asked once.

One small file for each image and model (some 30 kB) and for each refined mask; the key is a digest of the image's
content and of everything else that the answer depends on. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cabl_cgsr.config import ModelConfig
from cabl_cgsr.inference import ViewMaps
from cabl_cgsr.prompts import Prompts
from papers_shared.cache import TensorCache
from papers_shared.dataclass_json import dataclass_to_json
from papers_shared.devices import device_of
from papers_shared.files import cache_folder, tensors_digest
from papers_shared.images import regular_file
from papers_shared.sam import PromptedSegmenter

T = TypeVar("T")
FORMAT = 2
"""Raised when the same model would answer otherwise than before."""
RELEVANT = ("backbone", "num_logits", "activation", "cabl", "mean", "std")
"""Options of a model that its maps depend on, beside those of `cam`."""
APPLIED_LATER = ("aggregation", "scaling")
"""Options of `cam` that are applied to the stored maps."""


class PredictionCache(TensorCache):
    """Maps and masks of images by key.

    Args:
        folder: Its parent folder; empty: the user cache folder; None: keep nothing.
    """

    def __init__(self, folder: str | Path | None = "") -> None:
        self.enabled = folder is not None
        parent = cache_folder("cabl-cgsr", folder or "")
        super().__init__(parent / "predictions", limit_gb=20.0 if self.enabled else 0.0)

    def maps(self, key: str) -> ViewMaps | None:
        """What `store_maps` was given under `key`; None where there is nothing, or a damaged file."""
        return _unpacked(_as_maps, self.tensors(key))

    def store_maps(self, key: str, maps: ViewMaps) -> None:
        """Keep what the network says about an image."""
        views = {f"{i:03d} {name}": torch.from_numpy(maps.maps[i]) for i, name in enumerate(maps.names)}
        scores = torch.tensor(maps.scores, dtype=torch.float64)
        self.store(key, {"scores": scores, "size": torch.tensor(maps.size), **views})

    def mask(self, key: str) -> np.ndarray | None:
        """The boolean (H, W) mask stored under `key`; None where there is nothing, or a damaged file."""
        return _unpacked(_as_mask, self.tensors(key))

    def store_mask(self, key: str, mask: np.ndarray) -> None:
        """Keep a boolean (H, W) mask."""
        bits = torch.from_numpy(np.packbits(mask))
        self.store(key, {"bits": bits, "size": torch.tensor(mask.shape)})


def _as_maps(tensors: dict[str, Tensor]) -> ViewMaps:
    height, width = tensors.pop("size").tolist()
    scores = tuple(tensors.pop("scores").tolist())
    views = sorted(tensors)
    names = tuple(view.partition(" ")[2] for view in views)
    if not scores or len(names) != len(scores):
        raise ValueError("not the maps of an image")
    return ViewMaps(tuple(tensors[view].numpy() for view in views), scores, names, (height, width))


def _as_mask(tensors: dict[str, Tensor]) -> np.ndarray:
    height, width = tensors["size"].tolist()
    bits = tensors["bits"].numpy()
    return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)


def _unpacked(unpack: Callable[[dict[str, Tensor]], T], tensors: dict[str, Tensor] | None) -> T | None:
    """What a file held; None for one that is not there or holds something else."""
    try:
        return None if tensors is None else unpack(tensors)
    except (KeyError, ValueError):
        return None


def model_key(localizer: Any, config: ModelConfig | None = None, precision: str = "fp32") -> str:
    """A digest of the weights, of the options that the maps depend on, and of how they are computed."""
    options = dataclass_to_json(config or localizer.config)
    cam = {name: value for name, value in options["cam"].items() if name not in APPLIED_LATER}
    described = [
        FORMAT,
        {name: options[name] for name in RELEVANT},
        cam,
        precision,
        device_of(localizer).type,
    ]
    return joined_key(json.dumps(described, sort_keys=True), tensors_digest(localizer.state_dict()))


def refiner_key(refiner: PromptedSegmenter) -> str:
    """A digest of what a segmenter's answers depend on beside image and prompts."""
    switches = {
        name: value
        for name, value in vars(refiner).items()
        if isinstance(value, int | float | str) and not name.startswith("_")
    }
    network = getattr(refiner, "network", None)
    weights = tensors_digest(network.state_dict()) if isinstance(network, nn.Module) else ""
    made_by = f"{type(refiner).__qualname__} {_release()}"
    return joined_key(made_by, refiner.name, json.dumps(switches, sort_keys=True), weights)


def image_key(entry: dict[str, Any], degradation: str = "") -> str:
    """A digest of an image's content.

    Args:
        entry: `{"path", "bytes"}` of a row, one of them None.
        degradation: What is done to the image before the network sees it, such as `jpeg 70`.

    Raises:
        UserError: The file is missing or cannot be read.
    """
    content = entry["bytes"]
    if content is None:
        with regular_file(entry["path"]) as file:
            content = file.read()
    return hashlib.blake2b(content + b"\0" + degradation.encode(), digest_size=20).hexdigest()


def joined_key(*parts: str) -> str:
    """One key of several."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=20).hexdigest()


def prompts_key(prompts: Prompts) -> str:
    """The prompts as text."""
    return json.dumps([prompts.box_xyxy, prompts.points_xy, prompts.labels])


def _release() -> str:
    """Of papers-shared, whose segmenters may answer otherwise in the next one."""
    try:
        return version("papers-shared")
    except PackageNotFoundError:
        return "not installed"
