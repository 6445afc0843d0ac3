"""What may be imported early."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "papers_shared",
        "papers_shared.errors",
        "papers_shared.hub",
        "papers_shared.doctor",
        "papers_shared.sam",
    ],
)
def test_light_modules_do_not_import_torch(module: str) -> None:
    code = (
        f"import {module}, sys; print([name for name in ('torch', 'huggingface_hub') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
