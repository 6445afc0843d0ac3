"""The demo from images to page, with few images and steps; the full one is `nox -s demo`."""

from __future__ import annotations

import functools
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image

from cabl_cgsr import demo as module
from cabl_cgsr.cli import main
from cabl_cgsr.config import DataConfig
from cabl_cgsr.data import open_set
from cabl_cgsr.demo import everything_baseline, run
from cabl_cgsr.options import DemoOptions
from cabl_cgsr.toy import write_casia


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


def test_from_images_to_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    few = functools.partial(write_casia, train=20, test=6, size=(48, 64))
    monkeypatch.setattr(module, "write_casia", few)
    monkeypatch.setattr(module, "MARGIN", 0.51)
    assert run(DemoOptions(output=str(tmp_path), steps=2)) == 1
    printed = capsys.readouterr().out
    assert "must beat chance" in printed
    assert "P-F1 of the coarse mask" in printed
    assert re.findall(r"page: (.*)", printed) == [str((tmp_path / "index.html").resolve())]
    page = (tmp_path / "index.html").read_text()
    outline = Outline()
    outline.feed(page)
    assert outline.tags["img"] % 5 == 0
    assert outline.tags["img"] >= 15
    assert outline.tags["svg"] == 2
    assert "script" not in outline.tags
    assert outline.outside == []
    assert "url(" not in page
    assert ">2 steps<" in page
    assert "CC0" in page, "the licences of the photographs"

    monkeypatch.setattr(module, "MARGIN", -1.0)
    assert run(DemoOptions(output=str(tmp_path), steps=2)) == 0, "resumes at its end"


def test_baseline_of_marking_everything(image_root: Path) -> None:
    rows = open_set(DataConfig(root=str(image_root), layout="folders"), masks=True)
    shares = [
        np.asarray(Image.open(path)).astype(bool).mean() for path in (image_root / "masks").glob("*.png")
    ]
    expected = np.mean([2 * share / (1 + share) for share in shares])
    assert everything_baseline(rows) == pytest.approx(expected)


def test_negative_steps_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["demo", "--steps", "-1", "--output", str(tmp_path)]) == 2
    assert "--steps is -1" in capsys.readouterr().err


def test_a_page_of_somebody_else_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "index.html").write_text("<h1>mine</h1>")
    assert main(["demo", "--output", str(tmp_path)]) == 2
    assert "index.html exists and is no page of this command" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "<h1>mine</h1>"
