from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fanet.config import DataConfig
from fanet.data import check, quick_check
from fanet.toy import write_zerowaste
from papers_shared.errors import UserError

SAMPLES = os.environ.get("PAPERS_SAMPLES")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zerowaste(tmp_path_factory.mktemp("clean"), train=12, val=2, test=2, size=(48, 80))


@pytest.fixture
def data(clean: Path, tmp_path: Path) -> DataConfig:
    shutil.copytree(clean, tmp_path / "data")
    return DataConfig(root=str(tmp_path / "data"), cache=str(tmp_path / "cache"))


def _last(data: DataConfig, folder: str = "sem_seg", split: str = "train") -> Path:
    return max((Path(data.root) / split / folder).iterdir())


def _change_mask(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[DataConfig], None]:
    def spoil(data: DataConfig) -> None:
        Image.fromarray(change(np.asarray(Image.open(_last(data))))).save(_last(data))

    return spoil


def _all_grey(data: DataConfig) -> None:
    for file in (Path(data.root) / "train" / "sem_seg").iterdir():
        Image.fromarray((np.asarray(Image.open(file)) > 0).astype(np.uint8) * 255).save(file)


def _cut_off(data: DataConfig) -> None:
    whole = _last(data, "data").read_bytes()
    _last(data, "data").write_bytes(whole[: len(whole) // 2])


def _copy_of_a_test_frame(data: DataConfig) -> None:
    Image.open(_last(data, "data", "test")).save(_last(data, "data"))


def _video_in_two_splits(data: DataConfig) -> None:
    for folder in ("data", "sem_seg"):
        file = _last(data, folder, "val")
        file.rename(file.with_name(f"01_{file.name[3:]}"))


def test_clean_folder(data: DataConfig) -> None:
    report = check(data, progress=False)
    assert report.exit_code == 0
    text = "\n".join(f"{finding.source} {finding.message}" for finding in report.findings)
    assert "split train 12 images; pixels: background" in text
    assert "train 12 of 3,002, val 2 of 572, test 2 of 929 not the split sizes published" in text
    assert not quick_check(data).findings or not quick_check(data).errors


@pytest.mark.parametrize(
    ("spoil", "severity", "message"),
    [
        (lambda data: _last(data).unlink(), "error", "image without a mask"),
        (lambda data: _last(data, "data").unlink(), "warning", "mask without an image"),
        (_change_mask(lambda mask: mask[:, :-1]), "error", "differ in size"),
        (_change_mask(lambda mask: mask + 9), "error", "values that are no class"),
        (_change_mask(lambda mask: np.stack([mask, mask, mask + 1], -1)), "error", "colour image"),
        (
            _change_mask(lambda mask: (mask > 0).astype(np.uint8) * 255),
            "warning",
            "ignored pixels only",
        ),
        (_all_grey, "error", "0/255 mask"),
        (_cut_off, "error", "unreadable image"),
        (lambda data: _last(data).write_bytes(b"no image"), "error", "unusable mask"),
        (_copy_of_a_test_frame, "warning", "the same image in several splits"),
        (_video_in_two_splits, "warning", "a video with frames in several splits"),
    ],
)
def test_each_defect_is_found(spoil, severity: str, message: str, data: DataConfig) -> None:
    spoil(data)
    assert bool(quick_check(data).errors) == (severity == "error")
    report = check(data, progress=False)
    found = [finding for finding in report.findings if message in finding.message]
    assert found
    assert {finding.severity for finding in found} == {severity}
    assert all(finding.remedy and finding.source for finding in found)
    assert report.exit_code == (severity == "error")
    assert bool(quick_check(data).errors) == (severity == "error")  # by the result of the full check


def test_result_of_a_full_check_is_forgotten_when_a_file_changes(data: DataConfig) -> None:
    intact = _last(data).read_bytes()
    _change_mask(lambda mask: mask + 9)(data)
    check(data, progress=False)
    with pytest.raises(UserError, match="fanet data check"):
        quick_check(data).raise_if_broken("fanet data check")
    _last(data).write_bytes(intact)
    assert not quick_check(data).errors


def test_missing_folder_and_split(tmp_path: Path, data: DataConfig) -> None:
    assert check(DataConfig(root=str(tmp_path / "nowhere"))).exit_code == 1
    shutil.rmtree(Path(data.root) / "val")
    with pytest.raises(UserError, match="no split 'val'"):
        quick_check(data)
    assert not quick_check(data, ("train", "test")).errors


def test_class_folders_count_images(tmp_path: Path) -> None:
    for name, count in (("cat", 2), ("dog", 1)):
        for number in range(count):
            (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 9), (number, count, 0)).save(tmp_path / "train" / name / f"{number}.png")
    data = DataConfig(root=str(tmp_path), cache=str(tmp_path / "cache"), val_split="train")
    report = check(data, progress=False)
    assert report.exit_code == 0
    assert "3 images, 1 to 2 per class" in [finding.message for finding in report.findings]
    assert not quick_check(data).errors


@pytest.mark.skipif(not SAMPLES, reason="PAPERS_SAMPLES is not set")
@pytest.mark.parametrize(
    ("folder", "code"), [("figure_frames", 0), ("standin_trashbags", 0), ("annotations_only", 1)]
)
def test_real_folders(folder: str, code: int, tmp_path: Path) -> None:
    data = DataConfig(root=f"{SAMPLES}/zerowaste/{folder}", cache=str(tmp_path))
    assert check(data, progress=False).exit_code == code
