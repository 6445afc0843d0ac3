"""A network as one file: what is kept and what is not. The packages' own tests write their networks, ONNX too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from papers_shared.errors import UserError
from papers_shared.export import export_format, write_checked


class Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x * 2


@pytest.mark.parametrize(
    ("spoilt", "kept"), [(None, True), (0.01, False), (float("nan"), False)], ids=["equal", "off", "nan"]
)
def test_a_file_that_answers_otherwise_is_not_kept(tmp_path: Path, spoilt: float | None, kept: bool) -> None:
    inputs = {"x": torch.ones(3)}
    expected = dict(zip(("sum", "product"), Two()(inputs["x"]), strict=True))
    if spoilt is not None:
        expected["product"] = expected["product"] + spoilt
    output = tmp_path / "out" / "two.pt2"
    difference = write_checked(Two(), inputs, expected, {}, output, "torch", package="two")
    assert (difference == 0) == kept
    assert [path.name for path in output.parent.iterdir()] == (["two.pt2"] if kept else [])


def test_the_kind_is_the_suffix_or_as_asked() -> None:
    assert export_format(Path("a.onnx"), "auto") == "onnx"
    assert export_format(Path("a.bin"), "torch") == "torch"
    with pytest.raises(UserError, match=r"a\.bin: name the file NAME\.pt2 or NAME\.onnx"):
        export_format(Path("a.bin"), "auto")
