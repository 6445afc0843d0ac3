"""Small releases in the true formats, for the tests of the readers."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 60, 40
SQUARE = [10.0, 5.0, 30.0, 5.0, 30.0, 25.0, 10.0, 25.0]
"""The pixels x 10..29, y 5..24."""
CORNER = [50.0, 30.0, 60.0, 30.0, 60.0, 40.0, 50.0, 40.0]


def coco_name(number: int) -> str:
    """The file name of an image of COCO train2014."""
    return f"COCO_train2014_{number:012d}.jpg"


def write_image(path: Path, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """Write an image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
    return path


def write_refer(
    root: Path,
    folder: str,
    by: str,
    splits: dict[str, list[int]],
    *,
    with_images: bool = True,
    shape: Any = None,
    first: int = 1,
) -> Path:
    """A REFER data set: split -> COCO's numbers of its images; one object with two sentences per image."""
    images, annotations, refs = [], [], []
    for split, numbers in splits.items():
        for number in numbers:
            name = coco_name(number)
            if with_images:
                write_image(root / "images" / "mscoco" / "images" / "train2014" / name)
            url = f"http://farm4.staticflickr.com/3/{900000 + number}_a1b2_z.jpg"
            images.append(
                {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT, "flickr_url": url}
            )
            ann = first + len(annotations)
            annotations.append(
                {
                    "id": ann, "image_id": number, "category_id": 1, "iscrowd": 0, "area": 400.0,
                    "bbox": [10.0, 5.0, 20.0, 20.0], "segmentation": [SQUARE] if shape is None else shape,
                }
            )  # fmt: skip
            sentences = [
                {"sent_id": 2 * ann + k, "sent": text, "raw": text.upper(), "tokens": text.split()}
                for k, text in enumerate(("the left square", "square"))
            ]
            refs.append(
                {
                    "ref_id": ann, "ann_id": ann, "image_id": number, "category_id": 1, "split": split,
                    "file_name": name.replace(".jpg", f"_{ann}.jpg"), "sentences": sentences,
                    "sent_ids": [sentence["sent_id"] for sentence in sentences],
                }
            )  # fmt: skip
    (root / folder).mkdir(parents=True, exist_ok=True)
    categories = [{"id": 1, "name": "thing", "supercategory": "thing"}]
    content = {
        "info": {},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    (root / folder / "instances.json").write_text(json.dumps(content))
    (root / folder / f"refs({by}).p").write_bytes(pickle.dumps(refs, protocol=0))
    return root


def write_visual_genome(root: Path, images: list[dict[str, Any]]) -> Path:
    """Two regions per image: one that leaves it, and one outside of it."""
    root.mkdir(parents=True, exist_ok=True)
    entries, regions = [], []
    for image in images:
        number = image["image_id"]
        write_image(root / "VG_100K_2" / f"{number}.jpg")
        entries.append(
            {"url": "", "width": WIDTH, "height": HEIGHT, "flickr_id": None, "coco_id": None, **image}
        )
        inside = {"region_id": 10 * number, "phrase": "a brown,  sleek horse\n", "x": -3, "y": 8}
        outside = {
            "region_id": 10 * number + 1,
            "phrase": "the sky",
            "x": 70,
            "y": 8,
            "width": 5,
            "height": 5,
        }
        regions.append(
            {"id": number, "regions": [{**inside, "width": 13, "height": 90, "image_id": number}, outside]}
        )
    (root / "image_data.json").write_text(json.dumps(entries))
    (root / "region_descriptions.json").write_text(json.dumps(regions))
    return root


SENTENCE = (
    "[/EN#5/people Two young men] in [/EN#6/clothing green shirts] look at [/EN#0/notvisual it] near "
    "[/EN#7/scene a house] ."
)


def write_flickr30k(root: Path, splits: dict[str, list[str]]) -> Path:
    """One sentence per image: chain 5 with two boxes, chain 6 with one, chain 7 a scene."""
    for folder in ("Sentences", "Annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    boxes = [("5", (2, 3, 11, 21)), ("5", (31, 2, 41, 31)), ("6", (5, 6, 10, 12))]
    objects = "".join(
        f"<object><name>{chain}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
        "</bndbox></object>"
        for chain, (a, b, c, d) in boxes
    )
    scene = "<object><name>7</name><scene>1</scene><nobndbox>0</nobndbox></object>"
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    for split, numbers in splits.items():
        (root / f"{split}.txt").write_text("\n".join(numbers) + "\n")
        for number in numbers:
            write_image(root / "flickr30k-images" / f"{number}.jpg")
            (root / "Sentences" / f"{number}.txt").write_text(SENTENCE + "\n")
            (root / "Annotations" / f"{number}.xml").write_text(
                f"<annotation>{size}{objects}{scene}</annotation>"
            )
    return root
