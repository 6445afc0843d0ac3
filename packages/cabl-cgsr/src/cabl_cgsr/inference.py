"""From an image to a score, a map and masks: the one road of `predict`, `evaluate`, the figures and the demo.

    prepare_views -> network_maps -> judge (localize -> make_prompts -> refine)

Protocol of the paper (Sections II-C, III-A): squares of 256, 512 and 768 pixels, each mirrored too; the image score is
the mean of both branches' probabilities over all of them; the aggregated map becomes a coarse mask, its largest
component a box and its extremes two points, and a prompted segmenter answers with the mask. How it is done stands in
the model's configuration; every function takes another one, and none writes to the model.

There are no tiles: score and map are relative to the whole image (a map is scaled by its own extremes, and a label
belongs to an image), so the maps of two tiles could not be laid side by side.

What the network leaves of an image (`ViewMaps`) is a few kilobytes: all that follows costs no second forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cabl_cgsr.calibration import probability
from cabl_cgsr.cam import activation_map, aggregate, image_score, scale_map
from cabl_cgsr.config import CamConfig, ModelConfig, one_scale
from cabl_cgsr.drawing import draw_map, draw_mask, draw_prompts
from cabl_cgsr.prompts import Prompts, coarse_mask, make_prompts
from papers_shared.devices import autocast, choose_precision, device_of, inputs_at_once, precision_name
from papers_shared.drawing import marked_untrained, shrink, side_by_side
from papers_shared.errors import UserError
from papers_shared.images import MAX_PIXELS, load_image
from papers_shared.normalization import normalization_on
from papers_shared.provenance import check_trained
from papers_shared.sam import Asked, PromptedSegmenter, make_refiner, predict_all
from papers_shared.threads import evaluation_mode, lock_of
from papers_shared.types import AskedPrecision, Precision

CALLS = ("forward", "forward_maps")
"""What of the network is called."""


class ScaleMaps(NamedTuple):
    """One entry for each size, and for each mirrored size after it."""

    maps: list[Tensor]
    """Each (B, h, w), mirrored back, unscaled: what `aggregate` takes."""
    scores: Tensor
    """(B, entries) in [0, 1]; the image score is the mean over the entries."""
    names: list[str]
    """`512x512`, `512x512 mirrored`, ..."""


@dataclass(frozen=True, eq=False)
class ViewMaps:
    """What the network says about one image; an entry for each size and for each mirrored size."""

    maps: tuple[np.ndarray, ...]
    """Each (h, w) float32, unscaled, mirrored ones mirrored back."""
    scores: tuple[float, ...]
    """Of each entry, in [0, 1]."""
    names: tuple[str, ...]
    """`512x512`, `512x512 mirrored`, ..."""
    size: tuple[int, int]
    """Height and width of the image in pixels."""


@dataclass(frozen=True, eq=False)
class Coarse:
    """Before the refinement; arrays are (H, W) at the size of the image."""

    score: float
    """Image score in [0, 1], higher = manipulated: the mean over all entries of `ViewMaps`."""
    raw_map: np.ndarray
    """float32, the aggregated map, unscaled: what the points are taken from."""
    cam: np.ndarray
    """float32, the map in [0, 1]."""
    mask: np.ndarray
    """bool."""


@dataclass(eq=False)
class Localization:
    """What the model says about one image; arrays are (H, W), of the image's own size after EXIF rotation.

    It holds no network: it can be pickled, and reading it computes nothing.
    """

    image: Image.Image
    """RGB, upright."""
    score: float
    """In [0, 1], higher = manipulated."""
    probability: float
    """That the image is manipulated: the score, calibrated on held-out images where the model was."""
    threshold: float
    """The image is judged manipulated when the probability exceeds this."""
    unsure: float
    """Probabilities nearer to the threshold than this are judged "can't say"."""
    scale_scores: dict[str, float]
    """The score at each size, mirrored or not: `512x512`, `512x512 mirrored`, ..."""
    raw_map: np.ndarray
    """float32, the aggregated map, unscaled."""
    cam: np.ndarray
    """float32 in [0, 1], higher = manipulated."""
    coarse_mask: np.ndarray
    """bool."""
    prompts: Prompts
    """What a segmenter is asked with, in pixels of the image; they are made whether it is asked or not."""
    refined_mask: np.ndarray | None
    """bool; None where nothing was refined."""
    refiner: str
    """What made the refined mask; empty where nothing was refined."""
    not_refined: str
    """Why nothing was refined; empty where something was."""
    protocol: str
    """How image became score, map and coarse mask, in one sentence."""
    untrained: tuple[str, ...] = ()
    """Parts of the model that were never trained."""
    asked_by_user: bool = False
    """The prompts are a user's, not those that the map gives."""

    @property
    def manipulated(self) -> bool:
        return self.probability > self.threshold

    @property
    def verdict(self) -> str:
        """`manipulated`, `authentic` or `can't say`."""
        if abs(self.probability - self.threshold) < self.unsure:
            return "can't say"
        return "manipulated" if self.manipulated else "authentic"

    @property
    def mask(self) -> np.ndarray:
        """The refined mask, or the coarse one where nothing was refined."""
        return self.coarse_mask if self.refined_mask is None else self.refined_mask

    def map_image(self) -> Image.Image:
        """The map in 16 bits, 0 to 65,535."""
        return Image.fromarray(np.rint(self.cam * 65_535).astype(np.uint16))

    def draw(self, *, max_side: int = 0) -> Image.Image:
        """The image with mask, box and points; `max_side` > 0 shrinks the result."""
        drawn = draw_prompts(draw_mask(self.image, self.mask), self.prompts)
        return marked_untrained(shrink(drawn, max_side, Image.Resampling.LANCZOS), self.untrained)

    def panel(self, *, height: int = 320) -> Image.Image:
        """Image, map, coarse mask and mask side by side."""
        last = f"refined by {self.refiner}" if self.refiner else "not refined"
        drawings = [
            ("image", self.image),
            ("activation map", draw_map(self.cam)),
            ("coarse mask", draw_prompts(draw_mask(self.image, self.coarse_mask), self.prompts)),
            (last, draw_mask(self.image, self.mask)),
        ]
        return marked_untrained(side_by_side(drawings, height=height), self.untrained)

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays."""
        return {
            "verdict": self.verdict,
            "score": self.score,
            "probability": self.probability,
            "threshold": self.threshold,
            "unsure": self.unsure,
            "scale_scores": self.scale_scores,
            "box_xyxy": self.prompts.box_xyxy,
            "points_xy": self.prompts.points_xy,
            "labels": self.prompts.labels,
            "refiner": self.refiner or None,
            "not_refined": self.not_refined or None,
            "mask_share": float(self.mask.mean()),
            "coarse_mask_share": float(self.coarse_mask.mean()),
            "width": self.image.width,
            "height": self.image.height,
            "asked_by_user": self.asked_by_user,
            "untrained": list(self.untrained),
            "protocol": self.protocol,
        }


def predict(
    localizer: Any,
    image: Image.Image | np.ndarray | Tensor | str | Path,
    *,
    refiner: PromptedSegmenter | str | None = "grabcut",
    always_refine: bool = False,
    fast: bool = False,
    config: ModelConfig | None = None,
    threshold: float | None = None,
    precision: AskedPrecision = "auto",
    max_pixels: int = MAX_PIXELS,
    untrained: bool = False,
) -> Localization:
    """Judge one image on the localizer's device.

    Several threads may share a localizer and a refiner, with other options each.

    Args:
        image: A path, a Pillow image, or an array or tensor of pixels (see `papers_shared.images.from_array`).
        refiner: A prompted segmenter of `papers_shared.sam`, the word that makes one, or None.
        always_refine: Refine whatever the score is; otherwise only what is judged manipulated.
        fast: The middle one of the sizes, unmirrored, in place of all.
        config: The model's configuration with other options of `cam` and `prompts` (`cam.sizes` and `cam.mirror` among
            them); None: the model's own.
        threshold: Of the probability, with no "can't say" around it; None: as the model's calibration has it, 0.5
            where there is none.
        precision: What the network computes in, and a refiner that is made here.
        untrained: Answer with a network whose parts were never trained, too.

    Raises:
        UserError: A network that was never trained, an unreadable image, more than `max_pixels` pixels, a refiner
            that cannot be made, a model whose
            answers are not finite.
    """
    fresh = check_trained(localizer, untrained)
    check_options(threshold, max_pixels)
    computed = choose_precision(precision, device_of(localizer))
    config = one_scale(config or localizer.config) if fast else config or localizer.config
    image = load_image(image, max_pixels=max_pixels)
    views = [view[None] for view in prepare_views(image, config)]
    (maps,) = network_maps(localizer, views, [(image.height, image.width)], config, computed)
    return judge(
        image,
        maps,
        config,
        refiner=refiner,
        always_refine=always_refine,
        threshold=threshold,
        precision=computed,
        device=str(device_of(localizer)),
        untrained=fresh,
    )


def judge(
    image: Image.Image,
    maps: ViewMaps,
    config: ModelConfig,
    *,
    refiner: PromptedSegmenter | str | None = "grabcut",
    always_refine: bool = False,
    threshold: float | None = None,
    precision: Precision = "fp32",
    device: str = "cpu",
    untrained: tuple[str, ...] = (),
) -> Localization:
    """What follows from the maps of an image; the network is not asked again.

    Args:
        image: RGB, upright.
        precision: What the maps were computed in.
        device: Where a refiner that is made here computes.
        untrained: Parts of the model that were never trained; the other options are those of `predict`.

    Raises:
        UserError: The score is not finite.
    """
    coarse = localize(maps, config)
    if not math.isfinite(coarse.score):
        raise UserError("the image score is not finite: the model's weights are broken")
    chance, limit, unsure = probability(coarse.score, config.calibration), threshold, 0.0
    if limit is None:
        limit, unsure = config.calibration.threshold, config.calibration.unsure
    prompts = make_prompts(coarse.raw_map, coarse.mask, config.prompts)
    refined, name, reason = None, "", ""
    if refiner is None:
        reason = "no refiner was given"
    elif not always_refine and chance <= limit - unsure:
        reason = "judged authentic"
    elif prompts.empty:
        reason = "the coarse mask is empty" if not coarse.mask.any() else "no prompts are made"
    else:
        if isinstance(refiner, str):
            refiner = make_refiner(refiner, device=device, precision=precision)
        with lock_of(refiner):
            refiner.set_image(np.asarray(image))
            refined = refine(refiner, prompts, coarse.mask, config.prompts.multimask)
        name = refiner.name
    return Localization(
        image=image,
        score=coarse.score,
        probability=chance,
        threshold=limit,
        unsure=unsure,
        scale_scores=dict(zip(maps.names, maps.scores, strict=True)),
        raw_map=coarse.raw_map,
        cam=coarse.cam,
        coarse_mask=coarse.mask,
        prompts=prompts,
        refined_mask=refined,
        refiner=name,
        not_refined=reason,
        protocol=describe_protocol(config, precision),
        untrained=untrained,
    )


def check_options(threshold: float | None, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse options of `predict` that no image could be judged with."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"--threshold {threshold!r} is not in [0, 1]; 0.5 is the usual one")
    if max_pixels < 1:
        raise UserError(f"--max-pixels {max_pixels}: give 1 or more")


def describe_protocol(config: ModelConfig, precision: Precision = "fp32") -> str:
    """How an image becomes a score, a map and a coarse mask: the sentence that goes with every result."""
    cam, prompts = config.cam, config.prompts
    sizes = ", ".join(f"{side}x{side}" for side in cam.sizes)
    return (
        f"image resized to {sizes}{', each mirrored too' if cam.mirror else ''}; score: mean over all; map: "
        f"{cam.source}, attention {cam.attention}, resized to the image's size, {cam.aggregation} over all, "
        f"{cam.scaling}; coarse mask: map > {prompts.threshold}; {prompts.connectivity}-connectivity; "
        f"{precision_name(precision)}"
    )


def prepare_views(image: Image.Image, config: ModelConfig) -> list[Tensor]:
    """An RGB image for each of `config.cam.sizes` as a square (3, s, s) uint8, which `network_maps` normalises.

    Resized bicubically without regard to the aspect ratio, as TransCAM does; mirroring is left to the network's side.
    """
    squares = (image.resize((side, side), Image.Resampling.BICUBIC) for side in config.cam.sizes)
    return [torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous() for square in squares]


def network_maps(
    localizer: Any,
    views: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    config: ModelConfig | None = None,
    precision: Precision = "fp32",
) -> list[ViewMaps]:
    """Maps and scores of a batch of images.

    Args:
        views: For each size (B, 3, s, s), uint8 as of `prepare_views`, or normalised.
        sizes: Height and width of each of the B images.
        config: How maps and scores are made; None: the localizer's own.
    """
    config = config or localizer.config
    with torch.inference_mode(), evaluation_mode(localizer), autocast(localizer, precision):
        scales = run_scales(localizer, [_on_device(view, localizer) for view in views], config.cam)
    fetched = torch.cat([entry.float().flatten(1) for entry in scales.maps], dim=1).cpu()
    parts = fetched.split([entry[0].numel() for entry in scales.maps], dim=1)
    maps = [part.reshape(entry.shape).numpy() for part, entry in zip(parts, scales.maps, strict=True)]
    scores = scales.scores.cpu().double().tolist()
    return [
        ViewMaps(tuple(entry[i] for entry in maps), tuple(scores[i]), tuple(scales.names), size)
        for i, size in enumerate(sizes)
    ]


def network_scores(
    localizer: Any, views: Sequence[Tensor], config: ModelConfig | None = None, precision: Precision = "fp32"
) -> list[float]:
    """The image scores alone of the views that `network_maps` takes: the same as with maps, at less cost."""
    config = config or localizer.config
    scores: list[Tensor] = []
    with torch.inference_mode(), evaluation_mode(localizer), autocast(localizer, precision):
        for batch in views:
            inputs, count = _inputs(_on_device(batch, localizer), config.cam)
            outputs = [localizer(one) for one in inputs]
            found = [
                image_score(one.logits_conv, one.logits_trans, config.activation, config.cam.score)
                for one in outputs
            ]
            scores += torch.cat(found).chunk(count)
    return torch.stack(scores, dim=1).cpu().double().mean(dim=1).tolist()


def run_scales(localizer: Any, images: Sequence[Tensor], config: CamConfig | None = None) -> ScaleMaps:
    """Maps and scores of images at several sizes, in the mode, precision and gradient mode that are set.

    Args:
        images: For each size a batch (B, 3, s, s) of the same images, normalised; oblong ones work too.
        config: How maps and scores are made; None: the localizer's own. `sizes` is the caller's business.
    """
    config, activation = config or localizer.config.cam, localizer.config.activation
    maps: list[Tensor] = []
    scores: list[Tensor] = []
    names = []
    for batch in images:
        cams, found = [], []
        inputs, count = _inputs(batch, config)
        for one in inputs:
            view = localizer.forward_maps(one)
            cams.append(activation_map(view.conv_map, view.trans_map, view.attention, config)[:, -1])
            found.append(image_score(view.logits_conv, view.logits_trans, activation, config.score))
        for mirrored, cam in enumerate(torch.cat(cams).chunk(count)):
            maps.append(cam.flip(-1) if mirrored else cam)
            names.append(f"{batch.shape[-2]}x{batch.shape[-1]}{' mirrored' if mirrored else ''}")
        scores += torch.cat(found).chunk(count)
    return ScaleMaps(maps, torch.stack(scores, dim=1), names)


def localize(maps: ViewMaps, config: ModelConfig) -> Coarse:
    """The maps of one image as one, at the image's size, and the coarse mask."""
    raw = aggregate([torch.from_numpy(entry) for entry in maps.maps], maps.size, config.cam.aggregation)
    cam = scale_map(raw, config.cam.scaling).numpy()
    return Coarse(float(np.mean(maps.scores)), raw.numpy(), cam, coarse_mask(cam, config.prompts))


def ask(refiner: PromptedSegmenter, prompts: Sequence[Prompts], multimask: bool = False) -> list[np.ndarray]:
    """The segmenter's mask for each of the prompts about its image, boolean (H, W), maybe empty; of several that of the
    highest score.
    """
    asked = [Asked(one.box_xyxy, one.points_xy or None, one.labels or None) for one in prompts]
    answers = predict_all(refiner, asked, multimask)
    return [np.asarray(answer.masks[int(np.argmax(answer.scores))], bool) for answer in answers]


def refine(
    refiner: PromptedSegmenter, prompts: Prompts, coarse: np.ndarray, multimask: bool = False
) -> np.ndarray:
    """The refined mask of the segmenter's image; the coarse one without prompts, or where the answer is empty."""
    if prompts.empty:
        return coarse
    (mask,) = ask(refiner, [prompts], multimask)
    return mask if mask.any() else coarse


def _on_device(view: Tensor, localizer: Any) -> Tensor:
    """A batch where the network computes, normalised there."""
    device, config = device_of(localizer), localizer.config
    moved = view.to(device, non_blocking=True)
    if moved.dtype != torch.uint8:
        return moved
    return normalization_on(device, tuple(config.mean), tuple(config.std), np.float32)(moved)


def _inputs(batch: Tensor, config: CamConfig) -> tuple[list[Tensor], int]:
    """The batch and, if asked for, its mirror image, as the network takes them, and how many views they are.

    On a GPU both go through it together.
    """
    views = [batch, batch.flip(-1)] if config.mirror else [batch]
    if len(views) * len(batch) <= inputs_at_once(batch.device, batch[0, 0].numel()):
        return [torch.cat(views)], len(views)
    return views, len(views)


def ask_again(
    found: Localization, refiner: PromptedSegmenter, prompts: Prompts, multimask: bool = False
) -> Localization:
    """The same judgement with the mask that a segmenter finds for other prompts, such as those that a user gives.

    Raises:
        UserError: The prompts are empty, malformed or outside the image.
    """
    for x, y in prompts.points_xy:
        if not (0 <= x < found.image.width and 0 <= y < found.image.height):
            raise UserError(
                f"the point ({x}, {y}) lies outside the image, which is {found.image.width} x {found.image.height}"
            )
    with lock_of(refiner):
        refiner.set_image(np.asarray(found.image))
        (mask,) = ask(refiner, [prompts], multimask)
    return replace(
        found, prompts=prompts, refined_mask=mask, refiner=refiner.name, not_refined="", asked_by_user=True
    )
