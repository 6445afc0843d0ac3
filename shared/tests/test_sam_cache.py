"""Embeddings are computed once, and kept on disk within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tiny_sam
import torch

from papers_shared.sam import EmbeddingCache, SegmentAnything


class Counting(SegmentAnything):
    """Counts the pictures that go through the encoder."""

    encoded = 0

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        self.encoded += len(pixels)
        return super()._embed(pixels)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("segment_anything")
    return tiny_sam.checkpoint(tmp_path_factory.mktemp("meta"))


def make(checkpoint: Path, cache: Path | None = None, precision: str = "no") -> Counting:
    return Counting(
        checkpoint,
        decoder_heads=tiny_sam.HEADS,
        precision=precision,
        cache=EmbeddingCache(cache) if cache else None,
    )


def test_all_prompts_of_a_picture_take_one_encoder_pass(checkpoint: Path) -> None:
    segmenter = make(checkpoint)
    segmenter.set_image(tiny_sam.image())
    for prompt in tiny_sam.PROMPTS.values():
        segmenter.predict(**prompt)
    segmenter.set_image(tiny_sam.image())
    assert segmenter.encoded == 1
    segmenter.set_images([tiny_sam.image()[:60], tiny_sam.image(), tiny_sam.image()])
    assert segmenter.encoded == 2


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


def test_folder_stays_within_its_limit_and_forgets_the_least_recently_used(tmp_path: Path) -> None:
    entry = torch.zeros(1000)
    cache = EmbeddingCache(tmp_path, limit_gb=3 * 4100e-9)
    for number, key in enumerate(("aa1", "bb2", "cc3")):
        cache.write(key, entry + number)
        os.utime(next(tmp_path.glob(f"{key[:2]}/*")), (number, number))
    assert torch.equal(cache.read("aa1"), entry)  # now the most recent one
    cache.write("dd4", entry + 3)
    assert cache.read("bb2") is None
    assert [key for key in ("aa1", "cc3", "dd4") if cache.read(key) is not None] == ["aa1", "cc3", "dd4"]
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= cache.limit
    cache.write("ee5", torch.zeros(9000))
    assert cache.read("ee5") is None  # larger than the limit
    assert not list(tmp_path.rglob("*.partial"))


def test_damaged_entries_and_unwritable_folders_cost_only_time(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.write("ab1", torch.ones(3))
    next(tmp_path.glob("ab/*")).write_bytes(b"damaged")
    assert cache.read("ab1") is None
    cache.write("ab1", torch.ones(3))
    assert torch.equal(cache.read("ab1"), torch.ones(3))
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="computed again"):
        EmbeddingCache(tmp_path / "file").write("ab1", torch.ones(3))


def test_bf16_encoder_is_close(checkpoint: Path) -> None:
    answers = []
    for precision in ("no", "bf16"):
        segmenter = make(checkpoint, precision=precision)
        segmenter.set_image(tiny_sam.image())
        assert segmenter._embedding.dtype == torch.float32
        answers.append(segmenter._embedding)
    assert not torch.equal(*answers)
    assert (answers[0] - answers[1]).abs().max() < 0.05 * answers[0].abs().max()
