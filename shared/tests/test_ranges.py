"""Values of options are refused by what stands beside the option, on the command line, in files and from Python."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from papers_shared.cli import parse
from papers_shared.dataclass_json import dataclass_from_json
from papers_shared.errors import UserError
from papers_shared.ranges import Names, Within, check_ranges


@dataclass(frozen=True)
class Inner:
    share: Annotated[float, Within(0, 1)] = 0.5
    crop_size: Annotated[int, Within(1, 100)] = 8
    rate: Annotated[float, Within(0, above=True)] = 0.1
    range: Annotated[tuple[float, float], Within(0.5, 2, ascending=True)] = (0.5, 2.0)
    scales: Annotated[tuple[int, ...], Within(1, filled=True)] = (1,)
    colours: Annotated[tuple[tuple[int, int], ...], Within(0, 255)] = ()
    names: Annotated[tuple[str, ...], Names(5, 3)] = ()


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)


WRONG: list[tuple[str, Any, str]] = [
    ("share", 1.5, "0 to 1"),
    ("share", math.nan, "0 to 1"),
    ("crop_size", 0, "1 to 100"),
    ("rate", 0.0, "more than 0"),
    ("rate", math.inf, "more than 0"),
    ("range", (2.0, 0.5), "the smaller number first"),
    ("range", (0.1, 1.0), "0.5 to 2 each"),
    ("scales", (), "one number or more"),
    ("colours", ((1, 256),), "0 to 255 each"),
    ("names", ("a", "a"), "each name once"),
    ("names", tuple("abcd"), "3 names or fewer"),
    ("names", ("a", "b\n"), "names of 1 to 5 printable letters"),
    ("names", ("a", "bcdefg"), "names of 1 to 5 printable letters"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_value_out_of_range_is_named_as_it_was_given(name: str, value: Any, allowed: str) -> None:
    check_ranges(Outer())
    with pytest.raises(UserError) as caught:
        check_ranges(Outer(Inner(**{name: value})))
    assert str(caught.value) == f"--inner.{name.replace('_', '-')} is {value!r}: give {allowed}"
    with pytest.raises(UserError, match=f"recipe.json.inner.{name} is "):
        dataclass_from_json(Outer, {"inner": {name: value}}, "recipe.json")


def test_the_command_line_is_checked_before_anything_runs() -> None:
    assert parse(Outer, ["--inner.share", "0.25"], "program").inner.share == 0.25
    with pytest.raises(UserError, match=r"--inner.crop-size is 101: give 1 to 100"):
        parse(Outer, ["--inner.crop-size", "101"], "program")
