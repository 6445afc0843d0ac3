"""Each defect of a data folder is found, with what to do; content that two sets share is named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

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
from papers_shared.images import verify_image

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
    (lambda data: file(data, "Au").write_bytes(b"text"), "error", "an image in a known format"),
    (lambda data: file(data, MASKS).write_bytes(b"text"), "error", "not an image in a known format"),
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

    assert counts_finding(Full(), masks=False).severity == "note"
    assert "--data.coverage-forgeries 91" in counts_finding(Full(), masks=False).message


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


def test_sound_files_are_read_once(data: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(path: Path) -> None:
        read.append(path.name)
        verify_image(path)

    monkeypatch.setattr(import_module("cabl_cgsr.data.check"), "verify_image", counted)
    assert not quick_check(data).findings
    assert len(read) == 8
    assert not quick_check(data).findings
    assert len(read) == 8
    changed, cut = file(data, "Au"), file(data, "Tp", 1)
    releases.image(changed, seed=9)
    cut.write_bytes(cut.read_bytes()[:300])
    (error,) = quick_check(data).errors
    assert error.source == str(cut)
    assert set(read[8:]) == {changed.name, cut.name}
    assert quick_check(data).errors == [error]  # a broken one is looked at again


def findings(root: Path, **options: Any) -> dict[str, tuple[str, str]]:
    """Severity and remedy by message."""
    report = check(DataConfig(root=str(root), **options), progress=False)
    return {finding.message: (finding.severity, finding.remedy) for finding in report.findings}


def test_inverted_masks_are_noticed_with_the_option_that_mends_it(tmp_path: Path) -> None:
    message = "most masks mark more than 60% of their images, as inverted ones do"
    plain, turned = releases.folders(tmp_path / "plain"), releases.folders(tmp_path / "turned")
    for path in (turned / "masks").rglob("*.png"):
        releases.mask(path, ~releases.TRUTH)
    assert message not in findings(plain)
    severity, remedy = findings(turned)[message]
    assert severity == "warning"
    assert "--data.invert-masks" in remedy
    assert message not in findings(turned, invert_masks=True)
    assert "leave --data.invert-masks out" in findings(plain, invert_masks=True)[message][1]
    assert message not in findings(releases.nist16(tmp_path / "nist"))
    assert message in findings(releases.dso1(tmp_path / "dso1"), invert_masks=True)


def test_levels_that_are_no_plain_mask_are_told(tmp_path: Path) -> None:
    root = releases.folders(tmp_path)
    first, second = sorted((root / "masks" / "batch").iterdir())
    Image.fromarray(releases.TRUTH.astype(np.uint8)).save(first)
    noisy = np.where(releases.TRUTH, 240, 0).astype(np.uint8)
    noisy[::4] += 3  # as a mask that was a JPEG once
    Image.fromarray(noisy).save(second)
    told = findings(root)
    assert told["levels 0 and 1: read as 0 and 255"][0] == "note"
    (message,) = (one for one in told if one.startswith("levels of 1 to 31"))
    assert told[message][0] == "warning"
    assert "--data.mask-threshold 127" in told[message][1]
    assert message not in findings(root, mask_threshold=127)
    Image.fromarray(releases.TRUTH.astype(np.uint8) * 2).save(second)
    assert "no level of the mask is above 2 of 255: all above 0 count as manipulated" in findings(root)


def test_all_files_of_a_folder_are_used_or_mentioned(tmp_path: Path) -> None:
    root = releases.folders(tmp_path / "set")
    releases.image(root / "stray.png")
    releases.image(root / "spare" / "y.png")
    np.savez(root / "masks" / "m.npz", mask=releases.TRUTH)
    (root / "authentic" / "z.heic").write_bytes(b"heic")
    for name in ("notes.txt", ".DS_Store", "._a.jpg", "authentic/Thumbs.db"):
        (root / name).write_bytes(b"x")
    report = check(DataConfig(root=str(root)), progress=False)
    told = {finding.message: [] for finding in report.findings}
    for finding in report.findings:
        told[finding.message].append(finding.source)
    assert told["image that the layout folders has no use for: not read"] == [
        str(root / "spare" / "y.png"),
        str(root / "stray.png"),
    ]
    assert told["file of a format that is not read (.npz)"] == [str(root / "masks" / "m.npz")]
    assert told["file of a format that is not read (.heic)"] == [str(root / "authentic" / "z.heic")]
    assert told["other files: not read"] == [f"{root} (1 .txt)"]
    (taken,) = told["layout folders"]
    assert "authentic: 2 authentic; manipulated: 2 manipulated; masks: 2 masks" in taken


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (releases.coverage, "masks of the copied and of the pasted part"),
        (partial(releases.columbia, converted=True), "coloured masks: converted ones are taken"),
        (releases.nist16, "images of world"),
        (releases.autosplice, "lower JPEG qualities"),
    ],
)
def test_what_a_release_holds_and_nobody_reads_is_a_note(write, reason: str, tmp_path: Path) -> None:
    report = check(DataConfig(root=str(write(tmp_path / "set"))), progress=False)
    assert severities(report, reason) == {"note"}
    assert not severities(report, "has no use for")


def test_names_that_no_table_can_hold_are_errors(tmp_path: Path) -> None:
    root = releases.folders(tmp_path / "set")
    broken = os.fsencode(root / "authentic") + b"/caf\xe9.png"
    shutil.copy(root / "authentic" / "b.png", broken)
    report = check(DataConfig(root=str(root)), progress=False)
    assert severities(report, "not UTF-8") == {"error"}
    with pytest.warns(UserWarning, match="not UTF-8"):
        assert len(open_set(DataConfig(root=str(root)), masks=True)) == 4


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
