"""Loading and drawing pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from papers_shared.errors import UserError
from papers_shared.images import legend, letterbox, load_image, overlay, palette_for, side_by_side

RAMP = np.arange(0, 240, 4, dtype=np.uint8).reshape(6, 10)


def saved(image: Image.Image, format: str = "PNG", **options: object) -> io.BytesIO:
    image.save(file := io.BytesIO(), format, **options)
    file.seek(0)
    return file


def grey(array: np.ndarray) -> np.ndarray:
    return np.repeat(array[..., None], 3, axis=2)


GREYS = {
    "L": (Image.fromarray(RAMP), grey(RAMP)),
    "I;16": (Image.fromarray(RAMP.astype(np.uint16) * 257), grey(RAMP)),
    "1": (Image.fromarray(RAMP > 100), grey(np.where(RAMP > 100, 255, 0).astype(np.uint8))),
    "P": (Image.fromarray(grey(RAMP)).quantize(64), grey(RAMP)),
}


@pytest.mark.parametrize("mode", GREYS)
def test_modes_become_rgb(mode: str) -> None:
    image, expected = GREYS[mode]
    loaded = load_image(saved(image))
    assert loaded.mode == "RGB"
    assert np.array_equal(np.asarray(loaded), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_over_white(mode: str) -> None:
    image = Image.new("P" if mode == "PA" else "RGB", (8, 6))
    if mode == "PA":  # Pillow below 12 loses the palette when it converts to this mode
        image.putpalette([10, 10, 10])
    else:
        image.paste((10, 10, 10), (0, 0, 8, 6))
    alpha = Image.new("L", image.size)
    alpha.paste(255, (0, 0, 5, 6))
    image.putalpha(alpha)
    file = saved(image.convert(mode), "TIFF" if mode == "PA" else "PNG")
    pixels = np.asarray(load_image(file))
    assert (pixels[:, :5] == 10).all()
    assert (pixels[:, 5:] == 255).all()


def test_transparent_colour_of_a_palette() -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    pixels = np.asarray(load_image(saved(image, transparency=1)))
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_cmyk_and_float() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(np.asarray(load_image(saved(red, "JPEG"))).astype(int) - [255, 0, 0]).max() < 8
    ramp = Image.fromarray(RAMP.astype(np.float32) / 255)
    assert np.array_equal(np.asarray(load_image(saved(ramp, "TIFF"))), grey(RAMP))


@pytest.mark.parametrize("array", [RAMP.astype(np.float32), np.full((2, 2), np.nan, np.float32)])
def test_float_values_out_of_range_are_refused(array: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"outside 0\.\.1"):
        load_image(saved(Image.fromarray(array), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    upright = Image.fromarray(grey(RAMP))
    # how a camera stores the upright picture under each orientation
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = upright.transpose(stored[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(np.asarray(load_image(saved(image, exif=exif))), grey(RAMP))


def test_broken_files_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for format in ("PNG", "JPEG", "TIFF", "BMP"):
        path = tmp_path / f"cut.{format.lower()}"
        path.write_bytes(saved(Image.fromarray(noise), format).getvalue()[:-4000])
        with pytest.raises(UserError, match=rf"cut\.{format.lower()} "):
            load_image(path)
    with Image.open(tmp_path / "cut.png") as image, pytest.raises(UserError, match="the picture is damaged"):
        load_image(image)
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.jpg").touch()
    for name, message in (
        ("text.png", "known format"),
        ("empty.jpg", "known format"),
        ("none.png", "no such file"),
        (".", "is a folder"),
    ):
        with pytest.raises(UserError, match=message):
            load_image(tmp_path / name)


def test_size_limit_leaves_pillow_alone(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    Image.new("1", (20_000, 10_000)).save(tmp_path / "big.png")
    with pytest.raises(UserError, match=r"20000 x 10000 = 200,000,000 pixels"):
        load_image(tmp_path / "big.png")
    with pytest.raises(UserError, match="limit of 59"):
        load_image(Image.fromarray(RAMP), max_pixels=59)
    assert load_image(Image.fromarray(RAMP), max_pixels=60).size == (10, 6)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("size", [(33, 50), (50, 33), (8, 90)])
def test_letterbox_and_back(size: tuple[int, int]) -> None:
    height, width = size
    truth = np.zeros(size, np.uint8)
    truth[2:6, width // 2 :] = 3
    image = Image.fromarray(grey(truth * 80))
    boxed, box = letterbox(image, (64, 96), fill=(9, 9, 9))
    assert boxed.size == (96, 64)
    assert max(box.inner[0] / 64, box.inner[1] / 96) == 1
    inside = np.full((64, 96), 7, np.uint8)
    rows, columns = slice(box.top, box.top + box.inner[0]), slice(box.left, box.left + box.inner[1])
    inside[rows, columns] = np.asarray(
        Image.fromarray(truth).resize(box.inner[::-1], Image.Resampling.NEAREST)
    )
    assert np.array_equal(box.mask_to_original(inside), truth)
    assert box.mask_to_original(inside.astype(np.float32)).shape == size
    whole = np.array(
        [[box.left, box.top, box.left + box.inner[1], box.top + box.inner[0]], [-9, -9, 200, 200]]
    )
    assert np.allclose(box.boxes_to_original(whole), [[0, 0, width, height]] * 2)


def test_overlay() -> None:
    image = Image.new("RGB", (3, 1), (100, 100, 100))
    drawn = overlay(image, np.array([[0, 1, 255]]), [(0, 0, 0), (200, 0, 100)], alpha=0.5)
    assert np.asarray(drawn).tolist() == [[[50, 50, 50], [150, 50, 100], [100, 100, 100]]]
    with pytest.raises(UserError, match="holds class 2, but there are 2 colours"):
        overlay(image, np.array([[0, 1, 2]]), [(0, 0, 0), (200, 0, 100)])
    with pytest.raises(UserError, match="the mask is 2 x 1, the picture 3 x 1"):
        overlay(image, np.array([[0, 1]]), [(0, 0, 0), (200, 0, 100)])


def test_legend_keeps_the_picture_and_wraps() -> None:
    image = Image.new("RGB", (200, 50), (1, 2, 3))
    names = ["background", "rigid_plastic", "cardboard", "metal"]
    palette = palette_for(4)
    drawn = legend(image, names, palette)
    assert drawn.width == 200
    assert drawn.height > legend(image, names[:1], palette[:1]).height
    assert np.array_equal(np.asarray(drawn)[:50], np.asarray(image))
    colours = {tuple(pixel) for row in np.asarray(drawn)[50:].tolist() for pixel in row}
    assert set(palette) <= colours


def test_palette_keeps_what_is_given() -> None:
    given = ((1, 2, 3), (4, 5, 6))
    assert palette_for(4, given)[:2] == given
    assert len(palette_for(4, given)) == 4
    assert len(set(palette_for(32))) == 32


def test_side_by_side() -> None:
    panel = side_by_side(
        [("a", Image.new("RGB", (40, 20), "red")), ("b", Image.new("RGB", (10, 10), "blue"))]
    )
    assert panel.width == 40 + 20 + 3 * 8
    pixels = np.asarray(panel)
    assert (pixels == [255, 0, 0]).all(-1).sum() == 40 * 20
    assert (pixels == [0, 0, 255]).all(-1).sum() == 20 * 20
