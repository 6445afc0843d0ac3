"""A segmenter by one word of a command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from papers_shared.errors import UserError
from papers_shared.sam.protocol import PromptedSegmenter

if TYPE_CHECKING:
    from papers_shared.cache import TensorCache


def make_refiner(
    source: str | Path = "grabcut",
    *,
    device: str = "cpu",
    precision: str = "no",
    cache: TensorCache | None = None,
) -> PromptedSegmenter:
    """The segmenter that `source` names.

    Args:
        source: `grabcut`, which needs no weights; a checkpoint of Meta's (a file); a folder of a `SamModel`; or a
            Hub name (`owner/name`).
        device: Where a network computes.
        precision: Of a network's image encoder: no or bf16.
        cache: Where a network's embeddings are kept on disk.

    Raises:
        UserError: There is no such segmenter, or a package it needs is not installed.
    """
    text = str(source)
    path = Path(text).expanduser()
    if text == "grabcut":
        from papers_shared.sam.grabcut import GrabCut

        return GrabCut()
    if path.is_file():
        from papers_shared.sam.meta import SegmentAnything

        return SegmentAnything(path, device=device, precision=precision, cache=cache)
    if path.is_dir() or (text.count("/") == 1 and not path.suffix and text[0] not in "./~"):
        from papers_shared.sam.hf import TransformersSam

        return TransformersSam(text, device=device, precision=precision, cache=cache)
    raise UserError(
        f"no segmenter {text!r}: give grabcut, a SAM checkpoint of Meta's (a file), a folder of transformers' "
        "SamModel, or its Hub name (owner/name)"
    )
