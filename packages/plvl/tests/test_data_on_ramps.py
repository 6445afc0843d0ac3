"""Layouts as other tools write them: each gives the same boxes, and other forms are noticed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from papers_shared.errors import UserError
from plvl.config import DataConfig
from plvl.data import load_mask, open_split, splits_of
from plvl.data.check import check

WIDTH, HEIGHT = 64, 48
BOXES = [[4 + n, 6 + n, 24 + 2 * n, 20 + n] for n in range(9)] + [[40, 30, 60, 46]]
"""Corners."""


def images(folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number}.png" for number in range(len(BOXES))]
    for number, name in enumerate(names):
        Image.new("RGB", (WIDTH, HEIGHT), (10 * number, 90, 60)).save(folder / name)
    return names


def xywh(box: list[int]) -> list[int]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def lines(folder: Path, boxes: list[Any], **more: Any) -> Path:
    names = images(folder)
    entries = [
        {"image": name, "expression": f"thing {n}", "box": box, **more}
        for n, (name, box) in enumerate(zip(names, boxes, strict=True))
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return folder


def read(root: Path, **options: Any) -> list[dict[str, Any]]:
    return list(open_split(DataConfig(root=str(root), **options), "train"))


def found(root: Path, **options: Any) -> list[list[float]]:
    return [[round(x, 6) for x in row["box_xyxy"]] for row in read(root, **options)]


def said(root: Path, **options: Any) -> str:
    report = check(DataConfig(root=str(root), **options), ["train"], progress=False)
    return "\n".join(f"{finding.severity} {finding.message} {finding.remedy}" for finding in report.findings)


@pytest.mark.parametrize(
    ("boxes", "options", "suspected"),
    [
        ([xywh(box) for box in BOXES], {"box_format": "xywh"}, "box-format xywh"),
        (
            [[x / (WIDTH, HEIGHT)[i % 2] for i, x in enumerate(box)] for box in BOXES],
            {"box_unit": "unit"},
            "box-unit unit",
        ),
        (
            [[1000 * x / (WIDTH, HEIGHT)[i % 2] for i, x in enumerate(box)] for box in BOXES],
            {"box_unit": "thousand"},
            "box-unit thousand",
        ),
    ],
    ids=["xywh", "fractions", "thousandths"],
)
def test_forms_are_noticed_and_mended(
    tmp_path: Path, boxes: list[Any], options: dict[str, str], suspected: str
) -> None:
    root = lines(tmp_path, boxes)
    assert found(root, **options) == BOXES
    if suspected != "box-format xywh":  # small boxes near the corner are legal either way
        assert suspected in said(root)
    assert "box-format" not in said(lines(tmp_path / "sound", BOXES))


def test_boxes_that_disagree_with_their_masks(tmp_path: Path) -> None:
    masks = [[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in BOXES]
    names = images(tmp_path)
    entries = [
        {"image": name, "expression": "x", "box": xywh(box), "mask": mask}
        for name, box, mask in zip(names, BOXES, masks, strict=True)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert "box-format xywh" in said(tmp_path)
    assert found(tmp_path, box_format="xywh") == BOXES


@pytest.mark.parametrize("separator", [",", "\t"])
def test_tables(tmp_path: Path, separator: str) -> None:
    names = images(tmp_path)
    rows = [
        separator.join([name, f"thing {n}", *map(str, box)])
        for n, (name, box) in enumerate(zip(names, BOXES, strict=True))
    ]
    head = separator.join(["image", "caption", "xmin", "ymin", "xmax", "ymax"])
    suffix = "csv" if separator == "," else "tsv"
    (tmp_path / f"train.{suffix}").write_bytes("\r\n".join([head, *rows]).encode("utf-8-sig"))
    assert found(tmp_path) == BOXES
    assert read(tmp_path)[3]["expression"] == "thing 3"


def test_a_coco_file_with_captions(tmp_path: Path) -> None:
    names = images(tmp_path / "train")
    content = {
        "images": [
            {"id": n, "file_name": name, "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names)
        ],
        "annotations": [
            {"id": n, "image_id": n, "bbox": xywh(box), "caption": f"thing {n}", "category_id": 1}
            for n, box in enumerate(BOXES)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert found(tmp_path) == BOXES
    assert "error" not in said(tmp_path)


def test_a_saved_set_with_the_columns_of_evaluation_suites(tmp_path: Path) -> None:
    images(tmp_path / "files")
    paths = [str(tmp_path / "files" / f"{n}.png") for n in range(len(BOXES))]
    columns = {
        "image": paths,
        "question": ["Please describe the marked thing."] * len(BOXES),
        "answer": [[f"thing {n}", "it"] for n in range(len(BOXES))],
        "bbox": [[float(x) for x in xywh(box)] for box in BOXES],
    }
    rows = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    datasets.DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "saved"))
    opened = read(tmp_path / "saved")
    assert len(opened) == 2 * len(BOXES)
    assert [row["expression"] for row in opened[:2]] == ["thing 0", "it"]
    assert [row["box_xyxy"] for row in opened[::2]] == BOXES


def test_inverted_masks_are_noticed_and_mended(tmp_path: Path) -> None:
    names = images(tmp_path)
    entries = []
    for name, (x0, y0, x1, y1) in zip(names, BOXES, strict=True):
        mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
        mask[y0:y1, x0:x1] = 0
        Image.fromarray(mask).save(tmp_path / f"m{name}")
        entries.append({"image": name, "expression": "x", "mask": f"m{name}", "box": [x0, y0, x1, y1]})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert "invert-masks" in said(tmp_path)
    row = read(tmp_path, invert_masks=True)[0]
    x0, y0, x1, y1 = BOXES[0]
    assert load_mask(row).sum() == (x1 - x0) * (y1 - y0)


@pytest.mark.parametrize("name", ["../outside.png", "/etc/passwd"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "outside.png")
    entry = {"image": name, "expression": "x", "box": BOXES[0]}
    (tmp_path / "in/train.jsonl").write_text(json.dumps(entry) + "\n")
    with pytest.raises(UserError, match=r"line 1.*outside"):
        read(tmp_path / "in")
    if name.startswith(".."):
        assert found(tmp_path / "in", allow_outside=True) == BOXES[:1]


@pytest.mark.parametrize("value", [0, -1, 10**12, float("nan"), True, "448"])
def test_declared_sizes_are_checked(tmp_path: Path, value: Any) -> None:
    root = lines(tmp_path, BOXES, width=value, height=HEIGHT)
    with pytest.raises(UserError, match="line 1"):
        read(root)


def test_a_share_is_set_aside_by_image_and_seed(tmp_path: Path) -> None:
    folder = lines(tmp_path / "set", BOXES)
    lines_of = (folder / "train.jsonl").read_text()
    (folder / "train.jsonl").write_text(lines_of + lines_of.replace("thing", "another thing"))
    splits = {}
    for seed in (0, 1):
        data = DataConfig(root=str(folder), val_share=0.3, val_seed=seed)
        assert splits_of(data) == ("train", "val")
        train, val = (
            [Path(row["image"]["path"]).name for row in open_split(data, s)] for s in splits_of(data)
        )
        assert (len(train), len(val)) == (14, 6), "three images of ten, two sentences about each"
        assert not set(train) & set(val)
        splits[seed] = set(val)
    assert splits[0] != splits[1]
    (tmp_path / "elsewhere").mkdir()
    elsewhere = folder.rename(tmp_path / "elsewhere/set")
    again = open_split(replace(data, root=str(elsewhere)), "val")
    assert {Path(row["image"]["path"]).name for row in again} == splits[1], "on any machine"
    assert "made from 'train' by --data.val-share 0.3" in said(elsewhere, val_share=0.3)
    with pytest.raises(UserError, match=r"no split 'val'.*--data\.val-share 0\.1"):
        open_split(DataConfig(root=str(elsewhere)), "val")
    (elsewhere / "val.jsonl").write_text(lines_of)
    with pytest.raises(UserError, match=r"has a split 'val': leave out --data\.val-share"):
        open_split(replace(data, root=str(elsewhere)), "train")
