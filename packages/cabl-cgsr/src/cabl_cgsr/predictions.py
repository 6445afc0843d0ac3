"""Predictions on disk: what the network and the refiner said about a picture, so that it is asked once.

One small file for each picture and model (some 30 kB) and for each refined mask; the name is a digest of the
picture's content and of everything else that the answer depends on. The folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cabl_cgsr.inference import ViewMaps
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.prompts import Prompts
from papers_shared.dataclass_json import dataclass_to_json
from papers_shared.sam import PromptedSegmenter

FORMAT = 1
"""Raised when the same model would answer otherwise than before."""


def cache_folder(folder: str | Path = "") -> Path:
    """`folder`, or if empty the user cache folder: `$XDG_CACHE_HOME/cabl-cgsr`, else `~/.cache/cabl-cgsr`."""
    if str(folder):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cabl-cgsr"


class PredictionCache:
    """Safe for any number of processes: an entry is written to a temporary file and renamed.

    Args:
        folder: where, see `cache_folder`; None: keep nothing.
    """

    def __init__(self, folder: str | Path | None = "") -> None:
        self.folder = None if folder is None else cache_folder(folder) / "predictions"

    def maps(self, key: str) -> ViewMaps | None:
        """What `store_maps` was given under `key`; None where there is nothing, or a damaged file."""
        entry = self._read(key)
        if entry is None:
            return None
        scores, names = entry["scores"].tolist(), entry["names"].tolist()
        maps = tuple(entry[f"map{i}"] for i in range(len(names)))
        return ViewMaps(maps, tuple(scores), tuple(names), (int(entry["size"][0]), int(entry["size"][1])))

    def store_maps(self, key: str, maps: ViewMaps) -> None:
        arrays = {f"map{i}": values for i, values in enumerate(maps.maps)}
        self._write(
            key, scores=np.array(maps.scores), names=np.array(maps.names), size=np.array(maps.size), **arrays
        )

    def mask(self, key: str) -> np.ndarray | None:
        """The boolean (H, W) mask stored under `key`, or None."""
        entry = self._read(key)
        if entry is None:
            return None
        height, width = entry["size"]
        return np.unpackbits(entry["bits"], count=height * width).reshape(height, width).astype(bool)

    def store_mask(self, key: str, mask: np.ndarray) -> None:
        self._write(key, bits=np.packbits(mask), size=np.array(mask.shape))

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / f"{key[2:]}.npz"

    def _read(self, key: str) -> dict[str, Any] | None:
        if self.folder is None:
            return None
        try:
            with np.load(self._path(key), allow_pickle=False) as file:
                return dict(file)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # cut short
            with contextlib.suppress(OSError):
                self._path(key).unlink()
            return None

    def _write(self, key: str, **arrays: np.ndarray) -> None:
        if self.folder is None:
            return
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def model_key(localizer: Localizer, precision: str = "no") -> str:
    """A digest of the weights, of the options that the maps depend on, and of how they are computed."""
    config = dataclass_to_json(localizer.config)
    cam = {
        name: value for name, value in config["cam"].items() if name not in ("aggregation", "scaling")
    }  # applied to the stored maps
    kept = {name: config[name] for name in ("backbone", "num_logits", "activation", "cabl", "mean", "std")}
    device = next(localizer.parameters()).device.type
    return joined_key(json.dumps([FORMAT, kept, cam, precision, device], sort_keys=True), _weights(localizer))


def refiner_key(refiner: PromptedSegmenter) -> str:
    """A digest of what a segmenter's answers depend on beside picture and prompts."""
    switches = {
        name: value
        for name, value in vars(refiner).items()
        if isinstance(value, int | float | str) and not name.startswith("_")
    }
    network = getattr(refiner, "network", None)
    weights = _weights(network) if isinstance(network, nn.Module) else ""
    made_by = f"{type(refiner).__qualname__} {_release()}"
    return joined_key(made_by, refiner.name, json.dumps(switches, sort_keys=True), weights)


def _release() -> str:
    """Of papers-shared, whose segmenters may answer otherwise in the next one."""
    try:
        return version("papers-shared")
    except PackageNotFoundError:
        return "not installed"


def _weights(network: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def picture_key(source: dict[str, Any], change: str = "") -> str:
    """A digest of a picture's content.

    Args:
        source: `{"path", "bytes"}` of a row, one of them None.
        change: What is done to the picture before the network sees it, such as `jpeg 70`.
    """
    content = source["bytes"] if source["bytes"] is not None else Path(source["path"]).read_bytes()
    return hashlib.blake2b(content + b"\0" + change.encode(), digest_size=20).hexdigest()


def joined_key(*parts: str) -> str:
    """One key of several."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=20).hexdigest()


def prompts_key(prompts: Prompts) -> str:
    """The prompts as text."""
    return json.dumps([prompts.box_xyxy, prompts.points_xy, prompts.labels])
