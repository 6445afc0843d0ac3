"""One image and sentences -> `Grounding`s: the one road that `predict`, `evaluate`, `figures` and the demo take.

As in the authors' test pipeline the image is stretched to the network's square; box and mask are brought back to the
image's own pixels. Sentences about one image share its decoding, its transform and all of the backbone before the
first cross-attention; a sentence goes through the language model once, however many images it is looked for in.

Flips, scales and tiles are no options here: in a mirrored image "left" means another object, in a tile the object that
a sentence compares with may be missing, and boxes of two objects have no useful mean.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from papers_shared.boxes import cxcywh_to_xyxy
from papers_shared.devices import autocast, choose_precision, device_of
from papers_shared.drawing import heat_map, marked_untrained, shrink, side_by_side
from papers_shared.errors import UserError
from papers_shared.images import MAX_PIXELS, load_image
from papers_shared.provenance import check_trained
from papers_shared.threads import evaluation_mode
from papers_shared.types import AskedPrecision, Precision
from plvl.config import ModelConfig
from plvl.drawing import caption, draw_target
from plvl.modeling.head import HeadOutput
from plvl.tokenizer import tokenizer_of
from plvl.transforms import prepare_image, stretch_on

CALLS = ("encode_text", "encode_image", "ground")
"""What of the network is called."""
BATCH_SIZE = 16
"""Sentences about one image per forward pass."""
SENTENCES_KEPT = 4096
"""Language features of the last so many distinct sentences stay in memory (0.12 MB each at the paper's size)."""

Protocol = Literal["paper", "original"]
PROTOCOLS: dict[Protocol, str] = {
    "paper": "image and mask stretched to {side}x{side} and compared there, as in the official code",
    "original": "image stretched to {side}x{side}; mask probabilities brought back to the image's size (bilinear, "
    "aligned corners), mask where they are 0.5 or more; box in the image's own pixels, clamped to it",
}


Network = Any
"""A `plvl.PLVL`; its file imports this one, so the class is not named here."""
Features = Any
"""A `plvl.modeling.plvl.ImageFeatures`: what the network keeps of images before the first sentence."""


@dataclass(eq=False)
class Grounding:
    """What one sentence means in one image."""

    image: Image.Image
    """RGB, upright."""
    sentence: str
    box_xyxy: tuple[float, float, float, float] | None
    """Corners x0, y0, x1, y1 in pixels of the image, clamped to it; None: the network has no box branch."""
    mask: np.ndarray | None
    """(H, W) bool at the image's size; None: the network has no mask branch."""
    score: float | None
    """Probability of the centre at its highest cell; None: the network has no centre map."""
    score_map: np.ndarray | None
    """(rows, columns) float32, probability of being the centre, over the cells of the stretched image."""
    untrained: tuple[str, ...] = ()
    """Parts of the model that were never trained."""
    warnings: tuple[str, ...] = ()
    """What of the sentence the model did not read: cut off, unknown to its vocabulary, or empty."""
    refined_mask: np.ndarray | None = None
    """(H, W) bool, what a promptable segmenter finds in the box; None: none was asked, or the box has no area."""
    refiner: str = ""
    """What made `refined_mask`."""

    def draw(self, *, score_map: bool = False, max_side: int = 0) -> Image.Image:
        """The image under its mask and box, with the sentence below; beside it the same with the refined mask, where
        there is one, and with `score_map` the map of centres.

        `max_side` > 0 shrinks the image first.
        """
        image, mask = shrink(self.image, max_side), self.mask
        scale = (image.width / self.image.width, image.height / self.image.height) * 2
        box = None if self.box_xyxy is None else [x * by for x, by in zip(self.box_xyxy, scale, strict=True)]
        if mask is not None and image.size != self.image.size:
            mask = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
        drawn = draw_target(image, box, mask)
        if self.refined_mask is not None:
            refined = Image.fromarray(self.refined_mask).resize(image.size, Image.Resampling.NEAREST)
            second = (self.refiner, draw_target(image, box, np.asarray(refined)))
            drawn = side_by_side([("network", drawn), second])
        if score_map and self.score_map is not None:
            drawn = side_by_side([("", drawn), ("", heat_map(self.score_map, image.size))])
        return marked_untrained(caption(drawn, self.sentence), self.untrained)


class Answers(NamedTuple):
    """The network's answers to some sentences about one image, in its own square and on its device.

    None for a branch that was not built.
    """

    boxes: Tensor | None
    """(S, 4) float32 corners as fractions of the image; they may leave it."""
    masks: Tensor | None
    """(S, side, side) float32 probabilities."""
    score_maps: Tensor | None
    """(S, rows, columns) float32 probabilities of being the centre."""

    def check_finite(self) -> None:
        """Refuse answers of a damaged network.

        Raises:
            UserError: One of them is not finite.
        """
        if not torch.stack([part.isfinite().all() for part in self if part is not None]).all():
            raise UserError("the network's answer is not finite: its weights are damaged")

    def part(self, first: int, last: int) -> Answers:
        """Those to the sentences from `first` up to `last`."""
        return Answers(*(None if part is None else part[first:last] for part in self))

    def boxes_at(self, height: int, width: int) -> np.ndarray | None:
        """(S, 4) float64 corners in pixels of an image of that size, clamped to it."""
        if self.boxes is None:
            return None
        return self.boxes.clamp(0, 1).cpu().double().numpy() * np.array([width, height, width, height])

    def masks_at(self, height: int, width: int) -> Tensor | None:
        """(S, height, width) bool, on the network's device.

        The image was stretched into the square with aligned corners, so the masks' way back is the same.
        """
        if self.masks is None:
            return None
        size = (height, width)
        enlarged = (
            F.interpolate(mask[None, None], size, mode="bilinear", align_corners=True) for mask in self.masks
        )
        return torch.stack([mask[0, 0] >= 0.5 for mask in enlarged])


class TextFeatures:
    """The language model's answer per distinct sentence, on the model's device; threads may share it."""

    def __init__(self, model: Network, precision: Precision = "fp32") -> None:
        self.model, self.precision = model, precision
        self.tokenizer = tokenizer_of(model)
        self._known: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Features (S, N, text_dim) and mask (S, N) of sentences; call it in `no_grad`."""
        with self._lock:
            found = {sentence: self._known[sentence] for sentence in sentences if sentence in self._known}
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in found]
        if new:
            input_ids, mask = (x.to(device_of(self.model)) for x in self.tokenizer(new))
            with autocast(self.model, self.precision):
                features = self.model.encode_text(input_ids, mask)
            found.update(zip(new, zip(features, mask, strict=True), strict=True))
            with self._lock:
                self._known.update((sentence, found[sentence]) for sentence in new)
                while len(self._known) > SENTENCES_KEPT:
                    self._known.popitem(last=False)
        features, masks = zip(*(found[sentence] for sentence in sentences), strict=True)
        return torch.stack(features), torch.stack(masks)


def predict(
    model: Network,
    image: Image.Image | np.ndarray | Tensor | str | Path,
    sentences: Sequence[str],
    *,
    precision: AskedPrecision = "auto",
    max_pixels: int = MAX_PIXELS,
    batch_size: int = BATCH_SIZE,
    text: TextFeatures | None = None,
    untrained: bool = False,
) -> list[Grounding]:
    """What each sentence means in one image.

    An empty sentence is answered too: by what the model finds without one. For it, for a sentence that is cut at
    `config.max_tokens` and for words that the vocabulary lacks there is a warning (`Grounding.warnings`).

    Args:
        image: A path, a Pillow image, or an array or tensor of pixels (see `papers_shared.images.from_array`).
        batch_size: Most sentences per forward pass.
        text: Keeps language features from call to call, for sentences that come again.
        untrained: Answer with a network whose parts were never trained, too.

    Raises:
        UserError: A network that was never trained, an unreadable image, more than `max_pixels` pixels, a model
            without a vocabulary, or an answer that is
            not finite.
    """
    fresh = check_trained(model, untrained)
    upright = load_image(image, max_pixels=max_pixels)
    computed = choose_precision(precision, device_of(model))
    text = text or TextFeatures(model, computed)
    inputs = [prepare_image(upright, model.config)]
    (groundings,) = ground_images(
        model,
        [upright],
        inputs,
        [sentences],
        text=text,
        precision=computed,
        batch_size=batch_size,
        untrained=fresh,
    )
    return groundings


def ground_images(
    model: Network,
    images: Sequence[Image.Image],
    inputs: list[Tensor] | Features,
    sentences: Sequence[Sequence[str]],
    *,
    text: TextFeatures,
    precision: Precision = "fp32",
    batch_size: int = BATCH_SIZE,
    untrained: tuple[str, ...] = (),
) -> list[list[Grounding]]:
    """What the sentences about each image mean in it; images and sentences go through the network together.

    Args:
        images: RGB, upright.
        inputs: What `plvl.transforms.prepare_image` makes of them, or what the network keeps of that.
        untrained: Parts of the model that were never trained; the other options are those of `predict`.

    Raises:
        UserError: A model without a vocabulary, or an answer that is not finite.
    """
    asked = [(number, sentence) for number, group in enumerate(sentences) for sentence in group]
    numbers, flat = [number for number, _ in asked], [sentence for _, sentence in asked]
    groundings: list[list[Grounding]] = [[] for _ in images]
    first = 0
    for found in answer(model, inputs, flat, numbers, text=text, precision=precision, batch_size=batch_size):
        found.check_finite()
        last = min(first + batch_size, len(flat))
        for number, members in groupby(range(first, last), key=numbers.__getitem__):
            positions = list(members)
            part = found.part(positions[0] - first, positions[-1] + 1 - first)
            about = [flat[position] for position in positions]
            groundings[number] += _groundings(images[number], about, part, text, untrained)
        first = last
    return groundings


def _groundings(
    image: Image.Image,
    sentences: Sequence[str],
    found: Answers,
    text: TextFeatures,
    untrained: tuple[str, ...],
) -> Iterator[Grounding]:
    """The answers about one image, in its own pixels."""
    boxes, masks = found.boxes_at(image.height, image.width), found.masks_at(image.height, image.width)
    fetched = None if masks is None else masks.cpu().numpy()
    maps = None if found.score_maps is None else found.score_maps.cpu().numpy()
    for i, sentence in enumerate(sentences):
        unread = tuple(text.tokenizer.warnings(sentence))
        for warning in unread:
            shown = f"{sentence[:40]}..." if len(sentence) > 40 else sentence
            warnings.warn(f"{shown!r}: {warning}", stacklevel=4)
        box = None if boxes is None else tuple(boxes[i].tolist())
        mask, score_map = None if fetched is None else fetched[i], None if maps is None else maps[i]
        score = None if score_map is None else float(score_map.max())
        yield Grounding(image, sentence, box, mask, score, score_map, untrained, unread)


def answer(
    model: Network,
    inputs: list[Tensor] | Features,
    sentences: Sequence[str],
    images: Sequence[int] | None = None,
    *,
    text: TextFeatures,
    precision: Precision = "fp32",
    batch_size: int = BATCH_SIZE,
) -> Iterator[Answers]:
    """The network's answers to sentences about images, `batch_size` of them at a time.

    They are computed in evaluation mode and without gradients.

    Args:
        inputs: What `plvl.transforms.prepare_image` makes of images, or what the network keeps of that.
        images: Which of them each sentence is about; None: all about the first.
    """
    seen = _encoded(model, inputs, precision) if isinstance(inputs, list) else inputs
    for first in range(0, len(sentences), batch_size):
        with torch.no_grad(), evaluation_mode(model):
            features, mask = text(sentences[first : first + batch_size])
            about = [0] * len(mask) if images is None else images[first : first + batch_size]
            index = torch.tensor(about).to(features.device, non_blocking=True)
            with autocast(model, precision):
                output = model.ground(seen.repeat_for(index), features, mask)
            found = _answers(output)
        yield found


def _answers(output: HeadOutput) -> Answers:
    return Answers(
        None if output.boxes is None else cxcywh_to_xyxy(output.boxes.float()),
        None if output.mask_logits is None else output.mask_logits[:, 0].float().sigmoid(),
        None if output.score_logits is None else output.score_logits[:, 0].float().sigmoid(),
    )


def describe_protocol(
    config: ModelConfig, protocol: Protocol = "original", precision: Precision = "fp32"
) -> str:
    """The sentence that predictions and evaluations are recorded with.

    Args:
        protocol: Where boxes and masks lie: `original`, the image's own pixels, or `paper`, the network's square.
    """
    computed = "" if precision == "fp32" else f"; computed in {precision}"
    return PROTOCOLS[protocol].format(side=config.image_size) + computed


class EncodedImage(NamedTuple):
    """An image after the part of the network that needs no sentence."""

    image: Image.Image
    """RGB, upright."""
    features: Features


def encode(
    model: Network,
    image: Image.Image | np.ndarray | Tensor | str | Path,
    *,
    precision: AskedPrecision = "auto",
    max_pixels: int = MAX_PIXELS,
) -> EncodedImage:
    """What `ground` needs of an image, for sentences that are not known yet.

    Raises:
        UserError: An unreadable image, or more than `max_pixels` pixels.
    """
    upright = load_image(image, max_pixels=max_pixels)
    computed = choose_precision(precision, device_of(model))
    return EncodedImage(upright, _encoded(model, [prepare_image(upright, model.config)], computed))


def ground(
    model: Network,
    encoded: EncodedImage,
    sentences: Sequence[str],
    *,
    text: TextFeatures,
    untrained: bool = False,
) -> list[Grounding]:
    """What `predict` answers to sentences about an image, which is not encoded again.

    Args:
        text: Of this model, in the precision of the encoded image.

    Raises:
        UserError: A network that was never trained, or an answer that is not finite.
    """
    fresh = check_trained(model, untrained)
    (found,) = ground_images(
        model,
        [encoded.image],
        encoded.features,
        [sentences],
        text=text,
        precision=text.precision,
        untrained=fresh,
    )
    return found


def _encoded(model: Network, images: list[Tensor], precision: Precision) -> Features:
    """What the network keeps of images, which become its squares where it computes."""
    weight = next(model.parameters())
    stretch = stretch_on(weight.device, model.config)
    moved = [image.to(weight.device, non_blocking=True) for image in images]
    squares = torch.cat([stretch(image[None], [(image.shape[1], image.shape[2])]) for image in moved])
    with torch.no_grad(), evaluation_mode(model), autocast(model, precision):
        return model.encode_image(squares.to(weight.dtype))
