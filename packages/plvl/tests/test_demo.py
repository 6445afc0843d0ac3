"""The demo from scenes to page, with few scenes and steps; the full one is `nox -s demo`."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from papers_shared.errors import UserError
from plvl import demo as module
from plvl.config import Recipe
from plvl.demo import beats_blind, blind, run
from plvl.options import DemoOptions
from plvl.recipes import toy
from plvl.tokenizer import Tokenizer, make_vocabulary
from plvl.toy import write_refer


class Outline(HTMLParser):
    """Counts the tags and notes every address outside the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        addresses = [value or "" for name, value in attrs if name in ("src", "href")]
        self.outside += [address for address in addresses if not address.startswith("data:image/png;base64,")]


def test_from_scenes_to_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(module, "write_refer", functools.partial(write_refer, train=3, val=1, test=4))
    assert run(DemoOptions(output=str(tmp_path), steps=2)) == 1
    printed = capsys.readouterr().out
    assert "failed: Acc@0.5 and mask mIoU on val must beat the language-blind model's by" in printed
    assert re.findall(r"page: (.*)", printed) == [str((tmp_path / "index.html").resolve())]
    page = (tmp_path / "index.html").read_text()
    outline = Outline()
    outline.feed(page)
    assert outline.tags["img"] == 8 * 5
    assert outline.tags["svg"] == 2
    assert "script" not in outline.tags
    assert outline.outside == []
    assert "two models, 2 steps of" in page


def test_the_blind_model_is_the_same_network_and_reads_no_word() -> None:
    recipe: Recipe = toy()
    unread = blind(recipe)
    assert replace(unread.model, max_tokens=recipe.model.max_tokens) == recipe.model
    assert (unread.optim, unread.data, unread.loss) == (recipe.optim, recipe.data, recipe.loss)
    tokenizer = Tokenizer(make_vocabulary(["red circle"], 200), unread.model.max_tokens)
    ids, _ = tokenizer(["the red circle", "left of it", ""])
    assert (ids == ids[0]).all()


def test_both_metrics_must_be_better() -> None:
    def metrics(accuracy: float, miou: float) -> dict:
        return {"paper": {"acc_at_05": accuracy, "miou": miou}}

    accuracy, miou = module.MARGIN["acc_at_05"], module.MARGIN["miou"]
    assert beats_blind({"val": metrics(0.5, 0.5), "val_blind": metrics(0.49 - accuracy, 0.49 - miou)})
    assert not beats_blind({"val": metrics(0.5, 0.5), "val_blind": metrics(0.51 - accuracy, 0.2)})
    assert not beats_blind({"val": metrics(0.5, 0.5), "val_blind": metrics(0.1, 0.51 - miou)})


def test_negative_steps_are_refused() -> None:
    with pytest.raises(UserError, match="--steps -1"):
        run(DemoOptions(steps=-1))
