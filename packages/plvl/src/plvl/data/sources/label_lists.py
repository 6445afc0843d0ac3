"""The label lists of EEVG, PLVL and TransVG: `<data set>/<data set>_<split>.pth`, read with `weights_only`.

An entry is (file, source, box, phrase, attributes); of flickr (file, box, phrase). A box is x, y, width, height in
pixels, of flickr and referit x0, y0, x1, y1; polygons follow it. The source says which folder the image is in.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Any

from papers_shared.entries import shown, text_of
from papers_shared.errors import UserError
from papers_shared.foreign import load_torch
from papers_shared.paths import user_path
from papers_shared.text import check_regular
from plvl.data.image_paths import ImageFinder, Kind, coco_id
from plvl.data.items import Item, Items, Listing, Reading

CORNERS = ("flickr", "referit")
"""Data sets whose boxes are corners."""
KINDS: dict[str, Kind] = {"coco": "coco", "flickr": "flickr30k", "vg": "visual-genome"}
SET_KINDS: dict[str, Kind] = {"flickr": "flickr30k", "referit": "saiapr"}
"""Where the source names none of `KINDS`."""


def label_lists(root: str | Path, images: str | Path = "", reading: Reading | None = None) -> Listing:
    """All lists of one data set.

    Args:
        root: its folder, such as mask_data/gref_umd.
        images: folder that the image folders (mscoco, flickr30k, visual-genome) lie in or below; else they are looked
            for beside the folder of the lists and above it.

    Raises:
        UserError: The folder holds no such list.
    """
    root = user_path(root)
    files = sorted(root.glob(f"{glob.escape(root.name)}_*.pth"))
    if not files:
        raise UserError(
            f"{root} has no {root.name}_SPLIT.pth: name the folder of one data set, such as gref_umd"
        )
    if nameless := next((file for file in files if not file.stem[len(root.name) + 1 :]), None):
        raise UserError(f"{nameless} names no split: call it {root.name}_SPLIT.pth")
    listing = Listing(root.name, lambda: _read(listing, images, reading or Reading()), files, release=True)
    return listing


def _read(listing: Listing, images: str | Path, reading: Reading) -> Items:
    name = listing.name
    finders: dict[Kind, ImageFinder] = {}
    for file in listing.files:
        split = file.stem[len(name) + 1 :]
        entries = _entries(file)
        for index, entry in enumerate(entries):
            where = f"{file}, entry {index}"
            with listing.isolated():
                if not isinstance(entry, list | tuple) or len(entry) < 3:
                    raise UserError(f"{where}: not as EEVG and PLVL have it: {shown(entry)}")
                file_name, *origin, box, phrase = entry[:3] if len(entry) == 3 else entry[:4]
                fields = {"file": file_name, "source": next(iter(origin), None), "phrase": phrase}
                kind = KINDS.get(text_of(fields, "source", where, default="")) or SET_KINDS.get(name, "coco")
                if kind not in finders:
                    roots = [images, file.parent.parent, file.parent.parent.parent]
                    finders[kind] = ImageFinder(kind, roots, allow_outside=reading.allow_outside)
                yield split, _item(name, f"{name}/{split}/{index}", fields, box, finders[kind], where)


def _entries(file: Path) -> list[Any] | tuple[Any, ...]:
    check_regular(file)
    try:
        entries = load_torch(file, file)
    except Exception as error:  # unpickling errors of many kinds
        found = re.search(r"the Python object \S+", str(error))
        reason = found[0] if found else type(error).__name__
        raise UserError(
            f"{file} is not a list of plain Python data ({reason}), and nothing else is read: save its entries as "
            "lists, numbers and text"
        ) from error
    if not isinstance(entries, list | tuple):
        raise UserError(f"{file} holds no list of entries")
    return entries


def _item(name: str, row: str, fields: dict[str, Any], box: Any, finder: ImageFinder, where: str) -> Item:
    numbers = box.tolist() if hasattr(box, "tolist") else box
    if not isinstance(numbers, list | tuple) or len(numbers) < 4:
        raise UserError(f"{where}: not as EEVG and PLVL have it: the box is {shown(box)}")
    file_name = text_of(fields, "file", where)
    corners, polygons = list(numbers[:4]), [_plain(polygon) for polygon in numbers[4:]]
    stem = Path(file_name).stem
    return Item(
        name=row,
        image=finder.entry(file_name, where),
        sentence=text_of(fields, "phrase", where),
        source=name,
        where=where,
        box=corners,
        box_format="xyxy" if name in CORNERS else "xywh",
        shape=polygons,
        image_id=coco_id(file_name) or f"{finder.kind}-{stem}",
        photo_id=stem if finder.kind == "flickr30k" else "",
        object_id=f"{name}/{file_name}/{corners}/{len(polygons)}",
    )


def _plain(polygon: Any) -> Any:
    return polygon.tolist() if hasattr(polygon, "tolist") else polygon
