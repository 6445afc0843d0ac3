"""COCO files whose annotations carry sentences: `images` and `annotations` with `bbox`, `segmentation` or both.

The sentence is a key of the annotation (`caption`, `captions`, `expression`, `sentence`, `sentences`, `phrase`,
`description`) or, where an image has one annotation only, the image's `caption` (the form of MDETR). `bbox` is x, y,
width, height, as COCO has it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from papers_shared.entries import shown, text_of
from papers_shared.errors import UserError
from papers_shared.text import read_json
from plvl.data.image_paths import ImageFinder, coco_id, photo_of
from plvl.data.items import Items, Listing, Reading
from plvl.data.layouts import coco_files, split_of_coco
from plvl.data.sources.fields import SENTENCES, items_of

NO_SENTENCE = "the annotation has no sentence"
NO_OBJECT = "the image has no annotation with a sentence"


def coco_file(path: str | Path, images: str | Path = "", reading: Reading | None = None) -> Listing:
    """The sentences of one COCO file, or of all of a folder: SPLIT.json, NAME_SPLIT.json, SPLIT/_annotations.coco.json.

    Raises:
        UserError: No such file.
    """
    path = Path(path).expanduser()
    files = coco_files(path) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise UserError(f"{path} is no COCO file and no folder of them")
    listing = Listing(path.stem, lambda: _read(listing, images, reading or Reading()), files)
    return listing


def _read(listing: Listing, images_folder: str | Path, reading: Reading) -> Items:
    for file in listing.files:
        split = split_of_coco(file)
        roots = [images_folder, file.parent, file.parent / split, file.parent.parent]
        finder = ImageFinder("coco", roots, allow_outside=reading.allow_outside)
        images, annotations = indexed(file)
        about = [annotation for annotation in annotations if is_id(annotation.get("image_id"))]
        alone = Counter(annotation["image_id"] for annotation in about if _key(annotation))
        owners = Counter(annotation["image_id"] for annotation in about)
        for image in images.values():
            if not owners[image["id"]]:
                listing.leave_out(NO_OBJECT)
        for number, annotation in enumerate(annotations):
            where = f"{file}, annotation {shown(annotation.get('id', number))}"
            with listing.isolated():
                image = _image_of(annotation, images, where)
                sentences = _key(annotation)
                own = {sentences: annotation[sentences]} if sentences else {}
                if not own and owners[image["id"]] == 1 and image.get("caption") and not alone[image["id"]]:
                    own = {"caption": image["caption"]}
                if not own:
                    listing.leave_out(NO_SENTENCE)
                    continue
                file_name = text_of(image, "file_name", where)
                entry = {
                    "image": file_name, **own, "bbox": annotation.get("bbox"),
                    "mask": annotation.get("segmentation") or None,
                    "width": image.get("width"), "height": image.get("height"),
                    "image_id": coco_id(file_name) or file_name,
                    "photo_id": photo_of(image.get("flickr_url")),
                }  # fmt: skip
                name = f"{split}/{text_of(annotation, 'id', where, default=f'{number:06d}')}"
                for item in items_of(
                    entry, where, name, listing, reading, finder.entry, source=file.stem, bbox="xywh"
                ):
                    yield split, item


def indexed(file: Path) -> tuple[dict[Any, dict[str, Any]], list[dict[str, Any]]]:
    """Id -> image, and the annotations, of a COCO file.

    Raises:
        UserError: It is none, or has an id twice.
    """
    content = read_json(file)
    parts = [content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations")]
    if not all(isinstance(part, list) and all(isinstance(one, dict) for one in part) for part in parts):
        raise UserError(f"{file} is not a COCO instances file: it has no lists `images` and `annotations`")
    return by_id(parts[0] or [], f"{file}: images"), parts[1] or []


def by_id(entries: list[dict[str, Any]], where: str) -> dict[Any, dict[str, Any]]:
    """Id -> entry.

    Raises:
        UserError: One has no id, or two have the same.
    """
    found: dict[Any, dict[str, Any]] = {}
    for number, entry in enumerate(entries):
        key = entry.get("id")
        if not is_id(key):
            raise UserError(f"{where}: number {number} has the id {shown(key)}")
        if found.get(key, entry) != entry:
            raise UserError(f"{where}: two have the id {shown(key)}")
        found[key] = entry
    return found


def is_id(value: Any) -> bool:
    """Whether a value can number something: True and 1 are one key of a dictionary."""
    return isinstance(value, int | str) and not isinstance(value, bool)


def _image_of(annotation: dict[str, Any], images: dict[Any, dict[str, Any]], where: str) -> dict[str, Any]:
    number = annotation.get("image_id")
    if not is_id(number) or number not in images:
        raise UserError(f"{where}: there is no image with the id {shown(number)}")
    return images[number]


def _key(annotation: dict[str, Any]) -> str:
    return next((key for key in SENTENCES if annotation.get(key)), "")
