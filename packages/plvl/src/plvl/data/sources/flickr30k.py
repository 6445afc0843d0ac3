"""Flickr30k Entities: `Sentences/<id>.txt`, `Annotations/<id>.xml`, and train.txt, val.txt, test.txt. Boxes only.

A phrase with several boxes gets the box around all of them, as in TransVG and EEVG. Corner coordinates count from 1
and become 0-based by subtracting 1 from each, as the data set's own reader does.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from papers_shared.errors import UserError
from plvl.data.image_paths import ImageFinder
from plvl.data.items import Item, Items, Listing

NAME = "flickr30k"
PHRASE = re.compile(r"\[/EN#(\d+)/(\S+)\s+([^\]]*)\]")
"""Chain, type or types, words."""
SPLITS = ("train", "val", "test")


def flickr30k(root: str | Path, images: str | Path = "") -> Listing:
    """All phrases that have a box. Phrases of what is not visible, of scenes and without a box are counted.

    Raises:
        UserError: A file is missing.
    """
    root = Path(root).expanduser()
    for folder in ("Sentences", "Annotations"):
        if not (root / folder).is_dir():
            raise UserError(f"{root} has no {folder}/: unpack annotations.zip of Flickr30k Entities there")
    lists = [root / f"{split}.txt" for split in SPLITS if (root / f"{split}.txt").is_file()]
    if not lists:
        raise UserError(f"{root} has none of train.txt, val.txt, test.txt: they belong to Flickr30k Entities")
    finder = ImageFinder("flickr30k", [images, root])
    listing = Listing(NAME, lambda: _read(listing, root, finder), lists)
    return listing


def _read(listing: Listing, root: Path, finder: ImageFinder) -> Items:
    for file in listing.files:
        for number in file.read_text(encoding="utf-8").split():
            boxes, size = read_annotation(root / "Annotations" / f"{number}.xml")
            sentences = root / "Sentences" / f"{number}.txt"
            try:
                lines = sentences.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{sentences} cannot be read ({error})") from error
            for line_number, line in enumerate(lines):
                for phrase_number, (chain, _, words) in enumerate(PHRASE.findall(line)):
                    if chain not in boxes:
                        listing.leave_out("the phrase has no box")
                        continue
                    corners = boxes[chain]
                    yield (
                        file.stem,
                        Item(
                            name=f"{NAME}/{number}/{line_number}/{phrase_number}",
                            image=finder.entry(f"{number}.jpg"),
                            sentence=" ".join(words.split()),
                            source=NAME,
                            width=size[0],
                            height=size[1],
                            box_xyxy=(
                                min(box[0] for box in corners),
                                min(box[1] for box in corners),
                                max(box[2] for box in corners),
                                max(box[3] for box in corners),
                            ),
                            image_id=f"{NAME}-{number}",
                            photo_id=number,
                            object_id=f"{NAME}/{number}/{chain}",
                        ),
                    )


def read_annotation(path: Path) -> tuple[dict[str, list[tuple[float, ...]]], tuple[int, int]]:
    """Chain -> its boxes (corners, 0-based), and the (width, height) of the image.

    Raises:
        UserError: The file is missing or not as the data set has it.
    """
    try:
        root = ET.parse(path).getroot()
        size = tuple(int(_value(root, f"size/{side}")) for side in ("width", "height"))
        boxes: dict[str, list[tuple[float, ...]]] = {}
        for thing in root.findall("object"):
            if thing.find("bndbox") is None:
                continue
            corners = tuple(float(_value(thing, f"bndbox/{c}")) - 1 for c in ("xmin", "ymin", "xmax", "ymax"))
            for name in thing.findall("name"):
                boxes.setdefault((name.text or "").strip(), []).append(corners)
    except (OSError, ET.ParseError, ValueError) as error:
        raise UserError(f"{path}: not an annotation of Flickr30k Entities ({error})") from error
    return boxes, (size[0], size[1])


def _value(element: ET.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"no {path}")
    return text
