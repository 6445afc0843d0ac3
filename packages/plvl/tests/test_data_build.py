"""`plvl data build`: releases -> one folder, that any reader finds again."""

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
from releases import CORNER, SQUARE, coco_name, write_flickr30k, write_refer, write_visual_genome

from papers_shared.errors import UserError
from plvl.config import DataConfig
from plvl.data import load_image, load_mask, open_split, splits_of
from plvl.data.commands import build_dataset, run_build, summary
from plvl.data.layouts import MANIFEST
from plvl.data.masks import encode_shape
from plvl.options import DataBuildOptions

SAMPLES = os.environ.get("PAPERS_SAMPLES")
needs_samples = pytest.mark.skipif(not SAMPLES, reason="PAPERS_SAMPLES is not set")


def _build(output: Path, dataset: Any, **options: Any) -> dict[str, Any]:
    return build_dataset(dataset, str(output), **{k: str(v) for k, v in options.items()})


def _open(folder: Path, split: str, **more: Any) -> datasets.Dataset:
    return open_split(DataConfig(root=str(folder), **more), split)


def test_a_refer_release_becomes_rows(tmp_path: Path) -> None:
    write_refer(tmp_path / "r", "refcoco", "unc", {"train": [1, 2], "testA": [3]})
    manifest = _build(tmp_path / "out", "refcoco_unc", refer=tmp_path / "r")
    assert splits_of(DataConfig(root=str(tmp_path / "out"))) == ("train", "testA")
    assert (
        manifest["splits"]["train"].items()
        >= {"images": 2, "objects": 2, "expressions": 4, "masks": 4}.items()
    )
    rows = _open(tmp_path / "out", "train")
    assert rows.cache_files  # memory-mapped
    row = rows[0]
    assert row["name"] == "refcoco_unc/2"
    assert row["expression"] == "the left square"
    assert row["box_xyxy"] == [10, 5, 30, 25]
    assert (row["width"], row["height"], row["image_id"], row["photo_id"]) == (60, 40, "1", "900001")
    assert row["source"] == "refcoco_unc"
    assert row["image"]["path"].endswith(f"train2014/{coco_name(1)}")
    assert load_image(row).shape == (40, 60, 3)
    expected = np.zeros((40, 60), bool)
    expected[5:25, 10:30] = True
    mask = load_mask(row)
    assert mask is not None
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, expected)
    assert rows[1]["mask"] == row["mask"]


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [
        ([SQUARE, CORNER], 500),
        (SQUARE, 400),
        ([SQUARE, [1.0, 1.0, 5.0, 5.0]], 400),
        (encode_shape(np.tri(40, 60, dtype=bool)), int(np.tri(40, 60).sum())),
        ({"size": [40, 60], "counts": [100, 300, 2000]}, 300),
        ([{"size": [40, 60], "counts": [100, 300, 2000]}], 300),
        ([], None),
    ],
)
def test_every_kind_of_segmentation(shape: Any, pixels: int | None, tmp_path: Path) -> None:
    write_refer(tmp_path / "r", "refcoco", "unc", {"val": [1]}, shape=shape)
    _build(tmp_path / "out", "refcoco_unc", refer=tmp_path / "r")
    mask = load_mask(_open(tmp_path / "out", "val")[0])
    assert (None if mask is None else int(mask.sum())) == pixels


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"size": [41, 60], "counts": [2460]}, "60x41 pixels in an image of 60x40"),
        ({"size": [40, 60], "counts": [100, 300]}, "add up to 400, not to 2400"),
        ({"size": [40, 60], "counts": "\x01\x02"}, "no text of COCO's kind"),
        ({"size": [40, 60]}, "neither polygons nor"),
        ([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]], "odd number"),
        (["x"], "a list of numbers is expected"),
        (5, "neither polygons nor"),
    ],
)
def test_wrong_segmentations_are_named(shape: Any, message: str, tmp_path: Path) -> None:
    write_refer(tmp_path / "r", "refcoco", "unc", {"val": [1]}, shape=shape)
    with pytest.raises(UserError, match=f"'refcoco_unc/2'.*{message}"):
        _build(tmp_path / "out", "refcoco_unc", refer=tmp_path / "r")
    assert not (tmp_path / "out").exists()


def test_the_hash_tells_the_annotations_and_not_the_folders(tmp_path: Path) -> None:
    splits = {"train": [1, 2], "val": [3]}
    write_refer(tmp_path / "a", "refcoco", "unc", splits)
    write_refer(tmp_path / "b", "refcoco", "unc", splits, with_images=False)
    for number in (1, 2, 3):  # the names of 2017
        source = tmp_path / "a" / "images" / "mscoco" / "images" / "train2014" / coco_name(number)
        (tmp_path / "elsewhere" / "train2014").mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tmp_path / "elsewhere" / "train2014" / coco_name(number))
    one = _build(tmp_path / "one", "refcoco_unc", refer=tmp_path / "a")
    two = _build(tmp_path / "two", "refcoco_unc", refer=tmp_path / "b", images=tmp_path / "elsewhere")
    assert one["sha256"] == two["sha256"]
    assert one["splits"]["train"]["sha256"] != one["splits"]["val"]["sha256"]
    write_refer(tmp_path / "a", "refcoco", "unc", splits, shape=[CORNER])
    assert _build(tmp_path / "one", "refcoco_unc", refer=tmp_path / "a")["sha256"] != two["sha256"]


def test_images_under_their_names_of_2017(tmp_path: Path) -> None:
    write_refer(tmp_path / "r", "refcocog", "umd", {"val": [7]})
    folder = tmp_path / "r" / "images" / "mscoco" / "images" / "train2014"
    (tmp_path / "coco" / "train2017").mkdir(parents=True)
    (folder / coco_name(7)).rename(tmp_path / "coco" / "train2017" / "000000000007.jpg")
    _build(tmp_path / "out", "refcocog_umd", refer=tmp_path / "r", images=tmp_path / "coco")
    row = _open(tmp_path / "out", "val")[0]
    assert load_image(row).shape == (40, 60, 3)
    assert row["image_id"] == "7"


def test_referit_is_read_from_the_same_release(tmp_path: Path) -> None:
    """Its masks are lists of run-length codes, and its images lie in numbered folders."""
    code = [{"size": [40, 60], "counts": [100, 300, 2000]}]
    write_refer(tmp_path / "r", "refclef", "berkeley", {"val": [7]}, shape=code)
    instances = tmp_path / "r" / "refclef" / "instances.json"
    instances.write_text(instances.read_text().replace(coco_name(7), "112.jpg"))
    folder = tmp_path / "r" / "images" / "mscoco" / "images" / "train2014"
    (tmp_path / "r" / "images" / "saiapr_tc-12" / "00" / "images").mkdir(parents=True)
    (folder / coco_name(7)).rename(tmp_path / "r" / "images" / "saiapr_tc-12" / "00" / "images" / "112.jpg")
    _build(tmp_path / "out", "referit_berkeley", refer=tmp_path / "r")
    row = _open(tmp_path / "out", "val")[0]
    mask = load_mask(row)
    assert mask is not None
    assert mask.sum() == 300
    assert load_image(row).shape == (40, 60, 3)
    assert row["image_id"] == "referit-7"


def test_a_built_folder_can_be_moved_and_its_images_too(tmp_path: Path) -> None:
    write_refer(tmp_path / "x" / "r", "refcoco", "unc", {"val": [1]})
    _build(tmp_path / "x" / "out", "refcoco_unc", refer=tmp_path / "x" / "r")
    (tmp_path / "x").rename(tmp_path / "y")
    load_image(_open(tmp_path / "y" / "out", "val")[0])
    folder = tmp_path / "y" / "r" / "images" / "mscoco" / "images" / "train2014"
    folder.rename(tmp_path / "images")
    row = _open(tmp_path / "y" / "out", "val", images=str(tmp_path / "images"))[0]
    assert load_image(row).shape == (40, 60, 3)


def test_the_json_lines_beside_it_are_the_same_rows(tmp_path: Path) -> None:
    write_refer(tmp_path / "r", "refcoco", "unc", {"train": [1, 2]}, shape=[SQUARE, CORNER])
    _build(tmp_path / "out", "refcoco_unc", refer=tmp_path / "r")
    images = json.loads((tmp_path / "out" / MANIFEST).read_text())["images"]
    shutil.copy(tmp_path / "out" / "train.jsonl", tmp_path / "train.jsonl")
    built = _open(tmp_path / "out", "train")
    for root in (tmp_path, tmp_path / "train.jsonl"):
        again = _open(root, "train", images=images)
        assert again[:] == built[:]


@pytest.mark.parametrize("missing", ["error", "drop", "keep"])
def test_missing_images(missing: Any, tmp_path: Path) -> None:
    write_refer(tmp_path / "r", "refcoco", "unc", {"val": [1, 2]})
    (tmp_path / "r" / "images" / "mscoco" / "images" / "train2014" / coco_name(2)).unlink()
    if missing == "error":
        with pytest.raises(UserError, match=rf"{coco_name(2)}: no such image .*--images"):
            _build(tmp_path / "out", "refcoco_unc", refer=tmp_path / "r")
        return
    manifest = _build(tmp_path / "out", "refcoco_unc", refer=tmp_path / "r", missing=missing)
    assert manifest["missing_images"] == 1
    rows = _open(tmp_path / "out", "val")
    assert len(rows) == (2 if missing == "drop" else 4)
    assert manifest["sources"][0]["left_out"] == ({"the image is missing": 2} if missing == "drop" else {})


def test_a_stranger_folder_is_not_replaced(tmp_path: Path) -> None:
    write_refer(tmp_path / "r", "refcoco", "unc", {"val": [1]})
    with pytest.raises(UserError, match=r"holds other files .* name a new folder"):
        _build(tmp_path / "r", "refcoco_unc", refer=tmp_path / "r")
    assert (tmp_path / "r" / "refcoco" / "instances.json").is_file()
    for _ in range(2):
        _build(tmp_path / "out", "refcoco_unc", refer=tmp_path / "r")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "refs(unc).p").unlink(), r"has no refcoco/refs\(unc\)\.p"),
        (lambda folder: (folder / "instances.json").unlink(), "instances.json is missing"),
        (lambda folder: (folder / "instances.json").write_text("{}"), "is not a COCO instances file"),
        (lambda folder: (folder / "instances.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "refs(unc).p").write_bytes(b"I5\n."), "holds no list of references"),
        (
            lambda folder: (folder / "instances.json").write_text('{"images": [], "annotations": []}'),
            "reference 1 does not fit instances.json",
        ),
    ],
)
def test_damaged_releases(spoil: Any, message: str, tmp_path: Path) -> None:
    write_refer(tmp_path / "r", "refcoco", "unc", {"val": [1]})
    spoil(tmp_path / "r" / "refcoco")
    with pytest.raises(UserError, match=message):
        _build(tmp_path / "out", "refcoco_unc", refer=tmp_path / "r")


def test_what_is_no_data_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data folder given"):
        open_split(DataConfig(), "train")
    with pytest.raises(UserError, match="does not exist"):
        _open(tmp_path / "absent", "train")
    write_refer(tmp_path / "r", "refcoco", "unc", {"val": [1]})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="does not have any of the known layouts"):
        _open(tmp_path / "empty", "val")
    _build(tmp_path / "out", "refcoco_unc", refer=tmp_path / "r")
    with pytest.raises(UserError, match=r"no split 'train' \(there are: val\)"):
        _open(tmp_path / "out", "train")
    with pytest.raises(UserError, match="does not have the layout 'jsonl'"):
        _open(tmp_path / "out", "val", layout="jsonl")
    manifest = tmp_path / "out" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(UserError, match="has format 9, this version reads 1"):
        _open(tmp_path / "out", "val")
    with pytest.raises(UserError, match="refcoco_unc needs --refer"):
        _build(tmp_path / "out2", "refcoco_unc")


def _releases(root: Path) -> dict[str, Path]:
    """Three benchmarks whose images overlap, Visual Genome with three of them, Flickr30k with one."""
    write_refer(root / "r", "refcoco", "unc", {"train": [1, 2], "val": [3], "testA": [4], "testB": [5]})
    write_refer(root / "r", "refcoco+", "unc", {"train": [1, 2], "val": [3]}, first=20)
    write_refer(root / "r", "refcocog", "umd", {"train": [3, 6], "val": [2], "test": [7]}, first=40)
    images = [
        {"image_id": 100, "coco_id": 4},
        {"image_id": 101, "coco_id": None, "flickr_id": 900007},
        {"image_id": 102, "coco_id": 6},
        {"image_id": 103},
    ]
    write_visual_genome(root / "vg", images)
    write_flickr30k(root / "f", {"train": ["900005", "77"], "val": ["78"]})
    return {"refer": root / "r", "visual_genome": root / "vg", "flickr30k": root / "f"}


def test_the_mixtures_and_their_clean_forms(tmp_path: Path) -> None:
    folders = _releases(tmp_path)
    coco = _build(tmp_path / "coco", "mixed_coco", refer=folders["refer"])
    assert list(coco["splits"]) == [
        "train", "val", "refcoco_val", "refcoco_testA", "refcoco_testB", "refcocoplus_val", "refcocog_val",
        "refcocog_test",
    ]  # fmt: skip
    ids = {split: set(_open(tmp_path / "coco", split)["image_id"]) for split in coco["splits"]}
    assert ids["train"] == {"1", "2", "3", "6"}
    assert ids["val"] == {"2", "3"}
    assert ids["refcocog_test"] == {"7"}
    _build(tmp_path / "coco_clean", "mixed_coco_clean", refer=folders["refer"])
    assert set(_open(tmp_path / "coco_clean", "train")["image_id"]) == {"1", "6"}
    _build(tmp_path / "pre", "mixed_pretrain", **folders)
    train = set(_open(tmp_path / "pre", "train")["image_id"])
    assert train == {
        "1", "2", "3", "6", "4", "visual_genome-101", "visual_genome-103", "flickr30k-900005", "flickr30k-77",
    }  # fmt: skip
    clean = _build(tmp_path / "pre_clean", "mixed_pretrain_clean", **folders)
    rows = _open(tmp_path / "pre_clean", "train")
    assert set(rows["image_id"]) == {"1", "6", "visual_genome-103", "flickr30k-77"}
    assert "flickr30k-78" not in set(_open(tmp_path / "pre_clean", "val")["image_id"])
    left_out = {source["name"]: source["left_out"] for source in clean["sources"]}
    assert left_out["visual_genome"] == {
        "its image is in a val or test part": 2,
        "the box is empty or outside the image": 8 // 2,
    }
    names = rows["name"]
    assert len(set(names)) == len(names)


def test_counts_stand_beside_the_published_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_refer(tmp_path / "r", "refcocog", "umd", {"train": [1]})
    options = DataBuildOptions("refcocog_umd", str(tmp_path / "out"), refer=str(tmp_path / "r"))
    assert run_build(options) == 0
    said = capsys.readouterr().out
    assert "1 of 21,899" in said
    assert "2 of 80,512" in said
    assert "NOT the published counts" in said
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["sha256"] in said
    splits = {"train": [21_899, 42_226, 80_512], "val": [1300, 2573, 4896], "test": [2600, 5023, 9602]}
    keys = ("images", "objects", "expressions")
    full = {split: dict(zip(keys, counts, strict=True)) for split, counts in splits.items()}
    manifest = {
        "dataset": "refcocog_umd",
        "splits": full,
        "sources": [],
        "missing_images": 0,
        "sha256": "x",
    }
    assert "the published counts" in summary(manifest)


@needs_samples
def test_the_real_files_give_their_references_sentences_boxes_and_masks(tmp_path: Path) -> None:
    release = Path(f"{SAMPLES}/refcoco")
    _build(tmp_path / "out", "refcoco_unc", refer=release)
    rows = _open(tmp_path / "out", "testA")
    instances = json.loads((release / "refcoco" / "instances.json").read_text())
    boxes = {annotation["image_id"]: annotation["bbox"] for annotation in instances["annotations"]}
    assert len(rows) == 21
    assert len(set(rows["image_id"])) == 7
    assert rows[0]["expression"] == "guy holding baby"
    stored = {path.stem.split("_")[0]: path for path in (release / "masks" / "testA").iterdir()}
    for row in rows:
        image, mask = load_image(row), load_mask(row)
        assert image.shape == (row["height"], row["width"], 3)
        left, top, width, height = boxes[int(row["image_id"])]
        assert row["box_xyxy"] == [left, top, left + width, top + height]
        true = np.asarray(Image.open(stored[row["image_id"]])) > 127
        assert mask is not None
        # the sample's polygons run through the centres of the outermost pixels, of which COCO's decoder drops some
        assert (mask & true).sum() / (mask | true).sum() > 0.96
        assert (mask & true).sum() / mask.sum() > 0.99


@needs_samples
@pytest.mark.parametrize(
    ("dataset", "sentences", "parts"),
    [
        ("refcoco_unc", 6, {"testA", "val"}),
        ("refcocoplus_unc", 6, {"testA", "val"}),
        ("refcocog_umd", 4, {"test"}),
        ("refcocog_google", 2, {"val"}),
    ],
)
def test_the_real_annotations(dataset: Any, sentences: int, parts: set[str], tmp_path: Path) -> None:
    release = Path(f"{SAMPLES}/refcoco/annotations_only")
    manifest = _build(tmp_path / "out", dataset, refer=release, missing="keep")
    assert sum(entry["expressions"] for entry in manifest["splits"].values()) == sentences
    assert set(manifest["splits"]) == parts
    instances = json.loads(next(release.glob(f"{_folder(dataset)}/instances.json")).read_text())
    areas = sorted(annotation["area"] for annotation in instances["annotations"])
    for split in manifest["splits"]:
        for row in _open(tmp_path / "out", split):
            mask = load_mask(row)
            assert mask is not None
            nearest = min(areas, key=lambda area: abs(area - mask.sum()))
            assert abs(mask.sum() - nearest) / nearest < 0.03


def _folder(dataset: str) -> str:
    return {"refcoco": "refcoco", "refcocoplus": "refcoco+", "refcocog": "refcocog"}[dataset.split("_")[0]]
