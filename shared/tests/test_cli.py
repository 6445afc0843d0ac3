"""What the command lines say of mistakes, of the machine's refusals, and of faults of the program."""

from __future__ import annotations

import errno
import io
import sys
from pathlib import Path

import pytest
import torch

from papers_shared.cli import run_verbs
from papers_shared.errors import UserError


def outcome(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    def verb(_: list[str]) -> int:
        raise error

    code = run_verbs("program", "about", {"do": ("does", verb)}, ["do"])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UserError("a.png is missing"), "error: a.png is missing\n"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "error: Permission denied (x)\n"),
        (OSError(errno.ENOSPC, "No space", "x"), "the disk is full (x)"),
        (ConnectionError("no network\nsecond line"), "error: no network\n"),
        (MemoryError(), "error: out of memory\n"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "error: out of memory (CUDA out"),
        (
            RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed. "),
            "a loader process was ended",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_users_and_machines_cause_is_one_sentence(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = outcome(error, capsys)
    assert code == 2
    assert told in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("shape"), ValueError("x")])
def test_faults_of_the_program_show_their_traceback(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)):
        outcome(error, capsys)


def test_an_interrupt_speaks_of_checkpoints_in_training_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(KeyboardInterrupt(), capsys) == (130, "interrupted\n")


def test_a_console_without_the_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", stream)
    assert run_verbs("program", "about", {"do": ("does", lambda _: print("左 é") or 0)}, ["do"]) == 0
    stream.flush()
    assert stream.buffer.getvalue() == b"\\u5de6 \xe9\n"


def test_a_reader_that_has_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)

    def verb(_: list[str]) -> int:
        raise BrokenPipeError

    assert run_verbs("program", "about", {"do": ("does", verb)}, ["do"]) == 1
