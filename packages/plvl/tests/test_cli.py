"""The command line: every verb answers, and a user's mistake is one sentence."""

from __future__ import annotations

import pytest

import plvl
from plvl.cli import USAGE, main
from plvl.recipes import RECIPES


@pytest.mark.parametrize("verb", [*USAGE, "data build", "data check", "data toy", "train refcocog_umd"])
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([*verb.split(), "--help"])
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert code == 0
    assert len(capsys.readouterr().out) > 60


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {verb} " in printed for verb in USAGE)
    assert main([]) == 2


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in RECIPES)
    assert "REC 89.02 / 90.21 / 86.72" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-verb"], "no verb 'no-such-verb'"),
        (["train", "no-such-recipe"], "no recipe 'no-such-recipe'"),
        (["train", "toy"], "no data folder given"),
        (["predict", "nowhere", "nothing.jpg", "a cat"], "nothing.jpg: no such image"),
        (["evaluate", "no/such/model", "--data.root", "x"], "no/such/model"),
        (["convert", "nothing.pth", "out"], "nothing.pth: there is no such file"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.startswith("error: ")
    assert "Traceback" not in printed


def test_data_without_an_action_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 2
    assert "build,convert,check,toy" in capsys.readouterr().out


def test_public_names_are_there() -> None:
    for name in plvl.__all__:
        assert getattr(plvl, name) is not None
    assert set(plvl.__all__) <= set(dir(plvl))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = plvl.nothing
