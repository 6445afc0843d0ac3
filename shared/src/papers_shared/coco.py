"""Masks in COCO's annotation format, which pycocotools reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from papers_shared.files import atomic_file

Form = Literal["rle", "polygons"]
Annotation = dict[str, Any]


def annotate(mask: np.ndarray, form: Form = "rle", **more: Any) -> list[Annotation]:
    """The annotations of a mask, without `id` and `image_id`; none for an empty mask.

    Both forms give back every pixel.

    Args:
        mask: (H, W) bool.
        form: `rle`: one annotation, run-length encoded. `polygons`: one for each connected part, whose corners lie
            between pixels; a part with holes is run-length encoded, as COCO's polygons have none.
        more: Further entries, such as `category_id`.
    """
    if not mask.any():
        return []
    if form == "rle":
        return [_encoded(mask) | more]
    import cv2

    count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    found = []
    for part in (parts == number for number in range(1, count)):
        outlines = outline(part)
        if len(outlines) > 1:
            found.append(_encoded(part) | more)
            continue
        x, y = outlines[0].T
        found.append(
            {
                "segmentation": [outlines[0].ravel().tolist()],
                "area": int(part.sum()),
                "bbox": [int(x.min()), int(y.min()), int(np.ptp(x)), int(np.ptp(y))],
                "iscrowd": 0,
                **more,
            }
        )
    return found


def outline(part: np.ndarray) -> list[np.ndarray]:
    """The outer border of a connected part and those of its holes, each (N, 2) corners x, y between pixels.

    Args:
        part: (H, W) bool, connected over sides.
    """
    padded = np.pad(part, 1)
    inside, above, left = padded, np.roll(padded, 1, 0), np.roll(padded, 1, 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for border, (start, step) in (  # with the part on the right hand
        (inside & ~above, ((0, 0), (1, 0))),
        (~inside & above, ((1, 0), (-1, 0))),
        (inside & ~left, ((0, 1), (0, -1))),
        (~inside & left, ((0, 0), (0, 1))),
    ):
        for y, x in np.argwhere(border) - 1:
            steps.setdefault((int(x) + start[0], int(y) + start[1]), []).append(step)
    outlines = []
    while steps:
        (x, y), step = next(iter(steps)), (0, 0)
        corners = []
        while (x, y) in steps:
            onward = steps[x, y]
            right = (-step[1], step[0])  # where two corners of the part touch, the border goes round this one
            turn = right if right in onward else onward[0]
            onward.remove(turn)
            if not onward:
                del steps[x, y]
            if turn != step:
                corners.append((x, y))
            step, (x, y) = turn, (x + turn[0], y + turn[1])
        outlines.append(np.array(corners))
    return outlines


def write_coco(
    path: Path,
    images: Sequence[Mapping[str, Any]],
    found: Iterable[Annotation],
    categories: Sequence[str],
    description: str,
) -> None:
    """A file of annotations; `id` is given to each from 1 on, and to the categories from 0 on.

    Args:
        images: With `id`, `file_name`, `width`, `height`.
        found: With `image_id` and `category_id`.
    """
    document = {
        "info": {"description": description},
        "images": list(images),
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories)],
        "annotations": [{"id": number, **one} for number, one in enumerate(found, start=1)],
    }
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")


def _encoded(mask: np.ndarray) -> Annotation:
    from pycocotools import mask as coco

    runs = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "segmentation": {"size": runs["size"], "counts": runs["counts"].decode("ascii")},
        "area": int(mask.sum()),
        "bbox": [int(side) for side in coco.toBbox(runs)],
        "iscrowd": 0,
    }
