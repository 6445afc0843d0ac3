"""A folder of data is replaced only where all in it was written by a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from papers_shared.errors import UserError
from papers_shared.written import MANIFEST, own_files, read_manifest, write_manifest


def test_own_files_are_all_or_none(tmp_path: Path) -> None:
    assert own_files(tmp_path / "missing") == ()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").touch()
    assert own_files(tmp_path) == ()
    write_manifest(tmp_path, ["a/x.png"], seed=3)
    assert read_manifest(tmp_path)["seed"] == 3
    assert own_files(tmp_path) == ("*",)
    (tmp_path / "a" / ".DS_Store").touch()
    assert own_files(tmp_path) == ("*",)
    (tmp_path / "a" / "mine.png").touch()
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match=r"holds other files \('a/mine.png' and 1 more\)"):
        own_files(tmp_path)


@pytest.mark.parametrize("content", ["[]", "7", '{"files": "all"}', "{}"])
def test_another_programs_note_makes_nothing_ours(content: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(content)
    assert own_files(tmp_path) == ()
