"""The figures: which maps they show, how panels are laid out, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fanet.cli import main
from fanet.config import ModelConfig
from fanet.figures import frm_features, qualitative, run
from fanet.modeling.blocks import FeatureRefinement
from fanet.modeling.segmenter import Segmenter
from fanet.options import FiguresOptions
from papers_shared.errors import UserError
from papers_shared.provenance import VARIABLE


def tiny(**changes: object) -> Segmenter:
    torch.manual_seed(0)
    values: dict = {
        "backbone": "test_fanet",
        "class_names": ("background", "box", "bag"),
        "decoder_channels": 8,
        "auxiliary": False,
        "test_scale": (128, 64),
    }
    return Segmenter.from_config(ModelConfig(**(values | changes))).eval()


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    for folder, content in (("images", pixels), ("masks", pixels[..., 0] % 3)):
        (tmp_path / folder).mkdir()
        Image.fromarray(content).save(tmp_path / folder / "frame.png")
    return tmp_path


def test_frm_features_are_those_of_the_last_block_of_stage_3() -> None:
    segmenter = tiny()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    result, maps = frm_features(segmenter, image)
    features, high, low, output = maps.values()
    np.testing.assert_array_equal(result.mask, segmenter.predict(image).mask)
    assert features.shape == high.shape == low.shape == output.shape == (16, 4, 6)
    frm = next(
        m for n, m in reversed(list(segmenter.named_modules())) if "stage3" in n and hasattr(m, "smooth")
    )
    assert isinstance(frm, FeatureRefinement)
    smooth = features - high
    torch.testing.assert_close(smooth[None], frm.smooth(features[None]).detach())
    torch.testing.assert_close(low, features * smooth)
    torch.testing.assert_close(output[None], frm(features[None]).detach())
    assert not frm._forward_hooks


def test_columns_of_the_panel(scene: Path) -> None:
    models = {"one": tiny(), "two": tiny(scm=False)}
    images = [scene / "images/frame.png"] * 2
    plain = qualitative(models, images, width=50)
    with_truth = qualitative(models, images, [scene / "masks/frame.png", None], width=50)
    assert 3 * 50 < plain.width < 4 * 50 <= with_truth.width
    assert plain.height > 2 * 33


def test_verb_writes_both_figures(scene: Path, capsys: pytest.CaptureFixture) -> None:
    tiny().save_pretrained(scene / "run/best")
    tiny(frm_high=False, frm_low=False).save_pretrained(scene / "without")
    models = (str(scene / "without"), str(scene / "run/best"))
    options = FiguresOptions(
        models, (str(scene / "images"),), str(scene / "out"), (str(scene / "masks"),), 50, "cpu"
    )
    assert run(options) == 0
    assert sorted(path.name for path in (scene / "out").iterdir()) == ["frm-frame.png", "qualitative.png"]
    options = FiguresOptions(models[:1], (str(scene / "images"),), str(scene / "plain"), device="cpu")
    assert run(options) == 0
    assert [path.name for path in (scene / "plain").iterdir()] == ["qualitative.png"]
    assert "no FRM maps" in capsys.readouterr().out


def test_models_never_trained_draw_only_when_asked(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    tiny().save_pretrained(scene / "model")
    command = [
        "figures",
        str(scene / "model"),
        "--images",
        str(scene / "images"),
        "--output",
        str(scene / "out"),
    ]
    assert main(command) == 2
    assert not list((scene / "out").glob("*"))
    assert main([*command, "--untrained"]) == 0
    for name in ("qualitative.png", "frm-frame.png"):
        with Image.open(scene / "out" / name) as figure:
            assert figure.convert("RGB").getpixel((0, 0)) == (176, 0, 32), "the strip that says so"


def test_mistakes(scene: Path) -> None:
    image = scene / "images/frame.png"
    with pytest.raises(UserError, match="other classes"):
        qualitative({"one": tiny(), "two": tiny(class_names=("a", "b"))}, [image])
    with pytest.raises(UserError, match="no feature refinement"):
        frm_features(tiny(frm_high=False, frm_low=False), Image.new("RGB", (64, 64)))
    with pytest.raises(UserError, match=r"frame\.png"):
        qualitative({"one": tiny(class_names=("a", "b"))}, [image], [scene / "masks/frame.png"])
