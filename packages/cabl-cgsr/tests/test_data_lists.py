"""Lists that people write: JSON, tables and names, in any encoding, and what is wrong with them line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import manipulation_sets as releases
import numpy as np
import pytest

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data import check, load_mask, open_set, training_split
from papers_shared.errors import UserError

PAIRS = [["Tp/x.png", "Gt/x.png"], ["Au/y.png", "Negative"]]
RECORDS = [
    {"image": "Tp/x.png", "mask": "Gt/x.png", "label": 1},
    {"image": "Au/y.png", "mask": None, "label": 0},
]
FORMS = {
    "pairs.json": json.dumps(PAIRS),
    "records.json": json.dumps(RECORDS),
    "records.jsonl": "\n".join(map(json.dumps, RECORDS)),
    "table.csv": "Tp/x.png,Gt/x.png,1\nAu/y.png,None,0\n",
    "header.csv": "image,mask,label\nTp/x.png,Gt/x.png,1\nAu/y.png,,0\n",
    "order.csv": "label;file name;mask path\nfake;Tp/x.png;Gt/x.png\nreal;Au/y.png;\n",
    "tabs.tsv": "Tp/x.png\tGt/x.png\t1\nAu/y.png\tNone\t0\n",
    "blanks.txt": "Tp/x.png Gt/x.png 1\nAu/y.png None 0\n",
    "catnet.txt": "Tp/x.png,Gt/x.png,jpeg/x.jpg\nAu/y.png,None,jpeg/y.jpg\n",
    "windows.csv": "Tp\\x.png,Gt\\x.png,1\r\nAu\\y.png,None,0\r\n",
    "quoted.csv": '"Tp/x.png","Gt/x.png","1"\n"Au/y.png","None","0"\n',
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    releases.image(tmp_path / "Tp" / "x.png")
    releases.mask(tmp_path / "Gt" / "x.png")
    releases.image(tmp_path / "Au" / "y.png")
    return tmp_path


def data(root: Path, name: str, **options: Any) -> DataConfig:
    return DataConfig(root=str(root), list=name, **options)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_rows(name: str, encoding: str, root: Path) -> None:
    (root / name).write_bytes(FORMS[name].encode(encoding))
    rows = open_set(data(root, name), masks=True)
    assert list(rows["name"]) == ["y", "x"]
    assert list(rows["label"]) == [0, 1]
    assert np.array_equal(load_mask(rows[1]), releases.TRUTH)
    assert not check(data(root, name), progress=False).errors


def test_labels_alone_are_enough_for_training(root: Path) -> None:
    (root / "list.csv").write_text("path,class\nTp/x.png,tampered\nAu/y.png,authentic\n")
    assert list(training_split(data(root, "list.csv", val_share=0.0), "train")["label"]) == [0, 1]
    assert list(open_set(data(root, "list.csv"), masks=True)["mask"]) == [None, None]


FAULTS = {
    "list.csv": [
        ("Tp/x.png,Gt/x.png,1\ngone.png,None,0\n", "line 2", "'gone.png' is not below"),
        ("Tp/x.png,Gt/x.png,1\n../secret.png,None,0\n", "line 2", "leads outside"),
        ("Tp/x.png,Gt/x.png,1\nC:\\a\\b.png,None,0\n", "line 2", "leads outside"),
        ("Tp/x.png,Gt/x.png,1\nAu/y.png,None,7\n", "line 2", "the label must be 0 or 1, not '7'"),
        ("image,label\nTp/x.png,1\nAu/y.png,2\n", "line 3", "the label must be 0 or 1, not '2'"),
        ("image,label\nTp/x.png,1\nAu/y.png,0,9,9\n", "line 3", "4 values for 2 columns"),
        ("Tp/x.png,Gt/x.png,1\nTp/x.png,None,0\n", "line 2", "with another label or mask"),
    ],
    "list.json": [
        ([["Tp/x.png", "Gt/x.png"], []], "entry 2", "must be"),
        ([["Tp/x.png", "Gt/x.png"], 7], "entry 2", "must be"),
        (
            {"a": {"path": "Tp/x.png", "label": 1}, "b": {"path": "Au/y.png", "label": 2}},
            "entry 'b'",
            "0 or 1",
        ),
        ({"a": {"path": "Tp/x.png", "label": 1}, "b": {"label": 0}}, "entry 'b'", "needs a path"),
        (
            [{"image": "Tp/x.png", "label": 1}, {"image": "a\0b.png", "label": 1}],
            "entry 2",
            "no name of a file",
        ),
        (
            [{"image": "Tp/x.png", "label": 1}, {"image": "\ud800.png", "label": 1}],
            "entry 2",
            "half a character",
        ),
    ],
}


@pytest.mark.parametrize(
    ("name", "content", "where", "message"),
    [(name, *fault) for name, faults in FAULTS.items() for fault in faults],
)
def test_a_faulty_line_is_named_and_the_rest_stands(
    name: str, content: Any, where: str, message: str, root: Path
) -> None:
    (root / name).write_text(content if isinstance(content, str) else json.dumps(content))
    errors = check(data(root, name), progress=False).errors
    assert len(errors) == 1
    assert where in errors[0].source
    assert message in errors[0].message
    with pytest.warns(UserWarning, match=where):
        assert "x" in open_set(data(root, name), masks=False)["name"]
    with pytest.raises(UserError, match=where):  # training would miss what the list names
        training_split(data(root, name, val_share=0.0), "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lists no image"),
        (b"gone.png,None,0\n", "lists no image that is there .*line 1: 'gone.png' is not below"),
        (b"Tp/b\xe4r.png,None,0\n", "line 1, is not text in UTF-8"),
    ],
)
def test_a_list_without_an_image_is_one_sentence(content: bytes, message: str, root: Path) -> None:
    (root / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_set(data(root, "list.txt"), masks=False)


def test_lines_that_repeat_are_told_and_counted_once(root: Path) -> None:
    (root / "list.json").write_text(json.dumps([*PAIRS, PAIRS[0]]))
    assert len(open_set(data(root, "list.json"), masks=True)) == 2
    (finding,) = (
        one for one in check(data(root, "list.json"), progress=False).findings if "again" in one.message
    )
    assert (finding.severity, finding.message) == ("warning", "named again in the list: counted once")
    assert "entry 3" in finding.source
    assert "entry 1" in finding.source


def test_a_mask_of_an_authentic_image_is_mentioned(root: Path) -> None:
    (root / "list.csv").write_text("Tp/x.png,Gt/x.png,1\nAu/y.png,Gt/x.png,0\n")
    assert list(open_set(data(root, "list.csv"), masks=True)["label"]) == [0, 1]
    told = {one.message: one.source for one in check(data(root, "list.csv"), progress=False).findings}
    assert "line 2" in told["mask of an authentic image: not used"]


def test_names_that_leave_the_folder_are_followed_on_request(root: Path, tmp_path_factory) -> None:
    outside = releases.image(tmp_path_factory.mktemp("elsewhere") / "z.png")
    (root / "list.csv").write_text(f"Tp/x.png,Gt/x.png,1\n{outside},None,0\n")
    with pytest.warns(UserWarning, match="--data.allow-outside"):
        assert list(open_set(data(root, "list.csv"), masks=True)["name"]) == ["x"]
    assert list(open_set(data(root, "list.csv", allow_outside=True), masks=True)["name"]) == ["z", "x"]
    (root / "list.csv").write_text(f"{root / 'Tp/x.png'},Gt/x.png,1\n")  # absolute, but inside
    assert list(open_set(data(root, "list.csv"), masks=True)["name"]) == ["x"]


def test_names_pick_from_a_set_with_any_folders_before_them(tmp_path: Path) -> None:
    root = releases.folders(tmp_path / "own")
    names = "D:\\data\\own\\authentic\\a.jpg\r\nmanipulated/batch/b\r\nauthentic/a.jpg\r\n"
    (root / "some.txt").write_bytes(names.encode("utf-16"))
    listed = DataConfig(root=str(root), list="some.txt")
    assert list(open_set(listed, masks=True)["name"]) == ["authentic/a.jpg", "manipulated/batch/b.png"]
    messages = [finding.message for finding in check(listed, progress=False).findings]
    assert "named again in the list: counted once" in messages
    assert any("not named by" in message for message in messages)
    (root / "some.txt").write_text("other/a.jpg\nbatch/a.jpg\n")  # never an image of another folder
    with pytest.warns(UserWarning, match="line 1"):
        assert list(open_set(listed, masks=True)["name"]) == ["manipulated/batch/a.jpg"]
