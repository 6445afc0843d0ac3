"""Several prompts about one picture: one embedding for all, or the predictor called anew for each."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.cases import Case
from papers_shared.sam import TransformersSam, convert_meta_checkpoint
from papers_shared.sam.meta import build as build_meta
from papers_shared.sam.shape import SamShape

VIT_B = SamShape(
    image_size=1024,
    patch_size=16,
    embed_dim=768,
    depth=12,
    num_heads=12,
    mlp_dim=3072,
    window_size=14,
    global_blocks=(2, 5, 8, 11),
    out_chans=256,
    mask_chans=16,
    decoder_depth=2,
    decoder_heads=8,
    decoder_mlp_dim=2048,
    downsample_rate=2,
    num_multimasks=3,
    iou_depth=3,
    iou_dim=256,
)
SMALL = replace(
    VIT_B,
    embed_dim=32,
    depth=2,
    num_heads=2,
    mlp_dim=64,
    global_blocks=(1,),
    out_chans=32,
    decoder_mlp_dim=32,
    iou_dim=32,
)
"""What `Case.small` builds."""
BOX, POINTS = (0.2, 0.3, 0.6, 0.7), ((0.4, 0.5), (0.9, 0.1))
"""As shares of the picture's side; the second point is negative."""
PROMPTS = {
    "point": (False, 1),
    "box": (True, 0),
    "box and points": (True, 2),
    "both points": (False, 2),
}
"""Name -> whether there is a box, and how many of the points there are."""


class Shared(nn.Module):
    """Normalised noise (1, 3, S, S) as a picture -> the mask (1, S, S) of each prompt, on one embedding."""

    def __init__(self, segmenter: TransformersSam, *, prompted: bool) -> None:
        super().__init__()
        self.segmenter, self.prompted = segmenter, prompted
        self.network = segmenter.network

    def forward(self, images: Tensor, count: int) -> list[np.ndarray]:
        picture = _picture(images)
        self.segmenter.set_images([])  # else it remembers the picture of the last call
        self.segmenter.set_image(picture)
        asked = [_prompt(name, len(picture)) for name in _names(count if self.prompted else 0)]
        return [self.segmenter.predict(box, points, labels).masks for box, points, labels in asked]


class Calls(nn.Module):
    """The same by `segment_anything.SamPredictor`, which sees the picture anew for each prompt."""

    def __init__(self, network: nn.Module, *, prompted: bool) -> None:
        super().__init__()
        from segment_anything import SamPredictor

        self.network, self.prompted = network, prompted
        self.predictor = SamPredictor(network)

    def forward(self, images: Tensor, count: int) -> list[np.ndarray]:
        picture = _picture(images)
        if not self.prompted:
            self.predictor.set_image(picture)
            return []
        return [self._ask(picture, *_prompt(name, len(picture))) for name in _names(count)]

    def _ask(self, picture: np.ndarray, box: Any, points: Any, labels: Any) -> np.ndarray:
        self.predictor.set_image(picture)
        return self.predictor.predict(points, labels, box, multimask_output=False)[0]


def build_prompter(case: Case) -> nn.Module:
    """SAM ViT-B on random weights for pictures of `case.side`; both networks carry the same weights.

    Part `embedding`: without prompts.

    Raises:
        UserError: `segment-anything` or transformers is not installed.
    """
    size = SMALL if case.small else VIT_B
    shape = replace(size, image_size=case.side, window_size=min(size.window_size, case.side // 32))
    network = build_meta(shape).eval().requires_grad_(False)  # torch's counter trips over its embeddings else
    prompted = case.part != "embedding"
    if case.network == "sam calls":
        return Calls(network, prompted=prompted)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network.state_dict(), Path(folder, "sam.pth"))
        converted = convert_meta_checkpoint(Path(folder, "sam.pth"), Path(folder, "sam"))
        return Shared(TransformersSam(converted), prompted=prompted)


def _names(count: int) -> list[str]:
    """So many prompts: the kinds in turn."""
    return list(islice(cycle(PROMPTS), count))


def _picture(images: Tensor) -> np.ndarray:
    return (images[0].permute(1, 2, 0) * 40 + 128).clamp(0, 255).byte().cpu().numpy()


def _prompt(name: str, side: int) -> tuple[Any, Any, Any]:
    """Box, points and labels in pixels of a square picture: arrays, or None where the prompt has none."""
    with_box, number = PROMPTS[name]
    box = np.array(BOX) * side if with_box else None
    if number == 0:
        return box, None, None
    return box, np.array(POINTS[:number]) * side, np.array((1, 0)[:number])
