"""Values and names in files of strangers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from papers_shared.entries import first_line, first_names, numbers_of, one_line, size_of, text_of
from papers_shared.errors import UserError
from papers_shared.inputs import match_images, unique_names
from papers_shared.paths import inside, safe_name


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", "a"), (12, "12"), (0, "0"), (None, "nothing"), ("", ""), ("naïve 😀", "naïve 😀")],
)
def test_text(value: Any, expected: str) -> None:
    assert text_of({"key": value}, "key", "file, line 3", default="nothing") == expected


@pytest.mark.parametrize("value", [True, 1.5, ["a"], b"a", "half \ud83d", None])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"^file, line 3: 'key'") as caught:
        text_of({"key": value}, "key", "file, line 3")
    str(caught.value).encode()


def test_numbers() -> None:
    assert numbers_of([1, 2.5, -3], "here") == [1.0, 2.5, -3.0]
    assert numbers_of(np.array([1, 2], np.int32), "here", count=2) == [1.0, 2.0]
    nonsense = (float("nan"), float("inf"), 1e7, -1e7, None, "1", True, [1], 10**400)
    for value in nonsense:
        with pytest.raises(UserError, match=r"^here: "):
            numbers_of([1, value], "here")
    for values in ("12", None, 3, {"x": 1}):
        with pytest.raises(UserError, match="list of numbers"):
            numbers_of(values, "here")
    with pytest.raises(UserError, match="4 numbers are expected, not 2"):
        numbers_of([1, 2], "here", count=4)


def test_sizes() -> None:
    assert size_of(640, 480.0, "here") == (480, 640)
    for wrong in (0, -1, 1.5, "3", None, True, float("nan"), 10**9):
        with pytest.raises(UserError, match=r"^here: the width"):
            size_of(wrong, 3, "here")
    with pytest.raises(UserError, match="limit"):
        size_of(60_000, 60_000, "here")


@pytest.mark.parametrize("name", ["a.png", "sub/a.png", "sub\\a.png", "./a.png", "sub/../a.png", "..a/b.png"])
def test_names_below_a_folder(tmp_path: Path, name: str) -> None:
    path = inside(tmp_path, name, "list, line 1")
    assert path == tmp_path / name.replace("\\", "/")


@pytest.mark.parametrize(
    "name",
    [
        "../a.png",
        "sub/../../a.png",
        "/etc/passwd",
        "C:\\a.png",
        "\\\\host\\a",
        "",
        " ",
        "a\0b",
        "a\ud800",
        "x" * 256,
        "sub/" * 1001 + "a",
    ],
)
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"^list, line 1: "):
        inside(tmp_path, name, "list, line 1")


def test_names_outside_may_be_allowed(tmp_path: Path) -> None:
    assert inside(tmp_path / "in", "../a.png", "x", allow_outside=True).resolve() == tmp_path / "a.png"
    assert inside(tmp_path, "/data/a.png", "x", allow_outside=True) == Path("/data/a.png")


def test_names_of_results() -> None:
    assert safe_name("photo 1 (é)") == "photo 1 (é)"
    assert safe_name("a/b:c\n") == "a_b_c_"
    assert safe_name(" . ") == "image"
    assert [safe_name(name) for name in ("aux", "COM1.left", "console")] == ["_aux", "_COM1.left", "console"]
    assert len(safe_name("…" * 300).encode()) <= 120
    assert unique_names([Path("x/a.b"), Path("y/A.c"), Path("..png")]) == ["a", "A-2", "image"]
    assert one_line("a\nb\tc") == "a\\nb\\tc"


def test_folders_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("a.jfif", "b.PGM", "deep/er/c.avif", "._a.png", ".DS_Store", "notes.txt", "out/masks/a.png")
    for name in (*names, "out/predictions.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere")
    found = [path.relative_to(tmp_path).as_posix() for path in match_images([str(tmp_path)])]
    assert found == ["a.jfif", "b.PGM", "deep/er/c.avif", "lost.png"]
    assert "1 files" in capsys.readouterr().err


def test_lists_of_images(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    listed = tmp_path / "list.txt"
    listed.write_bytes("b.png\r\n\r\na.png\r\nsub\\c.png\r\n".encode("utf-16"))
    assert [path.name for path in match_images([str(listed)])] == ["b.png", "a.png", "c.png"]
    listed.write_text("a.png\nmissing.png\n")
    with pytest.raises(UserError, match=r"list\.txt, line 2: 'missing\.png': no such image"):
        match_images([str(listed)])


@pytest.mark.parametrize("text", ["~nosuchuser/a.png", "x" * 5000, "a\0b"])
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(UserError):
        match_images([text])


def test_messages_of_libraries_are_cut_to_a_line() -> None:
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert first_line(OSError("x" * 5000)) == "x" * 200 + "..."
    assert first_names(["a\nb", "c" * 99, "d", "e"]) == "a\\nb, " + "c" * 60 + "..., d, ..."
