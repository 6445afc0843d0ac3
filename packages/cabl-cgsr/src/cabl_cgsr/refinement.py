"""A prompted segmenter before the pictures of a set: each is read and encoded at most once, several together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cabl_cgsr.config import PromptConfig
from cabl_cgsr.inference import Coarse, ask
from cabl_cgsr.pictures import Change, Row
from cabl_cgsr.predictions import PredictionCache, joined_key, picture_key, prompts_key, refiner_key
from cabl_cgsr.prompts import Prompts, make_prompts
from papers_shared.sam import PromptedSegmenter


class Missing(NamedTuple):
    """A picture whose answers are not all stored."""

    picture: np.ndarray
    """(H, W, 3) uint8 RGB."""
    unknown: dict[str, tuple[str, Prompts, bool]]
    """Key, prompts and whether several masks are asked for, by variant."""
    known: dict[str, np.ndarray]
    """Answers by variant, to be completed."""


class SetRefiner:
    """Refined masks under several kinds of prompts; answers are stored, and only missing ones are asked for.

    Args:
        variants: Kinds of prompts by their names.
        change: What is done to each picture first.
    """

    def __init__(
        self,
        refiner: PromptedSegmenter,
        variants: Mapping[str, PromptConfig],
        cache: PredictionCache,
        change: Change | None = None,
    ) -> None:
        self.refiner, self.variants, self.cache = refiner, variants, cache
        self.change = change or Change()
        self._refiner_key = refiner_key(refiner)

    def __call__(self, pictures: Sequence[tuple[Row, Coarse]]) -> list[dict[str, np.ndarray]]:
        """The boolean (H, W) mask of each picture by variant, none of an authentic one; the coarse mask where there is
        no prompt, or where the answer is empty. Pictures that must be encoded go through the segmenter as one batch.
        """
        masks: list[dict[str, np.ndarray]] = []
        missing: list[Missing] = []
        for row, coarse in pictures:
            known: dict[str, np.ndarray] = {}
            masks.append(known)
            if not row["label"]:
                continue
            unknown: dict[str, tuple[str, Prompts, bool]] = {}
            picture = "" if self.cache.folder is None else picture_key(row["image"], self.change.name)
            for name, config in self.variants.items():
                prompts = make_prompts(coarse.raw_map, coarse.mask, config)
                key = joined_key(self._refiner_key, picture, prompts_key(prompts), str(config.multimask))
                stored = coarse.mask if prompts.empty else self.cache.mask(key)
                if stored is None:
                    unknown[name] = (key, prompts, config.multimask)
                else:
                    known[name] = stored
            if unknown:
                missing.append(Missing(self.change.load(row), unknown, known))
        self.refiner.set_images([one.picture for one in missing])
        for one in missing:
            self.refiner.set_image(one.picture)
            for name, (key, prompts, multimask) in one.unknown.items():
                one.known[name] = ask(self.refiner, prompts, multimask)
                self.cache.store_mask(key, one.known[name])
        return [
            {name: mask if mask.any() else coarse.mask for name, mask in known.items()}
            for known, (_, coarse) in zip(masks, pictures, strict=True)
        ]
