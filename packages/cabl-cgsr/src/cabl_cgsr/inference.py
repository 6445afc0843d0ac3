"""From a picture to a score, a map and masks: the steps of inference (Section II-C, III-A) in their order.

    prepare_views -> network_maps -> localize -> refine

What the network leaves of a picture (`ViewMaps`) is a few kilobytes: everything after it costs no second
forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cabl_cgsr.cam import aggregate, image_score, run_scales, scale_map
from cabl_cgsr.config import ModelConfig
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.prompts import Prompts, coarse_mask, make_prompts
from papers_shared.errors import UserError
from papers_shared.sam import PromptedSegmenter


@dataclass(frozen=True, eq=False)
class ViewMaps:
    """What the network says about one picture; an entry for each size and for each mirrored size."""

    maps: tuple[np.ndarray, ...]
    """Each (h, w) float32, unscaled, mirrored ones mirrored back."""
    scores: tuple[float, ...]
    """Of each entry, in [0, 1]."""
    names: tuple[str, ...]
    """`512x512`, `512x512 mirrored`, ..."""
    size: tuple[int, int]
    """Height and width of the picture in pixels."""


@dataclass(frozen=True, eq=False)
class Coarse:
    """Before the refinement; arrays are (H, W) at the size of the picture."""

    score: float
    """Image score in [0, 1], higher = manipulated: the mean over all entries of `ViewMaps`."""
    raw_map: np.ndarray
    """The aggregated map, unscaled: what the points are taken from."""
    cam: np.ndarray
    """The map in [0, 1]."""
    mask: np.ndarray
    """Boolean."""


def prepare_views(picture: Image.Image, config: ModelConfig) -> list[Tensor]:
    """An RGB picture as the network's inputs: for each of `config.cam.sizes` a square (3, s, s), normalised.

    Resized bicubically without regard to the aspect ratio, as TransCAM does; mirroring is left to the network's
    side.
    """
    if not config.cam.sizes:
        raise UserError("model.cam.sizes is empty: name at least one size in pixels, such as 512")
    mean, std = (np.array(values, np.float32) for values in (config.mean, config.std))
    views = []
    for side in config.cam.sizes:
        pixels = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        views.append(torch.from_numpy(np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))))
    return views


def network_maps(
    localizer: Localizer, views: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
) -> list[ViewMaps]:
    """Maps and scores of a batch of pictures.

    Args:
        views: For each size (B, 3, s, s) on the network's device.
        sizes: Height and width of each of the B pictures.
    """
    with torch.inference_mode():
        scales = run_scales(localizer, views)
    maps = [entry.float().cpu().numpy() for entry in scales.maps]
    scores = scales.scores.double().cpu().tolist()
    return [
        ViewMaps(tuple(entry[i] for entry in maps), tuple(scores[i]), tuple(scales.names), size)
        for i, size in enumerate(sizes)
    ]


def network_scores(localizer: Localizer, views: Sequence[Tensor]) -> list[float]:
    """The image scores alone of a batch (B, 3, s, s) at each size: the same as with maps, at less cost."""
    cam, scores = localizer.config.cam, []
    with torch.inference_mode():
        for batch in views:
            for mirrored in (False, True) if cam.mirror else (False,):
                output = localizer(batch.flip(-1) if mirrored else batch)
                activation = localizer.config.activation
                scores.append(image_score(output.logits_conv, output.logits_trans, activation, cam.score))
    return torch.stack(scores, dim=1).double().mean(dim=1).cpu().tolist()


def localize(maps: ViewMaps, config: ModelConfig) -> Coarse:
    """The maps of one picture as one, at the picture's size, and the coarse mask."""
    raw = aggregate([torch.from_numpy(entry) for entry in maps.maps], maps.size, config.cam.aggregation)
    cam = scale_map(raw, config.cam.scaling).numpy()
    return Coarse(float(np.mean(maps.scores)), raw.numpy(), cam, coarse_mask(cam, config.prompts))


def prompts_of(coarse: Coarse, config: ModelConfig) -> Prompts:
    """Box and points as `config.prompts` says."""
    return make_prompts(coarse.raw_map, coarse.mask, config.prompts)


def ask(refiner: PromptedSegmenter, prompts: Prompts, multimask: bool = False) -> np.ndarray:
    """The segmenter's mask for its picture, boolean (H, W), maybe empty; of several that of the highest score."""
    answer = refiner.predict(
        prompts.box_xyxy, prompts.points_xy or None, prompts.labels or None, multimask=multimask
    )
    return np.asarray(answer.masks[int(np.argmax(answer.scores))], bool)


def refine(
    refiner: PromptedSegmenter, prompts: Prompts, coarse: np.ndarray, multimask: bool = False
) -> np.ndarray:
    """The refined mask of the segmenter's picture; the coarse one without prompts, or where the answer is empty."""
    if prompts.empty:
        return coarse
    mask = ask(refiner, prompts, multimask)
    return mask if mask.any() else coarse
