"""Models know where they come from: untrained ones refuse, and the card says what there is to say."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from PIL import Image
from torch import nn

from papers_shared.drawing import marked_untrained
from papers_shared.errors import UserError
from papers_shared.hub import PretrainedFolder
from papers_shared.provenance import VARIABLE, Origin, check_trained, drawn, join_licences


@dataclass(frozen=True)
class Config:
    mean: tuple[float, ...] = (1.0, 2.5, 3.0)
    std: tuple[float, ...] = (4.0, 5.0, 6.0)


class Net(nn.Module, PretrainedFolder):
    PIPELINE_TAG = "image-segmentation"
    LIMITS = "It sees squares only."

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.backbone, self.head, self.pool = nn.Linear(2, 2), nn.Linear(2, 1), nn.ReLU()

    @classmethod
    def from_config(cls, config: Config) -> Net:
        net = cls(config)
        net.origin = drawn(net)
        return net


TRAINED = Origin(
    start_weights=("backbone: hf://some/weights/model.safetensors, SHA-256 0f",),
    recipe="toy",
    steps=400,
    samples=3200,
    data="squares",
    chosen_by="miou",
    metrics={"miou": 0.5},
    protocol="one scale",
    licence="mit",
)


def test_parts_that_start_weights_were_given_to_are_not_untrained() -> None:
    net = Net(Config())
    assert drawn(net).untrained == ("backbone", "head")
    origin = drawn(net, "backbone", source="some/weights")
    assert (origin.untrained, origin.start_weights) == (("head",), ("backbone: some/weights",))


def test_what_was_never_trained_refuses_to_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    net = Net.from_pretrained(Net.from_config(Config()).save_pretrained(tmp_path / "net"))
    with pytest.raises(UserError, match=r"backbone, head are drawn from a seed.*--untrained") as caught:
        check_trained(net)
    assert len(str(caught.value)) < 400
    assert check_trained(net, allowed=True) == ("backbone", "head")
    monkeypatch.setenv(VARIABLE, "1")
    assert check_trained(net) == ("backbone", "head")


def test_trained_models_and_older_folders_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    net = Net.from_config(Config())
    net.origin = TRAINED
    folder = net.save_pretrained(tmp_path / "net")
    assert Net.from_pretrained(folder).origin == TRAINED
    description = json.loads((folder / "config.json").read_text())
    del description["origin"]
    (folder / "config.json").write_text(json.dumps(description))
    assert check_trained(Net.from_pretrained(folder)) == ()
    (folder / "config.json").write_text(json.dumps({**description, "origin": {"steps": "many"}}))
    with pytest.raises(UserError, match=r"origin\.steps must be int"):
        Net.from_pretrained(folder)


def test_the_card_is_one_that_the_hub_reads(tmp_path: Path) -> None:
    net = Net.from_config(Config())
    assert "untrained" in ModelCard.load(net.save_pretrained(tmp_path / "a") / "README.md").data.tags
    net.origin = replace(TRAINED, licence=join_licences("mit", "", "apache-2.0", "mit"))
    card = ModelCard.load(net.save_pretrained(tmp_path / "c") / "README.md")
    assert (card.data.license, card.data.license_name) == ("other", "mit and apache-2.0")
    net.origin = TRAINED
    card = ModelCard.load(net.save_pretrained(tmp_path / "b") / "README.md")
    assert (card.data.license, card.data.pipeline_tag) == ("mit", "image-segmentation")
    assert card.data.base_model == ["some/weights"]
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("miou", 0.5, "squares")
    for words in (
        "trained 400 steps (3,200 samples)",
        "some/weights",
        "one scale",
        "squares only",
        "(1, 2.5, 3)",
    ):
        assert words in card.text


def test_drawings_say_it() -> None:
    image = Image.new("RGB", (200, 50))
    assert marked_untrained(image, ()) is image
    assert marked_untrained(image, ("head",)).height > 50
