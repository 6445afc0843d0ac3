"""Visual Genome: `image_data.json` and `region_descriptions.json`, read image by image. Boxes only, all `train`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from papers_shared.errors import UserError
from papers_shared.text import read_json
from plvl.data.image_paths import ImageFinder, photo_of
from plvl.data.items import Item, Items, Listing

NAME = "visual_genome"
_CHUNK = 1 << 20


def visual_genome(root: str | Path, images: str | Path = "") -> Listing:
    """All region descriptions. Boxes are clipped to the image; those that end empty are left out and counted.

    Raises:
        UserError: A file is missing.
    """
    root = Path(root).expanduser()
    files = [root / "region_descriptions.json", root / "image_data.json"]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file} is missing: name the folder with Visual Genome's JSON files")
    finder = ImageFinder("visual-genome", [images, root])
    listing = Listing(NAME, lambda: _read(listing, finder), files)
    return listing


def coco_images(root: str | Path) -> dict[str, tuple[str, str]]:
    """Visual Genome's number of an image -> (COCO's number, Flickr's number of the photograph), empty where unknown.

    Args:
        root: the folder with `image_data.json`, or that file.
    """
    path = Path(root).expanduser()
    path = path / "image_data.json" if path.is_dir() else path
    return {number: (_text(image.get("coco_id")), _photo(image)) for number, image in _images(path).items()}


def _read(listing: Listing, finder: ImageFinder) -> Items:
    regions_file, images_file = listing.files
    images = _images(images_file)
    for entry in iterate_array(regions_file):
        try:
            number = str(entry["id"] if "id" in entry else entry["image_id"])
            image = images[number]
            for region in entry["regions"]:
                item = _item(number, image, region, finder)
                if item is None:
                    listing.leave_out("the box is empty or outside the image")
                elif not item.sentence:
                    listing.leave_out("the phrase is empty")
                else:
                    yield "train", item
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{regions_file}: not as in Visual Genome ({type(error).__name__} {error})"
            ) from error


def _item(number: str, image: dict[str, Any], region: dict[str, Any], finder: ImageFinder) -> Item | None:
    width, height = int(image["width"]), int(image["height"])
    left, top = max(0.0, float(region["x"])), max(0.0, float(region["y"]))
    right = min(float(width), float(region["x"]) + float(region["width"]))
    bottom = min(float(height), float(region["y"]) + float(region["height"]))
    if right <= left or bottom <= top:
        return None
    coco = _text(image.get("coco_id"))
    region_id = region["region_id"] if "region_id" in region else region["id"]
    return Item(
        name=f"{NAME}/{region_id}",
        image=finder.entry(f"{number}.jpg"),
        sentence=" ".join(str(region["phrase"]).split()),
        source=NAME,
        width=width,
        height=height,
        box_xyxy=(left, top, right, bottom),
        image_id=coco or f"{NAME}-{number}",
        photo_id=_photo(image),
    )


def iterate_array(path: Path) -> Iterator[Any]:
    """The items of a file that is one large JSON array, without holding all of them.

    Raises:
        UserError: It is not such a file.
    """
    decoder, text, begun = json.JSONDecoder(), "", False
    with open(path, encoding="utf-8") as file:
        while True:
            block = file.read(_CHUNK)
            text += block
            if not begun:
                text = text.lstrip()
                if text and text[0] != "[":
                    raise UserError(f"{path} is not a JSON array")
                begun, text = bool(text), text[1:]
            while True:
                text = text.lstrip(" \t\r\n,")
                if text.startswith("]"):
                    return
                try:
                    item, end = decoder.raw_decode(text)
                except ValueError:
                    break
                if not isinstance(item, dict | list):  # a number could go on in the next block
                    raise UserError(f"{path} is not an array of objects")
                yield item
                text = text[end:]
            if not block:
                raise UserError(f"{path} is not JSON, or cut off")


def _images(path: Path) -> dict[str, dict[str, Any]]:
    content = read_json(path)
    try:
        return {str(image["image_id"] if "image_id" in image else image["id"]): image for image in content}
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not Visual Genome's image_data.json ({type(error).__name__} {error})"
        ) from error


def _text(number: Any) -> str:
    return "" if number is None else str(number)


def _photo(image: dict[str, Any]) -> str:
    return _text(image.get("flickr_id")) or photo_of(image.get("flickr_url"))
