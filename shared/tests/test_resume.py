from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from papers_shared.errors import UserError
from papers_shared.training.config import OptimConfig, RunConfig
from papers_shared.training.resume import open_run
from papers_shared.training.run_folder import RunFolder


@dataclass(frozen=True)
class Recipe:
    name: str = "tiny"
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)


def test_a_start_that_took_no_step_may_be_corrected(tmp_path: Path) -> None:
    recipe = Recipe()
    corrected = replace(recipe, optim=replace(recipe.optim, batch_size=4))
    for asked in (recipe, corrected):
        folder = RunFolder(tmp_path)
        assert open_run(folder, asked, free={}, main_process=True) is None
        del folder  # lets go of its lock, as the end of the process does
    assert json.loads((tmp_path / "config.json").read_text())["optim"]["batch_size"] == 4
    (tmp_path / "log.jsonl").write_text('{"kind": "train", "step": 1}\n')
    with pytest.raises(UserError, match=r"optim.batch_size was 4, is 8"):
        open_run(RunFolder(tmp_path), recipe, free={}, main_process=True)
