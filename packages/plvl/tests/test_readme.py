"""Every command that the READMEs and DATA.md print works as it is printed; long ones are read and not carried out."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from official_checkpoints import small
from readme_commands import printed_commands
from releases import write_flickr30k, write_image, write_refer, write_visual_genome
from safetensors.torch import save_file
from shapes import small as small_recipe

import plvl
from plvl.cli import main
from plvl.config import Recipe
from plvl.data import open_split
from plvl.data.commands import build_dataset
from plvl.tokenizer import VOCABULARY, make_vocabulary

PACKAGE = Path(__file__).parents[1]
README = printed_commands(PACKAGE / "README.md", "plvl")
ROOT_README = printed_commands(PACKAGE.parents[1] / "README.md", "plvl")
DATA = printed_commands(PACKAGE / "DATA.md", "plvl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands name."""
    root = tmp_path_factory.mktemp("readme")
    splits = {"train": [1, 2], "val": [3], "test": [4], "testA": [5], "testB": [6]}
    for name, by in (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")):
        write_refer(root / "REFER", name, by, splits)
    (root / "ROOT").symlink_to(root / "REFER" / "refcocog")
    for number in range(1, 7):
        write_image(root / "COCO" / "train2014" / f"COCO_train2014_{number:012d}.jpg")
    (root / "train2014").symlink_to(root / "COCO" / "train2014")
    write_visual_genome(root / "VG", [{"image_id": 8}])
    write_flickr30k(root / "F30K", {"train": ["9"]})
    build_dataset("refcocog_umd", str(root / "BUILT"), refer=str(root / "REFER"))
    write_image(root / "photo.jpg")

    words = make_vocabulary(["the man in the blue shirt"], 160)
    (root / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nman\n")
    for name in ("MODEL", "runs/refcocog_umd/best"):
        torch.manual_seed(0)  # one model under two names: both write into `predictions`
        model = plvl.PLVL.from_config(small_recipe(Path(), Path()).model)
        model.extra_files = {VOCABULARY: words}
        model.save_pretrained(root / name)
    torch.save({"model": small("plvl")}, root / "best.pth")
    arrays = {name: value.numpy() for name, value in small("detectron2").items()}
    (root / "model_final_435fa9.pkl").write_bytes(pickle.dumps({"model": arrays}, protocol=2))
    (root / "bert-base-uncased").mkdir()
    save_file(small("bert"), root / "bert-base-uncased" / "model.safetensors")
    (root / "bert-base-uncased" / "config.json").write_text('{"num_attention_heads": 4}')
    return root


def run(command: list[str]) -> int:
    """The exit code; a verb that is only named must have help."""
    if command[1:] in (["train"], ["evaluate"], ["data", "build"], ["data", "convert"]):
        with pytest.raises(SystemExit) if command[1] != "train" else nullcontext():
            return main([*command[1:], "--help"])
        return 0
    return main(command[1:])


@pytest.mark.parametrize("command", [*README, *ROOT_README], ids=" ".join)
def test_readme(command: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.chdir(folder)
    recipes: list[Recipe] = []

    def train(recipe: Recipe) -> Path:
        recipes.append(recipe)
        return folder

    monkeypatch.setattr("plvl.train.train", train)
    monkeypatch.setattr("plvl.demo.run", lambda options: 0)
    monkeypatch.setattr("papers_shared.app.serve", lambda *page, **where: "")
    assert run(command) == 0
    for recipe in recipes:
        assert len(open_split(recipe.data, "train")) == 4


@pytest.mark.parametrize("command", DATA, ids=" ".join)
def test_data(command: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    if command[1:4] in (["data", "build", "labels"], ["data", "build", "hub"], ["data", "build", "jsonl"]):
        monkeypatch.setattr("plvl.data.commands.run_build", lambda options: 0)
    if command[1:3] == ["data", "check"]:
        command = [*command[:3], "BUILT", *command[4:]]
    assert run(command) == 0


def test_both_print_commands() -> None:
    assert len(README) > 8
    assert len(ROOT_README) > 3
    assert len(DATA) > 8
