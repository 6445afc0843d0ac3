"""The REFER release: `instances.json` and `refs(<split by>).p`, one folder per data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from papers_shared.entries import shown, text_of
from papers_shared.errors import UserError
from papers_shared.paths import user_path
from plvl.data.image_paths import ImageFinder, Kind, coco_id, photo_of
from plvl.data.items import Item, Items, Listing, Reading
from plvl.data.safe_pickle import load_plain
from plvl.data.sources.coco_file import by_id, indexed, is_id

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


def refer(root: str | Path, name: str, images: str | Path = "", reading: Reading | None = None) -> Listing:
    """One data set of the release at `root` (the folder above, or the data set's own).

    Args:
        name: a key of `SETS`.
        images: folder that the images lie in or below; else they are looked for below `root`.

    Raises:
        UserError: A file is missing.
    """
    folder_name, by = SETS[name]
    root = user_path(root)
    folders = [root / folder_name, root / "data" / folder_name, root]
    folder = next((path for path in folders if (path / f"refs({by}).p").is_file()), None)
    if folder is None:
        raise UserError(f"{root} has no {folder_name}/refs({by}).p: name the folder of the REFER release")
    return _listing(folder / f"refs({by}).p", name, [images, root, folder.parent], reading)


def refs_file(path: Path, images: str | Path = "", reading: Reading | None = None) -> Listing:
    """The data set of one file with references; its name is that of `SETS`, or made of its folder's.

    Args:
        images: folder that the images lie in or below; else they are looked for beside the file.

    Raises:
        UserError: There is no instances.json beside it.
    """
    folder, by = path.resolve().parent, path.name[len("refs(") : -len(").p")]
    known = {files: name for name, files in SETS.items()}
    name = known.get((folder.name, by), f"{folder.name}_{by}")
    return _listing(path, name, [images, folder, folder.parent, folder.parent.parent], reading)


def _listing(path: Path, name: str, roots: Sequence[str | Path], reading: Reading | None) -> Listing:
    files = [path, path.parent / "instances.json"]
    if not files[1].is_file():
        raise UserError(f"{files[1]} is missing: it belongs to the REFER release beside {path.name}")
    kind: Kind = "saiapr" if path.resolve().parent.name == "refclef" else "coco"
    finder = ImageFinder(kind, roots, allow_outside=(reading or Reading()).allow_outside)
    listing = Listing(name, lambda: _read(listing, name, finder), files, release=True)
    return listing


def _read(listing: Listing, name: str, finder: ImageFinder) -> Items:
    refs_file, instances = listing.files
    refs = load_plain(refs_file)
    images, listed = indexed(instances)
    annotations = by_id(listed, f"{instances}: annotations")
    if not isinstance(refs, list):
        raise UserError(f"{refs_file} holds no list of references")
    for number, ref in enumerate(refs):
        where = f"{refs_file}: reference {number}"
        with listing.isolated():
            if not isinstance(ref, dict) or not isinstance(ref.get("sentences"), list):
                raise UserError(f"{where} is not as in REFER: {shown(ref)}")
            where = f"{refs_file}: reference {shown(ref.get('ref_id', number))}"
            image = _of(images, ref, "image_id", where, instances)
            annotation = _of(annotations, ref, "ann_id", where, instances)
            yield from _sentences(name, ref, image, annotation, finder, where)


def _of(
    found: dict[Any, dict[str, Any]], ref: dict[str, Any], key: str, where: str, file: Path
) -> dict[str, Any]:
    number = ref.get(key)
    if not is_id(number) or number not in found:
        kind = "" if isinstance(number, int) else ", and ids are whole numbers there"
        raise UserError(f"{where} does not fit {file.name}: it has no {key} {shown(number)}{kind}")
    return found[number]


def _sentences(
    name: str,
    ref: dict[str, Any],
    image: dict[str, Any],
    annotation: dict[str, Any],
    finder: ImageFinder,
    where: str,
) -> Items:
    file_name = text_of(image, "file_name", where)
    entry = finder.entry(file_name, where)
    image_id = coco_id(file_name) or f"{name.split('_')[0]}-{image['id']}"
    split, ref_id = text_of(ref, "split", where), text_of(ref, "ref_id", where)
    for sentence in ref["sentences"]:
        if not isinstance(sentence, dict):
            raise UserError(f"{where} is not as in REFER: {shown(sentence)}")
        yield (
            split,
            Item(
                name=f"{name}/{text_of(sentence, 'sent_id', where)}",
                image=entry,
                sentence=text_of(sentence, "sent", where),
                source=name,
                where=f"{where}, '{name}/{text_of(sentence, 'sent_id', where)}'",
                width=image.get("width"),
                height=image.get("height"),
                box=annotation.get("bbox"),
                box_format="xywh",
                shape=annotation.get("segmentation"),
                image_id=image_id,
                photo_id=photo_of(image.get("flickr_url")),
                object_id=f"{name}/{ref_id}",
            ),
        )
