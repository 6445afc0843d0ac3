"""The qualitative panel."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cabl_cgsr.cli import main
from cabl_cgsr.config import ModelConfig
from cabl_cgsr.drawing import BOX, MASK, draw_map, draw_mask, draw_prompts
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.prompts import Prompts
from papers_shared.provenance import VARIABLE


def test_panel_has_a_row_for_each_image_and_columns_for_each_model(
    model_folder: Path, image_root: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    shutil.copy(image_root / "masks" / "m00.png", tmp_path / "m00_gt.png")
    images = [str(image_root / "manipulated" / name) for name in ("m00.png", "m01.png")]

    def panel(*options: str) -> Image.Image:
        output = tmp_path / "out"
        command = ["figures", *options, "--images", *images, "--output", str(output), "--width", "100"]
        assert main(command) == 0
        return Image.open(output / "qualitative.png")

    one = panel(str(model_folder), "--masks", str(tmp_path / "m00_gt.png"))
    assert one.width == 5 * 108 + 8
    two = panel(str(model_folder), str(other), "--refiner", "none", "--overwrite")
    assert two.width == 5 * 108 + 8
    assert one.height == two.height
    again = ["figures", str(model_folder), "--images", *images, "--output", str(tmp_path / "out")]
    assert main(again) == 2, "a drawing is not replaced unasked"


def test_models_never_trained_draw_only_when_asked(
    small_config: ModelConfig, image_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    image, output = str(image_root / "manipulated" / "m00.png"), tmp_path / "out"
    model = Localizer.from_config(small_config).save_pretrained(tmp_path / "model")
    command = ["figures", str(model), "--images", image, "--output", str(output), "--refiner", "none"]
    assert main(command) == 2
    assert not list(output.glob("*"))
    assert main([*command, "--untrained"]) == 0
    with Image.open(output / "qualitative.png") as figure:
        assert figure.convert("RGB").getpixel((0, 0)) == (176, 0, 32), "the strip that says so"


def test_mistakes_are_one_sentence(
    model_folder: Path, image_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image, output = str(image_root / "manipulated" / "m00.png"), str(tmp_path / "out")
    twice = ["figures", str(model_folder), str(model_folder), "--images", image, "--output", output]
    assert main(twice) == 2
    assert "same name" in capsys.readouterr().err
    masks = ["--masks", str(image_root / "masks" / "m01.png")]
    assert main(["figures", str(model_folder), "--images", image, "--output", output, *masks]) == 2
    assert "no mask has the name" in capsys.readouterr().err
    for name in ("m00_gt.png", "m00_mask.png"):
        shutil.copy(image_root / "masks" / "m00.png", tmp_path / name)
    masks = ["--masks", str(tmp_path / "m00_gt.png"), str(tmp_path / "m00_mask.png")]
    assert main(["figures", str(model_folder), "--images", image, "--output", output, *masks]) == 2
    assert "fits 2 masks" in capsys.readouterr().err


def test_drawings_show_what_they_are_given() -> None:
    image = Image.new("RGB", (60, 40), (10, 20, 30))
    mask = np.zeros((40, 60), bool)
    assert np.array_equal(draw_mask(image, mask), image)
    mask[10:30, 20:50] = True
    drawn = np.asarray(draw_mask(image, mask))
    assert tuple(drawn[10, 30]) == MASK
    assert drawn[20, 35, 0] > 80
    assert tuple(drawn[0, 0]) == (10, 20, 30)
    prompted = np.asarray(draw_prompts(image, Prompts((5, 6, 40, 30), ((20, 20), (50, 35)), (1, 0))))
    assert tuple(prompted[6, 10]) == BOX
    assert prompted[20, 20, 1] > 150 > prompted[20, 20, 0]
    assert prompted[35, 50, 0] > 150 > prompted[35, 50, 1]
    dark, bright = np.asarray(draw_map(np.array([[0.0, 1.0]], np.float32)))[0].sum(axis=-1)
    assert dark < bright
