"""Write classifier and activation map as one file: `torch.export` (.pt2) or ONNX, checked against eager.

The exported network takes normalised images (B, 3, S, S) of one fixed size and gives `logits_conv` and
`logits_trans` (B, num_logits) and `cam` (B, S / 16, S / 16), the unscaled map of Eq. (2) at that size. Resizing,
mirroring, the mean over sizes and the refinement stay with the caller; the model's `config.json` is stored inside
the file for that: in `extra_files` of a .pt2, in the metadata of an ONNX model.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from cabl_cgsr.modeling.localizer import Localizer
from papers_shared.dataclass_json import dataclass_to_json
from papers_shared.devices import autocast, choose_precision
from papers_shared.errors import UserError
from papers_shared.export import Exported, export_format, write_checked
from papers_shared.files import check_new
from papers_shared.hub import open_model
from papers_shared.provenance import check_trained
from papers_shared.types import Precision

if TYPE_CHECKING:
    from cabl_cgsr.options import ExportOptions

OUTPUTS = ("logits_conv", "logits_trans", "cam")


@dataclass(frozen=True)
class ExportReport(Exported):
    input_shape: tuple[int, int, int, int]
    output_shapes: dict[str, tuple[int, ...]]


def export(
    localizer: Localizer,
    output: str | Path,
    *,
    format: Literal["auto", "torch", "onnx"] = "auto",
    size: int = 512,
    batch: int = 1,
    precision: Precision = "fp32",
    untrained: bool = False,
) -> ExportReport:
    """Export the localizer; the file appears at `output` only if it agrees with eager (`agrees`).

    Args:
        precision: What eager computes in for that; the file computes in float32.

    Raises:
        UserError: a network that was never trained (unless `untrained`), unknown suffix, a size that is no multiple
            of 16, or the onnx extra is missing.
    """
    check_trained(localizer, untrained)
    output = Path(output)
    kind = export_format(output, format)
    if size < 32 or size % 16 or batch < 1:
        raise UserError(f"--size {size}, --batch {batch}: a multiple of 16 from 32 on, and 1 or more images")
    model = _Plain(copy.deepcopy(localizer).cpu().to(memory_format=torch.contiguous_format)).eval()
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    computed = choose_precision(precision, torch.device("cpu"))
    with torch.no_grad(), autocast(model, computed):
        expected = dict(zip(OUTPUTS, model(images), strict=True))
    config = json.dumps(dataclass_to_json(localizer.config))
    difference = write_checked(
        model,
        {"images": images},
        expected,
        {"config.json": config},
        output,
        kind,
        package="cabl-cgsr",
        precision=computed,
    )
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    return ExportReport(output, kind, difference, computed, (batch, 3, size, size), shapes)


class _Plain(nn.Module):
    """The localizer with a plain tuple as its output."""

    def __init__(self, localizer: Localizer) -> None:
        super().__init__()
        self.localizer = localizer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = self.localizer(images, cam=True)
        assert output.cam is not None
        return output.logits_conv, output.logits_trans, output.cam


def run(options: ExportOptions) -> int:
    """`cabl-cgsr export`: 0, or 1 if the exported network disagrees with eager (then nothing is kept)."""
    check_new(options.output, options.overwrite)
    report = export(
        open_model(Localizer, options.model, "cpu"),
        options.output,
        format=options.format,
        size=options.size,
        batch=options.batch,
        precision=options.precision,
        untrained=options.untrained,
    )
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in report.output_shapes.items())
    print(f"{report.format} export {list(report.input_shape)} -> {shapes}")
    print(f"max relative difference from eager in {report.precision} {report.difference:.2e}")
    return report.conclude()
