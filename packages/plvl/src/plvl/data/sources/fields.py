"""One entry of a file that people wrote (a JSON line, a row of a table or of a Hub data set) -> items.

Files name the same thing differently; the names that are understood stand here. Values keep what they are: null and
empty cells are absent.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from papers_shared.entries import numbers_of, shown, text_of
from papers_shared.errors import UserError
from papers_shared.paths import inside
from plvl.config import BoxFormat
from plvl.data.image_paths import coco_id
from plvl.data.items import Item, Listing, Reading
from plvl.data.pixels import Row

IMAGES = ("image", "image_path", "file_name", "filename", "img", "img_path", "image_file", "path")
SENTENCES = (
    "expression", "expressions", "sentence", "sentences", "sent", "caption", "captions", "referring_expression",
    "phrase",
    "phrases", "query", "answer", "question", "problem", "description", "text",
)  # fmt: skip
"""`answer` before `question`: in the RefCOCO sets of evaluation suites the question is a prompt."""
BOXES: dict[str, BoxFormat] = {
    "box": "xyxy", "box_xyxy": "xyxy", "bbox_xyxy": "xyxy", "bbox_xywh": "xywh", "box_xywh": "xywh", "bbox": "auto",
    "answer": "xyxy", "solution": "xyxy",
}  # fmt: skip
CORNERS: dict[tuple[str, ...], BoxFormat] = {
    ("x0", "y0", "x1", "y1"): "xyxy", ("xmin", "ymin", "xmax", "ymax"): "xyxy", ("x1", "y1", "x2", "y2"): "xyxy",
    ("x_min", "y_min", "x_max", "y_max"): "xyxy", ("left", "top", "right", "bottom"): "xyxy",
    ("x", "y", "w", "h"): "xywh", ("bbox_x", "bbox_y", "bbox_width", "bbox_height"): "xywh",
}  # fmt: skip
"""Columns of one number each."""
MASKS = ("mask", "segmentation", "polygon", "polygons", "rle")
NESTED = ("samples", "ref_list", "refs", "objects", "regions", "annotations")
"""Lists of objects of one image, each with a sentence and a box or a mask."""
OF_IMAGE = ("id", "image_id", "file_name")
"""Keys of such an object that say what its image is, or number it."""
OTHERS = {"name", "source", "image_id", "photo_id", "object_id", "width", "height", "iscrowd", "area", "id"}
AGAINST = (
    "`bbox` holds corners in some files and x, y, width, height in others: say which with --data.box-format xyxy or "
    "xywh (of `plvl data build`: --box-format)"
)


def items_of(
    entry: Mapping[str, Any],
    where: str,
    name: str,
    listing: Listing,
    reading: Reading,
    find: Callable[[str, str], Row],
    *,
    source: str,
    masks: Path | None = None,
    bbox: BoxFormat = "auto",
) -> Iterator[Item]:
    """The sentences of one entry, or of each of the objects that it lists (`NESTED`).

    Args:
        where: the file and line, for messages.
        name: of the entry where it has none.
        find: (file name, where) -> the `image` of a row.
        source: where the entry names none.
        masks: folder that paths of mask images start from; None: a text is no path.
        bbox: what a key `bbox` holds where `reading` does not say it; auto: it must.

    Raises:
        UserError: A part is missing, or not of the kind it has to be.
    """
    known = {key: value for key, value in entry.items() if value is not None and value != ""}
    own_area = known.keys() & {*BOXES, *MASKS}
    nested = "" if own_area else next((key for key in NESTED if _are_objects(known.get(key))), "")
    if nested:
        shared = {key: value for key, value in known.items() if key != nested}
        for number, thing in enumerate(known[nested]):
            one = {**shared, **_flat(thing)}
            about = f"{where}, {nested} {number}"
            more: dict[str, Any] = {"source": source, "masks": masks, "bbox": bbox}
            yield from items_of(one, about, f"{name}/{number}", listing, reading, find, **more)
        return
    image_key = next((key for key in IMAGES if key in known), "")
    box_key, box, box_format = _box(known, where, reading, bbox)
    sentence_key = next((key for key in SENTENCES if key in known and key != box_key), "")
    if not sentence_key and "expression" in entry and entry["expression"] == "":
        sentence_key, known = "expression", {**known, "expression": ""}
    mask_key = next((key for key in MASKS if key in known), "")
    for key, what in ((image_key, "image"), (sentence_key, "expression")):
        if not key:
            raise UserError(f"{where}: `{what}` is missing or no text; the keys are {shown(sorted(entry))}")
    if box is None and not mask_key:
        raise UserError(f"{where}: neither `box` nor `mask`")
    image = known[image_key]
    if isinstance(image, dict):
        row = _stored(image, f"{where}: `{image_key}`", find)
        named = next((known[key] for key in IMAGES if isinstance(known.get(key), str)), "")
        file = Path(named or str(image.get("path") or "")).name
    else:
        file = text_of(known, image_key, where)
        row = find(file, where)
    used = {image_key, sentence_key, mask_key, *box_key.split(","), *IMAGES, *OTHERS}
    for key in sorted(map(str, known.keys() - used)):
        listing.remark(f"the key {shown(key)} is not used")
    own = text_of(known, "image_id", where, default="")
    sentences = _sentences(known[sentence_key], where, sentence_key)
    base = text_of(known, "name", where, default=name)
    for number, (sentence, sent_id) in enumerate(sentences):
        yield Item(
            name=f"{base}/{sent_id or number}" if len(sentences) > 1 else base,
            image=row,
            sentence=sentence,
            source=text_of(known, "source", where, default=source),
            where=where,
            width=known.get("width"),
            height=known.get("height"),
            box=box,
            box_format=box_format,
            box_unit=reading.box_unit,
            shape=_mask(known[mask_key], where, masks, reading, find) if mask_key else None,
            invert_mask=reading.invert_masks,
            image_id=own or coco_id(file) or file,
            photo_id=text_of(known, "photo_id", where, default=""),
            object_id=text_of(known, "object_id", where, default=name if len(sentences) > 1 else ""),
        )


def _are_objects(value: Any) -> bool:
    """Objects with sentences of their own."""
    listed = isinstance(value, list | tuple) and bool(value) and all(isinstance(one, dict) for one in value)
    return listed and any(key in SENTENCES for key in _flat(value[0]))


def _flat(thing: Mapping[str, Any]) -> dict[str, Any]:
    """An object of `NESTED`: its own keys and, as of jxu124/refcoco-benchmark, those of its parts `..._info`."""
    found: dict[str, Any] = {}
    for key, value in thing.items():
        found |= value if key.endswith("_info") and isinstance(value, dict) else {key: value}
    return {key: value for key, value in found.items() if key not in (*OF_IMAGE, *NESTED)}


def _sentences(value: Any, where: str, key: str) -> list[tuple[str, str]]:
    """(sentence, its number or "") of a text, a list of texts, or REFER's list of {"sent", "raw", "sent_id"}."""
    value = _listed(value) if isinstance(value, str) else value
    value = value if isinstance(value, list | tuple) else [value]
    found = []
    for one in value:
        if isinstance(one, dict):
            inner = next(
                (name for name in ("sent", "raw", "sentence", "text", "caption") if one.get(name)), "sent"
            )
            found.append((text_of(one, inner, where), text_of(one, "sent_id", where, default="")))
        elif isinstance(one, str):
            found.append((text_of({key: one}, key, where), ""))
        else:
            raise UserError(f"{where}: `{key}` must be text, and holds {shown(one)}")
    if not found:
        raise UserError(f"{where}: `{key}` holds no sentence")
    return found


def _listed(text: str) -> Any:
    """A list of texts that a table or a Hub data set holds as text (JSON's or Python's form); other text as it is."""
    if not re.fullmatch(r"""\s*\[\s*["'].*["']\s*\]\s*""", text, re.DOTALL):
        return text
    try:
        found = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return found if all(isinstance(one, str) for one in found) else text


def _box(
    entry: Mapping[str, Any], where: str, reading: Reading, bbox: BoxFormat
) -> tuple[str, list[float] | None, BoxFormat]:
    """The key of the box, or keys with commas between them, its numbers and their form."""
    for key, form in BOXES.items():
        if key not in entry:
            continue
        value = entry[key]
        if key in ("answer", "solution") and not _is_box(value):
            continue
        if isinstance(value, str):
            value = _numbers_in(value, f"{where}: `{key}`")
        if form == "auto":
            form = bbox
        form = form if reading.box_format == "auto" else reading.box_format
        if form == "auto":
            raise UserError(f"{where}: {AGAINST}")
        return key, numbers_of(value, f"{where}: `{key}`", count=4), form
    for keys, form in CORNERS.items():
        if all(key in entry for key in keys):
            values = [_number(entry[key], f"{where}: `{key}`") for key in keys]
            form = form if reading.box_format == "auto" else reading.box_format
            return ",".join(keys), numbers_of(values, where, count=4), form
    return "", None, "xyxy"


def _is_box(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip()[:1] in ("[", "(") and value.count(",") == 3 and any(map(str.isdigit, value))
    return isinstance(value, list | tuple) and len(value) == 4 and not any(isinstance(x, str) for x in value)


def _numbers_in(text: str, where: str) -> list[float]:
    """The numbers of a cell: 1 2 3 4, 1,2,3,4, or [1, 2, 3, 4]."""
    return [
        _number(part, where) for part in text.strip("[]() \t").replace(",", " ").replace(";", " ").split()
    ]


def _number(value: Any, where: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        raise UserError(f"{where}: {shown(value)} is no number") from None


def _stored(image: Mapping[str, Any], where: str, find: Callable[[str, str], Row]) -> Row:
    """An image of a data set: its content, or the path of a file."""
    content, path = image.get("bytes"), image.get("path")
    if isinstance(content, bytes) and content:
        return {"path": path if isinstance(path, str) else None, "bytes": content}
    if content or not isinstance(path, str):
        raise UserError(f"{where} holds no image: {shown(image)}")
    return find(path, where)


def _mask(
    value: Any, where: str, masks: Path | None, reading: Reading, find: Callable[[str, str], Row]
) -> Any:
    if isinstance(value, dict) and "counts" not in value and {"bytes", "path"} & value.keys():
        stored = _stored(value, f"{where}: the mask", find)
        return stored["bytes"] or stored["path"]
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise UserError(f"{where}: the mask is not JSON: {shown(value)}") from None
    if masks is None:
        raise UserError(f"{where}: the mask {shown(value)} is neither polygons nor an image")
    return inside(masks, value, f"{where}: `mask`", allow_outside=reading.allow_outside)
