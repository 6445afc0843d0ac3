"""Your own data, and what `plvl data build` writes beside the Arrow files: one JSON object per sentence.

Keys: `image` (path), `expression`, and `box` ([x0, y0, x1, y1] in pixels from the upper left corner of the image
as viewers show it) or `mask` or both. `mask` is a polygon [x, y, x, y, ...], a list of them, COCO's run-length code
{"size": [height, width], "counts": text or list}, or the path of a black and white image. Optional: `name`,
`source`, `image_id`, `photo_id`, `object_id`, `width`, `height`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from papers_shared.errors import UserError
from plvl.data.items import Item, Items, Listing
from plvl.data.pixels import file_entry

KEYS = {
    "image", "expression", "box", "mask", "name", "source", "image_id", "photo_id", "object_id", "width", "height",
}  # fmt: skip


def json_lines(path: str | Path, images: str | Path = "") -> Listing:
    """The JSON lines of a file (its name is the split), or of all *.jsonl files of a folder.

    Args:
        images: what relative image and mask paths start from; empty: the folder of the file.

    Raises:
        UserError: No such file, or none in the folder.
    """
    path = Path(path).expanduser()
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise UserError(f"{path} is no .jsonl file and no folder of them")
    return Listing(path.stem, lambda: _read(files, images), files)


def _read(files: list[Path], images: str | Path) -> Items:
    for file in files:
        base = Path(images).expanduser() if images else file.parent
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield (
                        file.stem,
                        _item(line, f"{file}, line {number}", f"{file.stem}/{number:06d}", base),
                    )


def _item(line: str, where: str, name: str, base: Path) -> Item:
    try:
        entry: Any = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})") from error
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected an object with `image` and `expression`")
    if unknown := sorted(set(entry) - KEYS):
        hint = " (write boxes as `box`: [x0, y0, x1, y1])" if "bbox" in unknown else ""
        raise UserError(f"{where}: unknown key '{unknown[0]}'{hint}; known are {', '.join(sorted(KEYS))}")
    for key in ("image", "expression"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            raise UserError(f"{where}: `{key}` is missing or no text")
    box, mask = entry.get("box"), entry.get("mask")
    if box is None and mask is None:
        raise UserError(f"{where}: neither `box` nor `mask`")
    if box is not None and not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        raise UserError(f"{where}: `box` must be four numbers [x0, y0, x1, y1]")
    for key in ("width", "height"):
        if not isinstance(entry.get(key, 0), int):
            raise UserError(f"{where}: `{key}` must be a whole number")
    if box is not None and not (box[0] < box[2] and box[1] < box[3]):
        raise UserError(
            f"{where}: `box` {box} is empty: it must be [x0, y0, x1, y1] with x0 < x1 and y0 < y1"
        )
    return Item(
        name=str(entry.get("name", name)),
        image=file_entry(base / entry["image"]),
        sentence=entry["expression"],
        source=str(entry.get("source", "own")),
        width=int(entry.get("width", 0)),
        height=int(entry.get("height", 0)),
        box_xyxy=None if box is None else tuple(box),
        shape=base / mask if isinstance(mask, str) else mask,
        image_id=str(entry.get("image_id") or entry["image"]),
        photo_id=str(entry.get("photo_id", "")),
        object_id=str(entry.get("object_id", "")),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
