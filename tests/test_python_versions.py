"""Every Python that the metadata names has releases of everything that a package needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def resolutions() -> Iterator[dict[str, subprocess.Popen]]:
    """Version -> its resolution; they mostly wait for the index, so all run at once."""
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    projects = [f"{project}/pyproject.toml" for project in PROJECTS]
    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = {
        version: subprocess.Popen(
            ["uv", "pip", "compile", "-q", "--python-version", version, "--no-header", *projects], **options
        )
        for version in versions("shared")
    }
    yield started
    for process in started.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("version", versions("shared"))
def test_all_packages_resolve_together(version: str, resolutions: dict[str, subprocess.Popen]) -> None:
    process = resolutions[version]
    try:
        output, said = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("the package index does not answer")
    if process.returncode and any(mark in said for mark in UNREACHABLE):
        pytest.skip(f"the package index cannot be reached: {said.strip().splitlines()[0][:200]}")
    assert process.returncode == 0, said
    found = {line.partition("==")[0] for line in output.splitlines() if "==" in line}
    assert {"torch", "timm", "transformers", "accelerate", "tyro"} <= found
