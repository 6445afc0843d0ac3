"""Find what sentences mean: in one picture as `Grounding`s, in many as a folder of masks, overlays and JSON lines.

As in the authors' test pipeline the picture is stretched to the network's square; box and mask are brought back to the
picture's own pixels. Sentences about one picture share its decoding, its transform and all of the backbone before the
first cross-attention; a sentence goes through the language model once, however many pictures it is looked for in.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from papers_shared.cpu import pack_linears
from papers_shared.errors import UserError
from papers_shared.heat import heat_map
from papers_shared.images import load_image, side_by_side
from papers_shared.losses import cxcywh_to_xyxy
from plvl.drawing import caption, draw_target, fit
from plvl.modeling.plvl import PLVL, PLVLOutput
from plvl.options import Device, Precision, PredictOptions
from plvl.resize import mask_at_size
from plvl.transforms import prepare_image

DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SENTENCES_KEPT = 4096
"""Language features of the last so many distinct sentences stay in memory (0.12 MB each at the paper's size)."""


@dataclass(eq=False)
class Grounding:
    """What one sentence means in one picture."""

    image: Image.Image
    """The picture, RGB, upright."""
    sentence: str
    box_xyxy: tuple[float, float, float, float] | None
    """Corners x0, y0, x1, y1 in pixels of the picture, clamped to it; None: the network has no box branch."""
    mask: np.ndarray | None
    """(H, W) bool at the picture's size; None: the network has no mask branch."""
    score: float | None
    """Probability of the centre at its highest cell; None: the network has no centre map."""
    score_map: np.ndarray | None
    """(rows, columns) float32, probability of being the centre, over the cells of the stretched picture."""
    remarks: tuple[str, ...] = ()
    """What of the sentence the model did not read: cut off, unknown to its vocabulary, or empty."""

    def draw(self, *, score_map: bool = False, max_side: int = 0) -> Image.Image:
        """The picture under its mask and box, with the sentence below; `score_map`: the map of centres beside it.

        `max_side` > 0 shrinks the picture first.
        """
        image = fit(self.image, max_side)
        drawn = draw_target(image, self._box_in(image), self._mask_in(image))
        if score_map and self.score_map is not None:
            drawn = side_by_side([("", drawn), ("", heat_map(self.score_map, image.size))])
        return caption(drawn, self.sentence)

    def _box_in(self, image: Image.Image) -> tuple[float, ...] | None:
        if self.box_xyxy is None:
            return None
        factors = (image.width / self.image.width, image.height / self.image.height) * 2
        return tuple(corner * factor for corner, factor in zip(self.box_xyxy, factors, strict=True))

    def _mask_in(self, image: Image.Image) -> np.ndarray | None:
        if self.mask is None or image.size == self.image.size:
            return self.mask
        return np.asarray(Image.fromarray(self.mask).resize(image.size, Image.Resampling.NEAREST))


class TextFeatures:
    """The language model's answer per distinct sentence, on the model's device."""

    def __init__(self, model: PLVL, precision: Precision = "no") -> None:
        self.model, self.precision = model, precision
        self.tokenizer = model.tokenizer
        self._known: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    def __call__(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Features (S, N, text_dim) and mask (S, N) of sentences; call it in `no_grad`."""
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._known]
        if new:
            input_ids, mask = (x.to(_device(self.model)) for x in self.tokenizer(new))
            with _autocast(self.model, self.precision):
                features = self.model.encode_text(input_ids, mask)
            self._known.update(zip(new, zip(features, mask, strict=True), strict=True))
        chosen = [self._known[sentence] for sentence in sentences]
        while len(self._known) > SENTENCES_KEPT:
            self._known.popitem(last=False)
        return torch.stack([features for features, _ in chosen]), torch.stack([mask for _, mask in chosen])


def predict(
    model: PLVL,
    image: Image.Image | np.ndarray | str | Path,
    sentences: Sequence[str],
    *,
    precision: Precision = "no",
    max_pixels: int = PredictOptions.max_pixels,
    batch_size: int = 16,
    text: TextFeatures | None = None,
) -> list[Grounding]:
    """What each sentence means in one picture (a path, a Pillow picture or (H, W, 3) uint8 RGB).

    An empty sentence is answered too: by what the model finds without one. It, a sentence that is cut at
    `config.max_tokens` and words that the vocabulary does not have are warned of (`Grounding.remarks`).

    Args:
        batch_size: Sentences that the language model reads together, and whose answers are held at a time.
        text: Keeps language features from call to call, for sentences that come again.

    Raises:
        UserError: unreadable picture, more than `max_pixels` pixels, or a model without a vocabulary.
    """
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    picture = load_image(image, max_pixels=max_pixels)
    pack_linears(model)
    text = text or TextFeatures(model, precision)
    groundings: list[Grounding] = []
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            inputs = prepare_image(picture, model.config).to(_device(model))
            with _autocast(model, precision):
                seen = model.encode_image(inputs)
            for first in range(0, len(sentences), batch_size):
                some = sentences[first : first + batch_size]
                features, mask = text(some)
                with _autocast(model, precision):
                    output = model.ground_all(seen, features, mask)
                groundings += [
                    _grounding(picture, sentence, output, index) for index, sentence in enumerate(some)
                ]
    finally:
        model.train(training)
    for grounding in groundings:
        grounding.remarks = tuple(text.tokenizer.remarks(grounding.sentence))
        for remark in grounding.remarks:
            warnings.warn(f"{_quoted(grounding.sentence)}: {remark}", stacklevel=2)
    return groundings


def open_model(model: str, device: Device = "auto") -> PLVL:
    """A trained model from a folder or the Hub, in eval mode on `device`."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; use --device cpu, or auto")
    chosen = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    return PLVL.from_pretrained(model, device=chosen).eval()


def run(options: PredictOptions) -> int:
    """`plvl predict`: 0, or 1 if a picture failed."""
    from plvl.predict_many import jobs_of, predict_many

    jobs = jobs_of(options)
    records = predict_many(
        open_model(options.model, options.device),
        jobs,
        options.output,
        name=options.model,
        precision=options.precision,
        score_map=options.score_map,
        overlay_side=options.overlay_side,
        max_pixels=options.max_pixels,
    )
    failed = sum("error" in record for record in records)
    if len(records) <= 10:
        for record in records:
            print(f"{record['file']}: {record.get('expression', '')!r}: {record.get('box_xyxy', 'failed')}")
    print(
        f"{len(records) - failed} of {len(records)} answered: {options.output}/masks, overlays, predictions.jsonl"
    )
    return 1 if failed else 0


def _grounding(picture: Image.Image, sentence: str, output: PLVLOutput, index: int) -> Grounding:
    """One row of the output in the picture's own pixels."""
    width, height = picture.size
    box = mask = score = score_map = None
    if output.boxes is not None:
        corners = cxcywh_to_xyxy(output.boxes[index].double()).clamp(0, 1).cpu()
        x0, y0, x1, y1 = (corners * torch.tensor([width, height, width, height])).tolist()
        box = (x0, y0, x1, y1)
    if output.score_logits is not None:
        score_map = output.score_logits[index, 0].float().sigmoid().cpu().numpy()
        score = float(score_map.max())
    if output.mask_logits is not None:
        mask = (mask_at_size(output.mask_logits[index, 0], height, width) >= 0.5).cpu().numpy()
    return Grounding(picture, sentence, box, mask, score, score_map)


def _quoted(sentence: str) -> str:
    return f"'{sentence[:40]}...'" if len(sentence) > 40 else f"'{sentence}'"


def _device(model: PLVL) -> torch.device:
    return next(model.parameters()).device


def _autocast(model: PLVL, precision: Precision) -> torch.autocast:
    return torch.autocast(_device(model).type, DTYPES[precision], enabled=precision != "no")
