"""Start weights: of the whole network, of the backbone (a COCO detector's), of the language model."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn
from transformers import BertModel

from papers_shared.errors import UserError
from papers_shared.foreign import check_fits
from papers_shared.hub import CONFIG, WEIGHTS, describes_model
from papers_shared.provenance import Origin, drawn, join_licences
from papers_shared.text import read_json
from papers_shared.weights import Weights, fetch_weights
from plvl.config import ModelConfig
from plvl.convert import Converted, convert_state_dict
from plvl.foreign import BERT_EXTRAS, load_official, read_bert_extras
from plvl.modeling.backbone import LanguageGuidedViT
from plvl.modeling.language import bert_options, create_bert
from plvl.modeling.plvl import PLVL
from plvl.tokenizer import VOCABULARY


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
    given: dict[str, Weights] = {}
    if config.vision_pretrained:
        given["backbone without its guides"] = _load_vision(model.backbone, config.vision_pretrained)
    if config.text_pretrained:
        model.language, given["language"] = open_bert(config)
    untrained = drawn(model, *(["language"] if config.text_pretrained else [])).untrained
    if config.pretrained:
        untrained, given["all"] = _load_whole(model, config.pretrained)
    sentences = tuple(f"{part}: {weights.sentence()}" for part, weights in given.items())
    licence = join_licences(*(weights.licence for weights in given.values()))
    model.origin = Origin(untrained, sentences, licence=licence)
    return model


def open_bert(config: ModelConfig) -> tuple[BertModel, Weights]:
    """BERT without its pooler, on the weights that `config.text_pretrained` names; of more layers the first are taken.

    Raises:
        UserError: There is no such model, or it has other sizes than the configuration.
    """
    option = f"--model.text-pretrained {config.text_pretrained!r}"
    weights = fetch_weights(
        config.text_pretrained, package="plvl", beside=BERT_EXTRAS, option="--model.text-pretrained"
    )
    converted = _converted(weights, option, {"language"}, "BERT")
    heads, _ = read_bert_extras(weights.file)
    found, _ = bert_options(replace(converted.config, text_heads=heads or config.text_heads))
    sizes, _ = bert_options(config)
    differing = [
        f"{name} {found[name]} instead of {size}"
        for name, size in sizes.items()
        if found[name] != size and not (name == "num_hidden_layers" and found[name] > size)
    ]
    if differing:
        raise UserError(
            f"{option} does not fit --model.vocab-size and --model.text-*: {', '.join(differing)}"
        )
    bert = create_bert(config)
    own = bert.state_dict()
    tensors = {name.removeprefix("language."): tensor for name, tensor in converted.tensors.items()}
    bert.load_state_dict({name: tensors[name] for name in own})
    return bert, weights


def _load_vision(backbone: LanguageGuidedViT, source: str) -> Weights:
    """Start weights of all but the guides, which stay fresh."""
    option = f"--model.vision-pretrained {source!r}"
    weights = fetch_weights(source, package="plvl", beside=(CONFIG,), option="--model.vision-pretrained")
    if _is_own(weights):
        tensors = LanguageGuidedViT.from_pretrained(weights.file.parent).state_dict()
    else:
        tensors = _converted(weights, option, {"backbone"}, "a ViTDet").tensors
        tensors = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}
    fresh = {name: tensor for name, tensor in backbone.state_dict().items() if ".guide." in name}
    visual = {name: tensor for name, tensor in tensors.items() if ".guide." not in name}
    _load(backbone, {**fresh, **visual}, option)
    return weights


def _load_whole(model: PLVL, source: str) -> tuple[tuple[str, ...], Weights]:
    """Start weights of everything; a head for other tasks gives the branches it has, and the others stay fresh.

    Returns:
        The parts that no one has trained, and where the weights lie.
    """
    option = f"--model.pretrained {source!r}"
    weights = fetch_weights(source, package="plvl", beside=(CONFIG, VOCABULARY), option="--model.pretrained")
    if _is_own(weights):
        start = PLVL.from_pretrained(weights.file.parent)
        tensors, config, untrained = start.state_dict(), start.config, start.origin.untrained
    else:
        whole = {"backbone", "language", "decoder", "head"}
        converted = _converted(weights, option, whole, "a whole PLVL or EEVG")
        tensors, config, untrained = converted.tensors, converted.config, ()
    own = model.state_dict()
    if (config.rec, config.res) != (model.config.rec, model.config.res):
        tensors = {name: x for name, x in tensors.items() if name in own or not name.startswith("head.")}
        untrained = tuple(dict.fromkeys((*untrained, "head")))
        tensors = {**{name: x for name, x in own.items() if name.startswith("head.")}, **tensors}
    _load(model, tensors, option)
    return untrained, weights


def _is_own(weights: Weights) -> bool:
    """Do the weights lie in a model folder of this package?"""
    description = weights.file.with_name(CONFIG)
    if weights.file.name != WEIGHTS or not description.is_file():
        return False
    return describes_model(read_json(description))


def _converted(weights: Weights, option: str, roots: set[str], what: str) -> Converted:
    """An official file under the names of `PLVL`, with exactly these of its parts."""
    try:
        converted = convert_state_dict(load_official(weights.file))
    except UserError as error:
        raise UserError(f"{option}: {error}") from error
    if converted.roots != roots:
        raise UserError(f"{option} is not {what}: it has the parts {', '.join(sorted(converted.roots))}")
    return converted


def _load(model: nn.Module, tensors: dict[str, Tensor], option: str) -> None:
    check_fits(tensors, model.state_dict(), option, "the network")
    model.load_state_dict(tensors)
