"""Images and masks of every kind that the releases and people's own folders hold."""

from __future__ import annotations

import os
from pathlib import Path

import manipulation_sets as releases
import numpy as np
import pytest
from PIL import Image

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data import load_image, load_levels, load_mask, open_set
from papers_shared.errors import UserError

SAMPLES = os.environ.get("PAPERS_SAMPLES")
RAMP = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (16, 1))
RGB = np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)], -1)


def row(image: Path, mask: Path | None = None) -> dict:
    entries = [{"path": str(path), "bytes": None} if path else None for path in (image, mask)]
    return {"name": image.stem, "image": entries[0], "mask": entries[1], "label": int(mask is not None)}


@pytest.mark.parametrize("name", ["rgb.tif", "rgb.bmp", "rgb.png"])
def test_lossless_colours(name: str, tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / name)
    assert np.array_equal(load_image(row(tmp_path / name)), RGB)


def test_cmyk_palette_grey_and_16_bit(tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    Image.fromarray(RGB).quantize(250).save(tmp_path / "palette.png")
    Image.fromarray(RAMP).save(tmp_path / "grey.tif")
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "deep.tif")
    assert np.abs(load_image(row(tmp_path / "cmyk.jpg")).astype(int) - RGB).mean() < 12
    assert np.abs(load_image(row(tmp_path / "palette.png")).astype(int) - RGB).mean() < 4
    for name in ("grey.tif", "deep.tif"):
        assert np.array_equal(load_image(row(tmp_path / name)), np.stack([RAMP] * 3, -1))


def test_exif_turns_the_image_and_its_mask_fits(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    releases.mask(tmp_path / "turned_gt.png", np.ones((24, 16), bool))
    turned = row(tmp_path / "turned.jpg", tmp_path / "turned_gt.png")
    assert load_image(turned).shape == (24, 16, 3)
    assert load_mask(turned).shape == (24, 16)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"text", "not an image"), (b"cut", "damaged or cut off")],
)
def test_broken_images_are_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    if content == b"cut":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)).save(file)
        content = file.read_bytes()[:9000]
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.png.*{message}"):
        load_image(row(file))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return releases.image(tmp_path / "p.png")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P", "LA", "I;16"])
def test_masks_of_any_mode(mode: str, image: Path) -> None:
    file = releases.mask(image.with_name("m.png"), mode="L" if mode == "I;16" else mode)
    if mode == "I;16":
        Image.fromarray(releases.TRUTH.astype(np.uint16) * 65535).save(file)
    assert np.array_equal(load_mask(row(image, file)), releases.TRUTH)
    assert set(np.unique(load_levels(row(image, file)))) == {0, 255}


def test_levels_are_kept_and_0_1_masks_are_spread(image: Path) -> None:
    levels = np.where(releases.TRUTH, 255, 0).astype(np.uint8)
    levels[5, 10:24] = 60  # an anti-aliased rim
    Image.fromarray(levels).save(image.with_name("m.png"))
    Image.fromarray(releases.TRUTH.astype(np.uint8)).save(image.with_name("n.png"))
    assert np.array_equal(load_levels(row(image, image.with_name("m.png"))), levels)
    assert load_mask(row(image, image.with_name("m.png"))).sum() == releases.TRUTH.sum() + 14
    assert load_levels(row(image, image.with_name("n.png"))).max() == 255


def test_noise_of_a_lossy_mask_is_cut(image: Path) -> None:
    file = image.with_name("m.jpg")
    Image.fromarray(np.where(releases.TRUTH, 255, 0).astype(np.uint8)).save(file, quality=60)
    assert (np.asarray(Image.open(file)) > 0).mean() > releases.TRUTH.mean() + 0.02
    assert (load_mask(row(image, file)) != releases.TRUTH).mean() < 0.02


def test_other_sizes_are_resized_and_masks_on_their_side_refused(tmp_path: Path) -> None:
    root = releases.casia2(tmp_path)
    first, second, *_ = sorted((root / "CASIA 2 Groundtruth").iterdir())
    releases.mask(first, np.kron(releases.TRUTH, np.ones((2, 2), bool)))
    releases.mask(second, releases.TRUTH.T)
    rows = {r["name"]: r for r in open_set(DataConfig(root=str(root)), masks=False)}
    stem = first.stem.removesuffix("_gt")
    entry = {"path": str(first), "bytes": None}
    assert np.array_equal(load_mask({**rows[stem], "mask": entry}), releases.TRUTH)
    stem = second.stem.removesuffix("_gt")
    with pytest.raises(UserError, match=r"mask of 24x36 lies on its side, the image is 36x24"):
        load_mask({**rows[stem], "mask": {"path": str(second), "bytes": None}})
    with pytest.warns(UserWarning, match="left out 1 of 8 .* lies on its side"):
        assert len(open_set(DataConfig(root=str(root)), masks=True)) == 7


def test_the_turned_mask_of_casia1_is_turned_back(tmp_path: Path) -> None:
    stem = "Sp_D_CNN_A_sec0012_ani0007_0275"
    image = releases.image(tmp_path / f"{stem}.jpg")
    drawn = releases.mask(tmp_path / f"{stem}_gt.png", np.rot90(releases.TRUTH, -1))
    assert np.array_equal(load_mask(row(image, drawn)), releases.TRUTH)


def test_unknown_colours_and_broken_masks_are_named(image: Path) -> None:
    file = image.with_name("m.png")
    Image.fromarray(RGB).save(file)
    with pytest.raises(
        UserError, match=r"m\.png is a coloured mask, neither one colour on black nor red and green"
    ):
        load_mask(row(image, file))
    file.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"m\.png is not an image in a known format"):
        load_mask(row(image, file))
    with pytest.raises(UserError, match="no such file"):
        load_mask(row(image, image.with_name("gone.png")))


def palette(colours: list[int]) -> Image.Image:
    indexed = Image.fromarray(releases.TRUTH.astype(np.uint8)).convert("P")
    indexed.putpalette(colours)
    return indexed


def alpha(colour: int) -> Image.Image:
    layers = np.full((*releases.SIZE, 4), colour, np.uint8)
    layers[..., 3] = np.where(releases.TRUTH, 255, 0)
    return Image.fromarray(layers)


def on_black(colour: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray(np.where(releases.TRUTH[..., None], colour, 0).astype(np.uint8))


@pytest.mark.parametrize(
    "drawn",
    [
        Image.fromarray(releases.TRUTH.astype(np.float32)),
        Image.fromarray(releases.TRUTH.astype(np.float32) * 255),
        Image.fromarray(releases.TRUTH.astype(np.float32) * 0.7),
        Image.fromarray(releases.TRUTH.astype(np.uint16)),
        palette([0, 0, 0, 128, 0, 0]),
        palette([0, 0, 0, 255, 255, 255]),
        on_black((255, 0, 0)),
        on_black((250, 250, 10)),
        alpha(255),
        alpha(0),
    ],
    ids=["float", "float to 255", "soft float", "ids", "VOC", "palette", "red", "yellow", "white", "black"],
)
def test_masks_are_read_by_what_they_hold(drawn: Image.Image, image: Path) -> None:
    file = image.with_name("m.tif" if drawn.mode == "F" else "m.png")
    drawn.save(file)
    assert np.array_equal(load_mask(row(image, file)), releases.TRUTH)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 300.0])
def test_floating_levels_out_of_range_are_named(value: float, image: Path) -> None:
    levels = releases.TRUTH.astype(np.float32)
    levels[0, 0] = value
    Image.fromarray(levels).save(image.with_name("m.tif"))
    with pytest.raises(UserError, match=r"m\.tif holds floating levels"):
        load_mask(row(image, image.with_name("m.tif")))


def test_masks_of_an_absurd_shape_are_refused(image: Path) -> None:
    for size in ((200, 20), (3, 400), (1, 2), (400, 600)):
        file = releases.mask(image.with_name("m.png"), np.ones(size, bool))
        with pytest.raises(
            UserError, match=r"m\.png mask of \d+x\d+ (was not made for its|lies on its side)"
        ):
            load_mask(row(image, file))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_drawn_on_the_stored_image_is_turned_with_it(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.where(releases.TRUTH[..., None], 250, 5).astype(np.uint8).repeat(3, -1)
    Image.fromarray(stored).save(tmp_path / "x.png", exif=exif)
    turned = row(tmp_path / "x.png", releases.mask(tmp_path / "m.png"))
    found = load_mask(turned)
    assert found.shape == releases.SIZE[::-1]
    assert np.array_equal(found, load_image(turned)[..., 0] > 100)


def test_levels_are_meant_as_the_row_says(image: Path) -> None:
    levels = np.where(releases.TRUTH, 0, 250).astype(np.uint8)
    levels[releases.BOX][:2] = 9
    Image.fromarray(levels).save(image.with_name("m.png"))
    one = {**row(image, image.with_name("m.png")), "inverted": True, "mask_threshold": 127}
    assert np.array_equal(load_mask(one), releases.TRUTH)
    assert set(np.unique(load_levels({**one, "mask_threshold": 0}))) == {5, 246, 255}


@pytest.mark.skipif(not SAMPLES, reason="PAPERS_SAMPLES is not set")
def test_real_coloured_mask_and_real_tiff() -> None:
    folder = Path(f"{SAMPLES}/manipulation/unpaired")
    spliced = folder / "Columbia/4cam_splc"
    drawn = spliced / "edgemask/canong3_canonxt_sub_21_edgemask.jpg"
    found = load_mask(row(spliced / "canong3_canonxt_sub_03.tif", drawn))
    assert found.shape == (568, 757)
    assert 0.4 < found.mean() < 0.5
    flips = (found[:, 1:] != found[:, :-1]).sum(1)
    assert np.median(flips) <= 2  # a few solid regions, not JPEG noise
    assert load_image(row(folder / "COVERAGE/image/1t.tif")).shape == (421, 424, 3)
