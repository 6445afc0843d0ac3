"""Exported files give what eager gives, hold the configuration, and appear only when they agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bf16_patches import patches_are_right_in_bf16

from cabl_cgsr.cli import main
from cabl_cgsr.export import OUTPUTS, export
from cabl_cgsr.modeling.localizer import Localizer
from papers_shared import export as shared
from papers_shared.errors import UserError


def test_torch_export_holds_network_and_configuration(
    model_folder: Path, localizer: Localizer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "model.pt2"
    assert main(["export", str(model_folder), "--output", str(file), "--size", "48", "--batch", "2"]) == 0
    assert "cam [2, 3, 3]" in capsys.readouterr().out
    extra = {"config.json": ""}
    program = torch.export.load(file, extra_files=extra)
    assert json.loads(extra["config.json"])["backbone"] == "test_conformer"
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        ours, expected = program.module()(images), localizer(images, cam=True)
    for name, value in zip(OUTPUTS, ours, strict=True):
        torch.testing.assert_close(value, getattr(expected, name), rtol=1e-4, atol=1e-4)


def test_onnx_gives_what_eager_gives(localizer: Localizer, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    report = export(localizer, tmp_path / "model.onnx", size=32)
    assert report.agrees
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == list(OUTPUTS)
    assert "config.json" in session.get_modelmeta().custom_metadata_map
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = localizer(images, cam=True)
    (cam,) = session.run(["cam"], {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(cam), expected.cam, rtol=1e-3, atol=1e-3)


def test_a_file_that_disagrees_is_not_kept(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    localizer = Localizer.from_pretrained(model_folder)

    def wrong(_: Path, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad():
            output = localizer(inputs["images"], cam=True)
        return [getattr(output, name) + 0.1 for name in OUTPUTS]

    monkeypatch.setattr(shared, "write_torch", lambda model, inputs, texts, path: path.write_text("x"))
    monkeypatch.setattr(shared, "run_torch", wrong)
    assert main(["export", str(model_folder), "--output", str(tmp_path / "m.pt2"), "--size", "32"]) == 1
    assert "was not written" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "size"), [("m.bin", 32), ("m.pt2", 40), ("m.pt2", 16)])
def test_mistakes_are_one_sentence(localizer: Localizer, tmp_path: Path, name: str, size: int) -> None:
    with pytest.raises(UserError):
        export(localizer, tmp_path / name, size=size)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.filterwarnings("ignore:this CPU has no bfloat16")
def test_eager_may_compute_in_half_precision(model_folder: Path, tmp_path: Path, precision: Any) -> None:
    if precision == "bf16" and not patches_are_right_in_bf16():
        pytest.skip(
            "torch's bf16 convolution of 16 channels in patches of 4 is wrong on this CPU (oneDNN with AMX)"
        )
    report = export(
        Localizer.from_pretrained(model_folder), tmp_path / "net.pt2", size=64, precision=precision
    )
    assert report.precision == precision
    assert report.agrees
    assert report.difference > 1e-5, "eager did not compute in float32"
