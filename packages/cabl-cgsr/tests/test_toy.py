"""The embedded splices and copy-moves."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data import check, load_image, load_mask, open_set, training_split
from cabl_cgsr.data.layouts import list_set
from cabl_cgsr.toy import PHOTOGRAPHS, read_photograph, write_casia
from papers_shared.errors import UserError
from papers_shared.metrics.forensics import roc_auc
from papers_shared.written import MANIFEST


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_casia(tmp_path_factory.mktemp("toy"), train=24, test=24, size=(96, 128))


def test_real_readers_read_it(toy: Path) -> None:
    for name, layout, digits in (("CASIA2", "casia2", 5), ("CASIA1", "casia1", 4)):
        rows = open_set(DataConfig(root=str(toy / name)), masks=True)
        assert rows["label"] == [0] * 24 + [1] * 24
        assert set(rows["dataset"]) == {layout}
        for row in rows:
            assert load_image(row).shape == (96, 128, 3)
            assert 0.05 < load_mask(row).mean() < 0.4 or not row["label"]
            assert len(row["name"].split("_")[-1]) == digits
    suffixes = {
        Path(row["image"]["path"]).suffix for row in open_set(DataConfig(root=str(toy / "CASIA2")), False)
    }
    assert suffixes == {".jpg", ".tif"}
    stems = [item.name for item in list_set(DataConfig(root=str(toy / "CASIA1")), masks=False).items]
    assert any(stem.startswith("Sp_S") for stem in stems)
    assert any(stem.startswith("Sp_D") for stem in stems)


def test_a_part_can_be_held_out_and_nothing_leaks(toy: Path) -> None:
    data = DataConfig(root=str(toy / "CASIA2"), val_share=0.2)
    assert len(training_split(data, "val")) == 8
    report = check(data, [DataConfig(root=str(toy / "CASIA1"))], progress=False)
    assert not report.errors
    assert not [finding for finding in report.findings if " ~ " in finding.source]


def test_photographs_are_real_different_and_free() -> None:
    used = {split: {photograph.file for photograph in PHOTOGRAPHS[split]} for split in PHOTOGRAPHS}
    assert not used["train"] & used["test"]
    for split in PHOTOGRAPHS:
        assert len({photograph.category for photograph in PHOTOGRAPHS[split]}) == len(used[split])
        for photograph in PHOTOGRAPHS[split]:
            assert min(read_photograph(photograph.file).shape[:2]) >= 300
            assert photograph.licence.startswith(("public domain", "CC0", "no known copyright"))


def test_manipulated_pixels_are_those_of_the_mask(toy: Path) -> None:
    rows = {row["name"]: row for row in open_set(DataConfig(root=str(toy / "CASIA1")), masks=True)}
    clean = {name.split("_")[-1]: load_image(row) for name, row in rows.items() if not row["label"]}
    ratios = []
    for name, row in rows.items():
        if row["label"]:
            difference = np.abs(load_image(row).astype(int) - clean[name.split("_")[-1]]).mean(-1)
            near = cv2.dilate(load_mask(row).astype(np.uint8), np.ones((17, 17))) > 0
            assert difference[~near].mean() < 8  # noise and compression only
            ratios.append(difference[load_mask(row)].mean() / difference[~near].mean())
    assert np.median(ratios) > 4


def test_the_trace_is_in_the_pixels_not_in_the_files(toy: Path) -> None:
    rows = open_set(DataConfig(root=str(toy / "CASIA1")), masks=False)
    labels = np.array(rows["label"])
    kernel = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32)
    noise = []
    for row in rows:
        image = load_image(row).astype(np.float32)
        noise.append(np.abs(cv2.filter2D(image[..., 0] - image[..., 2], -1, kernel)).mean())
    assert roc_auc(np.array(noise), labels) > 0.8
    tables = []
    for row in rows:
        with Image.open(row["image"]["path"]) as image:
            tables.append(sum(image.quantization[0]))
    assert abs(roc_auc(np.array(tables, float), labels) - 0.5) < 0.05  # compressed alike in the end


def test_seed_decides_every_byte(tmp_path: Path) -> None:
    roots = [
        write_casia(tmp_path / str(n), seed=seed, train=2, test=2, size=(48, 64))
        for n, seed in enumerate((3, 3, 4))
    ]
    first, again, other = (
        {path.name: path.read_bytes() for path in root.rglob("*") if path.is_file()} for root in roots
    )
    assert len([name for name in first if name != MANIFEST]) == 12
    assert first == again != other
    with pytest.raises(UserError, match="come in pairs"):
        write_casia(tmp_path, train=3)


def test_a_set_that_is_there_stays_and_nothing_of_the_users_is_replaced(tmp_path: Path) -> None:
    options = {"train": 2, "test": 2, "size": (48, 64)}
    write_casia(tmp_path, **options)
    image = next((tmp_path / "CASIA2" / "Au").iterdir())
    before = image.stat().st_mtime_ns, image.stat().st_ino
    write_casia(tmp_path, **options)
    assert (image.stat().st_mtime_ns, image.stat().st_ino) == before
    names = {path.name for path in (tmp_path / "CASIA2").rglob("*.png")}
    write_casia(tmp_path, seed=1, **options)
    assert {path.name for path in (tmp_path / "CASIA2").rglob("*.png")} != names
    mine = tmp_path / "CASIA1" / "Au" / "Au_ani_0999.jpg"
    mine.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"CASIA1 holds other files \('Au/Au_ani_0999.jpg'\)"):
        write_casia(tmp_path, seed=2, **options)
    assert mine.read_bytes() == b"mine"
    (tmp_path / "real" / "CASIA2" / "Tp").mkdir(parents=True)
    (tmp_path / "real" / "CASIA2" / "Tp" / "Tp_x.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="holds other files"):
        write_casia(tmp_path / "real", **options)
    assert not (tmp_path / "real" / "CASIA1").exists(), "asked before anything is written"
