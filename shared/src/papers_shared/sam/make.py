"""A segmenter by one word of a command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from papers_shared.errors import UserError
from papers_shared.sam.protocol import PromptedSegmenter
from papers_shared.weights import fetch_weights, is_weight_file

if TYPE_CHECKING:
    from papers_shared.cache import TensorCache
    from papers_shared.types import Precision


def make_refiner(
    source: str | Path = "grabcut",
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    cache: TensorCache | None = None,
) -> PromptedSegmenter:
    """The segmenter that `source` names.

    Args:
        source: `grabcut`, which needs no weights; or `sam:` and a checkpoint of Meta's (a file), a folder of one of
            transformers' promptable segmenters, or a Hub name (`owner/name`); `sam:` may be left out.
        device: Where a network computes.
        precision: Of a network's image encoder: fp32, tf32, bf16 or fp16.
        cache: Where a network's embeddings are kept on disk.

    Raises:
        UserError: There is no such segmenter, or a package it needs is not installed.
    """
    text = str(source).removeprefix("sam:")
    path = Path(text).expanduser()
    if source == "grabcut":
        try:
            from papers_shared.sam.grabcut import GrabCut
        except ImportError as error:
            raise UserError(
                f"grabcut needs OpenCV, which is not installed ({error}): pip install opencv-python-headless"
            ) from error
        return GrabCut()
    if "://" in text or (is_weight_file(text) and text.count("/") > 1 and not path.exists()):
        path = fetch_weights(text, package="papers-shared").file
    if path.is_file():
        from papers_shared.sam.meta import SegmentAnything

        return SegmentAnything(path, device=device, precision=precision, cache=cache)
    on_hub = text.count("/") == 1 and text[0] not in "./~" and not is_weight_file(text)
    if (text and path.is_dir()) or on_hub:
        from papers_shared.sam.hf import TransformersSam

        return TransformersSam(text, device=device, precision=precision, cache=cache)
    raise UserError(
        f"no segmenter {str(source)!r}: give grabcut, or sam: and a SAM checkpoint of Meta's (a file), a folder of "
        "transformers' SAM, SAM-HQ, SAM 2, EdgeTAM or SAM 3 tracker, or its Hub name (owner/name)"
    )
