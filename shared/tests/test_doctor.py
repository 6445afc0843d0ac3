"""Reports about data."""

from __future__ import annotations

import io

import pytest

from papers_shared.doctor import Finding, Report
from papers_shared.errors import UserError


def report() -> Report:
    found = Report()
    found.add("note", "train", "2 frames")
    for number in range(8):
        found.add("error", f"train/{number}.png", "no mask", "add the mask or remove the image")
    other = Report()
    other.add("warning", "val/a.png", "odd size")
    found.extend(other)
    found.extend([Finding("error", "labels.json", "is not JSON")])
    return found


def test_print_groups_and_shortens() -> None:
    stream = io.StringIO()
    report().print(stream, sources=3)
    text = stream.getvalue()
    assert "error: no mask (8 times)\n    train/0.png\n    train/1.png\n    train/2.png\n" in text
    assert "    ... and 5 more\n    -> add the mask or remove the image\n" in text
    assert text.index("error:") < text.index("warning:") < text.index("note:")
    assert text.endswith("9 errors, 1 warnings, 1 notes\n")
    report().print(stream := io.StringIO(), groups=1)
    assert "error: ... and 1 more kinds" in stream.getvalue()


def test_errors_decide() -> None:
    broken, fine = report(), Report()
    fine.add("warning", "val/a.png", "odd size")
    assert (broken.exit_code, fine.exit_code) == (1, 0)
    assert len(broken.errors) == 9
    fine.raise_if_broken("fanet data check data")
    with pytest.raises(UserError, match=r"train/0.png: no mask and 8 more errors; `fanet data check data`"):
        broken.raise_if_broken("fanet data check data")


def test_json_holds_everything() -> None:
    written = report().to_json()
    assert (written["errors"], written["warnings"], written["notes"]) == (9, 1, 1)
    assert len(written["findings"]) == 11
    assert written["findings"][0] == {
        "severity": "note",
        "source": "train",
        "message": "2 frames",
        "remedy": "",
    }


def test_names_with_line_breaks_take_one_line() -> None:
    report, printed = Report(), io.StringIO()
    report.add("error", "new\nline\x1b[2J.png", "broken\n")
    report.print(printed)
    assert (
        printed.getvalue() == "error: broken\\n\n    new\\nline\\x1b[2J.png\n1 errors, 0 warnings, 0 notes\n"
    )
