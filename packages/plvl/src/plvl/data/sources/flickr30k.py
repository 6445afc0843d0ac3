"""Flickr30k Entities: `Sentences/<id>.txt`, `Annotations/<id>.xml`, and train.txt, val.txt, test.txt. Boxes only.

A phrase with several boxes gets the box around all of them, as in TransVG and EEVG. Corner coordinates count from 1
and become 0-based by subtracting 1 from each, as the data set's own reader does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from papers_shared.entries import numbers_of, shown, size_of
from papers_shared.errors import UserError
from papers_shared.paths import user_path
from papers_shared.text import read_text
from plvl.data.image_paths import ImageFinder
from plvl.data.items import Item, Items, Listing, Reading

NAME = "flickr30k"
PHRASE = re.compile(r"\[/EN#(\d+)/(\S+)\s+([^\]]*)\]")
"""Chain, type or types, words."""
NUMBER = re.compile(r"\w{1,64}")
SPLITS = ("train", "val", "test")


def flickr30k(root: str | Path, images: str | Path = "", reading: Reading | None = None) -> Listing:
    """All phrases that have a box. Phrases of what is not visible, of scenes and without a box are counted.

    Raises:
        UserError: A file is missing.
    """
    root = user_path(root)
    for folder in ("Sentences", "Annotations"):
        if not (root / folder).is_dir():
            raise UserError(f"{root} has no {folder}/: unpack annotations.zip of Flickr30k Entities there")
    lists = [root / f"{split}.txt" for split in SPLITS if (root / f"{split}.txt").is_file()]
    if not lists:
        raise UserError(f"{root} has none of train.txt, val.txt, test.txt: they belong to Flickr30k Entities")
    finder = ImageFinder("flickr30k", [images, root], allow_outside=(reading or Reading()).allow_outside)
    listing = Listing(NAME, lambda: _read(listing, root, finder), lists, release=True)
    return listing


def _read(listing: Listing, root: Path, finder: ImageFinder) -> Items:
    for file in listing.files:
        for number in read_text(file).split():
            with listing.isolated():
                for item in _phrases(listing, root, number, finder, f"{file}: {shown(number)}"):
                    yield file.stem, item


def _phrases(listing: Listing, root: Path, number: str, finder: ImageFinder, where: str) -> Iterator[Item]:
    """The phrases of one image that have a box."""
    if not NUMBER.fullmatch(number):
        raise UserError(f"{where} is no number of an image")
    boxes, size = read_annotation(root / "Annotations" / f"{number}.xml")
    sentences = root / "Sentences" / f"{number}.txt"
    for line_number, line in enumerate(read_text(sentences).split("\n")):
        for phrase_number, (chain, _, words) in enumerate(PHRASE.findall(line)):
            if chain not in boxes:
                listing.leave_out("the phrase has no box")
                continue
            corners = boxes[chain]
            yield Item(
                name=f"{NAME}/{number}/{line_number}/{phrase_number}",
                image=finder.entry(f"{number}.jpg", where),
                sentence=" ".join(words.split()),
                source=NAME,
                width=size[0],
                height=size[1],
                box=(
                    min(box[0] for box in corners),
                    min(box[1] for box in corners),
                    max(box[2] for box in corners),
                    max(box[3] for box in corners),
                ),
                image_id=f"{NAME}-{number}",
                photo_id=number,
                object_id=f"{NAME}/{number}/{chain}",
                where=f"{sentences}, line {line_number + 1}",
            )


def read_annotation(path: Path) -> tuple[dict[str, list[tuple[float, ...]]], tuple[int, int]]:
    """Chain -> its boxes (corners, 0-based), and the (width, height) of the image.

    Raises:
        UserError: The file is missing or not as the data set has it.
    """
    try:
        root = ET.fromstring(read_text(path))
        sides = [int(_value(root, f"size/{side}")) for side in ("width", "height")]
        height, width = size_of(sides[0], sides[1], str(path))
        boxes: dict[str, list[tuple[float, ...]]] = {}
        for thing in root.findall("object"):
            if thing.find("bndbox") is None:
                continue
            values = [float(_value(thing, f"bndbox/{c}")) for c in ("xmin", "ymin", "xmax", "ymax")]
            corners = tuple(value - 1 for value in numbers_of(values, str(path)))
            for name in thing.findall("name"):
                boxes.setdefault((name.text or "").strip(), []).append(corners)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path}: not an annotation of Flickr30k Entities ({error})") from error
    return boxes, (width, height)


def _value(element: ET.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return text
