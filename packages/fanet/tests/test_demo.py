"""The demo from scenes to page, with few scenes and steps; the full one is `nox -s demo`."""

from __future__ import annotations

import functools
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fanet import demo as module
from fanet.demo import CONFUSED, FALSE_ALARM, MISSED, background_baseline, error_map, run
from fanet.options import DemoOptions
from fanet.toy import write_zerowaste
from papers_shared.pages import Curve, chart


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    few = functools.partial(write_zerowaste, train=8, val=2, test=2, size=(64, 96))
    monkeypatch.setattr(module, "write_zerowaste", few)
    assert run(DemoOptions(output=str(tmp_path), steps=2)) == 1
    printed = capsys.readouterr().out
    assert "must beat the all-background baseline" in printed
    assert re.findall(r"page: (.*)", printed) == [str((tmp_path / "index.html").resolve())]
    page = (tmp_path / "index.html").read_text()
    outline = Outline()
    outline.feed(page)
    assert outline.tags["img"] == 2 * 4
    assert outline.tags["svg"] == 2
    assert "script" not in outline.tags
    assert outline.outside == []
    assert "url(" not in page
    assert "@import" not in page
    assert "soft plastic" in page
    assert "2 steps of 8" in page


def test_baseline_of_calling_everything_background(tmp_path: Path) -> None:
    rows = []
    for name, labels in (("a", [[0, 0], [0, 1]]), ("b", [[0, 255], [2, 0]])):
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / f"{name}.png")
        Image.fromarray(np.array(labels, np.uint8)).save(tmp_path / f"{name}-mask.png")
        files = {"image": tmp_path / f"{name}.png", "mask": tmp_path / f"{name}-mask.png"}
        rows.append({"name": name} | {key: {"path": str(path), "bytes": None} for key, path in files.items()})
    scores = background_baseline(rows, 4)
    assert scores["iou"] == [pytest.approx(5 / 7), 0.0, 0.0, None]
    assert scores["miou"] == pytest.approx(5 / 21)
    assert scores["pixel_acc"] == pytest.approx(5 / 7)


def test_error_map() -> None:
    truth = np.array([[0, 1, 1, 0, 255]], np.uint8)
    prediction = np.array([[0, 0, 2, 1, 1]], np.uint8)
    drawn = np.asarray(error_map(Image.new("RGB", (5, 1), (90, 90, 90)), truth, prediction))[0]
    assert [tuple(map(int, pixel)) for pixel in drawn[1:4]] == [MISSED, CONFUSED, FALSE_ALARM]
    assert (drawn[0] == drawn[4]).all()
    assert len(set(drawn[0].tolist())) == 1


@pytest.mark.parametrize("top", [0.013, 1.0, 2.4, 870.0])
def test_chart_stays_in_its_frame(top: float) -> None:
    drawn = chart([Curve("loss", "a", [(1, top), (7, top / 3), (250, 0.0)])])
    points = [
        tuple(map(float, pair.split(","))) for pair in re.findall(r'points="([^"]*)"', drawn)[0].split()
    ]
    assert all(44 <= x <= 410 and 10 <= y <= 204 for x, y in points)
    assert points[0][1] < points[1][1] < points[2][1]
