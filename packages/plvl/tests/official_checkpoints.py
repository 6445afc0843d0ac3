"""Checkpoints with the official names and shapes, or a sixteenth of their width."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from named_noise import tensor
from torch import Tensor

NAMES = json.loads((Path(__file__).parent / "golden" / "names.json").read_text())
VISION = "visumodel.backbone.0.body."
SMALL = {30522: 50, 16: 4, **{size: size // 16 for size in (64, 128, 256, 512, 768, 1024, 1536, 2304, 3072)}}


def shapes(kind: str) -> dict[str, list[int]]:
    """Names and shapes of a checkpoint of the `plvl`, `eevg`, `detectron2` or `bert` kind."""
    if kind == "eevg":
        shared = {
            name: shape
            for name, shape in NAMES["plvl"].items()
            if name.startswith(("textmodel.", VISION)) and "cross_attn" not in name and "prompt_" not in name
        }
        return {**shared, **NAMES["eevg_only"]}
    if kind == "detectron2":
        return {**NAMES["detectron2"], **{name: [1] for name in NAMES["detectron2_behind"]}}
    if kind == "bert":
        prefix = "textmodel."
        text = {n.removeprefix(prefix): s for n, s in NAMES["plvl"].items() if n.startswith(prefix)}
        return {**text, "cls.predictions.bias": [30522], "cls.seq_relationship.weight": [2, 768]}
    return NAMES["plvl"]


def official(kind: str) -> dict[str, Tensor]:
    """The checkpoint at its true size, without any storage."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes(kind).items()}


def small(kind: str) -> dict[str, Tensor]:
    """The checkpoint of a network with a sixteenth of the width and patches of 4 pixels."""
    integer = {name for name in NAMES["plvl"] if name.endswith("num_batches_tracked")}
    return {
        name: torch.tensor(3)
        if name in integer
        else tensor(name, tuple(SMALL.get(size, size) for size in shape))
        for name, shape in shapes(kind).items()
    }
