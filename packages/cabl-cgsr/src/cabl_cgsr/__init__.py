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
    from cabl_cgsr.inference import Localization
    from cabl_cgsr.modeling.localizer import Localizer, LocalizerOutput

__all__ = ["Localization", "Localizer", "LocalizerOutput", "convert", "predict"]

_HOMES = {
    "Localization": "cabl_cgsr.inference",
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
    "recipes",
    "robustness",
    "train",
    "transforms",
)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"cabl_cgsr.{name}")
    raise AttributeError(f"module 'cabl_cgsr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
