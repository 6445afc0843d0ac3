"""What a benchmark's record says beside its figures: a made-up run."""

from __future__ import annotations

from typing import Any

MACHINE = {"processor": "made up", "device": "cpu", "cores": 2, "threads_used": 2}


def about_run(package: str, **more: Any) -> dict[str, Any]:
    """All fields but those of `Findings`; `more` replaces some."""
    about = {
        "format": 2, "package": package, "command": f"python -m benchmarks {package}", "started": "2026-01-01 00:00:00",
        "seconds": 60.0, "complete": True, "quick": False, "load": 0.1, "machine": MACHINE, "commit": "abc",
        "versions": {"torch": "2.8"}, "protocol": ["one"], "targets": [],
    }  # fmt: skip
    return {**about, **more}
