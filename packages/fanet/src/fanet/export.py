"""Write the network as one file: `torch.export` (.pt2) or ONNX, checked against eager before it is kept.

The exported network takes normalised images (B, 3, height, width) of one fixed size, as the pyramid pooling
of the head is laid out for it, and gives logits (B, num_classes, ceil(height / 4), ceil(width / 4)).
Preparing the image and enlarging the logits stay with the caller; the model's `config.json` is stored
inside the file for that (mean, std, class names, test scale): in `extra_files` of a .pt2, in the metadata of
an ONNX model.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from fanet.modeling.segmenter import Segmenter
from papers_shared.dataclass_json import dataclass_to_json
from papers_shared.devices import autocast, choose_precision
from papers_shared.errors import UserError
from papers_shared.export import Exported, export_format, write_checked
from papers_shared.files import check_new
from papers_shared.hub import open_model
from papers_shared.provenance import check_trained
from papers_shared.types import Precision

if TYPE_CHECKING:
    from fanet.options import ExportOptions


@dataclass(frozen=True)
class ExportReport(Exported):
    """What was written, and for which input."""

    input_shape: tuple[int, int, int, int]
    output_shape: tuple[int, ...]


def export(
    segmenter: Segmenter,
    output: str | Path,
    *,
    format: Literal["auto", "torch", "onnx"] = "auto",
    height: int = 512,
    width: int = 928,
    batch: int = 1,
    precision: Precision = "fp32",
    untrained: bool = False,
) -> ExportReport:
    """Export the segmenter's main head; the file appears at `output` only if it agrees with eager (`agrees`).

    Args:
        precision: What eager computes in for that; the file computes in float32.

    Raises:
        UserError: a network that was never trained (unless `untrained`), unknown suffix, a size below 32, or the onnx
            extra is missing.
    """
    check_trained(segmenter, untrained)
    output = Path(output)
    kind = export_format(output, format)
    if min(height, width) < 32 or batch < 1:
        raise UserError(
            f"an input of {batch}x3x{height}x{width}: height and width must be 32 or more, batch 1 or more"
        )
    reference = copy.deepcopy(segmenter).cpu().eval()
    reference.auxiliary_head = None
    images = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    computed = choose_precision(precision, torch.device("cpu"))
    with torch.no_grad(), autocast(reference, computed):
        expected = reference(images).logits
    model = _Logits(reference.to(memory_format=torch.contiguous_format)).eval()
    config = json.dumps(dataclass_to_json(segmenter.config))
    difference = write_checked(
        model,
        {"images": images},
        {"logits": expected},
        {"config.json": config},
        output,
        kind,
        package="fanet",
        precision=computed,
    )
    return ExportReport(output, kind, difference, computed, (batch, 3, height, width), tuple(expected.shape))


class _Logits(nn.Module):
    """The segmenter with a plain tensor as its output."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> Tensor:
        return self.segmenter(images).logits


def run(options: ExportOptions) -> int:
    """`fanet export`: 0, or 1 if the exported network disagrees with eager (then nothing is kept)."""
    check_new(options.output, options.overwrite)
    report = export(
        open_model(Segmenter, options.model, "cpu"),
        options.output,
        format=options.format,
        height=options.height,
        width=options.width,
        batch=options.batch,
        precision=options.precision,
        untrained=options.untrained,
    )
    shapes = f"{'x'.join(map(str, report.input_shape))} -> {'x'.join(map(str, report.output_shape))}"
    print(
        f"{report.format} export {shapes}: max relative difference from eager "
        f"in {report.precision} {report.difference:.2e}"
    )
    return report.conclude()
