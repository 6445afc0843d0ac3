"""Degraded images, their curves, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cabl_cgsr.cli import main
from cabl_cgsr.config import DataConfig
from cabl_cgsr.data import load_image, open_set
from cabl_cgsr.drawing import Line, draw_curves
from cabl_cgsr.robustness import blur_degradation, jpeg_degradation
from papers_shared.errors import UserError


@pytest.fixture
def row(image_root: Path) -> dict:
    return open_set(DataConfig(root=str(image_root), layout="folders"), masks=True)[7]


def test_degradations_keep_the_size_and_grow_with_their_strength(row: dict) -> None:
    image = load_image(row).astype(float)
    for degradations in (
        [jpeg_degradation(quality) for quality in (95, 70, 30)],
        [blur_degradation(side) for side in (3, 7, 15)],
    ):
        degraded = [one.load(row) for one in degradations]
        assert {image.shape for image in degraded} == {image.shape}
        differences = [np.abs(other - image).mean() for other in degraded]
        assert differences == sorted(differences)
        assert differences[0] > 0
        assert len({one.name for one in degradations}) == 3
    assert np.array_equal(blur_degradation(0).load(row), image)


def test_blur_has_the_sigma_of_its_side(row: dict) -> None:
    impulse = np.zeros((31, 31, 3), np.uint8)
    impulse[15, 15] = 255
    column = blur_degradation(7).apply(impulse)[15, :, 0].astype(float)
    x = np.arange(31) - 15
    sigma = 0.3 * ((7 - 1) / 2 - 1) + 0.8
    expected = np.exp(-(x**2) / (2 * sigma**2)) * (np.abs(x) <= 3)
    assert np.allclose(column / column.sum(), expected / expected.sum(), atol=0.02)


@pytest.mark.parametrize(
    ("degradation", "number"), [(jpeg_degradation, 0), (jpeg_degradation, 101), (blur_degradation, 4)]
)
def test_impossible_strengths_are_refused(degradation, number: int) -> None:
    with pytest.raises(UserError, match=str(number)):
        degradation(number)


def test_command_writes_curves_and_metrics(
    model_folder: Path, image_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["--data.root", str(image_root), "--data.layout", "folders", "--data.workers", "0"]
    strengths = [
        "--jpeg",
        "100",
        "40",
        "--blur",
        "0",
        "7",
        "--cache",
        str(tmp_path / "cache"),
        "--draws",
        "50",
    ]
    command = ["robustness", str(model_folder), *options, *strengths, "--output", str(tmp_path / "out")]
    assert main(command) == 0
    (file,) = (tmp_path / "out").glob("robustness-*.json")
    assert {"small", "draws"} <= set(file.stem.split("-")), "told from those of other models and options"
    result = json.loads(file.read_text())
    (model,) = result["models"]
    assert [point["degradation"] for point in model["jpeg"]] == ["jpeg 100", "jpeg 40"]
    assert [point["degradation"] for point in model["blur"]] == ["none", "blur 7"]
    values = [point["metrics"]["p_f1.coarse"] for point in model["blur"]]
    assert values[0] != values[1], "the blurred images were predicted anew"
    assert "p_f1.box_point" in model["jpeg"][0]["intervals_95"]
    image = Image.open(file.with_suffix(".png"))
    assert image.width > 1000
    assert "jpeg 40" in capsys.readouterr().out


def test_curves_have_a_line_for_each_and_gaps_where_nothing_is_known() -> None:
    lines = [Line("one", [0.31, None, 0.2, 0.25]), Line("other", [0.1, 0.1, 0.1, 0.1], dashed=True)]
    drawn = np.asarray(draw_curves(lines, ["a", "b", "c", "d"]))
    colours, counts = np.unique(drawn.reshape(-1, 3), axis=0, return_counts=True)
    coloured = counts[(colours.max(axis=1).astype(int) - colours.min(axis=1)) > 100]
    assert len(coloured) >= 2
    assert coloured.max() > 300
