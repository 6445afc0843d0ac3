"""The language model: transformers' BERT, built without any download."""

from __future__ import annotations

from typing import Any

from transformers import BertConfig, BertModel

from plvl.config import ModelConfig


def create_bert(config: ModelConfig) -> BertModel:
    """BERT without its pooler, on fresh weights."""
    sizes, dropout = bert_options(config)
    options: dict[str, Any] = {**sizes, **dropout, "attn_implementation": "sdpa"}
    bert = BertModel(BertConfig(**options), add_pooling_layer=False)
    if config.grad_checkpointing:
        recompute_layers(bert)
    return bert


def bert_options(config: ModelConfig) -> tuple[dict[str, int], dict[str, float]]:
    """Sizes and rates of dropout, under transformers' names."""
    sizes = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.text_dim,
        "num_hidden_layers": config.text_depth,
        "num_attention_heads": config.text_heads,
        "intermediate_size": config.text_mlp_dim,
        "max_position_embeddings": config.text_positions,
    }
    return sizes, {
        "hidden_dropout_prob": config.text_dropout,
        "attention_probs_dropout_prob": config.text_dropout,
    }


def recompute_layers(bert: BertModel) -> None:
    """Checkpoint every layer; transformers renamed the method within its version 5."""
    if hasattr(bert, "activation_checkpointing_enable"):
        bert.activation_checkpointing_enable({"use_reentrant": False})
    else:
        bert.gradient_checkpointing_enable({"use_reentrant": False})
