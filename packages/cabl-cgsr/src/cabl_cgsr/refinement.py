"""A prompted segmenter over the images of a set: each is read and encoded at most once, several together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cabl_cgsr.config import PromptConfig
from cabl_cgsr.data.pixels import Row
from cabl_cgsr.inference import Coarse, ask
from cabl_cgsr.prediction_cache import PredictionCache, image_key, joined_key, prompts_key, refiner_key
from cabl_cgsr.prompts import Prompts, make_prompts
from cabl_cgsr.set_inference import Degradation
from papers_shared.sam import PromptedSegmenter
from papers_shared.threads import lock_of


class Missing(NamedTuple):
    """An image whose answers are not all stored."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    unknown: dict[str, tuple[str, Prompts, bool]]
    """Key, prompts and whether several masks are asked for, by variant."""
    known: dict[str, np.ndarray]
    """Answers by variant, to be completed."""


class SetRefiner:
    """Refined masks under several kinds of prompts; answers are stored, and only missing ones are asked for.

    Args:
        variants: Kinds of prompts by their names.
        degradation: What is done to each image first.
    """

    def __init__(
        self,
        refiner: PromptedSegmenter,
        variants: Mapping[str, PromptConfig],
        cache: PredictionCache,
        degradation: Degradation | None = None,
    ) -> None:
        self.refiner, self.variants, self.cache = refiner, variants, cache
        self.degradation = degradation or Degradation()
        self._refiner_key = refiner_key(refiner) if cache.enabled else ""

    def __call__(self, images: Sequence[tuple[Row, Coarse]]) -> list[dict[str, np.ndarray]]:
        """The boolean (H, W) mask of each image by variant, none of an authentic one; the coarse mask where there is
        no prompt, or where the answer is empty. Images that must be encoded go through the segmenter as one batch.
        """
        masks: list[dict[str, np.ndarray]] = []
        missing: list[Missing] = []
        for row, coarse in images:
            known: dict[str, np.ndarray] = {}
            masks.append(known)
            if not row["label"]:
                continue
            unknown: dict[str, tuple[str, Prompts, bool]] = {}
            image = image_key(row["image"], self.degradation.name) if self.cache.enabled else ""
            for name, config in self.variants.items():
                prompts = make_prompts(coarse.raw_map, coarse.mask, config)
                key = joined_key(self._refiner_key, image, prompts_key(prompts), str(config.multimask))
                stored = coarse.mask if prompts.empty else self.cache.mask(key)
                if stored is None:
                    unknown[name] = (key, prompts, config.multimask)
                else:
                    known[name] = stored
            if unknown:
                missing.append(Missing(self.degradation.load(row), unknown, known))
        with lock_of(self.refiner):
            self.refiner.set_images([one.image for one in missing])
            for one in missing:
                self.refiner.set_image(one.image)
                for multimask in (False, True):
                    asked = {name: it for name, it in one.unknown.items() if it[2] == multimask}
                    answers = ask(self.refiner, [prompts for _, prompts, _ in asked.values()], multimask)
                    for (name, (key, _, _)), mask in zip(asked.items(), answers, strict=True):
                        one.known[name] = mask
                        self.cache.store_mask(key, mask)
        return [
            {name: mask if mask.any() else coarse.mask for name, mask in known.items()}
            for known, (_, coarse) in zip(masks, images, strict=True)
        ]
