"""Loading images."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from papers_shared.errors import UserError
from papers_shared.images import load_image, open_image, verify_image

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
    # how a camera stores the upright image under each orientation
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
    with Image.open(tmp_path / "cut.png") as image, pytest.raises(UserError, match="the image is damaged"):
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


def test_size_limit_leaves_pillow_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (20_000, 10_000)).save(tmp_path / "big.png")
    with pytest.raises(UserError, match=r"20000 x 10000 = 200,000,000 pixels"):
        load_image(tmp_path / "big.png")
    with pytest.raises(UserError, match="limit of 59"):
        load_image(Image.fromarray(RAMP), max_pixels=59)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # a limit of the program that uses this one
    assert load_image(saved(Image.fromarray(RAMP)), max_pixels=60).size == (10, 6)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000"])
def test_every_format_is_known_by_its_content(format: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.anything"
    path.write_bytes(saved(Image.new("RGB", (32, 24), (200, 30, 40)), format).getvalue())
    assert load_image(path).size == (32, 24)


def test_other_formats_start_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript, wherever that comes from."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "photo.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n%%EOF\n"
    )
    with pytest.raises(UserError, match="not an image in a known format"):
        load_image(tmp_path / "photo.png")
    assert not (tmp_path / "started").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "photo.png")
    with pytest.raises(UserError, match="is no regular file"):
        load_image(tmp_path / "photo.png")


def test_an_opened_image_shows_its_size_and_is_read_inside_the_block(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(
        saved(Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 80, 3), np.uint8))).getvalue()
    )
    with open_image(path) as image:
        assert image.size == (80, 90)
        assert image.convert("L").getextrema()[1] > 100
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UserError, match=r"photo\.png is damaged or cut off"), open_image(path) as image:
        image.load()
    with pytest.raises(UserError, match="more than the limit"), open_image(path, max_pixels=99):
        pass
    with pytest.raises(UserError, match="own words"), open_image(path):
        raise UserError("own words")


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (7, 8)])
def test_photos_narrower_than_a_block_are_verified(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size).save(tmp_path / "photo.jpg")
    verify_image(tmp_path / "photo.jpg")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_verifying_finds_what_loading_finds(format: str, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    noise = np.random.default_rng(0).integers(0, 255, (90, 80, 3), np.uint8)
    content = saved(Image.fromarray(noise), format).getvalue()
    path.write_bytes(content)
    verify_image(path)
    for spoilt in (content[: len(content) // 2], content[:3], b""):
        path.write_bytes(spoilt)
        with pytest.raises(UserError):
            verify_image(path)
    with pytest.raises(UserError, match="no such file"):
        verify_image(tmp_path / "gone")
    with pytest.raises(UserError, match="is a folder"):
        verify_image(tmp_path)
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(UserError, match="floating values outside"):
        verify_image(tmp_path / "nan.tif")


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "values",
    [
        PIXELS,
        (PIXELS / 255).astype(np.float32),
        PIXELS.astype(np.int64),
        PIXELS.astype(np.uint16) * 257,
        PIXELS.transpose(2, 0, 1),
        torch.from_numpy(PIXELS),
        torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
        np.asfortranarray(PIXELS),
        PIXELS[:, ::-1][:, ::-1],
    ],
    ids=lambda values: f"{values.dtype}-{tuple(values.shape)}",
)
def test_arrays_of_all_kinds_are_one_image(values: Any) -> None:
    assert np.array_equal(np.asarray(load_image(values)), PIXELS)


def test_grey_arrays() -> None:
    grey = PIXELS[..., 0]
    for values in (grey, grey[..., None], grey[None], torch.from_numpy(grey)):
        assert np.array_equal(np.asarray(load_image(values))[..., 1], grey)
    assert np.asarray(load_image(grey > 100)).max() == 255


@pytest.mark.parametrize(
    "values",
    [
        None,
        [[1, 2], [3, 4]],
        PIXELS[:0],
        PIXELS[None],
        PIXELS[..., :2],
        PIXELS.astype(np.float32),
        PIXELS.astype(np.int16) - 200,
        np.full((4, 4), np.nan),
        np.full((4, 4), 1j),
        np.array(["a"]),
    ],
    ids=lambda values: type(values).__name__ + str(getattr(values, "shape", "")),
)
def test_what_is_no_image_is_one_sentence(values: Any) -> None:
    with pytest.raises(UserError, match=r"^the image"):
        load_image(values)
