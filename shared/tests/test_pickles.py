"""Pickles that plain data never is: refused before any reader takes memory or time for them."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import pytest

from papers_shared.errors import UserError
from papers_shared.pickles import LARGEST, check_pickle, read_pickle

DOUBLED = b"(" + b"(I1\nI1\ntp0\n" + b"".join(b"(g%d\ng%d\ntp%d\n" % (n, n, n + 1) for n in range(40)) + b"t."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x02]r" + struct.pack("<I", 2**31) + b".", "memo jumps to 2147483648"),
        (b"]p2000000000\n.", "memo jumps to 2000000000"),
        (DOUBLED, "more tuples than plain data has"),
        (b"(" * 1 + b"(t" * 20_000 + b"t.", "more tuples than plain data has"),
        (b"\x80\x02]2a.", "more tuples than plain data has"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.", "expected"),
        (b"\x80\x05\x8d" + struct.pack("<Q", 2**40) + b"x.", "expected"),
        (b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b"x.", "not enough data"),
        (b"", "exhausted"),
        (b"no pickle", "opcode"),
    ],
)
def test_what_no_writer_of_plain_data_writes(content: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=rf"a\.p is not a readable pickle .*{reason}"):
        check_pickle(content, "a.p")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_passes(protocol: int) -> None:
    words = ["the", "man"]
    sizes = (640, 480)
    value = [{"id": n, "tokens": words, "size": sizes, "raw": b"\xff"} for n in range(3)]
    check_pickle(pickle.dumps(value, protocol), "a.p")


def test_a_file_of_many_bytes_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.p", "wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(UserError, match="has more than"):
        read_pickle(tmp_path / "a.p")
