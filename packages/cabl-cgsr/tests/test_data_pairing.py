"""Which mask belongs to which image: never crosswise, never by guess, and all 920 of CASIAv1."""

from __future__ import annotations

from pathlib import Path

import manipulation_sets as releases
import numpy as np
import pytest
from casia1_names import casia1_names

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data import check, load_mask, open_set
from cabl_cgsr.data.casia import numbered
from cabl_cgsr.data.items import Found
from cabl_cgsr.data.layouts import list_set
from cabl_cgsr.data.pairing import Pairs, pair
from cabl_cgsr.data.published import counts_finding


def found(*names: str) -> list[Found]:
    return [Found(Path("root", name), name) for name in names]


def told(pairs: Pairs) -> dict[str, str]:
    return {
        image.relative_to("root").as_posix(): mask.relative_to("root").as_posix()
        for image, mask in pairs.masks.items()
    }


@pytest.mark.parametrize(
    ("images", "masks", "expected"),
    [
        (["x.png", "x_1.png", "x-2.png"], ["x_gt.png", "x_1_gt.png", "x-2_gt.png"], [0, 1, 2]),
        (["cam1/1.png", "cam2/1.png"], ["cam2/1.png", "cam1/1.png"], [1, 0]),
        (["cam1/1.png", "cam2/2.png"], ["2.png", "1_MASK.PNG"], [1, 0]),
        (["a.jpg", "a.png"], ["a.png_mask.png", "a.jpg_mask.png"], [1, 0]),
        (["a.jpg", "b.jpg"], ["A_gt.png", "B-mask.png"], [0, 1]),
        (["a_mask.jpg", "b.jpg"], ["a_mask.png", "b_edgemask.jpg"], [0, 1]),
        (["view.1.jpg", "view.2.jpg"], ["view.2_gt.png", "view.1_gt.png"], [1, 0]),
        (["a.jpg", "b.jpg"], ["a_groundtruth.png", "c_gt.png"], [0, None]),
        (["day/a.jpg", "night/a.jpg"], ["night/mask_a.png", "day/mask_a.png"], [1, 0]),
    ],
)
def test_names_decide(images: list[str], masks: list[str], expected: list[int | None]) -> None:
    pairs = pair(found(*images), found(*masks), by_order=True)
    wanted = {name: masks[index] for name, index in zip(images, expected, strict=True) if index is not None}
    assert told(pairs) == wanted
    assert not pairs.doubts
    assert not pairs.findings
    assert {path.name for path in pairs.unused} == {Path(m).name for m in masks} - {
        Path(m).name for m in wanted.values()
    }


@pytest.mark.parametrize(
    ("images", "masks", "doubted"),
    [
        (["x.png"], ["x.png", "x_gt.png"], ["x.png"]),
        (["x.png"], ["x_gt.png", "x_gt3.png"], ["x.png"]),
        (["x.png"], ["x.png", "mask_x.png"], ["x.png"]),
        (["cam1/1.png", "cam2/1.png"], ["1.png"], ["cam1/1.png", "cam2/1.png"]),
        (["cam1/1.png", "cam2/1.png"], ["cam1/1.png", "other/1.png"], ["cam2/1.png"]),
        (["1.png"], ["old/1.png", "new/1.png"], ["1.png"]),
        (["a.jpg", "a.tif"], ["a_gt.png"], ["a.jpg", "a.tif"]),
    ],
)
def test_what_fits_twice_is_left_to_a_person(images: list[str], masks: list[str], doubted: list[str]) -> None:
    pairs = pair(found(*images), found(*masks), by_order=True)
    assert [path.relative_to("root").as_posix() for path in pairs.doubts] == doubted
    assert not set(told(pairs)) & set(doubted)
    assert all("fits " in reason for reason in pairs.doubts.values())


def test_where_no_name_tells_numbers_and_then_the_order_do() -> None:
    pairs = pair(
        found("img_1.png", "img_2.png", "img_10.png"), found("m01.png", "m02.png", "m10.png"), by_order=True
    )
    assert told(pairs) == {"img_1.png": "m01.png", "img_2.png": "m02.png", "img_10.png": "m10.png"}
    assert {finding.severity for finding in pairs.findings} == {"note"}
    pairs = pair(found("one.png", "two.png"), found("p.png", "q.png"), by_order=True)
    assert told(pairs) == {"one.png": "p.png", "two.png": "q.png"}
    assert {finding.severity for finding in pairs.findings} == {"warning"}
    assert not pair(found("one.png", "two.png"), found("p.png", "q.png")).masks
    assert not pair(found("one.png", "two.png"), found("p.png"), by_order=True).masks


def test_running_numbers_pair_only_what_shares_a_source() -> None:
    images = found("Sp_D_NNN_A_nat0041_nat0041_0301.jpg", "Sp_S_NNN_A_ani0001_ani0001_0007.jpg")
    masks = found("Sp_S_NNN_A_nat0041_nat0041_0301_gt.png", "Sp_S_NNN_A_art0002_art0002_0007_gt.png")
    pairs = pair(images, masks, numbered=numbered)
    assert told(pairs) == {images[0].below: masks[0].below}
    assert [path.name for path in pairs.unused] == [masks[1].below]
    shapes = found("Sp_S_NNN_C_txt0004_txt0004_0004.jpg"), found("Sp_S_NNN_R_txt0004_txt0004_0004_gt.png")
    assert not told(pair(*shapes, numbered=numbered)), "another image of the same source"
    repeated = [*images, *found("Sp_S_NNN_A_nat0041_nat0050_0301.jpg")]
    both = [*masks, *found("Sp_D_NNN_A_nat0050_nat0041_0301_gt.png")]
    # the number occurs twice: the kind tells, and here it tells the wrong way round only if it is not asked
    assert told(pair(repeated, both, numbered=numbered)) == {
        repeated[0].below: both[2].below,
        repeated[2].below: both[0].below,
    }


def test_all_920_masks_of_the_released_casia1_find_their_images(tmp_path: Path) -> None:
    """29 of them have another kind letter than their images, and 77 another order or number of a source image."""
    names = casia1_names()
    assert (len(names.authentic), len(names.tampered), len(names.masks)) == (800, 921, 920)
    assert sum(image[3] != mask[3] for image, mask in names.pairs.items()) == 29
    for name in (*names.authentic, *names.tampered, *names.masks):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    listing = list_set(DataConfig(root=str(tmp_path / "CASIA 1.0 dataset")), masks=True)
    found = {item.name: item.mask.stem.removesuffix("_gt") for item in listing.items if item.mask}
    assert found == names.pairs
    assert listing.counts == (800, 921)
    assert not listing.errors
    (lone,) = (finding for finding in listing.findings if finding.severity == "warning")
    assert "Sp_D_NRN_A_sce0011_cha0011_0542" in lone.source
    counted = counts_finding(listing)
    assert counted.severity == "note"
    assert "920 of them with a mask" in counted.source


def test_images_of_one_name_in_subfolders_get_their_own_masks(tmp_path: Path) -> None:
    releases.image(tmp_path / "authentic" / "quiet.png")
    shifted = np.roll(releases.TRUTH, 10, axis=1)
    for camera, truth in (("cam1", releases.TRUTH), ("cam2", shifted)):
        releases.image(tmp_path / "manipulated" / camera / "0001.png", seed=len(camera) + int(camera[-1]))
        releases.mask(tmp_path / "masks" / camera / "0001.png", truth)
    rows = open_set(DataConfig(root=str(tmp_path)), masks=True)
    assert np.array_equal(load_mask(rows[1]), releases.TRUTH)
    assert np.array_equal(load_mask(rows[2]), shifted)


def test_two_masks_for_one_image_are_an_error_and_the_image_is_not_scored(tmp_path: Path) -> None:
    data = DataConfig(root=str(releases.folders(tmp_path / "set")))
    releases.mask(tmp_path / "set" / "masks" / "batch" / "a_gt.png", np.zeros(releases.SIZE, bool))
    (error,) = check(data, progress=False).errors
    assert "several files fit" in error.message
    assert "batch/a.png" in error.source
    assert "batch/a_gt.png" in error.source
    with pytest.warns(UserWarning, match="several files fit"):
        assert sum(open_set(data, masks=True)["label"]) == 1


def test_what_pairs_of_tp_and_gt_lack_is_reported(tmp_path: Path) -> None:
    root = releases.imdlbenco(tmp_path / "set")
    releases.mask(root / "Gt" / "three_gt.png")
    (root / "Gt" / "one_1_gt.png").unlink()
    messages = {
        finding.message: finding.source
        for finding in check(DataConfig(root=str(root)), progress=False).findings
    }
    assert "one_1.jpg" in messages["manipulated image without a mask"]
    assert "three_gt.png" in messages["mask without an image: not used"]
