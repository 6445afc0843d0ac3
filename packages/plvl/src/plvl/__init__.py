"""PLVL: progressive language-guided visual learning for multi-task visual grounding.

    import plvl
    model = plvl.PLVL.from_pretrained("MODEL_FOLDER")
    model.predict("photo.jpg", "the man in the blue shirt").draw()

Importing the package is light; a name below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plvl import convert, evaluate, losses, predict, recipes
    from plvl.inference import Grounding
    from plvl.modeling.backbone import LanguageGuidedViT
    from plvl.modeling.plvl import PLVL, ImageFeatures, PLVLOutput
    from plvl.tokenizer import Tokenizer

__all__ = [
    "PLVL",
    "Grounding",
    "ImageFeatures",
    "LanguageGuidedViT",
    "PLVLOutput",
    "Tokenizer",
    "convert",
    "evaluate",
    "losses",
    "predict",
    "recipes",
]

_HOMES = {
    "Grounding": "plvl.inference",
    "ImageFeatures": "plvl.modeling.plvl",
    "LanguageGuidedViT": "plvl.modeling.backbone",
    "PLVL": "plvl.modeling.plvl",
    "PLVLOutput": "plvl.modeling.plvl",
    "Tokenizer": "plvl.tokenizer",
}
_MODULES = (
    "config",
    "convert",
    "data",
    "evaluate",
    "export",
    "figures",
    "inference",
    "losses",
    "predict",
    "recipes",
    "tokenizer",
    "toy",
    "train",
    "transforms",
)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"plvl.{name}")
    raise AttributeError(f"module 'plvl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
