"""The label lists of EEVG, PLVL and TransVG: `<data set>/<data set>_<split>.pth`, read with `weights_only`.

An entry is (file, source, box, phrase, attributes); of flickr (file, box, phrase). A box is x, y, width, height in
pixels, of flickr and referit x0, y0, x1, y1; polygons follow it. The source says which folder the image is in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from papers_shared.errors import UserError
from plvl.data.image_paths import ImageFinder, Kind, coco_id
from plvl.data.items import Item, Items, Listing

CORNERS = ("flickr", "referit")
"""Data sets whose boxes are corners."""
KINDS: dict[str, Kind] = {"coco": "coco", "flickr": "flickr30k", "vg": "visual-genome"}
SET_KINDS: dict[str, Kind] = {"flickr": "flickr30k", "referit": "saiapr"}
"""Where the source names none of `KINDS`."""


def label_lists(root: str | Path, images: str | Path = "") -> Listing:
    """All lists of one data set.

    Args:
        root: its folder, such as mask_data/gref_umd.
        images: folder that the image folders (mscoco, flickr30k, visual-genome) lie in or below.

    Raises:
        UserError: The folder holds no such list.
    """
    root = Path(root).expanduser()
    files = sorted(root.glob(f"{root.name}_*.pth"))
    if not files:
        raise UserError(
            f"{root} has no {root.name}_SPLIT.pth: name the folder of one data set, such as gref_umd"
        )
    return Listing(root.name, lambda: _read(root.name, files, images), files)


def _read(name: str, files: list[Path], images: str | Path) -> Items:
    finders: dict[str, ImageFinder] = {}
    for file in files:
        split = file.stem[len(name) + 1 :]
        try:
            entries = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling errors of many kinds
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(f"{file} is not a list of plain Python data ({reason})") from error
        if not isinstance(entries, list | tuple):
            raise UserError(f"{file} holds no list of entries")
        for index, entry in enumerate(entries):
            where = f"{file}, entry {index}"
            try:
                yield split, _item(name, f"{name}/{split}/{index}", entry, finders, images)
            except (TypeError, ValueError, IndexError) as error:
                raise UserError(
                    f"{where}: not as EEVG and PLVL have it ({type(error).__name__} {error})"
                ) from error


def _item(name: str, row: str, entry: Any, finders: dict[str, ImageFinder], images: str | Path) -> Item:
    if len(entry) == 3:
        file_name, box, phrase = entry
        origin = ""
    else:
        file_name, origin, box, phrase = entry[:4]
    kind = KINDS.get(str(origin)) or SET_KINDS.get(name, "coco")
    if kind not in finders:
        finders[kind] = ImageFinder(kind, [images])
    x, y, z, w = (float(value) for value in box[:4])
    corners = (x, y, z, w) if name in CORNERS else (x, y, x + z, y + w)
    return Item(
        name=row,
        image=finders[kind].entry(str(file_name)),
        sentence=str(phrase),
        source=name,
        box_xyxy=corners,
        shape=[list(polygon) for polygon in box[4:]],
        image_id=coco_id(str(file_name)) or f"{kind}-{Path(str(file_name)).stem}",
        photo_id=Path(str(file_name)).stem if kind == "flickr30k" else "",
        object_id=f"{name}/{file_name}/{corners}",
    )
