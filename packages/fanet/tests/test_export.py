"""The exported files: agreement with eager, what is in them, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fanet.config import ModelConfig
from fanet.export import export, run
from fanet.modeling.segmenter import Segmenter
from fanet.options import ExportOptions
from papers_shared import export as shared_export
from papers_shared.errors import UserError


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    config = ModelConfig(
        backbone="test_fanet", class_names=("background", "box"), decoder_channels=8, auxiliary_channels=8
    )
    return Segmenter.from_config(config).eval()


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_agrees_with_eager(segmenter: Segmenter, tmp_path: Path, suffix: str) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
    report = export(segmenter, tmp_path / f"net{suffix}", height=64, width=100, batch=2)
    assert report.agrees
    assert report.difference < 1e-4
    assert report.input_shape == (2, 3, 64, 100)
    assert report.output_shape == (2, 2, 16, 25)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"net{suffix}"]
    if suffix == ".onnx":
        import onnx

        model = onnx.load(report.path)
        texts = {entry.key: entry.value for entry in model.metadata_props}
        assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "logits"]
    else:
        texts = {"config.json": ""}
        torch.export.load(report.path, extra_files=texts)
    assert json.loads(texts["config.json"])["class_names"] == ["background", "box"]


def test_a_file_that_disagrees_is_not_kept(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    segmenter.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(
        shared_export, "write_torch", lambda model, inputs, texts, path: path.write_bytes(b"x")
    )
    monkeypatch.setattr(shared_export, "run_torch", lambda path, inputs: [torch.zeros(1, 2, 8, 8)])
    options = ExportOptions(str(tmp_path / "model"), str(tmp_path / "net.pt2"), height=32, width=32)
    assert run(options) == 1
    assert "not written" in capsys.readouterr().out
    assert not (tmp_path / "net.pt2").exists()


@pytest.mark.parametrize(
    ("name", "size", "words"), [("net.bin", 64, r"net\.bin.*\.onnx"), ("net.pt2", 16, "32 or more")]
)
def test_mistakes(segmenter: Segmenter, tmp_path: Path, name: str, size: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        export(segmenter, tmp_path / name, height=size, width=64)


def test_a_missing_extra_names_the_install_line(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"needs onnx: pip install 'fanet\[onnx\]'"):
        export(segmenter, tmp_path / "net.onnx", height=64, width=64)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.filterwarnings("ignore:this CPU has no bfloat16")
def test_eager_may_compute_in_half_precision(segmenter: Segmenter, tmp_path: Path, precision: Any) -> None:
    report = export(segmenter, tmp_path / "net.pt2", height=64, width=64, precision=precision)
    assert report.precision == precision
    assert report.agrees
    assert report.difference > 1e-5, "eager did not compute in float32"
