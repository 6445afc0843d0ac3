"""The command-line contract that every package keeps."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = {"fanet": "fanet", "plvl": "plvl", "cabl-cgsr": "cabl_cgsr"}
VERBS = {
    "fanet": ("train", "evaluate", "predict", "app", "data", "convert", "export", "figures", "demo"),
    "plvl": ("train", "evaluate", "predict", "app", "data", "convert", "export", "figures", "demo"),
    "cabl-cgsr": (
        "train",
        "evaluate",
        "robustness",
        "predict",
        "app",
        "data",
        "convert",
        "export",
        "figures",
        "demo",
    ),
}
HEAVY = {"torch", "torchvision", "timm", "datasets", "accelerate", "cv2", "transformers"}


def run(command: str, *arguments: str, trace: bool = False) -> subprocess.CompletedProcess[str]:
    flags = ["-X", "importtime"] if trace else []
    line = [sys.executable, *flags, "-m", MODULES[command], *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", MODULES)
def test_help_answers_without_heavy_imports(command: str) -> None:
    answer = run(command, "--help", trace=True)
    assert answer.returncode == 0, answer.stderr
    assert command in answer.stdout
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert MODULES[command] in imported, "the import trace is empty"
    assert not imported & HEAVY


@pytest.mark.parametrize("command", VERBS)
def test_help_names_every_verb(command: str) -> None:
    words = run(command, "--help").stdout.replace(",", " ").replace("{", " ").replace("}", " ").split()
    assert not set(VERBS[command]) - set(words)


@pytest.mark.parametrize(("command", "verb"), [(c, verb) for c, verbs in VERBS.items() for verb in verbs])
def test_every_verb_has_help(command: str, verb: str) -> None:
    answer = run(command, verb, "--help")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip()


@pytest.mark.parametrize("command", MODULES)
def test_an_unknown_verb_is_a_usage_error(command: str) -> None:
    answer = run(command, "no-such-verb")
    assert answer.returncode == 2
    assert (answer.stdout + answer.stderr).strip()
    assert "Traceback" not in answer.stderr
