"""Visual Genome: `image_data.json` and `region_descriptions.json`, read image by image. Boxes only, all `train`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from papers_shared.entries import numbers_of, shown, size_of, text_of
from papers_shared.errors import UserError
from papers_shared.paths import user_path
from papers_shared.text import check_regular, read_json
from plvl.data.image_paths import ImageFinder, photo_of
from plvl.data.items import Item, Items, Listing, Reading

NAME = "visual_genome"
_CHUNK = 1 << 20
LONGEST_ITEM = 64 << 20
"""Letters of one image's regions."""


def visual_genome(root: str | Path, images: str | Path = "", reading: Reading | None = None) -> Listing:
    """All region descriptions. Boxes are clipped to the image; those that end empty are left out and counted.

    Raises:
        UserError: A file is missing.
    """
    root = user_path(root)
    files = [root / "region_descriptions.json", root / "image_data.json"]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file} is missing: name the folder with Visual Genome's JSON files")
    finder = ImageFinder("visual-genome", [images, root], allow_outside=(reading or Reading()).allow_outside)
    listing = Listing(NAME, lambda: _read(listing, finder), files, release=True)
    return listing


def coco_images(root: str | Path) -> dict[str, tuple[str, str]]:
    """Visual Genome's number of an image -> (COCO's number, Flickr's number of the photograph), empty where unknown.

    Args:
        root: the folder with `image_data.json`, or that file.
    """
    path = user_path(root)
    path = path / "image_data.json" if path.is_dir() else path
    return {
        number: (text_of(image, "coco_id", str(path), default=""), _photo(image, str(path)))
        for number, image in _images(path).items()
    }


def _read(listing: Listing, finder: ImageFinder) -> Items:
    regions_file, images_file = listing.files
    images = _images(images_file)
    for entry in iterate_array(regions_file):
        with listing.isolated():
            if not isinstance(entry, dict):
                raise UserError(f"{regions_file}: not as in Visual Genome: {shown(entry)}")
            number = text_of(entry, "id" if entry.get("id") is not None else "image_id", str(regions_file))
            where, regions = f"{regions_file}, image {shown(number)}", entry.get("regions")
            if number not in images or not isinstance(regions, list):
                raise UserError(f"{where}: not as in Visual Genome, or not in {images_file.name}")
            size = size_of(images[number].get("width"), images[number].get("height"), where)
            for region in regions:
                if not isinstance(region, dict):
                    raise UserError(f"{where}: not as in Visual Genome: {shown(region)}")
                item = _item(number, images[number], size, region, finder, where)
                if item is None:
                    listing.leave_out("the box is empty or outside the image")
                elif not item.sentence:
                    listing.leave_out("the phrase is empty")
                else:
                    yield "train", item


def _item(
    number: str,
    image: dict[str, Any],
    size: tuple[int, int],
    region: dict[str, Any],
    finder: ImageFinder,
    where: str,
) -> Item | None:
    x, y, w, h = numbers_of([region.get(key) for key in ("x", "y", "width", "height")], where)
    height, width = size
    left, top, right, bottom = max(0.0, x), max(0.0, y), min(float(width), x + w), min(float(height), y + h)
    if right <= left or bottom <= top:
        return None
    coco = text_of(image, "coco_id", where, default="")
    region_id = text_of(region, "region_id" if "region_id" in region else "id", where)
    return Item(
        name=f"{NAME}/{region_id}",
        image=finder.entry(f"{number}.jpg", where),
        sentence=" ".join(text_of(region, "phrase", where).split()),
        source=NAME,
        where=f"{where}, region {region_id}",
        width=width,
        height=height,
        box=(left, top, right, bottom),
        image_id=coco or f"{NAME}-{number}",
        photo_id=_photo(image, where),
    )


def iterate_array(path: Path) -> Iterator[Any]:
    """The items of a file that is one large JSON array, without holding all of them.

    Raises:
        UserError: It is not such a file.
    """
    decoder, text, begun = json.JSONDecoder(), "", False
    check_regular(path)
    with open(path, encoding="utf-8-sig") as file:
        while True:
            try:
                block = file.read(_CHUNK)
            except UnicodeDecodeError as error:
                raise UserError(f"{path} is not text in UTF-8 ({error.reason}): save it as UTF-8") from None
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
                except RecursionError:
                    raise UserError(f"{path} is nested too deeply to be read") from None
                if not isinstance(item, dict | list):  # a number could go on in the next block
                    raise UserError(f"{path} is not an array of objects")
                yield item
                text = text[end:]
            if not block or len(text) > LONGEST_ITEM:
                raise UserError(f"{path} is not JSON, or cut off")


def _images(path: Path) -> dict[str, dict[str, Any]]:
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(image, dict) for image in content):
        raise UserError(f"{path} is not Visual Genome's image_data.json: it is no list of objects")
    return {
        text_of(image, "image_id" if "image_id" in image else "id", str(path)): image for image in content
    }


def _photo(image: dict[str, Any], where: str) -> str:
    return text_of(image, "flickr_id", where, default="") or photo_of(image.get("flickr_url"))
