"""The tree in CONTRIBUTING.md names every file of the sources, and no other."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

SOURCES = ("shared/src", "packages/fanet/src", "packages/plvl/src", "packages/cabl-cgsr/src", "benchmarks")


def rooms(text: str) -> dict[str, set[str]]:
    """Folder pattern -> file names, from the fenced block under the heading "The tree".

    A line that starts with a folder opens it; the indented lines below it begin with file names, and what follows two
    blanks or more says what they are.
    """
    block = re.search(r"^## The tree\n.*?^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block, "CONTRIBUTING.md needs a fenced block under '## The tree'"
    found: dict[str, set[str]] = {}
    folder = ""
    for line in block[1].splitlines():
        names = re.split(r"\s{2,}", line.strip())[0]
        if not line.startswith(" "):
            folder = names.rstrip("/")
            found.setdefault(folder, set())
        else:
            found[folder].update(names.split())
    return found


def matches(path: str, pattern: str) -> bool:
    """Whether each part of a path fits that of the pattern; `*` stands for one part."""
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


@pytest.mark.parametrize("source", SOURCES)
def test_the_tree_of_contributing_is_that_of_the_folders(source: str, root: Path) -> None:
    named = rooms((root / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    folders = {path.parent for path in (root / source).rglob("*.py")}
    assert folders, f"no source below {source}"
    wrong = []
    for folder in sorted(folders):
        path = folder.relative_to(root).as_posix()
        expected = set().union(*(names for pattern, names in named.items() if matches(path, pattern)))
        found = {file.name for file in folder.iterdir() if file.is_file()} - {
            "__init__.py",
            "README.md",
            "py.typed",
        }
        if found != expected:
            wrong.append(
                f"{path}: not named {sorted(found - expected)}, not there {sorted(expected - found)}"
            )
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("source", [source for source in SOURCES if source.startswith("packages")])
def test_sister_packages_have_the_same_rooms(source: str, root: Path) -> None:
    """What the tree lists under packages/*/src/* is in each of them."""
    named = rooms((root / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    (package,) = (path for path in (root / source).iterdir() if path.is_dir())
    for pattern, names in named.items():
        if pattern.startswith("packages/*/src/*"):
            folder = package / pattern.removeprefix("packages/*/src/*").strip("/")
            assert not names - {path.name for path in folder.iterdir()}, folder


def test_the_reader_sees_names_and_folders() -> None:
    text = "## The tree\n\n```\na/*/b/       rooms\n  x.py y.py  two\n  z.css      one\nc/\n  d.py\n```\n"
    assert rooms(text) == {"a/*/b": {"x.py", "y.py", "z.css"}, "c": {"d.py"}}
