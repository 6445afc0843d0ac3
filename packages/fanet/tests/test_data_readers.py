from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from fanet.config import ZEROWASTE_CLASSES, DataConfig
from fanet.data import class_names, load_image, load_mask, open_split
from fanet.data.objects import fill_polygon
from papers_shared.errors import UserError

SAMPLES = os.environ.get("PAPERS_SAMPLES")
needs_samples = pytest.mark.skipif(not SAMPLES, reason="PAPERS_SAMPLES is not set")
FRAME = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
LABELS = np.arange(8 * 12, dtype=np.uint8).reshape(8, 12) % 3


def _save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def _zerowaste(root: Path) -> dict[str, Any]:
    for name in ("01_frame_000000", "01_frame_000010"):
        _save(root / "train" / "data" / f"{name}.PNG", FRAME)
        _save(root / "train" / "sem_seg" / f"{name}.PNG", LABELS)
    return {}


def _below_the_archive(root: Path) -> dict[str, Any]:
    return _zerowaste(root / "zerowaste-f-final" / "splits_final_deblurred")


def _official(root: Path) -> dict[str, Any]:
    for name in ("a", "b"):
        _save(root / "images" / "train" / f"{name}.png", FRAME)
        _save(root / "annotations" / "train" / f"{name}.png", LABELS)
    return {}


def _folders(root: Path) -> dict[str, Any]:
    for name in ("a", "b"):
        _save(root / "train" / "images" / f"{name}.bmp", FRAME)
        _save(root / "train" / "masks" / f"{name}.png", LABELS)
    (root / "classes.txt").write_text("floor\nbottle\ncan\n")
    return {}


def _one_folder_and_lists(root: Path) -> dict[str, Any]:
    for name in ("a", "b", "c"):
        _save(root / "images" / f"{name}.png", FRAME)
        _save(root / "masks" / f"{name}.png", LABELS)
    (root / "train.txt").write_text("a\nc\n")
    return {"class_names": ("floor", "bottle", "can")}


def _saved_dataset(root: Path) -> dict[str, Any]:
    frames = [Image.fromarray(FRAME)] * 2
    columns = {"image": frames, "label": [Image.fromarray(LABELS)] * 2, "id": [7, 8]}
    rows = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    datasets.DatasetDict({"train": rows.cast_column("label", datasets.Image())}).save_to_disk(str(root))
    return {"class_names": ("floor", "bottle", "can")}


LAYOUTS = [
    (_zerowaste, "zerowaste", ZEROWASTE_CLASSES),
    (_below_the_archive, "zerowaste", ZEROWASTE_CLASSES),
    (_official, "official", ZEROWASTE_CLASSES),
    (_folders, "folders", ("floor", "bottle", "can")),
    (_one_folder_and_lists, "folders", ("floor", "bottle", "can")),
    (_saved_dataset, "dataset", ("floor", "bottle", "can")),
]


@pytest.mark.parametrize(("write", "layout", "names"), LAYOUTS)
@pytest.mark.parametrize("asked", ["auto", "explicit"])
def test_every_layout_gives_the_same_rows(write, layout, names, asked: str, tmp_path: Path) -> None:
    extra = write(tmp_path / "data")
    asked = "auto" if asked == "auto" else layout
    data = DataConfig(root=str(tmp_path / "data"), cache=str(tmp_path / "cache"), layout=asked, **extra)
    rows = open_split(data, "train")
    assert class_names(data) == names
    assert len(rows) == 2
    assert set(rows.column_names) == {"name", "image", "mask"}
    for row in rows:
        np.testing.assert_array_equal(load_image(row), FRAME)
        np.testing.assert_array_equal(load_mask(row, 3), LABELS)
        assert isinstance(row["name"], str)
    if layout != "dataset":
        assert rows.cache_files  # memory-mapped
        assert all(row["image"]["bytes"] is None for row in rows)


def test_rows_are_written_once_and_anew_after_a_change(tmp_path: Path) -> None:
    _zerowaste(tmp_path / "data")
    data = DataConfig(root=str(tmp_path / "data"), cache=str(tmp_path / "cache"))
    files = [open_split(data, "train").cache_files[0]["filename"] for _ in range(2)]
    assert files[0] == files[1]
    _save(tmp_path / "data" / "train" / "data" / "02_frame_000000.PNG", FRAME)
    _save(tmp_path / "data" / "train" / "sem_seg" / "02_frame_000000.png", LABELS)
    assert len(open_split(data, "train")) == 3
    Path(files[0]).write_bytes(b"damaged")
    shutil.rmtree(tmp_path / "data")
    _zerowaste(tmp_path / "data")
    assert len(open_split(data, "train")) == 2


def test_unwritable_cache_folder_keeps_the_rows_in_memory(tmp_path: Path) -> None:
    _zerowaste(tmp_path / "data")
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="kept in memory"):
        rows = open_split(DataConfig(root=str(tmp_path / "data"), cache=str(tmp_path / "file")), "train")
    np.testing.assert_array_equal(load_image(rows[1]), FRAME)


def _coco(root: Path, annotations: list[dict[str, Any]]) -> DataConfig:
    _save(root / "train" / "data" / "a.PNG", FRAME)
    categories = [{"id": 10, "name": "glass"}, {"id": 3, "name": "paper"}]
    content = {
        "images": [{"id": 5, "file_name": "a.PNG", "height": 8, "width": 12}],
        "categories": categories,
    }
    (root / "train" / "labels.json").write_text(json.dumps({**content, "annotations": annotations}))
    return DataConfig(root=str(root), cache=str(root / "cache"))


def test_polygons_are_drawn_and_the_highest_category_wins(tmp_path: Path) -> None:
    square, corner = [1, 1, 6, 1, 6, 6, 1, 6], [10, 0, 12, 0, 12, 2, 10, 2]
    annotations = [
        {"id": 0, "image_id": 5, "category_id": 10, "segmentation": [[4, 2, 9, 2, 9, 5, 4, 5], corner]},
        {"id": 1, "image_id": 5, "category_id": 3, "segmentation": [square]},
    ]
    data = _coco(tmp_path, annotations)
    assert class_names(data) == ("background", "paper", "glass")
    expected = np.zeros((8, 12), np.uint8)
    expected[1:6, 1:6] = 1
    expected[2:5, 4:9] = 2
    expected[0:2, 10:12] = 2
    np.testing.assert_array_equal(load_mask(open_split(data, "train")[0], 3), expected)


def test_polygon_fills_the_pixels_whose_centre_it_holds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        corners = rng.uniform(-4, 24, (int(rng.integers(3, 9)), 2))
        drawn = fill_polygon(corners, 18, 20)
        y, x = np.mgrid[0:18, 0:20] + 0.5
        inside = np.zeros((18, 20), bool)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x > x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        np.testing.assert_array_equal(drawn, inside)


def test_class_folders(tmp_path: Path) -> None:
    for split, names in (("train", ("cat", "dog")), ("val", ("dog",))):
        for name in names:
            _save(tmp_path / split / name / f"{split}_{name}.jpg", FRAME)
    data = DataConfig(root=str(tmp_path), cache=str(tmp_path / "cache"))
    assert class_names(data) == ("cat", "dog")
    assert open_split(data, "train")["label"] == [0, 1]
    assert open_split(data, "val")[0]["label"] == 1
    assert open_split(data, "val")[0]["name"] == "dog/val_dog"
    _save(tmp_path / "val" / "bird" / "x.jpg", FRAME)
    with pytest.raises(UserError, match="bird"):
        open_split(data, "val")


def test_dataset_with_class_labels(tmp_path: Path) -> None:
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    rows = datasets.Dataset.from_dict({"img": [Image.fromarray(FRAME)], "label": [1]}, features=features)
    rows.save_to_disk(str(tmp_path / "data"))
    data = DataConfig(root=str(tmp_path / "data"), cache=str(tmp_path / "cache"))
    assert class_names(data) == ("cat", "dog")
    row = open_split(data, "train")[0]
    assert (row["label"], row["name"]) == (1, "train_000000")
    np.testing.assert_array_equal(load_image(row), FRAME)


@pytest.mark.parametrize(
    ("spoil", "split", "message"),
    [
        (lambda root: shutil.rmtree(root), "train", "does not exist"),
        (lambda root: None, "val", "no split 'val' .there are: train."),
        (
            lambda root: (root / "train/sem_seg/01_frame_000010.PNG").unlink(),
            "train",
            "image without a mask",
        ),
        (
            lambda root: _save(root / "train/data/01_frame_000010.jpg", FRAME),
            "train",
            "several images share",
        ),
        (lambda root: shutil.rmtree(root / "train"), "train", "known layouts"),
    ],
)
def test_mistakes_get_one_clear_sentence(spoil, split: str, message: str, tmp_path: Path) -> None:
    _zerowaste(tmp_path / "data")
    spoil(tmp_path / "data")
    with pytest.raises(UserError, match=message):
        open_split(DataConfig(root=str(tmp_path / "data"), cache=str(tmp_path / "cache")), split)


def test_dataset_without_usable_columns(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "data"))
    with pytest.raises(UserError, match=r"no image column among \['text'\]"):
        open_split(DataConfig(root=str(tmp_path / "data")), "train")


@needs_samples
@pytest.mark.parametrize(
    ("folder", "layout", "names", "counts"),
    [
        ("figure_frames", "auto", ZEROWASTE_CLASSES, (2, 1)),
        ("standin_trashbags", "auto", ("background", "general_trashbag", "other_trashbag"), (8, 3)),
        ("standin_trashbags", "coco", ("background", "general_trashbag", "other_trashbag"), (8, 3)),
    ],
)
def test_real_frames(folder: str, layout: str, names, counts, tmp_path: Path) -> None:
    data = DataConfig(root=f"{SAMPLES}/zerowaste/{folder}", cache=str(tmp_path), layout=layout)
    assert class_names(data) == names
    for split, count in zip(("train", "test"), counts, strict=True):
        rows = open_split(data, split)
        assert len(rows) == count
        for row in rows:
            assert load_mask(row, len(names)).shape == load_image(row).shape[:2]


@needs_samples
def test_drawn_polygons_agree_with_the_stored_masks_of_the_stand_in(tmp_path: Path) -> None:
    root = f"{SAMPLES}/zerowaste/standin_trashbags"
    stored, drawn = (
        DataConfig(root=root, cache=str(tmp_path), layout=layout) for layout in ("zerowaste", "coco")
    )
    for left, right in zip(open_split(stored, "test"), open_split(drawn, "test"), strict=True):
        assert (load_mask(left, 3) == load_mask(right, 3)).mean() > 0.98


@needs_samples
def test_polygons_without_images_are_explained() -> None:
    with pytest.raises(UserError, match=r"holds labels\.json but no images"):
        open_split(DataConfig(root=f"{SAMPLES}/zerowaste/annotations_only"), "train")


def test_unknown_dataset_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no network here")

    monkeypatch.setattr(datasets, "get_dataset_split_names", unreachable)
    with pytest.raises(UserError, match=r"someone/waste cannot be found: no network here"):
        open_split(DataConfig(root="someone/waste", layout="dataset"), "train")
