from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fanet.config import ZEROWASTE_CLASSES, DataConfig
from fanet.data import class_names, load_mask, open_split
from fanet.toy import write_zerowaste


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zerowaste(tmp_path_factory.mktemp("toy"), train=20, val=4, test=3, size=(96, 160))


def test_layout_and_names_are_the_releases(toy: Path) -> None:
    frames = sorted(path.name for path in (toy / "train" / "data").iterdir())
    assert len(frames) == 20
    assert frames[0] == "01_frame_000100.PNG"
    assert frames == sorted(path.name for path in (toy / "train" / "sem_seg").iterdir())
    videos = [{p.name[:2] for p in (toy / split / "data").iterdir()} for split in ("train", "val", "test")]
    assert not videos[0] & videos[1]
    assert not videos[1] & videos[2]
    categories = json.loads((toy / "val" / "labels.json").read_text())["categories"]
    assert tuple(category["name"] for category in categories) == ZEROWASTE_CLASSES[1:]


def test_real_reader_reads_it_and_polygons_draw_the_same_masks(toy: Path, tmp_path: Path) -> None:
    stored = DataConfig(root=str(toy), cache=str(tmp_path))
    drawn = DataConfig(root=str(toy), cache=str(tmp_path), layout="coco")
    assert class_names(stored) == class_names(drawn) == ZEROWASTE_CLASSES
    for split in ("train", "val", "test"):
        for left, right in zip(open_split(stored, split), open_split(drawn, split), strict=True):
            assert left["name"] == right["name"]
            np.testing.assert_array_equal(load_mask(left, 5), load_mask(right, 5))


def test_all_classes_occur_and_background_dominates(toy: Path) -> None:
    masks = [np.asarray(Image.open(path)) for path in sorted((toy / "train" / "sem_seg").iterdir())]
    shares = np.bincount(np.concatenate(masks).reshape(-1), minlength=5) / np.concatenate(masks).size
    assert 0.6 < shares[0] < 0.9
    assert (shares > 0.003).all()
    assert len(shares) == 5


def test_seed_decides_every_pixel(tmp_path: Path) -> None:
    roots = [
        write_zerowaste(tmp_path / str(number), seed=seed, train=1, val=1, test=0, size=(48, 80))
        for number, seed in enumerate((3, 3, 4))
    ]
    files = [sorted(path for path in root.rglob("*") if path.is_file()) for root in roots]
    first, again, other = ([path.read_bytes() for path in paths] for paths in files)
    assert first == again
    assert first != other
