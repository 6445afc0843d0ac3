"""Entry names of Conformer in other people's checkpoints, and ours.

The authors' names, which TransCAM keeps, are ours. mmpretrain has others inside the transformer blocks, puts the
network into `backbone.` and both heads into `head.`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

MMPRETRAIN_PARTS = {
    "ln1": "norm1",
    "ln2": "norm2",
    "ffn.layers.0.0": "mlp.fc1",
    "ffn.layers.1": "mlp.fc2",
}
"""Parts of a transformer block."""


def authors_names(entries: Mapping[str, T]) -> dict[str, T]:
    """Entries under the authors' names, without the prefixes `backbone.` and `head.`; unknown names stay."""
    return {_authors_name(name): value for name, value in entries.items()}


def _authors_name(name: str) -> str:
    name = re.sub(r"^(backbone|head)\.", "", name)
    for theirs, ours in MMPRETRAIN_PARTS.items():
        name = re.sub(
            rf"^((?:trans_1|conv_trans_\d+\.trans_block)\.){re.escape(theirs)}\.", rf"\1{ours}.", name
        )
    return name
