"""Prompted segmenters behind one protocol: an image, a box and points -> a mask.

`make_refiner("grabcut")` needs no weights; a checkpoint of Meta's, a model folder or a Hub name gives SAM.
Importing this is light: each back end imports its libraries when it is made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from papers_shared.sam.grabcut import GrabCut
    from papers_shared.sam.hf import TransformersSam, convert_meta_checkpoint
    from papers_shared.sam.make import make_refiner
    from papers_shared.sam.meta import SegmentAnything
    from papers_shared.sam.protocol import Asked, PromptedSegmenter, SamResult, predict_all

__all__ = [
    "Asked",
    "GrabCut",
    "PromptedSegmenter",
    "SamResult",
    "SegmentAnything",
    "TransformersSam",
    "convert_meta_checkpoint",
    "make_refiner",
    "predict_all",
]

_HOMES = {
    "Asked": "protocol",
    "GrabCut": "grabcut",
    "PromptedSegmenter": "protocol",
    "SamResult": "protocol",
    "SegmentAnything": "meta",
    "TransformersSam": "hf",
    "convert_meta_checkpoint": "hf",
    "make_refiner": "make",
    "predict_all": "protocol",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
