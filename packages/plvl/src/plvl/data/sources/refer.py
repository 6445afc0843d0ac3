"""The REFER release: `instances.json` and `refs(<split by>).p`, one folder per data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from papers_shared.errors import UserError
from papers_shared.text import read_json
from plvl.data.image_paths import ImageFinder, Kind, coco_id, photo_of
from plvl.data.items import Item, Items, Listing
from plvl.data.safe_pickle import load_plain

SETS = {
    "refcoco_unc": ("refcoco", "unc"),
    "refcoco_google": ("refcoco", "google"),
    "refcocoplus_unc": ("refcoco+", "unc"),
    "refcocog_google": ("refcocog", "google"),
    "refcocog_umd": ("refcocog", "umd"),
    "referit_unc": ("refclef", "unc"),
    "referit_berkeley": ("refclef", "berkeley"),
    "toy": ("toy", "unc"),
}
"""Our name -> (folder of the release, who split it)."""


def refer(root: str | Path, name: str, images: str | Path = "") -> Listing:
    """One data set of the release at `root` (the folder above, or the data set's own).

    Args:
        name: a key of `SETS`.
        images: folder that the images lie in or below; else they are looked for below `root`.

    Raises:
        UserError: A file is missing.
    """
    folder_name, by = SETS[name]
    root = Path(root).expanduser()
    folders = [root / folder_name, root / "data" / folder_name, root]
    folder = next((path for path in folders if (path / f"refs({by}).p").is_file()), None)
    if folder is None:
        raise UserError(f"{root} has no {folder_name}/refs({by}).p: name the folder of the REFER release")
    files = [folder / f"refs({by}).p", folder / "instances.json"]
    if not files[1].is_file():
        raise UserError(f"{files[1]} is missing: it belongs to the REFER release beside refs({by}).p")
    kind: Kind = "saiapr" if folder_name == "refclef" else "coco"
    finder = ImageFinder(kind, [images, root, folder.parent])
    return Listing(name, lambda: _read(name, files, finder), files)


def _read(name: str, files: list[Path], finder: ImageFinder) -> Items:
    refs, instances = load_plain(files[0]), read_json(files[1])
    try:
        images = {image["id"]: image for image in instances["images"]}
        annotations = {annotation["id"]: annotation for annotation in instances["annotations"]}
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{files[1]} is not a COCO instances file ({type(error).__name__} {error})"
        ) from error
    if not isinstance(refs, list):
        raise UserError(f"{files[0]} holds no list of references")
    for ref in refs:
        try:
            image, annotation = images[ref["image_id"]], annotations[ref["ann_id"]]
            yield from _sentences(name, ref, image, annotation, finder)
        except (KeyError, TypeError, ValueError) as error:
            number = ref.get("ref_id") if isinstance(ref, dict) else ref
            raise UserError(
                f"{files[0]}: reference {number} does not fit {files[1].name} ({type(error).__name__} {error})"
            ) from error


def _sentences(
    name: str, ref: dict[str, Any], image: dict[str, Any], annotation: dict[str, Any], finder: ImageFinder
) -> Items:
    left, top, width, height = annotation["bbox"]
    entry = finder.entry(image["file_name"])
    image_id = coco_id(image["file_name"]) or f"{name.split('_')[0]}-{image['id']}"
    for sentence in ref["sentences"]:
        yield (
            str(ref["split"]),
            Item(
                name=f"{name}/{sentence['sent_id']}",
                image=entry,
                sentence=str(sentence["sent"]),
                source=name,
                width=int(image["width"]),
                height=int(image["height"]),
                box_xyxy=(left, top, left + width, top + height),
                shape=annotation.get("segmentation"),
                image_id=image_id,
                photo_id=photo_of(image.get("flickr_url")),
                object_id=f"{name}/{ref['ref_id']}",
            ),
        )
