"""Converts the official checkpoints, an ImageNet file or a segmentor, to model folders.

Strict: unknown, missing and misshapen entries are errors. A pickle is read with `weights_only=True` and a short list
of harmless types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fanet.config import ZEROWASTE_CLASSES, ZEROWASTE_PALETTE, ModelConfig
from fanet.modeling.classifier import Classifier
from fanet.modeling.segmenter import Segmenter
from fanet.names import rename_official
from papers_shared.doctor import Report
from papers_shared.errors import UserError
from papers_shared.foreign import load_official

if TYPE_CHECKING:
    from fanet.options import ConvertOptions


def convert(source: Path | str, output: Path | str) -> Report:
    """Write the official file `source` as the model folder `output`.

    A segmentor becomes a `fanet.Segmenter`; an ImageNet file becomes a `fanet.Classifier`, without classes where it
    holds the backbone alone. Either folder serves as `--model.pretrained`.

    Returns:
        What was read and what was written, as notes.

    Raises:
        UserError: The file cannot be read, holds other Python objects, or does not fit FANet name by name.
    """
    official = load_official(source)
    try:
        tensors = convert_state_dict(official)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    model = _build(tensors)
    prefix = "model." if isinstance(model, Classifier) else ""
    model.load_state_dict({prefix + name: tensor for name, tensor in tensors.items()})
    model.save_pretrained(output)
    report = Report()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    report.add("note", source, f"{len(official):,} entries read, each has a name here")
    report.add("note", output, f"fanet.{type(model).__name__} with {parameters:,} parameters written")
    return report


def run(options: ConvertOptions) -> int:
    """`fanet convert SOURCE OUTPUT`; 0 only when every name is known."""
    report = convert(options.source, options.output)
    report.print()
    return report.exit_code


def convert_state_dict(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official entries under our names, those of `fanet.names.rename_official`, held to the network.

    Of an ImageNet file they fit `timm.create_model("fanet_tiny")`, and of a bare backbone the same with
    `num_classes=0` or `features_only=True`.

    Raises:
        UserError: Names unknown here, names of ours without a value, tensors of another shape.
    """
    tensors, unknown = rename_official(official)
    with torch.device("meta"):
        model = _build(tensors)
    expected = (model.model if isinstance(model, Classifier) else model).state_dict()
    for name in expected:
        if name.endswith(".num_batches_tracked") and name not in tensors:
            tensors[name] = torch.zeros((), dtype=torch.long)
    shapes = [
        f"{name} {list(tensors[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    problems = {
        "names unknown to FANet": unknown,
        "names of FANet without a value": [name for name in expected if name not in tensors],
        "names unknown to this variant": [name for name in tensors if name not in expected],
        "tensors of another shape": shapes,
    }
    if any(problems.values()):
        lists = [f"{len(names)} {what}: {', '.join(names)}" for what, names in problems.items() if names]
        raise UserError("not the official FANet; " + "; ".join(lists))
    return tensors


def _build(tensors: Mapping[str, Tensor]) -> Segmenter | Classifier:
    """The network that the tensors (under our names) are of; its sizes are read from their shapes."""
    segmentor = any(name.startswith("backbone.") for name in tensors)
    stem = tensors.get("backbone.stem.conv.weight" if segmentor else "stem.conv.weight")
    classifier = tensors.get("decode_head.classifier.weight" if segmentor else "head.fc.weight")
    num_classes = 0 if classifier is None else len(classifier)
    config = ModelConfig(in_chans=3 if stem is None else stem.shape[1])
    if not segmentor:
        names = tuple(f"class_{i}" for i in range(num_classes))
        return Classifier.from_config(replace(config, task="classify", class_names=names))
    config = replace(config, auxiliary=any(name.startswith("auxiliary_head.") for name in tensors))
    if num_classes == len(ZEROWASTE_CLASSES):
        config = replace(config, class_names=ZEROWASTE_CLASSES, palette=ZEROWASTE_PALETTE)
    else:
        config = replace(config, class_names=tuple(f"class_{i}" for i in range(max(num_classes, 1))))
    return Segmenter.from_config(config)
