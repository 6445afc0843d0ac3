"""Packages import papers_shared and third parties, papers_shared no package, only root tests benchmarks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from source_imports import circles, import_graph, imported_names

PACKAGES = {"fanet", "plvl", "cabl_cgsr"}
# folder of sources or tests -> the import names of this repository that its files may use
ALLOWED = {
    "shared": {"papers_shared"},
    "packages/fanet": {"papers_shared", "fanet"},
    "packages/plvl": {"papers_shared", "plvl"},
    "packages/cabl-cgsr": {"papers_shared", "cabl_cgsr"},
    "benchmarks": {"papers_shared", "benchmarks", *PACKAGES},
    "tests": {"papers_shared", "benchmarks", *PACKAGES},
}
OURS = {"papers_shared", "benchmarks", *PACKAGES}
HEAVY = {"torch", "torchvision", "timm", "datasets", "accelerate", "cv2", "transformers"}


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_follow_the_dependency_rule(folder: str, root: Path) -> None:
    files = sorted((root / folder).rglob("*.py"))
    assert files, f"no Python file under {folder}"
    breaches = [
        f"{path.relative_to(root)} imports {name}"
        for path in files
        for name in sorted(imported_names(path) & OURS - ALLOWED[folder])
    ]
    assert not breaches, "\n".join(breaches)


def test_the_rule_sees_every_way_to_import(tmp_path: Path) -> None:
    source = tmp_path / "breach.py"
    source.write_text(
        "import os, plvl.cli\ndef f():\n from fanet import x\n importlib.import_module('cabl_cgsr.a')\n",
        encoding="utf-8",
    )
    assert imported_names(source) == {"os", *PACKAGES}


SOURCES = {
    "papers_shared": "shared/src/papers_shared",
    "fanet": "packages/fanet/src/fanet",
    "plvl": "packages/plvl/src/plvl",
    "cabl_cgsr": "packages/cabl-cgsr/src/cabl_cgsr",
}


@pytest.mark.parametrize("name", SOURCES)
def test_no_module_imports_a_module_that_imports_it(name: str, root: Path) -> None:
    """Imports inside functions and for types only count too."""
    graph = import_graph(root / SOURCES[name])
    assert len(graph) > 20, "the sources were not found"
    assert sum(map(len, graph.values())) > len(graph), "the imports were not read"
    assert not circles(graph)


def test_circles_are_found(tmp_path: Path) -> None:
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("def f():\n    from house.b import g\n")
    (package / "b.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house import c\n"
    )
    (package / "c.py").write_text("import importlib\nimportlib.import_module('house.a')\n")
    (package / "d.py").write_text("import house.a\n")
    assert circles(import_graph(package)) == [["house.a", "house.b", "house.c"]]


@pytest.mark.parametrize("name", ["papers_shared", *sorted(PACKAGES)])
def test_a_bare_import_is_light_and_brings_no_sibling(name: str) -> None:
    code = f"import sys, {name}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & (HEAVY | PACKAGES - {name})
