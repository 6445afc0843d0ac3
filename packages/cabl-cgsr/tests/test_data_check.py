"""Each defect of a data folder is found, with what to do; content that two sets share is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import manipulation_sets as releases
import numpy as np
import pytest
from PIL import Image

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data import check, open_set, quick_check
from cabl_cgsr.data.commands import run_check, run_toy
from cabl_cgsr.data.leakage import fingerprint
from cabl_cgsr.data.published import PUBLISHED, counts_finding
from cabl_cgsr.options import DataCheckOptions, DataToyOptions
from papers_shared.doctor import Report
from papers_shared.errors import UserError

MASKS = "CASIA 2 Groundtruth"


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return DataConfig(root=str(releases.casia2(tmp_path / "CASIA 2.0")), val_share=0.3)


def file(data: DataConfig, folder: str, number: int = 0) -> Path:
    return sorted((Path(data.root) / folder).iterdir())[number]


def severities(report: Report, message: str) -> set[str]:
    found = [finding for finding in report.findings if message in finding.message]
    assert all(finding.source for finding in found)
    return {finding.severity for finding in found}


def copy_into(data: DataConfig) -> None:
    shutil.copy(file(data, "Au"), Path(data.root) / "Au" / "Au_txt_00009.jpg")


def mislabel(data: DataConfig) -> None:
    Image.open(file(data, "Au", 2)).save(file(data, "Tp", 2))


def rewrite_mask(truth: np.ndarray) -> Callable[[DataConfig], None]:
    return lambda data: releases.mask(file(data, MASKS), truth) and None


DEFECTS = [
    (lambda data: file(data, "Tp").unlink(), "warning", "mask without an image"),
    (lambda data: file(data, MASKS).unlink(), "warning", "manipulated image without a mask"),
    (lambda data: file(data, "Au").write_bytes(b"text"), "error", "not an image"),
    (lambda data: file(data, MASKS).write_bytes(b"text"), "error", "not a readable image"),
    (rewrite_mask(np.ones((48, 72), bool)), "warning", "mask of another size"),
    (rewrite_mask(releases.TRUTH.T), "warning", "mask on its side"),
    (rewrite_mask(np.zeros(releases.SIZE, bool)), "warning", "empty mask"),
    (rewrite_mask(np.ones(releases.SIZE, bool)), "warning", "covers the whole image"),
    (copy_into, "warning", "the same image several times"),
    (mislabel, "warning", "the same pixels labelled authentic and manipulated"),
]


def test_intact_folder(data: DataConfig) -> None:
    report = check(data, progress=False)
    assert {finding.severity for finding in report.findings} == {"note", "warning"}  # fewer than published
    assert severities(report, "published are 7,491 authentic and 5,123 manipulated") == {"warning"}
    assert severities(report, "mask with a number after _gt") == {"note"}
    assert len([finding for finding in report.findings if finding.severity == "warning"]) == 1
    assert not quick_check(data).findings


@pytest.mark.parametrize(("spoil", "severity", "message"), DEFECTS)
def test_each_defect_is_found(spoil, severity: str, message: str, data: DataConfig) -> None:
    assert not severities(check(data, progress=False), message)
    spoil(data)
    report = check(data, progress=False)
    assert severities(report, message) == {severity}
    assert all(finding.remedy for finding in report.findings if message in finding.message)
    assert report.exit_code == (severity == "error")


def test_known_names_and_counts(tmp_path: Path) -> None:
    report = check(DataConfig(root=str(releases.casia1(tmp_path))), progress=False)
    assert severities(report, "has no mask in any release") == {"note"}
    assert severities(report, "manipulated image without a mask") == set()
    assert severities(report, "a dot inside the name") == {"note"}
    assert severities(report, "agree in their running number only") == {"note"}

    class Full:
        dataset, counts = "coverage", PUBLISHED["coverage"]

    assert counts_finding(Full()).severity == "note"
    assert "--data.coverage-forgeries 91" in counts_finding(Full()).message


def test_folder_without_masks_is_a_note(tmp_path: Path) -> None:
    report = check(DataConfig(root=str(releases.folders(tmp_path, masks=False))), progress=False)
    assert severities(report, "only image scores can be had") == {"note"}
    assert {finding.severity for finding in report.findings} == {"note"}


def test_quick_check_stops_a_training(data: DataConfig, tmp_path: Path) -> None:
    assert quick_check(DataConfig(root=str(tmp_path / "nowhere"))).errors
    shutil.rmtree(Path(data.root) / MASKS)
    assert not quick_check(data).errors  # training knows no masks
    broken = file(data, "Tp", 1)
    broken.write_bytes(b"text")
    assert "not an image" in quick_check(data).errors[0].message
    broken.unlink()
    shutil.rmtree(Path(data.root) / "Au")
    assert "there is no authentic image" in quick_check(data).errors[0].message
    assert not quick_check(data, "val").errors  # pixels can be scored without authentic ones


def photo(seed: int) -> np.ndarray:
    low = np.random.default_rng(seed).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    return cv2.resize(low, (144, 96), interpolation=cv2.INTER_CUBIC)


def test_content_is_recognised_in_another_size_and_compression(tmp_path: Path) -> None:
    image = photo(0)
    Image.fromarray(image).resize((101, 67)).save(tmp_path / "x.jpg", quality=60)
    changed = image.copy()
    changed[20:50, 30:70] = photo(7)[20:50, 30:70]
    versions = [fingerprint(image) for image in (np.asarray(Image.open(tmp_path / "x.jpg")), changed)]
    assert all(fingerprint(image).details @ version.details > 0.8 for version in versions)
    assert fingerprint(image).details @ versions[0].details > 0.95
    others = np.stack([fingerprint(photo(seed)).details for seed in range(1, 40)])
    assert np.abs(others @ fingerprint(image).details).max() < 0.3
    flat = fingerprint(np.full((50, 60, 3), 90, np.uint8))
    assert not flat.details.any()


def test_leakage_is_named_and_a_list_without_it_is_written(tmp_path: Path) -> None:
    train, test = tmp_path / "train", tmp_path / "test"
    for seed in range(4):
        for root, offset in ((train, 0), (test, 10)):
            for folder, extra in (("authentic", 0), ("manipulated", 100)):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(photo(seed + offset + extra)).save(root / folder / f"{folder[0]}{seed}.png")
    shutil.copy(test / "authentic" / "a1.png", train / "authentic" / "copy.png")
    Image.fromarray(photo(12)).resize((72, 48)).save(train / "manipulated" / "small.jpg", quality=70)
    options = DataCheckOptions(
        root=str(train),
        against=(str(test),),
        keep_list=str(tmp_path / "keep.txt"),
        json=str(tmp_path / "r.json"),
    )
    assert run_check(options) == 0
    findings = json.loads((tmp_path / "r.json").read_text())["findings"]
    leaks = {f["source"]: f["message"] for f in findings if "~" in f["source"]}
    assert leaks == {
        "copy ~ a1": "the same image in train and test, with the same label",
        "small ~ a2": "nearly the same image (another size, compression or a part) in train and test, "
        "with another label",
    }
    kept = open_set(DataConfig(root=str(train), list=str(tmp_path / "keep.txt")), masks=False)
    assert sorted(kept["name"]) == [f"{kind}{n}" for kind in "am" for n in range(4)]
    assert run_check(DataCheckOptions(root=str(train), against=(str(tmp_path / "gone"),))) == 1


def test_toy_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_toy(DataToyOptions(root=str(tmp_path), train=2, test=2, size=(48, 64))) == 0
    assert "CASIA2 (training)" in capsys.readouterr().out
    assert len(open_set(DataConfig(root=str(tmp_path / "CASIA1")), masks=True)) == 4
    with pytest.raises(UserError):
        run_toy(DataToyOptions(root=str(tmp_path), train=1))
