"""Configurations as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from papers_shared.dataclass_json import dataclass_from_json, dataclass_to_json
from papers_shared.errors import UserError
from papers_shared.text import read_json


@dataclass(frozen=True)
class Inner:
    kind: Literal["a", "b"] = "a"
    scale: float = 1.0


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = Inner()
    parts: tuple[Inner, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    pair: tuple[int, float] = (1, 0.5)
    maybe: Optional[int] = None  # noqa: UP045
    either: int | str | None = None
    flag: bool = False
    names: list[str] = field(default_factory=list)
    shares: dict[str, float] = field(default_factory=dict)


FULL = Outer(
    name="x",
    inner=Inner("b", 0.1 + 0.2),
    parts=(Inner(), Inner("b")),
    palette=((1, 2, 3), (4, 5, 6)),
    pair=(3, 4.0),
    maybe=5,
    either="word",
    flag=True,
    names=["n"],
    shares={"a": 0.5},
)


@pytest.mark.parametrize("config", [Outer("x"), FULL])
def test_round_trip(config: Outer) -> None:
    back = dataclass_from_json(Outer, json.loads(json.dumps(dataclass_to_json(config))))
    assert back == config
    assert hash(back.palette) == hash(config.palette)


def test_whole_numbers_are_floats_where_floats_are_meant() -> None:
    scale = dataclass_from_json(Inner, {"scale": 2}).scale
    assert type(scale) is float


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ({"name": "x", "colour": 1}, "unknown key 'colour'; Outer knows name, inner"),
        ({"name": "x", "inner": {"kynd": "a"}}, "config.inner has the unknown key 'kynd'"),
        ({}, "config lacks the key 'name'"),
        ({"name": "x", "inner": {"kind": "c"}}, "config.inner.kind is 'c'; choose one of 'a', 'b'"),
        ({"name": "x", "palette": [[1, 2]]}, r"config.palette\[0\] must hold 3 values, not 2"),
        ({"name": "x", "flag": 1}, "config.flag must be bool, not 1"),
        ({"name": "x", "maybe": True}, "config.maybe must be int, not True"),
        ({"name": "x", "either": 0.5}, "config.either cannot be 0.5"),
        ({"name": "x", "shares": {"a": "b"}}, "config.shares.a must be float"),
        ([], "must be an object"),
    ],
)
def test_errors_name_the_place(obj: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclass_from_json(Outer, obj)


def test_read_json_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.json: no such file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(UserError, match=r"b\.json is not JSON"):
        read_json(tmp_path / "b.json")
