"""Where the weights of a model come from, and which of its parts were never trained."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import Any

from papers_shared.errors import UserError

VARIABLE = "PAPERS_UNTRAINED"
"""Set to 1 in the environment, networks that were never trained answer too."""

AND = " and "
"""What stands between licences where start weights have several."""

HUB = "hf://"
"""How addresses on the Hugging Face Hub begin; where a source is asked for, it may be left out."""


@dataclass(frozen=True)
class Origin:
    """What a model folder's `config.json` says of its weights, as `origin`."""

    untrained: tuple[str, ...] = ()
    """Parts that were never trained for the task of this network: drawn from a seed, or see `other_task`."""
    start_weights: tuple[str, ...] = ()
    """What the other parts began with, one sentence each: part, source, digest."""
    recipe: str = ""
    steps: int = 0
    """Optimizer steps taken."""
    samples: int = 0
    """Samples seen in them, repeats counted."""
    data: str = ""
    """Name of the training data."""
    chosen_by: str = ""
    """The metric by which these weights were chosen, or `last step`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the validation at that step, as fractions."""
    protocol: str = ""
    """How they were measured, in one sentence."""
    licence: str = ""
    """Of the weights, where it is known."""
    other_task: str = ""
    """What the untrained parts were trained to tell, where they were trained for something else."""

    @property
    def trained(self) -> bool:
        return not self.untrained

    def shortcoming(self) -> str:
        """The untrained parts, and where their weights come from."""
        why = f"tell {self.other_task}" if self.other_task else "are drawn from a seed"
        return f"{', '.join(self.untrained)} {why}"

    def sentence(self) -> str:
        """The origin in a few words, for records and drawings."""
        if self.untrained:
            return f"not trained: {self.shortcoming()}"
        if not self.steps:
            return "; ".join(self.start_weights) or "of unknown origin"
        by = f", chosen by {self.chosen_by}" if self.chosen_by else ""
        return f"trained {self.steps:,} steps ({self.samples:,} samples) by the recipe {self.recipe or 'unknown'}{by}"


def drawn(network: Any, *started: str, source: str = "", licence: str = "") -> Origin:
    """The origin of a network whose parts are drawn from a seed, but for those that start weights were given to.

    Args:
        started: Names of those children.
        source: Where their weights come from.
    """
    parts = [name for name, child in network.named_children() if any(True for _ in child.parameters())]
    given = tuple(f"{name}: {source}" for name in parts if name in started)
    return Origin(tuple(name for name in parts if name not in started), given, licence=licence)


def join_licences(*licences: str) -> str:
    """Those that are known, each once, in one phrase."""
    return AND.join(dict.fromkeys(licence for licence in licences if licence))


def check_trained(network: Any, allowed: bool = False) -> tuple[str, ...]:
    """Refuse to answer with parts that were never trained, unless that is asked for; the names of these parts.

    Args:
        network: Has an `origin`, or is of unknown origin.
        allowed: The caller asked for answers all the same.

    Raises:
        UserError: It names the parts and the way round.
    """
    origin: Origin = getattr(network, "origin", Origin())
    if origin.untrained and not (allowed or os.environ.get(VARIABLE) == "1"):
        raise UserError(
            f"this model was never trained: {origin.shortcoming()}, and its answers mean nothing; train it first, or "
            f"give --untrained (in Python untrained=True, or {VARIABLE}=1)"
        )
    return origin.untrained


def tell_untrained(network: Any, model: str) -> list[str]:
    """The parts of `network` that were never trained, for records of metrics, and a warning about them on stderr.

    Args:
        model: What the user calls it.
    """
    origin: Origin = getattr(network, "origin", Origin())
    if origin.untrained:
        print(
            f"{model} was never trained: {origin.shortcoming()}; its metrics are those of chance",
            file=sys.stderr,
        )
    return list(origin.untrained)
