"""The colours of classes."""

from __future__ import annotations

from collections.abc import Sequence

from fanet.config import ZEROWASTE_CLASSES, ZEROWASTE_PALETTE
from papers_shared.drawing import palette_for
from papers_shared.errors import UserError
from papers_shared.types import RGB


def class_palette(class_names: Sequence[str], given: Sequence[RGB] = ()) -> tuple[RGB, ...]:
    """One colour per class: the `given` ones first, then ZeroWaste's for its five classes, else distinct hues.

    Raises:
        UserError: More colours than classes.
    """
    if len(given) > len(class_names):
        raise UserError(f"--model.palette gives {len(given)} colours for {len(class_names)} classes")
    if tuple(class_names) == ZEROWASTE_CLASSES:
        return (*given, *ZEROWASTE_PALETTE[len(given) :])
    return palette_for(len(class_names), given)
