"""The notebooks of docs/: whole, without outputs, with options that there are. `nox -s notebooks` runs them."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

NAMES = ("fanet", "plvl", "cabl-cgsr")


def cells(root: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((root / "docs" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("name", NAMES)
def test_code_is_whole_and_nothing_has_been_run(root: Path, name: str) -> None:
    code = [cell for cell in cells(root, name) if cell["cell_type"] == "code"]
    for cell in code:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        ast.parse("".join(line for line in cell["source"] if not line.startswith("!")))
    verbs = re.findall(rf"!{name} (\w+ ?\w*)", "\n".join("".join(cell["source"]) for cell in code))
    assert [verb.split()[0] for verb in verbs] == ["data", "data", "train", "evaluate", "predict"]


@pytest.mark.parametrize("name", NAMES)
def test_options_are_those_of_the_commands(root: Path, name: str) -> None:
    main = importlib.import_module(f"{name.replace('-', '_')}.cli").main
    for cell in cells(root, name):
        for line in cell["source"]:
            if not line.startswith(f"!{name} "):
                continue
            words = shlex.split(line)[1:]
            verb = words[: {"train": 2, "data": 2}.get(words[0], 1)]
            with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit):
                main([*verb, "--help"])
            for option in (word for word in words if word.startswith("--")):
                assert option in printed.getvalue(), line
