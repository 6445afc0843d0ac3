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


def test_a_kill_while_the_first_checkpoint_was_written_loses_nothing_that_was_whole(tmp_path: Path) -> None:
    recipe = Recipe()
    run = RunFolder(tmp_path)
    open_run(run, recipe, free={}, main_process=True)
    steps = range(1, recipe.run.checkpoint_every + 3)
    (tmp_path / "log.jsonl").write_text("".join(f'{{"kind": "train", "step": {step}}}\n' for step in steps))
    del run
    with pytest.raises(UserError, match="no sound checkpoint is left"):
        open_run(RunFolder(tmp_path), recipe, free={}, main_process=True)
    (tmp_path / "checkpoints" / f".step-{recipe.run.checkpoint_every:08d}.partial").mkdir()
    assert open_run(RunFolder(tmp_path), recipe, free={}, main_process=True) is None
    assert not (tmp_path / "log.jsonl").read_text(), "it begins again"
