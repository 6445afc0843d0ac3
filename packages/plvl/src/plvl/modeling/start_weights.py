"""Start weights: of the whole network, of the backbone (a COCO detector's), of the language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import BertConfig, BertModel

from papers_shared.errors import UserError
from plvl.config import ModelConfig
from plvl.modeling.backbone import LanguageGuidedViT
from plvl.modeling.language import bert_options, recompute_layers
from plvl.modeling.plvl import PLVL


def build(config: ModelConfig) -> PLVL:
    """The network of `config` on the start weights that it names, and on fresh ones where it names none.

    The `config` of the network names no start weights: a folder saved from it stands alone.

    Raises:
        UserError: Sizes that do not fit one another, or start weights that do not fit them.
    """
    if not 2 <= config.max_tokens <= config.text_positions:
        raise UserError(
            f"--model.max-tokens is {config.max_tokens!r}: give 2 ([CLS] and [SEP]) to {config.text_positions}, "
            "the --model.text-positions of the language model"
        )
    model = PLVL.from_config(config)
    if config.vision_pretrained:
        _load_vision(model.backbone, config.vision_pretrained)
    if config.text_pretrained:
        model.language = open_bert(config)
    if config.pretrained:
        _load_whole(model, config.pretrained)
    return model


def open_bert(config: ModelConfig) -> BertModel:
    """BERT without its pooler, on the weights that `config.text_pretrained` names.

    Raises:
        UserError: There is no such model, or it has other sizes than the configuration.
    """
    folder = Path(config.text_pretrained).expanduser()
    source: Any = folder if folder.exists() else config.text_pretrained
    option = f"--model.text-pretrained {config.text_pretrained!r}"
    if folder.exists() and not (folder / "config.json").is_file():
        raise UserError(
            f"{option} is not a transformers folder (config.json); `plvl convert` makes one of an archive"
        )
    sizes, dropout = bert_options(config)
    try:
        found = BertConfig.from_pretrained(source)
        # the model may have more layers: the first ones are taken
        differing = [
            f"{name} {getattr(found, name)} instead of {size}"
            for name, size in sizes.items()
            if getattr(found, name) != size
            and not (name == "num_hidden_layers" and getattr(found, name) > size)
        ]
        if differing:
            raise UserError(
                f"{option} does not fit --model.vocab-size and --model.text-*: {', '.join(differing)}"
            )
        found.num_hidden_layers = sizes["num_hidden_layers"]
        for name, rate in dropout.items():
            setattr(found, name, rate)
        opened: Any = BertModel.from_pretrained(
            source,
            config=found,
            add_pooling_layer=False,
            attn_implementation="sdpa",
            output_loading_info=True,
            dtype="float32",
        )
    except OSError as error:
        raise UserError(f"{option} cannot be opened: {str(error).strip().splitlines()[0]}") from error
    bert, report = opened
    if report["missing_keys"] or report["mismatched_keys"]:
        missing = ", ".join(sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]])))
        raise UserError(f"{option} lacks entries of BERT: {missing}")
    if config.grad_checkpointing:
        recompute_layers(bert)
    return bert


def _load_vision(backbone: LanguageGuidedViT, source: str) -> None:
    """Start weights of all but the guides, which stay fresh."""
    start = LanguageGuidedViT.from_pretrained(source)
    fresh = {name: tensor for name, tensor in backbone.state_dict().items() if ".guide." in name}
    visual = {name: tensor for name, tensor in start.state_dict().items() if ".guide." not in name}
    _load(backbone, {**fresh, **visual}, f"--model.vision-pretrained {source!r}")


def _load_whole(model: PLVL, source: str) -> None:
    """Start weights of everything; a head for other tasks gives the branches it has, and the others stay fresh."""
    start = PLVL.from_pretrained(source)
    own, tensors = model.state_dict(), start.state_dict()
    if (start.config.rec, start.config.res) != (model.config.rec, model.config.res):
        tensors = {name: x for name, x in tensors.items() if name in own or not name.startswith("head.")}
        tensors = {**{name: x for name, x in own.items() if name.startswith("head.")}, **tensors}
    _load(model, tensors, f"--model.pretrained {source!r}")


def _load(model: nn.Module, tensors: dict[str, Tensor], option: str) -> None:
    own = model.state_dict()
    problems = [f"{name} is unknown here" for name in tensors if name not in own]
    for name, tensor in own.items():
        if name not in tensors:
            problems.append(f"{name} is missing")
        elif tensors[name].shape != tensor.shape:
            problems.append(f"{name} has shape {list(tensors[name].shape)} and not {list(tensor.shape)}")
    if problems:
        raise UserError(f"{option} does not fit the network: {'; '.join(problems)}")
    model.load_state_dict(tensors)
