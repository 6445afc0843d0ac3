"""A segmenter by one word of a command line."""

from __future__ import annotations

from papers_shared.errors import UserError
from papers_shared.sam.protocol import PromptedSegmenter


def make_refiner(source: str = "grabcut", *, device: str = "cpu") -> PromptedSegmenter:
    """The segmenter that `source` names.

    Args:
        source: `grabcut`.
        device: Where a network computes.

    Raises:
        UserError: There is no such segmenter.
    """
    if source == "grabcut":
        from papers_shared.sam.grabcut import GrabCut

        return GrabCut()
    raise UserError(f"no segmenter {source!r}")
