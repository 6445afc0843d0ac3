"""The exported files: agreement with eager, what is in them, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from shapes import small

from papers_shared import export as shared_export
from papers_shared.errors import UserError
from plvl.config import TABLE_7_MODELS
from plvl.export import export, run
from plvl.modeling.plvl import PLVL
from plvl.options import ExportOptions
from plvl.tokenizer import VOCABULARY, make_vocabulary


@pytest.fixture(scope="module")
def model() -> PLVL:
    torch.manual_seed(0)
    config = small(Path(), Path()).model
    model = PLVL.from_config(config).eval()
    model.extra_files = {VOCABULARY: make_vocabulary(["red"], config.vocab_size)}
    return model


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_agrees_with_eager(model: PLVL, tmp_path: Path, suffix: str) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
    report = export(model, tmp_path / f"net{suffix}", batch=2)
    assert report.agrees
    assert report.shapes == {
        "boxes": (2, 4),
        "score_logits": (2, 1, 4, 4),
        "offset": (2, 2, 4, 4),
        "size": (2, 2, 4, 4),
        "mask_logits": (2, 1, 32, 32),
    }
    assert [entry.name for entry in tmp_path.iterdir()] == [f"net{suffix}"]
    if suffix == ".onnx":
        import onnx

        stored = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    else:
        stored = dict.fromkeys(("config.json", VOCABULARY), "")
        torch.export.load(tmp_path / "net.pt2", extra_files=stored)
    assert json.loads(stored["config.json"])["image_size"] == 32
    assert "red" in stored[VOCABULARY]


def test_one_task_has_its_outputs_only(model: PLVL, tmp_path: Path) -> None:
    boxes = PLVL.from_config(replace(model.config, res=False)).eval()
    assert list(export(boxes, tmp_path / "net.pt2").shapes) == ["boxes", "score_logits", "offset", "size"]


def test_what_disagrees_is_not_kept(
    model: PLVL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(
        shared_export,
        "run_torch",
        lambda path, inputs: [x + 1 for x in _eager(model, tuple(inputs.values()))],
    )
    assert run(ExportOptions(str(tmp_path / "model"), str(tmp_path / "net.pt2"))) == 1
    assert "was not written" in capsys.readouterr().out
    assert not (tmp_path / "net.pt2").exists()


def _eager(model: PLVL, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    with torch.no_grad():
        return [x for x in model(*inputs) if x is not None]


def test_refusals(model: PLVL, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"NAME\.pt2 or NAME\.onnx"):
        export(model, tmp_path / "net.bin")
    with pytest.raises(UserError, match="--batch 0"):
        export(model, tmp_path / "net.pt2", batch=0)
    dropping = replace(model.config, decoder="eevg", elimination=TABLE_7_MODELS["EEVG"].elimination)
    with pytest.raises(UserError, match="drops tokens"):
        export(PLVL.from_config(dropping), tmp_path / "net.pt2")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.filterwarnings("ignore:this CPU has no bfloat16")
def test_eager_may_compute_in_half_precision(model: PLVL, tmp_path: Path, precision: Any) -> None:
    report = export(model, tmp_path / "net.pt2", precision=precision)
    assert report.precision == precision
    assert report.agrees
    assert report.difference > 1e-5, "eager did not compute in float32"
