"""`data convert`: one plain layout that reads as the set that it was made from."""

from __future__ import annotations

from pathlib import Path

import manipulation_sets as releases
import numpy as np
import pytest

from cabl_cgsr.cli import main
from cabl_cgsr.config import DataConfig
from cabl_cgsr.data import load_image, load_mask, open_set, training_split
from cabl_cgsr.data.layouts import list_set
from cabl_cgsr.data.plain import convert_set
from papers_shared.errors import UserError

SETS = [
    releases.casia2,
    releases.imd2020,
    releases.coverage,
    releases.nist16,
    releases.korus,
    releases.columbia,
]


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("write", SETS, ids=lambda write: write.__name__)
def test_the_plain_layout_reads_as_the_set(write, tmp_path: Path) -> None:
    data = DataConfig(root=str(write(tmp_path / "set")))
    assert not convert_set(data, tmp_path / "plain", progress=False).errors
    plain = DataConfig(root=str(tmp_path / "plain"))
    before, after = (open_set(one, masks=True) for one in (data, plain))
    assert list(after["label"]) == list(before["label"])
    pixels = {load_image(row).tobytes(): load_mask(row) for row in before}
    for row in after:
        assert np.array_equal(load_mask(row), pixels[load_image(row).tobytes()])
    origins = [sorted(item.origins for item in list_set(one, masks=False).items) for one in (data, plain)]
    assert origins[0] == origins[1]
    assert list_set(plain, masks=True).layout == "folders"


def test_a_list_and_images_without_masks_are_written_too(tmp_path: Path) -> None:
    root = releases.casia1(tmp_path / "set")
    assert main(["data", "convert", str(root), str(tmp_path / "plain")]) == 0
    assert len(training_split(DataConfig(root=str(tmp_path / "plain"), val_share=0.0), "train")) == 6
    assert len(list((tmp_path / "plain" / "masks").iterdir())) == 3
    file = releases.imdlbenco_list(tmp_path / "listed")
    listed = ["--data.list", str(file), "--data.invert-masks"]
    assert main(["data", "convert", str(tmp_path / "listed"), str(tmp_path / "other"), *listed]) == 0
    row = open_set(DataConfig(root=str(tmp_path / "other")), masks=True)[1]
    assert np.array_equal(load_mask(row), ~releases.TRUTH)


def test_broken_files_are_named_and_the_rest_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = releases.folders(tmp_path / "set")
    (root / "authentic" / "a.jpg").write_bytes(b"no image")
    (root / "masks" / "batch" / "b.png").write_bytes(b"no mask")
    assert main(["data", "convert", str(root), str(tmp_path / "plain")]) == 1
    printed = capsys.readouterr().out
    assert str(root / "authentic" / "a.jpg") in printed
    assert str(root / "masks" / "batch" / "b.png") in printed
    assert "3 images and 1 masks written" in printed


def test_nothing_of_the_users_is_replaced(tmp_path: Path) -> None:
    data = DataConfig(root=str(releases.folders(tmp_path / "set")))
    plain = tmp_path / "plain"
    convert_set(data, plain, progress=False)
    (plain / ".DS_Store").touch()
    convert_set(data, plain, progress=False)  # all of it is ours
    (plain / "masks" / "mine.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"holds other files \('masks/mine.png'\)"):
        convert_set(data, plain, progress=False)
    assert (plain / "masks" / "mine.png").read_bytes() == b"mine"
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "x.txt").touch()
    with pytest.raises(UserError, match="holds other files"):
        convert_set(data, tmp_path / "foreign", progress=False)
