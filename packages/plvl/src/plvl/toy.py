"""The embedded data: procedural scenes of shapes and sentences about them, in the layout of the REFER release.

Every object of an image gets the same number of sentences, so that a model that does not read them can do no
better than choose among the objects. Everything is decided by the seed.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from plvl.toy_grammar import COLOURS, POSITIONS, SHAPES, TEXTURES, WORDS, Phrase, Thing, phrases, referent

__all__ = ["WORDS", "draw_scene", "sentences_about", "write_refer"]

Random = np.random.Generator
SIZES = (0.1, 0.135, 0.18)
"""`Thing.size` of the three sizes, before 5 % of jitter."""
REACH = {"circle": 1.0, "square": (np.pi / 2) ** 0.5, "triangle": (4 * np.pi / 27**0.5) ** 0.5}
"""From the middle to the corners, as a multiple of `Thing.size`."""
THINGS = (3, 4)
"""Objects of an image."""
SENTENCES = 2
"""Sentences per object."""
KINDS = {"plain": 0.6, "rank": 0.2, "position": 0.2}
"""How often a sentence has attributes only, a superlative or comparative, or a position beside another object."""
WORDS_OF_A_THING = (SHAPES, COLOURS, TEXTURES)
REPEAT = 0.1
"""How often a word of an object is one of the two of its kind that the image prefers."""
INKS = {"red": (205, 40, 40), "green": (40, 150, 60), "blue": (50, 80, 205), "yellow": (225, 195, 40)}
PERIOD = 0.12
"""Of the stripes, as a share of the side."""
FINE = 4
"""Pixels are drawn this many times finer than they are saved."""


def write_refer(
    root: str | Path, *, seed: int = 0, train: int = 450, val: int = 70, test: int = 70, side: int = 64
) -> Path:
    """Write images of `side` x `side` pixels and `SENTENCES` sentences about each object.

    `root`/toy/instances.json and `root`/toy/refs(unc).p as in the REFER release, images in `root`/images. Then
    `plvl data build toy OUTPUT --refer ROOT` reads them as it reads RefCOCO.

    Args:
        train, val, test: images of each split.
    """
    root = Path(root)
    for folder in ("toy", "images"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    categories = [{"id": i, "name": name, "supercategory": "shape"} for i, name in enumerate(SHAPES, start=1)]
    sentence_id = 0
    for number, (split, count) in enumerate({"train": train, "val": val, "test": test}.items()):
        for index in range(count):
            things, sentences = scene(np.random.default_rng([seed, number, index]))
            pixels, outlines = draw_scene(np.random.default_rng([seed, number, index, 1]), things, side)
            image_id = len(images) + 1
            name = f"toy_{image_id:06d}.png"
            Image.fromarray(pixels).save(root / "images" / name)
            images.append({"id": image_id, "file_name": name, "height": side, "width": side, "license": 0})
            for thing, outline, texts in zip(things, outlines, sentences, strict=True):
                annotations.append(_annotation(len(annotations) + 1, image_id, thing, outline))
                entries = []
                for text in texts:
                    entries.append(
                        {"sent_id": sentence_id, "sent": text, "raw": text, "tokens": text.split()}
                    )
                    sentence_id += 1
                refs.append(
                    {
                        "ref_id": len(refs), "ann_id": len(annotations), "image_id": image_id, "split": split,
                        "category_id": SHAPES.index(thing.shape) + 1, "file_name": name, "sentences": entries,
                        "sent_ids": [entry["sent_id"] for entry in entries],
                    }
                )  # fmt: skip
    content = {"info": {"description": "procedural scenes of shapes"}, "licenses": [], "images": images}
    content |= {"annotations": annotations, "categories": categories}
    (root / "toy" / "instances.json").write_text(json.dumps(content))
    (root / "toy" / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    return root


def scene(rng: Random) -> tuple[list[Thing], list[list[str]]]:
    """The objects of one image, and the sentences about each."""
    while True:
        things = _scatter(rng, int(rng.integers(THINGS[0], THINGS[1] + 1)))
        sentences = sentences_about(rng, things)
        if all(len(texts) == SENTENCES for texts in sentences):
            return things, sentences


def sentences_about(rng: Random, things: Sequence[Thing]) -> list[list[str]]:
    """Up to `SENTENCES` different unambiguous sentences about each object, of kinds drawn by `KINDS`."""
    meant: list[list[Phrase]] = [[] for _ in things]
    for phrase in phrases():
        number = referent(phrase, things)
        if number is not None:
            meant[number].append(phrase)
    return [_some(rng, things, number, meant) for number in range(len(things))]


def _some(rng: Random, things: Sequence[Thing], number: int, meant: list[list[Phrase]]) -> list[str]:
    anchors = [phrase for i, about in enumerate(meant) for phrase in about if i != number and not phrase.rank]
    by_kind: dict[str, list[Phrase]] = {
        "plain": [phrase for phrase in meant[number] if not phrase.rank],
        "rank": [phrase for phrase in meant[number] if phrase.rank],
        "position": _beside_an_anchor(rng, things, number, anchors),
    }
    found: list[str] = []
    kinds = rng.choice(list(KINDS), size=4 * SENTENCES, p=list(KINDS.values()))
    for kind in (*kinds, *KINDS):
        choices = [text for text in map(str, by_kind[str(kind)]) if text not in found]
        if choices and len(found) < SENTENCES:
            found.append(str(rng.choice(choices)))
    return found


def draw_scene(rng: Random, things: Sequence[Thing], side: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Image (side, side, 3) uint8 RGB, and the outline (N, 2) x, y in pixels of each object."""
    large = side * FINE
    ground = rng.uniform(95, 165) + rng.uniform(-25, 25, 3)
    slope = np.linspace(-1, 1, large)
    shade = rng.uniform(-20, 20) * slope[:, None] + rng.uniform(-20, 20) * slope[None]
    canvas = Image.fromarray(np.clip(ground + shade[..., None], 0, 255).astype(np.uint8))
    outlines = []
    for thing in things:
        outline = _outline(rng, thing)
        corner = np.floor(outline.min(0) * large).astype(int)
        width, height = np.ceil(outline.max(0) * large).astype(int) - corner + 1
        cover = Image.new("L", (int(width), int(height)))
        ImageDraw.Draw(cover).polygon([tuple(point) for point in outline * large - corner], fill=255)
        surface = Image.fromarray(_surface(rng, thing, int(width), int(height), large))
        canvas.paste(surface, (int(corner[0]), int(corner[1])), cover)
        outlines.append(np.round(outline * side, 2))
    pixels = np.asarray(canvas.resize((side, side), Image.Resampling.BOX)).astype(np.float64)
    pixels += rng.normal(0, 3, pixels.shape)
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8), outlines


def _scatter(rng: Random, count: int) -> list[Thing]:
    """Objects apart from each other; shapes, colours and textures repeat, so that single words seldom do."""
    few = {values: rng.permutation(values)[:2] for values in WORDS_OF_A_THING}
    things: list[Thing] = []
    for _ in range(400):
        if len(things) == count:
            break
        shape, colour, texture = (
            str(rng.choice(few[v] if rng.random() < REPEAT else v)) for v in WORDS_OF_A_THING
        )
        size = float(rng.choice(SIZES) * rng.uniform(0.95, 1.05))
        reach = size * REACH[shape]
        x, y = rng.uniform(reach + 0.02, 0.98 - reach, 2)
        if all(np.hypot(x - t.x, y - t.y) > reach + t.size * REACH[t.shape] + 0.03 for t in things):
            things.append(Thing(shape, colour, texture, x=float(x), y=float(y), size=size))
    return things if len(things) == count else _scatter(rng, count)


def _beside_an_anchor(
    rng: Random, things: Sequence[Thing], number: int, anchors: list[Phrase]
) -> list[Phrase]:
    """Some phrases "... left of the ..." about an object; the words before the position alone would not do."""
    if not anchors:
        return []
    thing = things[number]
    found = []
    for _ in range(24):
        anchor = anchors[int(rng.integers(len(anchors)))]
        phrase = Phrase(
            rank=str(rng.choice(("larger", "smaller"))) if rng.random() < 0.25 else "",
            texture=thing.texture if rng.random() < 0.3 else "",
            colour=thing.colour if rng.random() < 0.7 else "",
            shape=thing.shape if rng.random() < 0.5 else "shape",
            position=str(rng.choice(list(POSITIONS))),
            anchor=anchor,
        )
        alone = Phrase(phrase.rank, phrase.texture, phrase.colour, phrase.shape)
        if referent(phrase, things) == number and referent(alone, things) is None:
            found.append(phrase)
    return found


def _outline(rng: Random, thing: Thing) -> np.ndarray:
    """(N, 2) x, y as shares of the side; squares and triangles are turned a little."""
    corners = {"circle": 32, "square": 4, "triangle": 3}[thing.shape]
    start = {"circle": 0.0, "square": np.pi / 4, "triangle": -np.pi / 2}[thing.shape]
    angles = start + rng.uniform(-0.25, 0.25) + 2 * np.pi * np.arange(corners) / corners
    reach = thing.size * REACH[thing.shape]
    return np.stack([thing.x + reach * np.cos(angles), thing.y + reach * np.sin(angles)], 1)


def _surface(rng: Random, thing: Thing, width: int, height: int, large: int) -> np.ndarray:
    """(height, width, 3) uint8: the colour with its texture, for an image `large` pixels wide."""
    ink = np.array(INKS[thing.colour]) + rng.uniform(-15, 15, 3)
    y, x = np.mgrid[0:height, 0:width] / large
    angle = rng.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    dark = (thing.texture == "striped") & (along % PERIOD < PERIOD * 0.45)
    return np.clip(np.where(dark[..., None], ink * 0.35, ink), 0, 255).astype(np.uint8)


def _annotation(number: int, image_id: int, thing: Thing, outline: np.ndarray) -> dict[str, Any]:
    low, high = outline.min(0), outline.max(0)
    x, y = outline.T
    area = 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
    return {
        "id": number, "image_id": image_id, "category_id": SHAPES.index(thing.shape) + 1, "iscrowd": 0,
        "bbox": [round(float(value), 2) for value in (*low, *(high - low))], "area": round(area, 2),
        "segmentation": [[float(value) for value in outline.reshape(-1)]],
    }  # fmt: skip
