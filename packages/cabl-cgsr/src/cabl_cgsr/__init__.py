"""CABL-CGSR: context-aware weakly supervised image manipulation localization with SAM refinement.

    import cabl_cgsr
    localizer = cabl_cgsr.Localizer.from_pretrained("MODEL_FOLDER")
    found = localizer.predict("photo.jpg")
    found.score, found.mask

Importing the package is light; a name below is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cabl_cgsr import convert, predict
    from cabl_cgsr.modeling.classifier import Classifier
    from cabl_cgsr.modeling.localizer import Localizer, LocalizerOutput

__all__ = ["Classifier", "Localizer", "LocalizerOutput", "convert", "predict"]

_HOMES = {
    "Classifier": "cabl_cgsr.modeling.classifier",
    "Localizer": "cabl_cgsr.modeling.localizer",
    "LocalizerOutput": "cabl_cgsr.modeling.localizer",
}
_MODULES = (
    "cam",
    "config",
    "convert",
    "data",
    "evaluate",
    "export",
    "figures",
    "predict",
    "prompts",
    "robustness",
    "train",
    "transforms",
)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"cabl_cgsr.{name}")
    raise AttributeError(f"module 'cabl_cgsr' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
