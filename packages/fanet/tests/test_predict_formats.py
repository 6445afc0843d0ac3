"""What is written about all images of a folder: COCO annotations, tables, the page."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from pycocotools import mask as masks_of_coco
from pycocotools.coco import COCO

from fanet.config import ModelConfig
from fanet.modeling.segmenter import Segmenter
from fanet.predict import predict_many
from papers_shared.coco import annotate
from papers_shared.errors import UserError


def decoded(annotation: dict[str, Any], height: int, width: int) -> np.ndarray:
    given = annotation["segmentation"]
    runs = masks_of_coco.frPyObjects(given, height, width) if isinstance(given, list) else [given]
    return masks_of_coco.decode(masks_of_coco.merge(runs)).astype(bool)


@pytest.mark.parametrize("form", ["rle", "polygons"])
@pytest.mark.parametrize("smooth", [0.0, 1.0, 3.0])
def test_coco_gives_every_pixel_back(form: Any, smooth: float) -> None:
    """Whatever the shape: holes, parts that touch at corners, single pixels, the border of the image."""
    rng = np.random.default_rng(0)
    for _ in range(25):
        height, width = (int(side) for side in rng.integers(1, 40, 2))
        noise = rng.random((height, width))
        mask = (cv2.GaussianBlur(noise, (0, 0), smooth) if smooth else noise) > 0.5
        back = np.zeros_like(mask)
        for one in annotate(mask, form, category_id=3):
            part = decoded(one, height, width)
            assert not (part & back).any()
            back |= part
            y, x = np.nonzero(part)
            assert one["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            assert (one["area"], one["category_id"]) == (part.sum(), 3)
        np.testing.assert_array_equal(back, mask)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    rng, paths = np.random.default_rng(0), []
    for name in ("one", "<two>", "three"):
        paths.append(tmp_path / f"{name}.png")
        Image.fromarray(rng.integers(0, 256, (30, 50, 3), dtype=np.uint8)).save(paths[-1])
    paths[-1].write_bytes(b"no image")
    return paths


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    config = ModelConfig(
        backbone="test_fanet",
        class_names=("a", "b"),
        decoder_channels=8,
        auxiliary=False,
        test_scale=(64, 32),
    )
    return Segmenter.from_config(config).eval()


@pytest.mark.parametrize("form", ["rle", "polygons"])
def test_all_forms_say_what_the_masks_say(
    segmenter: Segmenter, images: list[Path], tmp_path: Path, form: Any
) -> None:
    output = tmp_path / "out"
    records = predict_many(segmenter, images, output, coco=form, parquet=True)
    found = COCO(output / "predictions.coco.json")
    assert [category["name"] for category in found.loadCats(found.getCatIds())] == ["a", "b"]
    for number, record in enumerate(records[:2], start=1):
        mask = np.asarray(Image.open(output / record["mask"]))
        assert found.loadImgs(number)[0]["file_name"] == record["file"]
        for category in (0, 1):
            of_class = found.loadAnns(found.getAnnIds(imgIds=[number], catIds=[category]))
            parts = [found.annToMask(one).astype(bool) for one in of_class]
            np.testing.assert_array_equal(np.any(parts, axis=0) if parts else mask == 255, mask == category)
    with open(output / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [str(path) for path in images]
    assert float(rows[0]["b"]) == records[0]["shares"]["b"]
    assert "not an image" in rows[2]["error"]
    assert rows[2]["b"] == ""
    table = parquet.read_table(output / "predictions.parquet").to_pylist()
    assert [{k: v for k, v in row.items() if v is not None} for row in table] == records


def test_the_page_holds_all_it_shows(segmenter: Segmenter, images: list[Path], tmp_path: Path) -> None:
    records = predict_many(segmenter, images, tmp_path / "out")
    page = (tmp_path / "out/predictions.html").read_text()
    data = json.loads(re.search(r'<script id="records"[^>]*>(.*?)</script>', page, re.S).group(1))
    assert data["columns"] == ["image", "size", "a", "b"]
    assert [row["cells"][0] for row in data["rows"]] == ["one.png", "<two>.png", "three.png"]
    assert data["rows"][0]["cells"][2:] == list(records[0]["shares"].values())
    small = base64.b64decode(data["rows"][1]["thumb"].partition(",")[2])
    assert max(Image.open(io.BytesIO(small)).size) <= 192
    assert (data["rows"][2]["label"], data["rows"][2]["thumb"]) == ("failed", "")
    assert "http" not in page.replace("http-equiv", "")
    assert "<two>" not in page


def test_a_file_of_somebody_else_is_no_product(
    segmenter: Segmenter, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/predictions.html").write_text("mine")
    with pytest.raises(UserError, match=r"predictions\.html exists and was not written by predict"):
        predict_many(segmenter, images, tmp_path / "out")
    assert (tmp_path / "out/predictions.html").read_text() == "mine"
