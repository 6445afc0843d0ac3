"""A network that programs and tests push to the stand-in of the Hub, and what they say about it."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from papers_shared.errors import UserError
from papers_shared.hub import PretrainedFolder
from papers_shared.provenance import Origin
from papers_shared.weights import fetch_weights

__all__ = ["Net", "calls", "fetch_weights", "net", "os", "refused", "same"]


@dataclass(frozen=True)
class Config:
    width: int = 3


class Net(nn.Module, PretrainedFolder):
    EXTRA_FILES = ("vocab.txt",)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.layer = config, nn.Linear(config.width, 2)

    @classmethod
    def from_config(cls, config: Config) -> Net:
        return cls(config)


def net() -> Net:
    torch.manual_seed(0)
    made = Net(Config())
    made.origin, made.extra_files = Origin(recipe="toy", steps=4, samples=8), {"vocab.txt": b"[PAD]"}
    return made


def same(opened: Net) -> None:
    assert torch.equal(opened.layer.weight, net().layer.weight)
    assert opened.extra_files == net().extra_files
    assert opened.origin == net().origin


def refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    try:
        call(*arguments, **options)
    except UserError as error:
        print("refused:", error)
    else:
        raise AssertionError("it was not refused")


def calls() -> int:
    """Calls that the stand-in has answered before."""
    with urllib.request.urlopen(f"{os.environ['HF_ENDPOINT']}/calls") as answer:
        return int(json.load(answer))
