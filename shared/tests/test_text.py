"""Text in the encodings that editors and shells write."""

from __future__ import annotations

from pathlib import Path

import pytest

from papers_shared import text
from papers_shared.errors import UserError
from papers_shared.text import read_json, read_json_lines, read_table, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    (tmp_path / "list.txt").write_bytes(f"café{end}stone{end}".encode(encoding))
    assert read_text(tmp_path / "list.txt") == "café\nstone\n"


def test_other_encodings_are_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("stone\ncafé\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"list.txt, line 2, is not text in UTF-8"):
        read_text(tmp_path / "list.txt")
    with pytest.raises(UserError, match="no such file"):
        read_text(tmp_path / "missing.txt")
    with pytest.raises(UserError, match="no regular file"):
        read_text(tmp_path)


def test_json_that_is_none_or_too_deep(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-16")
    assert read_json(tmp_path / "a.json") == {"a": 1}
    for content, sentence in (("{", "is not JSON"), ("[" * 200_000, "nested too deeply")):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(UserError, match=sentence):
            read_json(tmp_path / "a.json")


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_table_is_separated_by_what_its_first_line_has_most_of(mark: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        mark.join(("file", "mask", "label")) + "\n\n" + mark.join(('"a, b; c|d.png"', "", "1")) + "\n"
    )
    assert read_table(path) == [(3, {"file": "a, b; c|d.png", "mask": "", "label": "1"})]


def test_endless_files_and_lines_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(text.LARGEST_FILE + 1)
    with pytest.raises(UserError, match="has more than"):
        read_json(tmp_path / "a.json")
    monkeypatch.setattr(text, "LONGEST_LINE", 8)
    (tmp_path / "b.jsonl").write_text('[1]\n"' + "x" * 9 + '"\n')
    with pytest.raises(UserError, match=r"line 2, has more than 8 bytes"):
        list(read_json_lines(tmp_path / "b.jsonl"))


def test_lines_that_are_not_json_can_be_noted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("[1]\n{\n[2]\n")
    told: list[UserError] = []
    assert list(read_json_lines(tmp_path / "a.jsonl", told.append)) == [(1, [1]), (3, [2])]
    assert "line 2, is not JSON" in str(told[0])
