"""READMEs: the lists of modules are true."""

from __future__ import annotations

import re
from pathlib import Path


def test_the_readme_of_shared_lists_every_module(root: Path) -> None:
    listed = re.findall(
        r"^\| `papers_shared\.(\w+)` \|", (root / "shared/README.md").read_text(encoding="utf-8"), re.M
    )
    source = root / "shared/src/papers_shared"
    modules = [
        path.stem for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    assert sorted(listed) == sorted(set(modules) - {"__init__"})
