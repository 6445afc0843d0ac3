"""The toy scenes: sentences mean one object by any reading, and tell nothing to who does not read them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plvl.config import DataConfig
from plvl.data import load_image, load_mask, open_split
from plvl.data.build import build
from plvl.data.masks import box_of_mask
from plvl.data.sources.refer import refer
from plvl.directions import mirrored_sentence
from plvl.toy import WORDS, scene, write_refer
from plvl.toy_grammar import Thing, parse, phrases, referent

SCENES = [scene(np.random.default_rng([5, number])) for number in range(40)]


def _meant(sentence: str, things: list[Thing]) -> set[int]:
    """Every object that the sentence can mean, by a reading of its own: words, in order, no margins."""
    words = sentence.split()
    head, anchors = words, None
    for size in range(1, len(words)):
        if words[size] == "the":
            head, anchors = words[:size], _meant(" ".join(words[size:]), things)
            break
    place = next((word for word in ("left", "right", "above", "below") if word in head), "")
    attributes = [
        word for word in head if word not in ("the", "of", "shape", "left", "right", "above", "below")
    ]
    rank = attributes.pop(0) if attributes and attributes[0] in _RANKS else ""
    every = range(len(things))
    nouns = [
        i
        for i in every
        if all(w in (things[i].shape, things[i].colour, things[i].texture) for w in attributes)
    ]
    if anchors is None:
        return set(_best(nouns, rank, things))
    meant: set[int] = set()
    for anchor in anchors:
        others = [i for i in nouns if i != anchor]
        beside = [i for i in others if _at(things[i], place, things[anchor])]
        meant |= set(_best(beside, rank, things))
        if rank:
            first = _best(others, rank, things)
            meant |= {i for i in first if i in beside}
    return meant


_RANKS = {
    "largest": ("size", 1), "larger": ("size", 1), "smallest": ("size", -1), "smaller": ("size", -1),
    "rightmost": ("x", 1), "leftmost": ("x", -1), "lowest": ("y", 1), "highest": ("y", -1),
}  # fmt: skip


def _best(numbers: list[int], rank: str, things: list[Thing]) -> list[int]:
    if not rank or not numbers:
        return numbers
    if rank in ("larger", "smaller") and len(numbers) != 2:
        return []
    what, sign = _RANKS[rank]
    return [max(numbers, key=lambda i: sign * getattr(things[i], what))]


def _at(thing: Thing, place: str, anchor: Thing) -> bool:
    return {
        "left": thing.x < anchor.x,
        "right": thing.x > anchor.x,
        "above": thing.y < anchor.y,
        "below": thing.y > anchor.y,
    }[place]


@pytest.mark.parametrize("number", range(0, len(SCENES), 8))
def test_a_sentence_means_its_object_and_no_other(number: int) -> None:
    for things, sentences in SCENES[number : number + 8]:
        for index, texts in enumerate(sentences):
            assert len(set(texts)) == 2
            for text in texts:
                assert _meant(text, things) == {index}, (text, things)
                assert referent(parse(text), things) == index
                assert str(parse(text)) == text


def test_a_mirrored_sentence_means_the_same_object_of_the_mirrored_scene() -> None:
    for things, sentences in SCENES:
        mirrored = [replace(thing, x=1 - thing.x) for thing in things]
        for index, text in ((i, text) for i, texts in enumerate(sentences) for text in texts):
            swapped = mirrored_sentence(text)
            assert swapped is not None
            assert _meant(swapped, mirrored) == {index}


def test_close_comparisons_and_two_readings_are_ambiguous() -> None:
    def thing(shape: str, x: float, y: float, size: float) -> Thing:
        return Thing(shape, "red", "plain", x, y, size)

    near = [thing("circle", 0.2, 0.2, 0.1), thing("circle", 0.23, 0.8, 0.11)]
    assert referent(parse("the leftmost circle"), near) is None
    assert referent(parse("the larger circle"), near) is None
    assert referent(parse("the highest circle"), near) == 0
    assert referent(parse("the circle"), near) is None
    square = thing("square", 0.6, 0.5, 0.1)
    row = [
        thing("circle", 0.2, 0.2, 0.06),
        thing("circle", 0.4, 0.8, 0.1),
        square,
        thing("circle", 0.9, 0.5, 0.04),
    ]
    assert referent(parse("the smaller circle left of the square"), row) == 0
    assert (
        referent(parse("the smallest circle left of the square"), row) is None
    )  # the smallest is right of it
    beside = [replace(row[0], x=0.62), *row[1:]]
    assert (
        referent(parse("the largest circle left of the square"), beside) is None
    )  # is the first one left of it?
    for text in ("circle", "the red", "the circle beside the square", "the circle left of", ""):
        with pytest.raises(ValueError, match=r"'.*' (does not begin|names no shape|goes on)"):
            parse(text)


def test_every_object_has_as_many_sentences_and_every_word_is_used() -> None:
    used = Counter(
        word for _, sentences in SCENES for texts in sentences for text in texts for word in text.split()
    )
    assert set(used) == set(WORDS)
    assert len(set(WORDS)) == len(WORDS)
    assert all(len(texts) == 2 for _, sentences in SCENES for texts in sentences)
    assert all(3 <= len(things) <= 4 for things, _ in SCENES)
    assert {word for phrase in phrases() for word in str(phrase).split()} <= set(WORDS)


def test_the_real_builder_reads_it(tmp_path: Path) -> None:
    write_refer(tmp_path / "release", seed=3, train=4, val=2, test=1, side=64)
    manifest = build(tmp_path / "built", "toy", [refer(tmp_path / "release", "toy")], progress=False)
    counts = {split: entry["images"] for split, entry in manifest["splits"].items()}
    assert counts == {"train": 4, "val": 2, "test": 1}
    rows = open_split(DataConfig(root=str(tmp_path / "built")), "train")
    by_object = Counter((row["image_id"], tuple(row["box_xyxy"])) for row in rows)
    assert set(by_object.values()) == {2}
    for row in rows:
        image, mask = load_image(row).astype(int), load_mask(row)
        assert image.shape == (64, 64, 3)
        assert mask is not None
        # the tip of a triangle is thinner than a pixel and not in the mask
        np.testing.assert_allclose(box_of_mask(mask), row["box_xyxy"], atol=1.5)
        inside, outside = image[mask].mean(0), image[~mask].mean(0)
        assert np.abs(inside - outside).max() > 15
        assert row["image_id"].startswith("toy-")


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_refer(tmp_path / name, seed=seed, train=2, val=1, test=1, side=48)
    one, same, other = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in "abc"
    )
    assert one == same
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)
