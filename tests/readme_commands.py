"""Reads the commands that a README prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

LAUNCHER = re.compile(r"^accelerate launch (?:--\S+ \S+ )*-m (\w+)")
TO_REPLACE = re.compile(r"\.\.\.|\b(?:VERB|RECIPE)\b")


def printed_commands(page: Path, program: str) -> list[list[str]]:
    """Every command line of a program in code blocks and in inline code, as the shell would split it.

    `accelerate launch [options] -m NAME` counts as the program NAME. Left out are commands that stand for others: with
    `...`, VERB or RECIPE in them.
    """
    found: list[list[str]] = []
    for line in _code(page.read_text(encoding="utf-8")):
        command = LAUNCHER.sub(lambda match: match[1].replace("_", "-"), line.strip())
        if command.split(" ")[0] == program and not TO_REPLACE.search(command.partition(" #")[0]):
            words = shlex.split(command, comments=True)
            if len(words) > 1 and words not in found:
                found.append(words)
    return found


def _code(text: str) -> list[str]:
    """Lines of code blocks (fenced or indented), joined where one ends with a backslash, and pieces of inline code."""
    lines, fenced = [], False
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(line)
        else:
            lines += re.findall(r"`([^`]+)`", line)
    return lines
