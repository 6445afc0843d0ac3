"""FANet: feature amplification network for semantic segmentation in cluttered background.

    import fanet
    segmenter = fanet.Segmenter.from_pretrained("MODEL_FOLDER")
    segmenter.predict("photo.jpg").draw()

Importing the package is light; a name below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fanet import convert, predict, registry
    from fanet.inference import Segmentation
    from fanet.modeling.classifier import Classifier
    from fanet.modeling.fanet import FANet
    from fanet.modeling.segmenter import Segmenter, SegmenterOutput

__all__ = [
    "Classifier",
    "FANet",
    "Segmentation",
    "Segmenter",
    "SegmenterOutput",
    "convert",
    "predict",
    "registry",
]

_HOMES = {
    "Classifier": "fanet.modeling.classifier",
    "FANet": "fanet.modeling.fanet",
    "Segmentation": "fanet.inference",
    "Segmenter": "fanet.modeling.segmenter",
    "SegmenterOutput": "fanet.modeling.segmenter",
}
_MODULES = (
    "convert",
    "data",
    "evaluate",
    "export",
    "figures",
    "inference",
    "predict",
    "recipes",
    "registry",
    "train",
    "transforms",
)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import_module("fanet.registry")
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"fanet.{name}")
    raise AttributeError(f"module 'fanet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
