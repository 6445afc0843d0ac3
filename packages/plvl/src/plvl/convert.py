"""Converts official checkpoints (PLVL's, EEVG's, detectron2's ViTDet, BERT) to model folders.

Strict: unknown, missing and misshapen entries are errors. What those files hold beside the network (layers that are
never used, the detector's heads, BERT's pre-training heads) is recognised by name and dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from papers_shared.doctor import Report
from papers_shared.entries import first_names
from papers_shared.errors import UserError
from papers_shared.files import writing_folder
from papers_shared.hub import check_numbers
from papers_shared.provenance import Origin
from papers_shared.weights import fetch_weights
from plvl.config import ModelConfig
from plvl.foreign import BERT_EXTRAS, BERT_VOCABULARY, load_official, read_bert_extras
from plvl.modeling.backbone import LanguageGuidedViT
from plvl.modeling.language import create_bert
from plvl.modeling.plvl import PLVL
from plvl.names import canonical_names, our_name, unused_names
from plvl.tokenizer import VOCABULARY, check_size, read_vocabulary

if TYPE_CHECKING:
    from plvl.options import ConvertOptions

BERT_HEAD_WIDTH = 64
BERT_FILES = {"config.json", "model.safetensors", *BERT_VOCABULARY}
"""What a converted BERT consists of."""


@dataclass(frozen=True)
class Converted:
    """An official state dict under the names of `plvl.PLVL`."""

    tensors: dict[str, Tensor]
    """A detector gives the entries of `backbone.` only, without guides; BERT those of `language.` only."""
    config: ModelConfig
    """Of the network that has these tensors."""
    dropped: list[str]
    """Official names of entries that no forward pass needs."""

    @property
    def roots(self) -> set[str]:
        """The parts of the network: `backbone`, `language`, `decoder`, `head`."""
        return {name.partition(".")[0] for name in self.tensors}


def convert(source: Path | str, output: Path | str, vocabulary: Path | str = "", sha256: str = "") -> Report:
    """Write the checkpoint `source` as the folder `output`.

    PLVL and EEVG become a `plvl.PLVL` folder; detectron2's ViTDet becomes the folder that
    `--model.vision-pretrained` takes; BERT becomes a transformers folder (without pooler and heads, with its
    `vocab.txt` where the source has one) that `--model.text-pretrained` takes.

    Args:
        source: A torch or safetensors file, detectron2's `.pkl`, a transformers folder, or the `.tar.gz`
            archive of pytorch_pretrained_bert: here, on the Hub or at an https address
            (`papers_shared.weights.fetch_weights`).
        output: A folder that is new, empty or an earlier conversion.
        vocabulary: For PLVL and EEVG, whose checkpoints have none: a `vocab.txt`, or a folder or Hub name that has
            one (the authors use google-bert/bert-base-uncased's); empty: copy it into the folder later.
        sha256: What the file must have as its SHA-256; empty: anything.

    Returns:
        What was read, dropped and written, as notes.

    Raises:
        UserError: The source cannot be read, holds other Python objects, or does not fit name by name.
    """
    weights = fetch_weights(source, sha256=sha256, package="plvl", beside=BERT_EXTRAS)
    official = load_official(weights.file)
    try:
        converted = convert_state_dict(official)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    whole = "head" in converted.roots
    if converted.roots == {"language"}:
        written = _write_bert(weights.file, Path(output), converted)
    else:
        model = (PLVL if whole else LanguageGuidedViT).from_config(converted.config)
        prefix = "" if whole else "backbone."
        model.load_state_dict(
            {name.removeprefix(prefix): tensor for name, tensor in converted.tensors.items()}
        )
        if vocabulary and whole:
            words = read_vocabulary(vocabulary)
            check_size(words, converted.config, vocabulary)
            model.extra_files = {VOCABULARY: words}
        model.origin = Origin(start_weights=(f"all: {weights.sentence()}",), licence=weights.licence)
        model.save_pretrained(output)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        written = f"plvl.{type(model).__name__} with {parameters:,} parameters written"
    report, dropped = Report(), converted.dropped
    report.add("note", weights.origin, f"its SHA-256 is {weights.digest}")
    report.add(
        "note", weights.origin, f"{len(official):,} entries read, {len(official) - len(dropped):,} used"
    )
    for name in dropped:
        report.add("note", name, "dropped: the network never uses it")
    report.add("note", output, written)
    if whole and not vocabulary:
        report.add(
            "warning",
            output,
            f"it has no {VOCABULARY}, which `plvl predict` and `plvl evaluate` need",
            "copy the one of google-bert/bert-base-uncased there, or convert with --vocabulary",
        )
    return report


def convert_state_dict(official: Mapping[str, Tensor]) -> Converted:
    """Official entries under the names of `plvl.PLVL`.

    A `module.` prefix is taken off, and packed projections of queries, keys and values are taken apart.

    Raises:
        UserError: Unknown and missing names, tensors of another shape.
    """
    names = canonical_names(official)
    unused = set(unused_names(names.values()))
    tensors: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    unknown, dropped = [], []
    for name, tensor in official.items():
        ours = our_name(names[name])
        if names[name] in unused:
            dropped.append(name)
        elif ours is None:
            unknown.append(name)
        else:
            parts = _unpacked(ours, tensor)
            tensors.update(parts)
            origin.update(dict.fromkeys(parts, name))
    try:
        config = config_of(tensors)
    except (ArithmeticError, LookupError, ValueError) as error:
        raise UserError(
            "its entries have the names of PLVL, EEVG, ViTDet or BERT, but not their shapes"
        ) from error
    converted = Converted(tensors, config, dropped)
    _check(converted, unknown, origin)
    return converted


def run(options: ConvertOptions) -> int:
    """`plvl convert`: 0, and what was read, dropped and written."""
    report = convert(options.source, options.output, options.vocabulary, options.sha256)
    report.print()
    return report.exit_code


def config_of(tensors: Mapping[str, Tensor]) -> ModelConfig:
    """The configuration whose network has these tensors, named as `convert_state_dict` names them.

    Sizes are read from shapes; numbers of heads that no shape tells are the default, BERT's are 64 wide.
    """
    shape = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    config = replace(ModelConfig(), language_blocks=_indices(tensors, r"backbone\.blocks\.(\d+)\.guide\."))
    if {"backbone.patch_embed.weight", "backbone.blocks.0.attn.rel_pos_h"} <= shape.keys():
        config = _vision_sizes(config, shape)
    if "language.embeddings.word_embeddings.weight" in shape:
        config = _text_sizes(config, shape)
    if "decoder.vision_proj.weight" in shape:
        config = replace(
            config,
            decoder_dim=shape["decoder.vision_proj.weight"][0],
            decoder_depth=_count(tensors, r"decoder\.layers\.(\d+)\."),
            decoder_mlp_dim=shape.get("decoder.layers.0.fc1.weight", (config.decoder_mlp_dim,))[0],
        )
    if "decoder.box_token" in shape:
        side = round((shape.get("decoder.positions", (1,))[0] - 1) ** 0.5)
        config = replace(
            config,
            decoder="eevg",
            head="eevg",
            image_size=side * config.patch_size,
            max_tokens=shape.get("decoder.text_positions", (config.max_tokens,))[0],
        )
    elif "head.stems.0.conv.weight" in shape:
        config = replace(config, head_dim=shape["head.stems.0.conv.weight"][0])
    return config


def _vision_sizes(config: ModelConfig, shape: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    dim, chans, patch = shape["backbone.patch_embed.weight"][:3]
    tables = {
        index: shape.get(f"backbone.blocks.{index}.attn.rel_pos_h", (0, dim))
        for index in range(_count(shape, r"backbone\.blocks\.(\d+)\."))
    }
    rows = sorted({table[0] for table in tables.values()})
    window, whole = (rows[0] + 1) // 2, (rows[-1] + 1) // 2
    adapters = [size[0] for name, size in shape.items() if name.endswith("guide.adapter.down.weight")]
    return replace(
        config,
        in_chans=chans,
        patch_size=patch,
        embed_dim=dim,
        depth=len(tables),
        num_heads=dim // tables[0][1],
        mlp_ratio=shape.get("backbone.blocks.0.mlp.fc1.weight", (config.mlp_ratio * dim,))[0] / dim,
        window_size=window,
        rel_pos_grid=whole,
        local_blocks=tuple(index for index, table in tables.items() if table[0] == rows[0] < rows[-1]),
        pos_grid=round((shape.get("backbone.pos_embed", (1, 1))[1] - 1) ** 0.5),
        adapter_dim=adapters[0] if adapters else config.adapter_dim,
    )


def _text_sizes(config: ModelConfig, shape: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    vocabulary, dim = shape["language.embeddings.word_embeddings.weight"]
    hidden = shape.get("language.encoder.layer.0.intermediate.dense.weight", (config.text_mlp_dim,))
    positions = shape.get("language.embeddings.position_embeddings.weight", (config.text_positions,))
    return replace(
        config,
        vocab_size=vocabulary,
        text_dim=dim,
        text_depth=_count(shape, r"language\.encoder\.layer\.(\d+)\."),
        text_heads=1 if dim % BERT_HEAD_WIDTH else dim // BERT_HEAD_WIDTH,
        text_mlp_dim=hidden[0],
        text_positions=positions[0],
    )


def _unpacked(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A packed projection as three entries; anything else as it is."""
    module, _, kind = name.rpartition(".in_proj_")
    if not module:
        return {name: tensor}
    return {f"{module}.{part}.{kind}": third for part, third in zip("qkv", tensor.chunk(3), strict=True)}


def _check(converted: Converted, unknown: list[str], origin: Mapping[str, str]) -> None:
    """Refuse what does not fit the network, after adding counters that older files lack."""
    tensors = converted.tensors
    with torch.device("meta"):
        expected = _expected(converted)
    for name in expected:
        if name.endswith(".num_batches_tracked") and name not in tensors:
            tensors[name] = torch.zeros((), dtype=torch.long)
    problems = {
        "names that PLVL does not have": unknown + [origin[name] for name in tensors if name not in expected],
        "names of PLVL without a value": [name for name in expected if name not in tensors],
        "tensors of another shape": [
            f"{name} {list(tensors[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in tensors and tensors[name].shape != tensor.shape
        ],
    }
    if any(problems.values()):
        lists = [f"{len(names)} {what}: {first_names(names)}" for what, names in problems.items() if names]
        raise UserError("neither PLVL, EEVG, ViTDet nor BERT; " + "; ".join(lists))
    check_numbers(tensors, expected, "the checkpoint")


def _expected(converted: Converted) -> dict[str, Tensor]:
    """The state dict of the part of PLVL that the tensors are of."""
    roots, config = converted.roots, converted.config
    parts: dict[str, nn.Module] = {}
    if not roots & {"decoder", "head"}:
        if "backbone" in roots:
            parts["backbone."] = LanguageGuidedViT.from_config(config)
        if "language" in roots:
            parts["language."] = create_bert(config)
    else:
        parts[""] = PLVL.from_config(config)
    return {prefix + name: t for prefix, part in parts.items() for name, t in part.state_dict().items()}


def _indices(tensors: Mapping[str, Any], pattern: str) -> tuple[int, ...]:
    return tuple(sorted({int(found[1]) for name in tensors if (found := re.match(pattern, name))}))


def _count(tensors: Mapping[str, Any], pattern: str) -> int:
    return max((-1, *_indices(tensors, pattern))) + 1


def _write_bert(source: Path, output: Path, converted: Converted) -> str:
    heads, files = read_bert_extras(source)
    bert = create_bert(replace(converted.config, text_heads=heads or converted.config.text_heads))
    bert.load_state_dict(
        {name.removeprefix("language."): tensor for name, tensor in converted.tensors.items()}
    )
    with writing_folder(output, sorted(BERT_FILES)) as partial:
        bert.save_pretrained(partial)
        for name, content in files.items():
            (partial / name).write_bytes(content)
    return f"transformers.BertModel with {sum(p.numel() for p in bert.parameters()):,} parameters written"
