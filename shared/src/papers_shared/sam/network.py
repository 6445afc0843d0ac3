"""What the SAM back ends share: one embedding per image, any number of prompts on it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from papers_shared.cache import TensorCache
from papers_shared.devices import DTYPES, autocast
from papers_shared.errors import UserError
from papers_shared.files import tensors_digest
from papers_shared.sam.frame import PADDED, PREPROCESSING, Frame, Preparation
from papers_shared.sam.protocol import (
    Asked,
    Box,
    Points,
    SamResult,
    check_box_inside,
    check_image,
    check_prompt,
)
from papers_shared.types import Precision

Embedding = tuple[Tensor, ...]
"""What a network keeps of an image, from fine to coarse where there are several levels."""


class SamNetwork(ABC):
    """A segmenter whose network embeds the image once and then answers prompts on the embedding.

    Args:
        network: In evaluation mode, on the device where it computes.
        side: Of its square input in pixels.
        preparation: How an image is brought into the square.
        name: What made the masks, for reports.
        precision: Of the image encoder: fp32, tf32, bf16 or fp16; prompts are float32 always.
        cache: Embeddings on disk; None: only those of the last `set_images` are kept, in memory.
    """

    def __init__(
        self,
        network: nn.Module,
        side: int,
        name: str,
        *,
        preparation: Preparation = PADDED,
        precision: Precision = "fp32",
        cache: TensorCache | None = None,
    ) -> None:
        if precision not in DTYPES:
            raise UserError(f"a segmenter computes in {', '.join(DTYPES)}, not in {precision!r}")
        self.network, self.side, self.name, self.preparation = network, side, name, preparation
        self.precision, self.cache = precision, cache
        self._prepared: dict[str, Embedding] = {}
        self._frame: Frame | None = None
        self._embedding: Embedding | None = None

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def set_image(self, image: np.ndarray) -> None:
        """Take an image, (H, W, 3) uint8 RGB; the encoder runs unless its embedding is prepared or cached."""
        key = self._key(check_image(image))
        if key not in self._prepared:
            self._prepare({key: image})
        self._embedding = self._prepared[key]
        self._frame = Frame.of(image, self.side, self.preparation)

    def set_images(self, images: Sequence[np.ndarray]) -> None:
        """Prepare images in one batch through the encoder; former ones are forgotten, cached ones not computed."""
        self._prepare({self._key(check_image(image)): image for image in images})

    def _prepare(self, images: Mapping[str, np.ndarray]) -> None:
        """Keep the embeddings of these images, by their keys, and of no others."""
        known = {key: self._prepared[key] for key in images if key in self._prepared}
        for key in images:
            if key not in known and self.cache is not None:
                stored = self.cache.tensors(key)
                if stored:
                    known[key] = tuple(stored[name].to(self.device) for name in sorted(stored))
        todo = {key: image for key, image in images.items() if key not in known}
        if todo:
            frames = [Frame.of(image, self.side, self.preparation) for image in todo.values()]
            batch = torch.stack(
                [frame.pixels(image) for frame, image in zip(frames, todo.values(), strict=True)]
            )
            with torch.inference_mode(), autocast(self.network, self.precision):
                levels = [level.float() for level in self._embed(batch.to(self.device))]
            for key, *embedding in zip(todo, *levels, strict=True):
                known[key] = tuple(embedding)
                if self.cache is not None:
                    self.cache.store(key, {str(number): level for number, level in enumerate(embedding)})
        self._prepared = known

    def predict(
        self,
        box: Box | None = None,
        points: Points | None = None,
        labels: Sequence[int] | None = None,
        multimask: bool = False,
    ) -> SamResult:
        """One mask (three with `multimask`) where the logits, brought to the image's size, are positive.

        Raises:
            UserError: No image is set, or the prompt is empty or malformed.
        """
        return self.predict_all([Asked(box, points, labels)], multimask)[0]

    def predict_all(self, prompts: Sequence[Asked], multimask: bool = False) -> list[SamResult]:
        """What `predict` answers to each prompt; those of one form go through the decoder together.

        Masks become binary on the device, and all that is answered is fetched at once.

        Raises:
            UserError: As `predict`.
        """
        frame, answers = self._logits(prompts, multimask)
        if not answers:
            return []
        masks = torch.cat([frame.logits(low_res) > 0 for low_res, _ in answers]).cpu().numpy()
        numbers = [torch.cat([low_res.flatten(1), scores[:, None]], dim=1) for low_res, scores in answers]
        fetched = torch.cat(numbers).cpu().numpy()
        results, count = [], len(masks) // len(prompts)
        for first, (low_res, _) in zip(range(0, len(masks), count), answers, strict=True):
            part = fetched[first : first + count]
            logits = part[:, :-1].reshape(low_res.shape)
            results.append(SamResult(masks[first : first + count], part[:, -1], logits))
        return results

    def predict_logits(
        self,
        box: Box | None = None,
        points: Points | None = None,
        labels: Sequence[int] | None = None,
        multimask: bool = False,
    ) -> tuple[Frame, Tensor, Tensor]:
        """Frame of the image, mask logits (N, h, w) over the square, predicted quality (N,).

        Raises:
            UserError: No image is set, the prompt is empty or malformed, or its box lies outside the image.
        """
        frame, [(low_res, scores)] = self._logits([Asked(box, points, labels)], multimask)
        return frame, low_res, scores

    def _logits(self, prompts: Sequence[Asked], multimask: bool) -> tuple[Frame, list[tuple[Tensor, Tensor]]]:
        """Frame of the image, and for each prompt mask logits (N, h, w) and predicted quality (N,)."""
        if self._frame is None or self._embedding is None:
            raise UserError("the segmenter has no image yet: call set_image first")
        alike: dict[tuple[bool, int], list[int]] = {}
        checked = [check_prompt(*prompt) for prompt in prompts]
        for number, prompt in enumerate(checked):
            if prompt.box is not None:
                check_box_inside(prompt.box, self._frame.original)
            alike.setdefault((prompt.box is not None, len(prompt.points)), []).append(number)
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for (boxed, count), numbers in alike.items():
            corners = positions = kinds = None
            if boxed:
                boxes = np.array([checked[i].box for i in numbers], np.float64).reshape(-1, 2, 2)
                corners = self._tensor(self._frame.to_square(boxes).reshape(-1, 4))
            if count:
                positions = self._tensor(
                    self._frame.to_square(np.stack([checked[i].points for i in numbers]))
                )
                kinds = torch.as_tensor(np.stack([checked[i].labels for i in numbers]), device=self.device)
            with torch.inference_mode():
                low_res, scores = self._decode(
                    tuple(level[None] for level in self._embedding), corners, positions, kinds, multimask
                )
            found |= dict(zip(numbers, zip(low_res.float(), scores.float(), strict=True), strict=True))
        return self._frame, [found[number] for number in range(len(prompts))]

    @abstractmethod
    def _embed(self, pixels: Tensor) -> Embedding:
        """(B, 3, side, side) normalised -> levels (B, ...)."""

    @abstractmethod
    def _decode(
        self,
        embedding: Embedding,
        boxes: Tensor | None,
        points: Tensor | None,
        labels: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """Mask logits (Q, N, 4h, 4w) and predicted qualities (Q, N) of Q prompts about one image.

        Args:
            embedding: Levels (1, ...).
            boxes: (Q, 4) in pixels of the square.
            points: (Q, P, 2) likewise.
            labels: (Q, P).
        """

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)

    def _key(self, image: np.ndarray) -> str:
        """Of the pixels, the network's weights and class, the preprocessing and the precision."""
        digest = hashlib.blake2b(image.tobytes(), digest_size=16)
        digest.update(
            repr(
                (image.shape, self._weights(), PREPROCESSING, self.side, self.preparation, self.precision)
            ).encode()
        )
        return digest.hexdigest()

    def _weights(self) -> str:
        """Class and content of the network; read once, and only where embeddings go to disk."""
        if self.cache is None:
            return ""
        if not hasattr(self, "_digest"):
            made_by = f"{type(self).__name__} {type(self.network).__name__}"
            self._digest = f"{made_by} {tensors_digest(self.network.state_dict())}"
        return self._digest
