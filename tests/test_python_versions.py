"""Every Python that the metadata names has releases of everything that a package needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = ("shared", "packages/fanet", "packages/plvl", "packages/cabl-cgsr")
UNREACHABLE = ("error sending request", "Failed to fetch", "dns error", "network", "timed out", "Connection")


def versions(project: str) -> list[str]:
    text = (ROOT / project / "pyproject.toml").read_text()
    return re.findall(r"Programming Language :: Python :: (3\.\d+)", text)


def test_all_projects_name_the_same_versions() -> None:
    assert {tuple(versions(project)) for project in PROJECTS} == {("3.10", "3.11", "3.12", "3.13", "3.14")}


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
@pytest.mark.parametrize("version", versions("shared"))
def test_all_packages_resolve_together(version: str) -> None:
    command = ["uv", "pip", "compile", "-q", "--python-version", version, "--no-header"]
    try:
        done = subprocess.run(
            [*command, *(f"{project}/pyproject.toml" for project in PROJECTS)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the package index does not answer")
    if done.returncode and any(mark in done.stderr for mark in UNREACHABLE):
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[0][:200]}")
    assert done.returncode == 0, done.stderr
    found = {line.partition("==")[0] for line in done.stdout.splitlines() if "==" in line}
    assert {"torch", "timm", "transformers", "accelerate", "tyro"} <= found
