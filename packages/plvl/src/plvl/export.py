"""Write the network as one file: `torch.export` (.pt2) or ONNX, checked against eager before it is kept.

The file takes normalised images (B, 3, S, S), word pieces (B, N) and their mask (B, N), both int64, at the sizes the
model was trained with, and gives what the model has of `boxes`, `score_logits`, `offset`, `size` and `mask_logits`, in
this order. Preparing image and sentence and bringing the answer back to the image's size stay with the caller; the
model's configuration and vocabulary are stored inside the file for that: in `extra_files` of a .pt2, in the metadata of
an ONNX model, as `config.json` and `vocab.txt`.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from papers_shared.dataclass_json import dataclass_to_json
from papers_shared.devices import autocast, choose_precision
from papers_shared.errors import UserError
from papers_shared.export import Exported, export_format, write_checked
from papers_shared.files import check_new
from papers_shared.hub import open_model
from papers_shared.provenance import check_trained
from papers_shared.types import Precision
from plvl.config import ModelConfig
from plvl.modeling.plvl import PLVL
from plvl.tokenizer import VOCABULARY

if TYPE_CHECKING:
    from plvl.options import ExportOptions

SMALLEST = 1e-6
"""Offsets may be near 0 everywhere: differences are relative to this at least."""


@dataclass(frozen=True)
class ExportReport(Exported):
    shapes: dict[str, tuple[int, ...]]
    """Of the outputs."""


def export(
    model: PLVL,
    output: str | Path,
    *,
    format: Literal["auto", "torch", "onnx"] = "auto",
    batch: int = 1,
    precision: Precision = "fp32",
    untrained: bool = False,
) -> ExportReport:
    """Export the network; the file appears at `output` only if it agrees with eager (`agrees`).

    Args:
        precision: What eager computes in for that; the file computes in float32.

    Raises:
        UserError: a network that was never trained (unless `untrained`), Unknown suffix, a batch below 1, a network
            that drops tokens, or the onnx extra is missing.
    """
    check_trained(model, untrained)
    output = Path(output)
    kind = export_format(output, format)
    if batch < 1:
        raise UserError(f"--batch {batch}: give 1 or more")
    config = model.config
    if config.decoder == "eevg" and config.elimination > 0:
        raise UserError("EEVG's decoder drops tokens by their scores: a file of fixed shapes cannot")
    reference = _Tuple(copy.deepcopy(model).cpu()).eval()
    inputs = _inputs(model, batch)
    computed = choose_precision(precision, torch.device("cpu"))
    with torch.no_grad(), autocast(reference, computed):
        expected = dict(zip(_names(config), reference(*inputs.values()), strict=True))
    texts = {"config.json": json.dumps(dataclass_to_json(config))}
    if VOCABULARY in model.extra_files:
        texts[VOCABULARY] = model.extra_files[VOCABULARY].decode()
    difference = write_checked(
        reference,
        inputs,
        expected,
        texts,
        output,
        kind,
        package="plvl",
        precision=computed,
        smallest=SMALLEST,
    )
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    return ExportReport(output, kind, difference, computed, shapes)


class _Tuple(nn.Module):
    """The network with a plain tuple of what it predicts as its output."""

    def __init__(self, model: PLVL) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        return tuple(x for x in self.model(images, input_ids, attention_mask) if x is not None)


def _names(config: ModelConfig) -> list[str]:
    """The outputs that a network of this configuration has."""
    maps = ["score_logits", "offset", "size"] if config.head == "collaborative" else []
    return [*(["boxes", *maps] if config.rec else []), *(["mask_logits"] if config.res else [])]


def _inputs(model: PLVL, batch: int) -> dict[str, Tensor]:
    config, generator = model.config, torch.Generator().manual_seed(0)
    side, length = config.image_size, config.max_tokens
    images = torch.randn(batch, config.in_chans, side, side, generator=generator)
    input_ids = torch.randint(0, config.vocab_size, (batch, length), generator=generator)
    attention_mask = torch.ones(batch, length, dtype=torch.long)
    attention_mask[:, (length + 2) // 2 :] = 0
    return {"images": images, "input_ids": input_ids, "attention_mask": attention_mask}


def run(options: ExportOptions) -> int:
    """`plvl export`: 0, or 1 if the exported network disagrees with eager (then nothing is kept)."""
    check_new(options.output, options.overwrite)
    report = export(
        open_model(PLVL, options.model, "cpu"),
        options.output,
        format=options.format,
        batch=options.batch,
        precision=options.precision,
        untrained=options.untrained,
    )
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in report.shapes.items())
    print(
        f"{report.format} export, {shapes}: max relative difference from eager "
        f"in {report.precision} {report.difference:.2e}"
    )
    return report.conclude()
