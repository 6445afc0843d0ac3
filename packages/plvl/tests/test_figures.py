"""The paper's figures from a model and a data folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from shapes import small, write_shapes

from papers_shared.errors import UserError
from papers_shared.provenance import VARIABLE
from plvl.config import DataConfig
from plvl.figures import qualitative, run
from plvl.modeling.plvl import PLVL
from plvl.options import FiguresOptions
from plvl.tokenizer import VOCABULARY, make_vocabulary


def test_one_row_per_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataConfig(root=str(write_shapes(tmp_path / "data", val=2)))
    torch.manual_seed(0)
    model = PLVL.from_config(small(Path(), Path()).model)
    model.extra_files = {VOCABULARY: make_vocabulary(["the red green blue block"], 160)}
    model.save_pretrained(tmp_path / "model")
    options = FiguresOptions(str(tmp_path / "model"), data, count=3, output=str(tmp_path / "out"), width=90)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(UserError, match="never trained"):
        run(options)
    assert run(replace(options, untrained=True)) == 0
    assert "qualitative.png" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "qualitative.png") as figure:
        assert figure.width >= 4 * 90, "image, truth, prediction and score map"
        assert figure.height >= 3 * 60
        assert figure.convert("RGB").getpixel((0, 0)) == (176, 0, 32), "the strip that says so"
    with pytest.raises(UserError, match="no sentence to draw"):
        qualitative(model, [])
