"""Every command that the READMEs and DATA.md print works as it is printed; training and the demo are not run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from readme_commands import printed_commands

import fanet
from fanet.cli import main
from fanet.config import ZEROWASTE_CLASSES, ModelConfig, Recipe
from fanet.data import open_split
from fanet.toy import write_zerowaste

README = printed_commands(Path(__file__).parents[1] / "README.md", "fanet")
DATA = printed_commands(Path(__file__).parents[1] / "DATA.md", "fanet")
ROOT_README = printed_commands(Path(__file__).parents[3] / "README.md", "fanet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, golden: Any) -> Path:
    """A folder with all that the commands name."""
    root = tmp_path_factory.mktemp("readme")
    write_zerowaste(root / "ROOT", train=4, val=2, test=2, size=(64, 96))
    config = ModelConfig(
        backbone="test_fanet",
        class_names=ZEROWASTE_CLASSES,
        decoder_channels=16,
        auxiliary=False,
        test_scale=(96, 64),
    )
    fanet.Segmenter.from_config(config).save_pretrained(root / "MODEL")
    shutil.copytree(root / "MODEL", root / "runs/zerowaste_f/best")
    shutil.copytree(root / "ROOT", root / "ZEROWASTE")
    for name in ("IMAGE", "photo.jpg"):
        Image.fromarray(np.full((48, 64, 3), 120, np.uint8)).save(root / name, "JPEG")
    shapes = golden.names["backbone"]
    state = {name: torch.full(shape, float(i % 97)) for i, (name, shape) in enumerate(shapes.items())}
    torch.save({"state_dict": state}, root / "checkpoint.pth.tar")
    return root


@pytest.mark.parametrize("command", [*README, *DATA, *ROOT_README], ids=" ".join)
def test_readme(command: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.chdir(folder)
    recipes: list[Recipe] = []

    def train(recipe: Recipe) -> Path:
        recipes.append(recipe)
        return folder

    monkeypatch.setattr("fanet.train.train", train)
    monkeypatch.setattr("fanet.demo.run", lambda options: 0)
    monkeypatch.setattr("papers_shared.app.serve", lambda *page, **where: "")
    assert main(command[1:]) == 0
    for recipe in recipes:
        assert len(open_split(recipe.data, "train")) == 4


def test_the_readme_prints_a_command_for_each_verb() -> None:
    assert {command[1] for command in README} == {
        "app", "convert", "data", "demo", "evaluate", "export", "figures", "predict",
    }  # fmt: skip
