"""Every released layout -> the same rows."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from pathlib import Path

import manipulation_sets as releases
import numpy as np
import pytest

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data import check, load_image, load_mask, open_set, training_split
from papers_shared.errors import UserError

SAMPLES = os.environ.get("PAPERS_SAMPLES")
LAYOUTS = [
    (releases.casia2, "casia2", 4, 4),
    (releases.columbia, "columbia", 1, 1),
    (releases.coverage, "coverage", 3, 3),
    (releases.imd2020, "imd2020", 2, 4),
    (releases.folders, "folders", 2, 2),
    (releases.imdlbenco, "imdlbenco", 1, 2),
    (releases.casia2_kaggle, "casia2", 4, 4),
    (releases.casia1_imdlbenco, "casia1", 0, 2),
    (releases.nist16, "nist16", 1, 2),
    (releases.dso1, "dso1", 2, 2),
    (releases.korus, "korus", 3, 3),
    (releases.autosplice, "autosplice", 2, 2),
    (releases.beside, "folders", 1, 2),
]


@pytest.fixture(autouse=True)
def _no_warning_unless_expected():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.mark.parametrize(("write", "layout", "authentic", "manipulated"), LAYOUTS)
@pytest.mark.parametrize("asked", ["auto", "explicit"])
def test_every_layout_gives_the_same_rows(
    write, layout, authentic, manipulated, asked, tmp_path: Path
) -> None:
    root = write(tmp_path / "set")
    rows = open_set(DataConfig(root=str(root), layout="auto" if asked == "auto" else layout), masks=True)
    assert list(rows["label"]) == [0] * authentic + [1] * manipulated
    assert len(set(rows["name"])) == len(rows)
    for row in rows:
        assert load_image(row).shape == (*releases.SIZE, 3)
        expected = releases.TRUTH if row["label"] else np.zeros(releases.SIZE, bool)
        found = load_mask(row)
        assert found.dtype == bool
        assert (found != expected).mean() < (0.03 if layout == "columbia" else 1e-9)
    assert set(rows["dataset"]) == {layout if layout not in ("folders", "imdlbenco") else "set"}


def test_nist16_without_its_table_and_with_masks_turned_round(tmp_path: Path) -> None:
    root = releases.nist16(tmp_path, table=False)
    data = DataConfig(root=str(root), invert_masks=True)
    with pytest.warns(UserWarning, match=r"left out 1 of 6 images: NC2016_4003 \(no mask\)"):
        rows = open_set(data, masks=True)
    assert list(rows["label"]) == [0, 0, 0, 1, 1]
    assert np.array_equal(load_mask(rows[3]), ~releases.TRUTH)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("probe/gone.jpg||Y", "line 5.*no probe 'probe/gone.jpg'"),
        ("../../etc/passwd||Y", "line 5.*leads outside"),
        ("probe/NC2016_4003.jpg|mask/gone.png|Y", "line 5.*no mask 'mask/gone.png'"),
    ],
)
def test_lines_of_nists_table_that_name_nothing_are_named(columns: str, message: str, tmp_path: Path) -> None:
    root = releases.nist16(tmp_path)
    probe, mask, target = columns.split("|")
    with open(root / "reference/manipulation/NC2016-manipulation-ref.csv", "a") as file:
        file.write(f"manipulation|9|{probe}|{mask}|world/x.jpg|{target}|Nimble-SCI\n")
    with pytest.warns(UserWarning, match=message):
        open_set(DataConfig(root=str(root)), masks=True)


@pytest.mark.parametrize("layout", ["auto", "casia1"])
def test_the_copy_on_kaggle_is_casia1(layout: str, tmp_path: Path) -> None:
    root = releases.casia1_kaggle(tmp_path / "archive")
    for folder in (root, root / "CASIA1"):
        rows = open_set(DataConfig(root=str(folder), layout=layout), masks=False)
        assert list(rows["label"]) == [0, 0, 1, 1]
        assert set(rows["dataset"]) == {"casia1"}
    releases.casia2(root / "CASIA2")
    with pytest.raises(UserError, match=r"several sets: CASIA1 \(casia1\), CASIA2 \(casia2\)"):
        open_set(DataConfig(root=str(root)), masks=False)


def test_parts_of_image_folders_are_chosen_by_use(tmp_path: Path) -> None:
    root = releases.image_folders(tmp_path / "set")
    evaluated = open_set(DataConfig(root=str(root)), masks=True)
    assert {Path(row["image"]["path"]).parents[1].name for row in evaluated} == {"val"}
    trained = training_split(DataConfig(root=str(root), val_share=0.0), "train")
    assert {Path(row["image"]["path"]).parents[1].name for row in trained} == {"train"}
    everything = open_set(DataConfig(root=str(root), subset="all"), masks=False)
    assert len(everything) == len(set(everything["name"])) == 8


def test_casia1_pairs_masks_and_leaves_out_the_image_without_one(tmp_path: Path) -> None:
    data = DataConfig(root=str(releases.casia1(tmp_path)))
    assert len(open_set(data, masks=False)) == 6
    with pytest.warns(UserWarning, match=r"left out 1 of 6 .*cha0011_sec0011_0542 \(no mask\)"):
        rows = open_set(data, masks=True)
    masks = {row["name"]: row["mask"] and Path(row["mask"]["path"]).name for row in rows}
    assert masks == {
        "Au_ani_0001": None,
        "Au_arc_0002": None,
        "Sp_D_NNN_A_ani0099_ani0100.0288": "Sp_D_NNN_A_ani0099_ani0100.0288_gt.png",
        "Sp_D_NRN_A_pla0005_pla0023_0281": "Sp_D_NRN_A_pla0005_pla0023_0281_gt.png",
        "Sp_S_NNN_C_txt0045_txt0045_0045": "Sp_S_NNN_C_txt0046_txt0045_0045_gt.png",
    }
    assert set(rows["dataset"]) == {"casia1"}


def test_casia1_takes_the_renamed_images_and_knows_the_plus_variant(tmp_path: Path) -> None:
    base = releases.casia1(tmp_path) / "CASIA 1.0 dataset"
    releases.image(base / "Tp" / "Sp" / "Sp_D_OLD_A_pla0005_pla0023_0281.jpg")
    assert "Sp_D_OLD_A_pla0005_pla0023_0281" not in open_set(DataConfig(root=str(base)), masks=False)["name"]
    shutil.rmtree(base / "Au")
    releases.image(base / "Au" / "100034.jpg")
    rows = open_set(DataConfig(root=str(tmp_path)), masks=False)
    assert rows[0]["name"] == "100034"
    assert set(rows["dataset"]) == {"casia1plus"}


def test_two_sets_in_one_folder_ask_which(tmp_path: Path) -> None:
    releases.casia1(tmp_path)
    releases.casia2(tmp_path / "CASIA 2.0")
    shutil.move(tmp_path / "CASIA 2.0" / "CASIA 2 Groundtruth", tmp_path / "CASIA 2 Groundtruth")
    with pytest.raises(UserError, match=r"several sets: CASIA 1.0 dataset \(casia1\), CASIA 2.0 \(casia2\)"):
        open_set(DataConfig(root=str(tmp_path)), masks=True)
    rows = open_set(DataConfig(root=str(tmp_path), layout="casia2"), masks=True)
    assert all("CASIA 2 Groundtruth" in row["mask"]["path"] for row in rows if row["label"])


def test_converted_masks_of_columbia_are_preferred(tmp_path: Path) -> None:
    rows = open_set(DataConfig(root=str(releases.columbia(tmp_path, converted=True))), masks=True)
    assert rows[1]["mask"]["path"].endswith("_gt.png")
    assert np.array_equal(load_mask(rows[1]), releases.TRUTH)


def test_coverage_of_91(tmp_path: Path) -> None:
    data = DataConfig(root=str(releases.coverage(tmp_path)), coverage_forgeries=91)
    assert open_set(data, masks=True)["name"] == ["1", "2", "41", "1t", "2t"]


@pytest.mark.parametrize("layout", ["auto", "wscl"])
def test_wscl_list(layout: str, tmp_path: Path) -> None:
    file = releases.wscl_list(tmp_path)
    data = DataConfig(root=str(tmp_path), layout=layout, list=file.name)
    assert open_set(data, masks=False)["name"] == ["Au_ani_0001", "Sp_S_NNN_C_txt0045_txt0045_0045"]
    rows = open_set(DataConfig(root=str(tmp_path), list=file.name, subset="all"), masks=True)
    assert rows["label"] == [0, 0, 1, 1]
    assert np.array_equal(load_mask(rows[3]), releases.TRUTH)
    everything = training_split(DataConfig(root=str(tmp_path), list=str(file), val_share=0.0), "train")
    assert everything["name"] == ["Au_ani_00001", "Tp_D_CRN_S_N_ani00002_ani00003_00012"]


def test_imdlbenco_list_and_a_list_of_names(tmp_path: Path) -> None:
    file = releases.imdlbenco_list(tmp_path)
    rows = open_set(DataConfig(list=str(file)), masks=True)
    assert rows["label"] == [0, 1]
    assert np.array_equal(load_mask(rows[1]), releases.TRUTH)
    releases.folders(tmp_path / "own")
    (tmp_path / "own" / "some.txt").write_text("authentic/a.jpg\nmanipulated/batch/b\n\n")
    own = DataConfig(root=str(tmp_path / "own"), list="some.txt")
    assert open_set(own, masks=False)["name"] == ["authentic/a.jpg", "manipulated/batch/b.png"]
    for line, message in (("nothing.png", "is not in"), ("b.png", "names 2 images")):
        (tmp_path / "own" / "some.txt").write_text(line)
        with pytest.raises(UserError, match=rf"some.txt, line 1: '{line}' {message}"):
            open_set(own, masks=False)


def test_masks_are_optional_for_ones_own_images(tmp_path: Path) -> None:
    rows = open_set(DataConfig(root=str(releases.folders(tmp_path, masks=False))), masks=True)
    assert rows["mask"] == [None] * 4
    assert not load_mask(rows[0]).any()
    with pytest.raises(UserError, match="labelled manipulated and has no mask"):
        load_mask(rows[3])


@pytest.mark.parametrize(
    ("root", "options", "message"),
    [
        ("", {}, "no data folder given"),
        ("nowhere", {}, "does not exist"),
        ("empty", {}, "none of the known layouts"),
        ("set", {"layout": "columbia"}, "has the layout casia2"),
        ("set", {"layout": "wscl"}, "name it with --data.list"),
        ("set/Au/Au_ani_00001.jpg", {}, "is a file"),
        ("set", {"list": "no.json"}, "the list no.json exists neither"),
    ],
)
def test_wrong_folders_are_named(root: str, options: dict, message: str, tmp_path: Path) -> None:
    releases.casia2(tmp_path / "set")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        open_set(DataConfig(root=root and str(tmp_path / root), **options), masks=False)


@pytest.mark.skipif(not SAMPLES, reason="PAPERS_SAMPLES is not set")
@pytest.mark.parametrize(("layout", "authentic", "manipulated"), [("casia1", 20, 42), ("casia2", 8, 12)])
def test_real_files(layout: str, authentic: int, manipulated: int) -> None:
    rows = open_set(DataConfig(root=f"{SAMPLES}/manipulation", layout=layout), masks=True)
    assert rows["label"] == [0] * authentic + [1] * manipulated
    for row in rows:
        found = load_mask(row)
        assert found.shape == load_image(row).shape[:2]
        assert 0.001 < found.mean() < 0.7 or not row["label"]


@pytest.mark.parametrize(
    ("write", "layout"),
    [
        (releases.casia1_imdlbenco, "imdlbenco"),
        (releases.casia2, "folders"),
        (releases.imdlbenco, "folders"),
    ],
)
def test_a_plainer_layout_can_be_asked_for(write, layout: str, tmp_path: Path) -> None:
    rows = open_set(DataConfig(root=str(write(tmp_path / "set")), layout=layout), masks=True)
    assert 1 in rows["label"]
    assert all(np.array_equal(load_mask(row), releases.TRUTH) for row in rows if row["label"] and row["mask"])


@pytest.mark.parametrize(("write", "layout", "authentic", "manipulated"), LAYOUTS)
def test_the_check_says_what_it_took(
    write, layout: str, authentic: int, manipulated: int, tmp_path: Path
) -> None:
    report = check(DataConfig(root=str(write(tmp_path / "set"))), progress=False)
    assert not report.errors
    (taken,) = (finding.source for finding in report.findings if finding.message == f"layout {layout}")
    counted = {"authentic": 0, "manipulated": 0, "masks": 0}
    for count, what in re.findall(r": (\d+) (authentic|manipulated|masks)", taken):
        counted[what] += int(count)
    assert counted == {"authentic": authentic, "manipulated": manipulated, "masks": manipulated}
    assert not [finding for finding in report.findings if "has no use for" in finding.message]


def test_links_to_folders_are_followed_but_never_upwards(tmp_path: Path) -> None:
    root = releases.folders(tmp_path / "set")
    releases.image(tmp_path / "elsewhere" / "linked.png")
    (root / "authentic" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "authentic" / "twice").symlink_to(tmp_path / "elsewhere")
    (root / "authentic" / "loop").symlink_to(root)
    (root / "manipulated" / "batch" / "self").symlink_to(root / "manipulated" / "batch")
    rows = open_set(DataConfig(root=str(root)), masks=True)
    assert list(rows["label"]) == [0, 0, 0, 1, 1]
    assert "linked" in rows["name"]
