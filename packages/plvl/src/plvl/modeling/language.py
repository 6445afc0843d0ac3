"""The language model: transformers' BERT, built without any download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import BertConfig, BertModel

from papers_shared.errors import UserError
from plvl.config import ModelConfig


def create_bert(config: ModelConfig) -> BertModel:
    """BERT without its pooler, on fresh weights or on those that `config.text_pretrained` names.

    Raises:
        UserError: There is no such model, or it has other sizes than the configuration.
    """
    sizes: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.text_dim,
        "num_hidden_layers": config.text_depth,
        "num_attention_heads": config.text_heads,
        "intermediate_size": config.text_mlp_dim,
        "max_position_embeddings": config.text_positions,
    }
    dropout: dict[str, Any] = {
        "hidden_dropout_prob": config.text_dropout,
        "attention_probs_dropout_prob": config.text_dropout,
    }
    if config.text_pretrained:
        bert = _open(config.text_pretrained, sizes, dropout)
    else:
        options: dict[str, Any] = {**sizes, **dropout, "attn_implementation": "sdpa"}
        bert = BertModel(BertConfig(**options), add_pooling_layer=False)
    if config.grad_checkpointing:
        _recompute_layers(bert)
    return bert


def _open(source: str, sizes: dict[str, Any], dropout: dict[str, Any]) -> BertModel:
    folder = Path(source).expanduser()
    place = f"model.text_pretrained: '{source}'"
    if folder.exists() and not (folder / "config.json").is_file():
        raise UserError(
            f"{place} is no transformers folder (config.json); `plvl convert` makes one of an archive"
        )
    try:
        found = BertConfig.from_pretrained(folder if folder.exists() else source)
        # fewer layers than the model has are its first ones
        differing = [
            f"{name} {getattr(found, name)} instead of {size}"
            for name, size in sizes.items()
            if getattr(found, name) != size
            and not (name == "num_hidden_layers" and getattr(found, name) > size)
        ]
        if differing:
            raise UserError(f"{place} does not fit model.vocab_size and model.text_*: {', '.join(differing)}")
        found.num_hidden_layers = sizes["num_hidden_layers"]
        for name, rate in dropout.items():
            setattr(found, name, rate)
        opened: Any = BertModel.from_pretrained(
            folder if folder.exists() else source,
            config=found,
            add_pooling_layer=False,
            attn_implementation="sdpa",
            output_loading_info=True,
            dtype="float32",
        )
    except OSError as error:
        raise UserError(f"{place} cannot be opened: {str(error).strip().splitlines()[0]}") from error
    bert, report = opened
    if report["missing_keys"] or report["mismatched_keys"]:
        missing = ", ".join(sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]])))
        raise UserError(f"{place} lacks entries of BERT: {missing}")
    return bert


def _recompute_layers(bert: BertModel) -> None:
    """Checkpoint every layer; transformers renamed the method within its version 5."""
    if hasattr(bert, "activation_checkpointing_enable"):
        bert.activation_checkpointing_enable({"use_reentrant": False})
    else:
        bert.gradient_checkpointing_enable({"use_reentrant": False})
