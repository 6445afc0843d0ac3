"""Files that were found sound are not looked at again until they change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from papers_shared.errors import UserError
from papers_shared.sound_files import broken_files


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "set" / name for name in ("a.txt", "b.txt", "c.txt")]
    made[0].parent.mkdir()
    for path in made:
        path.write_text("sound")
    return made


class Look:
    """Counts what it reads, and refuses what does not begin with `sound`."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, path: Path) -> None:
        self.read.append(path.name)
        if not path.exists():
            raise UserError(f"{path}: no such file")
        if not path.read_text().startswith("sound"):
            raise UserError(f"{path} is broken")


def test_only_new_and_changed_files_are_read(paths: list[Path], tmp_path: Path) -> None:
    look, options = Look(), {"kind": "text", "cache": tmp_path / "cache", "progress": False}
    assert broken_files([*paths, paths[0]], look, **options) == {}
    assert sorted(look.read) == ["a.txt", "b.txt", "c.txt"]
    paths[1].write_text("spoilt")
    paths[2].unlink()
    look.read.clear()
    broken = broken_files(paths, look, **options)
    assert broken == {paths[1]: f"{paths[1]} is broken", paths[2]: f"{paths[2]}: no such file"}
    assert list(broken) == paths[1:]
    assert sorted(look.read) == ["b.txt", "c.txt"]
    times = paths[0].stat()
    paths[0].write_text("broke")  # as large as before, but later
    os.utime(paths[0], ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert paths[0] in broken_files(paths, look, **options)
    assert broken_files(paths[:1], Look(), **{**options, "kind": "other"}) == {
        paths[0]: f"{paths[0]} is broken"
    }


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_a_lost_or_damaged_memory_costs_time_alone(content: bytes, paths: list[Path], tmp_path: Path) -> None:
    look, options = Look(), {"kind": "text", "cache": tmp_path / "cache", "progress": False}
    broken_files(paths, look, **options)
    (memory,) = (tmp_path / "cache" / "sound-files").iterdir()
    memory.write_bytes(content)
    assert broken_files(paths, look, **options) == {}
    assert len(look.read) == 6
    assert broken_files(paths, look, **options) == {}
    assert len(look.read) == 6


def test_a_cache_that_cannot_be_written_is_no_obstacle(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert broken_files(paths, Look(), kind="text", cache=tmp_path / "file", progress=False) == {}
    assert broken_files([], Look(), kind="text", cache=tmp_path / "cache", progress=False) == {}
