"""Build hooks: where this package finds `papers-shared`. The same file lies in every package.

From a working tree (`pip install ./packages/NAME`, `pip install "git+...#subdirectory=packages/NAME"`) the
dependency is the folder `shared` of the same tree. In a release (`PAPERS_RELEASE=1`, set by `nox -s build`)
it is a pin on the same version, and a wheel built from the sdist keeps what the sdist says.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


class Dependencies(MetadataHookInterface):
    """Puts `papers-shared` before the dependencies listed under `tool.hatch.metadata.hooks.custom`."""

    def update(self, metadata: dict[str, Any]) -> None:
        if "dependencies" in metadata:  # an unpacked sdist: its PKG-INFO has the final word
            return
        shared = Path(self.root).resolve().parents[1] / "shared"
        if os.environ.get("PAPERS_RELEASE") != "1" and (shared / "src" / "papers_shared").is_dir():
            papers_shared = f"papers-shared @ {shared.as_uri()}"
        else:
            papers_shared = f"papers-shared~={metadata['version']}"
        metadata["dependencies"] = [papers_shared, *self.config["dependencies"]]


class ReleasedSdist(BuildHookInterface):
    """Refuses an sdist whose metadata would point into this working tree."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if any("@ file:" in dependency for dependency in self.metadata.core.dependencies):
            raise ValueError("an sdist is built for a release: set PAPERS_RELEASE=1, or run `nox -s build`")
