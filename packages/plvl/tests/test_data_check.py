"""`plvl data check`: what is wrong is found and named; images seen in training are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from releases import SQUARE, coco_name, write_image, write_refer, write_visual_genome

from papers_shared.doctor import Report
from plvl.config import DataConfig
from plvl.data import check, quick_check
from plvl.data.audit import audit
from plvl.data.commands import build_dataset, run_check
from plvl.options import DataCheckOptions
from plvl.tokenizer import make_vocabulary


def _lines(root: Path, split: str, *entries: dict[str, Any]) -> DataConfig:
    write_image(root / "a.png")
    base = {"image": "a.png", "expression": "dog", "width": 60, "height": 40}
    (root / f"{split}.jsonl").write_text("\n".join(json.dumps({**base, **entry}) for entry in entries))
    return DataConfig(root=str(root), train_split=split, val_split=split)


def _said(report: Report, severity: str) -> set[str]:
    return {finding.message.split(":")[0] for finding in report.findings if finding.severity == severity}


GOOD = {"box": [10, 5, 30, 25], "mask": SQUARE}


def test_a_sound_folder(tmp_path: Path) -> None:
    data = _lines(tmp_path, "train", {**GOOD, "name": "x"}, {**GOOD, "name": "y"})
    report = check(data, progress=False)
    assert [finding.severity for finding in report.findings] == ["note", "note"]
    assert report.findings[0].message == "layout jsonl, splits train"
    assert report.findings[1].message == "1 images, 2 expressions, 2 with a mask"
    assert quick_check(data).findings == []


@pytest.mark.parametrize(
    ("entry", "severity", "message", "quick"),
    [
        ({**GOOD, "image": "b.png"}, "error", "image of split train is missing", True),
        ({**GOOD, "image": "damaged.png"}, "error", "unusable image", True),
        ({"box": [10, 5, 30, 25], "width": 61}, "error", "unusable image", True),
        ({"box": [70, 5, 90, 25]}, "error", "the box is outside the image", True),
        ({"box": [10, 5, 80, 25]}, "warning", "the box leaves the image", False),
        (
            {"box": [10, 5, 30, 25], "mask": {"size": [40, 60], "counts": [2400]}},
            "warning",
            "the mask is empty",
            False,
        ),
        ({"box": [40, 5, 59, 25], "mask": SQUARE}, "warning", "the mask is elsewhere than the box", False),
        ({**GOOD, "expression": "  "}, "warning", "the sentence is empty", False),
        ({**GOOD, "expression": "word " * 39}, "warning", "the sentence has more than 38 word pieces", False),
        ({**GOOD, "name": "twice"}, "error", "several sentences have this name", True),
    ],
)
def test_what_is_wrong_is_found(
    entry: dict[str, Any], severity: str, message: str, quick: bool, tmp_path: Path
) -> None:
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n")
    data = _lines(tmp_path, "train", {**GOOD, "name": "twice"}, {"name": "other", **entry})
    assert message in _said(check(data, progress=False), severity)
    assert _said(quick_check(data), "error") == ({message} if quick else set())
    report = check(data, progress=False)
    assert report.exit_code == (severity == "error")


def test_word_pieces_are_counted_where_a_vocabulary_is_given(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(make_vocabulary(["dog"], 200))
    data = _lines(tmp_path, "train", {**GOOD, "expression": "abcdefgh", "name": "x"})
    assert not _said(check(data, progress=False, max_tokens=8), "warning")
    said = _said(check(data, progress=False, max_tokens=8, vocabulary=str(tmp_path / "vocab.txt")), "warning")
    assert said == {"the sentence has more than 6 word pieces"}


def test_counts_that_are_off(tmp_path: Path) -> None:
    write_refer(tmp_path / "r", "refcocog", "umd", {"train": [1], "val": [2]})
    build_dataset("refcocog_umd", str(tmp_path / "out"), refer=str(tmp_path / "r"))
    report = check(DataConfig(root=str(tmp_path / "out")), progress=False)
    assert "not the published counts (images, objects, expressions)" in _said(report, "warning")
    manifest = tmp_path / "out" / "plvl-data.json"
    manifest.write_text(manifest.read_text().replace('"expressions": 2', '"expressions": 3'))
    assert "2 expressions, but 3 were written" in _said(
        check(DataConfig(root=str(tmp_path / "out")), progress=False), "error"
    )


def test_a_folder_that_is_not_there() -> None:
    report = check(DataConfig(root="/nowhere"), progress=False)
    assert "does not exist" in report.errors[0].message


def _build(tmp_path: Path, dataset: Any, **options: Path) -> DataConfig:
    folder = tmp_path / dataset
    build_dataset(dataset, str(folder), **{key: str(value) for key, value in options.items()})
    return DataConfig(root=str(folder))


def _places(findings: Any, severity: str) -> list[str]:
    return [finding.source for finding in findings if finding.severity == severity]


def test_the_audit_counts_images_seen_in_training(tmp_path: Path) -> None:
    release = tmp_path / "r"
    write_refer(release, "refcoco", "unc", {"train": [1, 2], "val": [3, 4], "testA": [5]})
    write_refer(release, "refcocog", "umd", {"train": [3, 5]}, first=40)
    images: list[dict[str, Any]] = [
        {"image_id": 100, "coco_id": 4},
        {"image_id": 101, "flickr_id": 900003},
        {"image_id": 102, "coco_id": 1},
    ]
    genome = write_visual_genome(tmp_path / "vg", images)
    data = _build(tmp_path, "refcoco_unc", refer=release)
    other = _build(tmp_path, "refcocog_umd", refer=release)
    findings = list(audit(data, [other.root], str(genome)))
    leaks = [place for place in _places(findings, "warning") if "occur in" in place]
    assert leaks == [
        f"val: 1 of 2 images occur in {other.root}, refcocog_umd",
        "val: 2 of 2 images occur in all of Visual Genome",
        f"testA: 1 of 1 images occur in {other.root}, refcocog_umd",
    ]
    assert "val: 0 of 2 images occur in the train split, refcoco_unc" in _places(findings, "note")
    built = _build(tmp_path, "visual_genome", visual_genome=genome)
    findings = list(audit(data, [built.root]))
    assert f"val: 2 of 2 images occur in {built.root}, visual_genome" in _places(findings, "warning")


def test_the_audit_of_a_clean_mixture_finds_none_in_training(tmp_path: Path) -> None:
    release = tmp_path / "r"
    write_refer(release, "refcoco", "unc", {"train": [1, 2], "val": [3]})
    write_refer(release, "refcoco+", "unc", {"train": [1, 3], "val": [2]}, first=20)
    write_refer(release, "refcocog", "umd", {"train": [1, 4], "val": [5]}, first=40)
    for dataset, leaks in (("mixed_coco", True), ("mixed_coco_clean", False)):
        findings = list(audit(_build(tmp_path, dataset, refer=release)))
        assert any("occur in the train split" in place for place in _places(findings, "warning")) == leaks


def test_what_the_detector_saw(tmp_path: Path) -> None:
    release = tmp_path / "r"
    write_refer(release, "refcoco", "unc", {"val": [3, 4]})
    data = _build(tmp_path, "refcoco_unc", refer=release)
    told = _places(audit(data), "warning")
    assert told == ["val: 2 of 2 images (all of COCO train2014 is in train2017)"]
    ids = tmp_path / "instances_train2017.json"
    ids.write_text(json.dumps({"images": [{"id": 3}, {"id": 8}]}))
    assert _places(audit(data, detector=str(ids)), "warning") == [f"val: 1 of 2 images (by {ids})"]
    folder = release / "images" / "mscoco" / "images" / "train2014"
    other = tmp_path / "images" / "train2017"
    other.mkdir(parents=True)
    for number in (3, 4):
        (folder / coco_name(number)).rename(other / f"{number:012d}.jpg")
    data = _build(tmp_path, "refcoco_unc", refer=release, images=tmp_path / "images")
    assert not _places(audit(data), "warning")
    assert "val: 2 of 2" in _places(audit(data), "note")


def test_the_command_prints_and_writes_its_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = write_refer(tmp_path / "r", "refcoco", "unc", {"train": [1], "val": [1]})
    data = _build(tmp_path, "refcoco_unc", refer=release)
    options = DataCheckOptions(root=data.root, json=str(tmp_path / "findings.json"))
    assert run_check(options) == 0
    assert "val: 1 of 1 images occur in the train split, refcoco_unc" in capsys.readouterr().out
    assert json.loads((tmp_path / "findings.json").read_text())["errors"] == 0
    file = release / "images" / "mscoco" / "images" / "train2014" / coco_name(1)
    Image.new("RGB", (30, 40)).save(file)
    assert run_check(options) == 1
    assert "is 30x40 pixels, and its box and mask were made for 60x40" in capsys.readouterr().out


def test_the_audit_says_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _lines(tmp_path, "train", {**GOOD, "name": "x"})
    assert run_check(DataCheckOptions(root=data.root, training=(str(tmp_path / "absent"),))) == 1
    assert "absent does not exist" in capsys.readouterr().out
    assert run_check(DataCheckOptions(root=str(tmp_path / "absent"))) == 1
    assert capsys.readouterr().out.count("does not exist") == 1


def test_files_that_are_not_used_are_mentioned(tmp_path: Path) -> None:
    data = _lines(tmp_path, "train", {**GOOD, "name": "x"}, {**GOOD, "name": "y", "image": "B.png"})
    write_image(tmp_path / "b.png")
    write_image(tmp_path / "more" / "c.png")
    (tmp_path / "labels.xml").write_text("<a/>")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    report = check(data, progress=False)
    notes = {finding.source: finding.message for finding in report.findings if finding.severity == "note"}
    assert notes["more (1: c.png)"] == notes[". (1: b.png)"] == "images that no sentence names (.png)"
    assert notes[". (1: labels.xml)"] == "files that are not read (.xml)"
    assert not any("DS_Store" in source for source in notes)
    assert report.errors[0].source.endswith("B.png (there is b.png: the case of letters counts)")
