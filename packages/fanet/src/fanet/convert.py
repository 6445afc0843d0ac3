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
from fanet.upernet import is_upernet, rename_upernet, upernet_config
from papers_shared.doctor import Report
from papers_shared.entries import first_names, text_of
from papers_shared.errors import UserError
from papers_shared.files import check_replaceable
from papers_shared.foreign import load_official
from papers_shared.hub import CARD, CONFIG, TRAINING, WEIGHTS, check_numbers
from papers_shared.provenance import Origin
from papers_shared.text import read_json
from papers_shared.weights import fetch_weights

if TYPE_CHECKING:
    from fanet.options import ConvertOptions


def convert(source: Path | str, output: Path | str, sha256: str = "") -> Report:
    """Write other people's weights as the model folder `output`.

    A segmentor of the authors, or an UperNet of transformers or mmsegmentation with ConvNeXt or Swin, becomes a
    `fanet.Segmenter`; an ImageNet file of the authors becomes a `fanet.Classifier`, without classes where it holds the
    backbone alone. Either folder serves as `--model.pretrained`.

    Args:
        source: A checkpoint or a folder of transformers, whose `config.json` names the classes: here, on the Hub or
            at an https address (`papers_shared.weights.fetch_weights`).
        output: The new folder.
        sha256: What the file must have as its SHA-256; empty: anything.

    Returns:
        What was read and what was written, as notes.

    Raises:
        UserError: The file cannot be read, holds other Python objects, or does not fit FANet name by name; `output`
            holds other files.
    """
    check_replaceable(output, (WEIGHTS, CONFIG, CARD, TRAINING))
    weights = fetch_weights(source, sha256=sha256, package="fanet", beside=(CONFIG,))
    official = load_official(weights.file)
    try:
        tensors = convert_state_dict(official)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    model = _build(tensors)
    prefix = "model." if isinstance(model, Classifier) else ""
    model.load_state_dict({prefix + name: tensor for name, tensor in tensors.items()})
    names = _class_names(weights.file.with_name(CONFIG), model.config.num_classes)
    if names and names != model.config.class_names:
        model.config = replace(model.config, class_names=names)
    model.origin = Origin(start_weights=(f"all: {weights.sentence()}",), licence=weights.licence)
    model.save_pretrained(output)
    report = Report()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    report.add("note", weights.origin, f"{len(official):,} entries read, each has a name here")
    report.add("note", weights.origin, f"its SHA-256 is {weights.digest}")
    report.add("note", output, f"fanet.{type(model).__name__} with {parameters:,} parameters written")
    return report


def _class_names(config: Path, count: int) -> tuple[str, ...]:
    """The names in a `config.json` of transformers beside the weights; none where there is none that fits."""
    if not config.is_file():
        return ()
    described = read_json(config)
    labels = described.get("id2label") if isinstance(described, dict) else None
    if not isinstance(labels, dict) or set(labels) != {str(i) for i in range(count)}:
        return ()
    names = tuple(text_of(labels, str(i), f"{config}: id2label").strip() for i in range(count))
    return names if len(set(names)) == count and names != tuple(f"LABEL_{i}" for i in range(count)) else ()


def run(options: ConvertOptions) -> int:
    """`fanet convert SOURCE OUTPUT`; 0 only when every name is known."""
    report = convert(options.source, options.output, options.sha256)
    report.print()
    return report.exit_code


def convert_state_dict(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official entries under our names, those of `fanet.names.rename_official`, held to the network.

    Of an ImageNet file they fit `timm.create_model("fanet_tiny")`, and of a bare backbone the same with
    `num_classes=0` or `features_only=True`.

    Raises:
        UserError: Names unknown here, names of ours without a value, tensors of another shape, values that are not
            finite; the lists name the first of them.
    """
    tensors, unknown = (rename_upernet if is_upernet(official) else rename_official)(official)
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
        lists = [f"{len(names)} {what}: {first_names(names)}" for what, names in problems.items() if names]
        raise UserError("not the official FANet; " + "; ".join(lists))
    check_numbers(tensors, expected, "the checkpoint")
    return tensors


def _build(tensors: Mapping[str, Tensor]) -> Segmenter | Classifier:
    """The network that the tensors (under our names) are of; its sizes are read from their shapes."""
    if any(name.startswith("levels.norms.") for name in tensors):
        return Segmenter.from_config(upernet_config(tensors))
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
