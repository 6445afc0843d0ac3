"""Embeddings are computed once, and kept on disk within bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tiny_sam
import torch

from papers_shared.cache import TensorCache
from papers_shared.sam import Asked, SegmentAnything
from papers_shared.types import Precision


class Counting(SegmentAnything):
    """Counts the images that go through the encoder."""

    encoded = decoded = 0

    def _embed(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.encoded += len(pixels)
        return super()._embed(pixels)

    def _decode(self, *asked: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.decoded += 1
        return super()._decode(*asked)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("segment_anything")
    return tiny_sam.checkpoint(tmp_path_factory.mktemp("meta"))


def make(checkpoint: Path, cache: Path | None = None, precision: Precision = "fp32") -> Counting:
    return Counting(
        checkpoint,
        decoder_heads=tiny_sam.HEADS,
        precision=precision,
        cache=TensorCache(cache) if cache else None,
    )


def test_all_prompts_of_an_image_take_one_encoder_pass(checkpoint: Path) -> None:
    segmenter = make(checkpoint)
    segmenter.set_image(tiny_sam.image())
    for prompt in tiny_sam.PROMPTS.values():
        segmenter.predict(**prompt)
    segmenter.set_image(tiny_sam.image())
    assert segmenter.encoded == 1
    segmenter.set_images([tiny_sam.image()[:60], tiny_sam.image(), tiny_sam.image()])
    assert segmenter.encoded == 2


@pytest.mark.parametrize("multimask", [False, True])
def test_prompts_of_one_form_take_one_decoder_pass_and_answer_as_alone(
    checkpoint: Path, multimask: bool
) -> None:
    segmenter, shift = make(checkpoint), np.array([5.0, 3.0] * 2)
    segmenter.set_image(tiny_sam.image())
    moved = {"box": (np.array(tiny_sam.PROMPTS["box"]["box"]) + shift).tolist()}
    prompts = [*tiny_sam.PROMPTS.values(), moved]
    together = segmenter.predict_all([Asked(**prompt) for prompt in prompts], multimask)
    assert segmenter.decoded == len(tiny_sam.PROMPTS), "two boxes are one form"
    for prompt, found in zip(prompts, together, strict=True):
        alone = segmenter.predict(**prompt, multimask=multimask)
        assert len(alone.masks) == (3 if multimask else 1)
        np.testing.assert_allclose(found.low_res_logits, alone.low_res_logits, atol=2e-5)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
        assert (found.masks != alone.masks).mean() < 1e-3
    assert not np.array_equal(together[0].masks, together[-1].masks)
    assert segmenter.predict_all([]) == []


def test_a_second_process_reads_what_the_first_computed(checkpoint: Path, tmp_path: Path) -> None:
    first, second = make(checkpoint, tmp_path), make(checkpoint, tmp_path)
    first.set_images([tiny_sam.image(), tiny_sam.image()[:60]])
    second.set_images([tiny_sam.image()[:60], tiny_sam.image()[:40], tiny_sam.image()])
    assert (first.encoded, second.encoded) == (2, 1)
    answers = []
    for segmenter in (first, second):
        segmenter.set_image(tiny_sam.image())
        answers.append(segmenter.predict(**tiny_sam.PROMPTS["box"]))
    assert np.array_equal(answers[0].low_res_logits, answers[1].low_res_logits)
    assert np.array_equal(answers[0].masks, answers[1].masks)


def test_other_weights_precision_or_pixels_are_another_entry(checkpoint: Path, tmp_path: Path) -> None:
    image = tiny_sam.image()
    keys = {make(checkpoint, tmp_path)._key(image), make(checkpoint, tmp_path, "bf16")._key(image)}
    state = tiny_sam.state_dict()
    state["mask_decoder.iou_token.weight"] += 1
    torch.save(state, tmp_path / "other.pth")
    keys.add(make(tmp_path / "other.pth", tmp_path)._key(image))
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    keys |= {
        make(checkpoint, tmp_path)._key(changed),
        make(checkpoint, tmp_path)._key(image.reshape(200, 120, 3)),
    }
    assert len(keys) == 5


def test_the_encoder_computes_in_every_precision(checkpoint: Path) -> None:
    answers = {}
    for precision in get_args(Precision):
        segmenter = make(checkpoint, precision=precision)
        segmenter.set_image(tiny_sam.image())
        (answers[precision],) = segmenter._embedding
        assert answers[precision].dtype == torch.float32
    assert torch.equal(answers["fp32"], answers["tf32"]), "a CPU rounds no factors"
    largest = answers["fp32"].abs().max()
    for half in ("bf16", "fp16"):
        assert 0 < (answers[half] - answers["fp32"]).abs().max() < 0.05 * largest
