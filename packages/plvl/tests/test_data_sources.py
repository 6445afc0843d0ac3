"""Releases other than REFER's, each in its true format."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from releases import CORNER, SQUARE, coco_name, write_flickr30k, write_image, write_refer, write_visual_genome

from papers_shared.errors import UserError
from plvl.config import DataConfig
from plvl.data import load_image, load_mask, open_split, splits_of
from plvl.data.commands import build_dataset
from plvl.data.masks import encode_shape
from plvl.data.sources.visual_genome import iterate_array

SAMPLES = os.environ.get("PAPERS_SAMPLES")


def _build(tmp_path: Path, dataset: Any, split: str, **options: Path | str) -> datasets.Dataset:
    given = {key: str(value) for key, value in options.items()}
    build_dataset(dataset, str(tmp_path / "out"), **given)
    return open_split(DataConfig(root=str(tmp_path / "out")), split)


def test_visual_genome(tmp_path: Path) -> None:
    images = [{"image_id": 3, "coco_id": 12, "flickr_id": 99}, {"image_id": 4}]
    rows = _build(
        tmp_path, "visual_genome", "train", visual_genome=write_visual_genome(tmp_path / "vg", images)
    )
    assert rows["name"] == ["visual_genome/30", "visual_genome/40"]
    assert rows[0]["expression"] == "a brown, sleek horse"
    assert rows[0]["box_xyxy"] == [0, 8, 10, 40]
    assert (rows[0]["image_id"], rows[0]["photo_id"]) == ("12", "99")
    assert (rows[1]["image_id"], rows[1]["photo_id"]) == ("visual_genome-4", "")
    assert rows[0]["mask"] is None
    assert load_image(rows[1]).shape == (40, 60, 3)


def test_a_large_json_array_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plvl.data.sources.visual_genome._CHUNK", 7)
    items = [{"a": [1, {"b": "x]},{"}], "c": "é"}, {}, [1.5, 2]]
    file = tmp_path / "a.json"
    for text in (json.dumps(items), json.dumps(items, indent=2), " \n" + json.dumps(items)):
        file.write_text(text, encoding="utf-8")
        assert list(iterate_array(file)) == items
    for text, message in (
        ("{}", "not a JSON array"),
        ("[{}", "cut off"),
        ("[1, 2]", "array of objects"),
        ("", "cut"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=message):
            list(iterate_array(file))


def test_flickr30k_entities(tmp_path: Path) -> None:
    write_flickr30k(tmp_path / "f", {"train": ["11", "12"], "val": ["13"], "test": ["14"]})
    rows = _build(tmp_path, "flickr30k", "train", flickr30k=tmp_path / "f")
    assert rows["expression"] == ["Two young men", "green shirts"] * 2
    assert rows[0]["box_xyxy"] == [1, 1, 40, 30]  # both men; 1-based corners
    assert rows[1]["box_xyxy"] == [4, 5, 9, 11]
    assert (rows[0]["image_id"], rows[0]["photo_id"]) == ("flickr30k-11", "11")
    assert splits_of(DataConfig(root=str(tmp_path / "out"))) == ("train", "val", "test")
    manifest = json.loads((tmp_path / "out" / "plvl-data.json").read_text())
    assert manifest["sources"][0]["left_out"] == {"the phrase has no box": 8}
    (tmp_path / "f" / "Annotations" / "11.xml").write_text("<annotation><size/></annotation>")
    with pytest.raises(UserError, match=r"11\.xml: not an annotation of Flickr30k Entities"):
        _build(tmp_path, "flickr30k", "train", flickr30k=tmp_path / "f")


def _save_labels(root: Path, split: str, entries: Any) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    torch.save(entries, root / f"{root.name}_{split}.pth")
    return root


def test_label_lists_with_masks(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "mscoco" / "images" / "train2014" / coco_name(5))
    write_image(tmp_path / "images" / "visual-genome" / "VG_100K" / "8.jpg")
    entries = [
        (coco_name(5), "coco", [10.0, 5.0, 20.0, 20.0, SQUARE, CORNER], "the square", None),
        ("8.jpg", "vg", [1.5, 2, 3, 4], "a horse", None),
    ]
    labels = _save_labels(tmp_path / "mask_data" / "mixed_pretrain", "train", entries)
    rows = _build(tmp_path, "labels", "train", labels=labels, images=tmp_path / "images")
    assert rows["box_xyxy"] == [[10, 5, 30, 25], [1.5, 2, 4.5, 6]]
    assert rows["name"] == ["mixed_pretrain/train/0", "mixed_pretrain/train/1"]
    mask = load_mask(rows[0])
    assert mask is not None
    assert mask.sum() == 500
    assert rows["image_id"] == ["5", "visual-genome-8"]
    assert load_mask(rows[1]) is None


@pytest.mark.parametrize(("name", "folder"), [("flickr", "flickr30k"), ("referit", "referit/images")])
def test_label_lists_with_corners(name: str, folder: str, tmp_path: Path) -> None:
    write_image(tmp_path / folder / "77.jpg")
    entry = (
        ("77.jpg", [1, 2, 30, 20], "a man")
        if name == "flickr"
        else ("77.jpg", "x", [1, 2, 30, 20], "a man", None)
    )
    labels = _save_labels(tmp_path / "data" / name, "val", [entry])
    row = _build(tmp_path, "labels", "val", labels=labels, images=tmp_path)[0]
    assert row["box_xyxy"] == [1, 2, 30, 20]
    assert row["photo_id"] == ("77" if name == "flickr" else "")


class _Code:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made",)


def test_label_lists_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    labels = _save_labels(tmp_path / "gref", "val", [_Code()])
    with pytest.raises(UserError, match=r"gref_val\.pth is not a list of plain Python data"):
        _build(tmp_path, "labels", "val", labels=labels)
    assert not (tmp_path / "made").exists()
    labels = _save_labels(tmp_path / "gref", "val", [("a.jpg", "coco", [1, 2], "x", None)])
    with pytest.raises(UserError, match=r"gref_val\.pth, entry 0: not as EEVG and PLVL have it"):
        _build(tmp_path, "labels", "val", labels=labels)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no empty_SPLIT\.pth"):
        _build(tmp_path, "labels", "val", labels=tmp_path / "empty")


def _save_hub(root: Path) -> Path:
    """The columns of jxu124/refcoco, one object per row; its `test` is REFER's testA."""
    release = write_refer(root / "release", "refcoco", "unc", {"train": [1]})
    instances = json.loads((release / "refcoco" / "instances.json").read_text())
    annotation, info = instances["annotations"][0], instances["images"][0]
    sentences = [{"raw": "A!", "sent": "a", "sent_id": 3, "tokens": ["a"]}]
    row = {
        "ref_id": 9, "ann_id": 1, "image_id": 1, "split": "testA", "sentences": sentences, "bbox": [10.0, 5, 30, 25],
        "raw_anns": json.dumps(annotation), "raw_image_info": json.dumps(info),
        "image_path": f"coco/train2014/{coco_name(1)}", "raw_sentences": json.dumps(sentences),
    }  # fmt: skip
    rows = datasets.Dataset.from_list([row])
    datasets.DatasetDict({"test": rows}).save_to_disk(str(root / "hub"))
    return root / "hub"


def test_hub_data_sets_of_objects(tmp_path: Path) -> None:
    hub, images = _save_hub(tmp_path), tmp_path / "release" / "images"
    built = _build(tmp_path, "hub", "testA", hub=hub, images=images)
    direct = DataConfig(root=str(hub), images=str(images))
    assert splits_of(direct) == ("testA",)
    for row in (built[0], open_split(direct, "testA")[0]):
        assert (row["name"], row["expression"], row["box_xyxy"]) == ("hub/3", "a", [10, 5, 30, 25])
        mask = load_mask(row)
        assert mask is not None
        assert mask.sum() == 400
        assert load_image(row).shape == (40, 60, 3)


def test_hub_data_sets_of_expressions(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:25, 10:30] = 255
    columns = {
        "image": [Image.new("RGB", (60, 40), "red")],
        "expression": ["red"],
        "mask": [Image.fromarray(mask)],
    }
    rows = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    datasets.DatasetDict({"validation": rows.cast_column("mask", datasets.Image())}).save_to_disk(
        str(tmp_path / "h")
    )
    row = open_split(DataConfig(root=str(tmp_path / "h")), "val")[0]
    assert row["box_xyxy"] == [10, 5, 30, 25]
    assert load_image(row)[0, 0].tolist() == [255, 0, 0]
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "other"))
    with pytest.raises(UserError, match=r"`image` is missing or no text; the keys are \['text'\]"):
        open_split(DataConfig(root=str(tmp_path / "other")), "train")


def test_rows_saved_as_a_data_set_open_again(tmp_path: Path) -> None:
    release = write_refer(tmp_path / "r", "refcoco", "unc", {"val": [1]})
    rows = _build(tmp_path, "refcoco_unc", "val", refer=release)
    saved = datasets.Dataset.from_list(list(rows))
    datasets.DatasetDict({"val": saved}).save_to_disk(str(tmp_path / "saved"))
    again = open_split(DataConfig(root=str(tmp_path / "saved")), "val")
    assert list(again) == list(rows)


def _lines(root: Path, *entries: dict[str, Any]) -> Path:
    write_image(root / "images" / "a.png")
    (root / "train.jsonl").write_text("\n".join(json.dumps(entry) for entry in entries) + "\n\n")
    return root


def test_own_json_lines(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), bool)
    mask[5:25, 10:30] = True
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    image = {"image": "images/a.png", "expression": "the square"}
    _lines(
        tmp_path,
        {**image, "box": [10, 5, 30, 25]},
        {**image, "mask": SQUARE},
        {**image, "mask": [SQUARE]},
        {**image, "mask": [[10, 5], [30, 5], [30, 25], [10, 25]]},
        {**image, "mask": encode_shape(mask)},
        {**image, "mask": "mask.png", "name": "mine", "source": "me"},
    )
    for rows in (
        open_split(DataConfig(root=str(tmp_path)), "train"),
        _build(tmp_path / "b", "jsonl", "train", jsonl=tmp_path),
    ):
        assert rows["box_xyxy"] == [[10, 5, 30, 25]] * 6
        assert load_mask(rows[0]) is None
        for row in list(rows)[1:]:
            np.testing.assert_array_equal(load_mask(row), mask)
        assert (rows[5]["name"], rows[5]["source"]) == ("mine", "me")
        assert rows[0]["name"] == "train/000001"
        assert (rows[0]["width"], rows[0]["height"]) == (60, 40)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"expression": "a", "box": [0, 0, 1, 1]}, "line 1: `image` is missing"),
        ({"image": "images/a.png", "box": [0, 0, 1, 1]}, "`expression` is missing"),
        ({"image": "images/a.png", "expression": "a"}, "neither `box` nor `mask`"),
        (
            {"image": "images/a.png", "expression": "a", "bbox": [0, 0, 1, 1]},
            "`bbox` holds corners in some files.*--data.box-format",
        ),
        ({"image": "images/a.png", "expression": "a", "box": [5, 5, 2, 9]}, "is empty"),
        ({"image": "images/a.png", "expression": "a", "box": [1, 2, 3]}, "4 numbers are expected, not 3"),
        ({"image": "images/a.png", "expression": "a", "box": ["x", 2, 3, 4]}, "'x' is no number"),
        ({"image": "images/a.png", "expression": "a", "mask": "none.png"}, "none.png: no such file"),
        (
            {"image": "images/a.png", "expression": "a", "mask": "images/b.png"},
            "the mask is 30x40 pixels",
        ),
        ({"image": "none.png", "expression": "a", "box": [0, 0, 1, 1]}, "none.png: no such file"),
        (
            {"image": "images/a.png", "expression": "a", "mask": SQUARE, "width": "x"},
            "the width 'x' is no whole number",
        ),
        (
            {"image": "images/a.png", "expression": "a", "mask": [1, 2, 3, 4]},
            "neither a box nor a mask with an area",
        ),
        ("text", "expected an object"),
    ],
)
def test_mistakes_in_json_lines_are_named(entry: Any, message: str, tmp_path: Path) -> None:
    _lines(tmp_path, entry)
    Image.new("L", (30, 40)).save(tmp_path / "images" / "b.png")
    with pytest.raises(UserError, match=message):
        open_split(DataConfig(root=str(tmp_path)), "train")


def test_a_line_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "val.jsonl").write_text('{"image": \n')
    with pytest.raises(UserError, match=r"val\.jsonl, line 1, is not JSON"):
        open_split(DataConfig(root=str(tmp_path)), "val")


@pytest.mark.skipif(not SAMPLES, reason="PAPERS_SAMPLES is not set")
def test_real_boxes_as_json_lines(tmp_path: Path) -> None:
    folder = Path(f"{SAMPLES}/refcoco/boxes_only")
    records = json.loads((folder / "boxes.json").read_text())["records"]
    lines = []
    for record in records:
        left, top, width, height = record["bbox"]
        box = [left, top, left + width, top + height]
        lines.append(json.dumps({"image": record["image"], "expression": record["sent"], "box": box}))
    (tmp_path / "testA.jsonl").write_text("\n".join(lines))
    data = DataConfig(root=str(tmp_path), images=str(folder / "images" / "mscoco" / "images" / "train2014"))
    rows = open_split(data, "testA")
    assert rows["expression"] == [record["sent"] for record in records]
    assert load_image(rows[0]).shape == (480, 640, 3)
