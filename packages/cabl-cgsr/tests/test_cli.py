"""The shell says that it is one."""

from __future__ import annotations

import pytest

from cabl_cgsr.cli import NOTICE, main


def test_help_says_that_the_model_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert NOTICE in " ".join(capsys.readouterr().out.split())


def test_a_verb_is_refused_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {NOTICE}\n")
