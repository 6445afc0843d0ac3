"""Every command that the READMEs print works as it is printed; training and the demo are not carried out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny_sam
import torch
from accelerate.state import AcceleratorState
from calibrated_localizer import calibrated
from manipulation_sets import casia1, casia2, columbia, coverage, image, imd2020
from readme_commands import printed_commands

from cabl_cgsr.cli import main
from cabl_cgsr.config import BACKBONES, ModelConfig, Recipe
from cabl_cgsr.data import training_split
from cabl_cgsr.modeling.classifier import Classifier

README = printed_commands(Path(__file__).parents[1] / "README.md", "cabl-cgsr")
ROOT_README = printed_commands(Path(__file__).parents[3] / "README.md", "cabl-cgsr")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_config: ModelConfig) -> Path:
    """A folder with all that the commands name."""
    root = tmp_path_factory.mktemp("readme")
    for name, write in (
        ("CASIA1", casia1), ("COLUMBIA", columbia), ("COVERAGE", coverage), ("IMD2020", imd2020),
    ):  # fmt: skip
        write(root / name)
    casia2(root / "CASIA2")
    shutil.copytree(root / "CASIA2", root / "ROOT")
    calibrated(small_config).save_pretrained(root / "MODEL")
    shutil.copytree(root / "MODEL", root / "runs/casia2/best")
    image(root / "photo.png").rename(root / "IMAGE")
    shutil.copy(root / "IMAGE", root / "photo.jpg")
    state = Classifier(BACKBONES["conformer_small"]).state_dict()
    state = {name.removeprefix("backbone."): value for name, value in state.items()}
    torch.save(state, root / "Conformer_small_patch16.pth")
    tiny_sam.checkpoint(root).rename(root / "sam_vit_h_4b8939.pth")
    return root


@pytest.mark.parametrize("command", [*README, *ROOT_README], ids=" ".join)
def test_readme(command: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(word.endswith(".pth") and word.startswith("sam_") for word in command):
        pytest.importorskip("segment_anything", reason="Meta's SAM checkpoints need the extra sam")
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    recipes: list[Recipe] = []

    def train(recipe: Recipe) -> Path:
        recipes.append(recipe)
        return folder

    monkeypatch.setattr("cabl_cgsr.train.train", train)
    monkeypatch.setattr("cabl_cgsr.demo.run", lambda options: 0)
    monkeypatch.setattr("papers_shared.app.serve", lambda *page, **where: "")
    assert main(command[1:]) == 0
    for recipe in recipes:
        assert len(training_split(recipe.data, "train"))


def test_the_readmes_print_commands() -> None:
    assert len(README) > 8
    assert len(ROOT_README) > 3
