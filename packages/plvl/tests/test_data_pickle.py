"""Strangers' pickles: plain data is read, anything else refused by name."""

from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from papers_shared.errors import UserError
from plvl.data.safe_pickle import load_plain


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_read(protocol: int, tmp_path: Path) -> None:
    value = [
        {"a": 1, "b": [2.5, None, True], "c": ("x", b"\xff"), "d": {1, 2}, "e": collections.OrderedDict(k=3)}
    ]
    assert load_plain(_write(tmp_path / "a.p", pickle.dumps(value, protocol))) == value


def test_text_of_python_2(tmp_path: Path) -> None:
    """Protocol 0 as Python 2 wrote it: byte strings, in UTF-8 or Latin-1, and unicode."""
    assert load_plain(_write(tmp_path / "utf8.p", b"S'caf\\xc3\\xa9'\np0\n.")) == "café"
    assert load_plain(_write(tmp_path / "latin.p", b"S'caf\\xe9'\np0\n.")) == "café"
    assert load_plain(_write(tmp_path / "unicode.p", b"Vcaf\xe9\np0\n.")) == "café"


class _Evil:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_call_is_refused_by_name_and_not_made(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "made"
    for call, name in ((_Evil(os.mkdir, str(mark)), "mkdir"), (_Evil(eval, "1"), "eval")):
        file = _write(tmp_path / "evil.p", pickle.dumps([call], protocol))
        with pytest.raises(UserError, match=rf"evil\.p wants to load `.*{name}`"):
            load_plain(file)
    assert not mark.exists()


def test_other_classes_and_codecs_are_refused(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.p", pickle.dumps(Path("x")))
    with pytest.raises(UserError, match="wants to load `pathlib"):
        load_plain(file)
    file = _write(tmp_path / "b.p", b"c_codecs\nencode\n(Vx\nVrot13\ntR.")
    with pytest.raises(UserError, match="rot13"):
        load_plain(file)
    file = _write(tmp_path / "c.p", b"Pid\n.")
    with pytest.raises(UserError, match="outside the file"):
        load_plain(file)


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x04]", b"(lp0\n"])
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a readable pickle"):
        load_plain(_write(tmp_path / "a.p", content))
    with pytest.raises(UserError, match="cannot be read"):
        load_plain(tmp_path / "absent.p")
