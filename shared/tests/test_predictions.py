"""A folder of predictions: names, failures, second calls, kills, processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from papers_shared.batches import Group, Item, Loaded, Steps
from papers_shared.errors import UserError
from papers_shared.predictions import INPUTS, RECORDS, STARTED, predict_into, weights_digest

FILES = {"mask": "masks/{}.txt"}
ASKED: list[str] = []
"""Names of the images that were answered, of all calls of a test."""


@pytest.fixture(autouse=True)
def _nothing_asked() -> None:
    ASKED.clear()


def network(value: float = 1.0) -> nn.Module:
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, value)
    nn.init.zeros_(layer.bias)
    return layer


def run(
    output: Path, paths: Sequence[Path], sentences: Sequence[str] = (), **more: Any
) -> list[dict[str, Any]]:
    def read(group: Group) -> Loaded:
        ASKED.extend(item.path.name for item in group)
        return Loaded(group[0].path.read_text(), ((1, 1),), 1)

    def answer(batch: Sequence[tuple[Group, str]]) -> list[list[str]]:
        if "bug" in [text for _, text in batch]:
            raise ZeroDivisionError("by zero")
        return [[text] * len(group) for group, text in batch]

    def write(item: Item, text: str) -> dict[str, Any]:
        (output / FILES["mask"].format(item.name)).write_text(text)
        score = float("nan") if text == "not a number" else 0.5
        return {"mask": FILES["mask"].format(item.name), "letters": len(text), "score": score}

    groups = [
        [Item(path, {"sentence": s}) for s in sentences] if sentences else [Item(path)] for path in paths
    ]
    settings = {
        "model": "m",
        "network": network(),
        "protocol": "plain",
        "options": {"side": (1, 2)},
        "files": FILES,
        "asked": ("sentence",),
    }
    return predict_into(output, groups, Steps(read, answer, write), **(settings | more))


def images(folder: Path, **texts: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.png").write_text(text)
    return [folder / f"{name}.png" for name in texts]


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / RECORDS).read_text().splitlines()]


def test_what_fails_is_recorded_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [*images(tmp_path / "in", a="one", b="bug", c="not a number"), tmp_path / "in/missing.png"]
    output = tmp_path / "out"
    records = run(output, paths)
    assert lines(output) == records
    assert ["error" in record for record in records] == [False, True, True, True]
    assert records[1]["error"] == "ZeroDivisionError: by zero"
    said = capsys.readouterr().err
    assert "Traceback" in said, "a fault of the program shows where it is"
    assert "missing.png" in said
    assert [path.name for path in (output / "masks").iterdir()] == ["a.txt"]


def test_a_second_call_does_what_is_missing(tmp_path: Path) -> None:
    paths = images(tmp_path / "in", a="one", b="bug")
    output = tmp_path / "out"
    run(output, paths)
    first, _ = lines(output)
    (output / RECORDS).write_text(json.dumps(first) + "\n")  # as a kill leaves it
    run(output, paths)
    assert ASKED == ["a.png", "b.png", "b.png"]
    run(output, paths, skip_errors=True)
    assert ASKED == ["a.png", "b.png", "b.png"]
    paths[1].write_text("whole")
    os.utime(paths[0], (1, 1))  # another image under this name
    records = run(output, paths)
    assert ASKED == ["a.png", "b.png", "b.png", "a.png", "b.png"]
    assert [record["letters"] for record in records] == [3, 5]
    assert len(lines(output)) == len(list((output / "masks").iterdir())) == 2


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("now", ["b", "ab", "abcd"])
def test_another_set_of_inputs_is_refused(tmp_path: Path, now: str, killed: bool) -> None:
    output = tmp_path / "out"
    paths = {path.stem: path for path in images(tmp_path / "in", a="one", b="two", c="three", d="four")}
    run(output, [paths[name] for name in "abc"])
    if killed:  # when b was written and had no record yet
        (output / RECORDS).write_text((output / RECORDS).read_text().partition("\n")[0] + "\n")
        (output / "masks/c.txt").unlink()
        (output / STARTED.format(0)).write_text("a\nb\nc\n")
    before = (output / RECORDS).read_text()
    with pytest.raises(UserError, match=r"another set of inputs.*another --output, or give --overwrite"):
        run(output, [paths[name] for name in now])
    assert (output / RECORDS).read_text() == before
    run(output, [paths[name] for name in "cba"])  # the same set in another order
    assert [record["file"] for record in lines(output)] == [str(paths[name]) for name in "cba"]
    records = run(output, [paths[name] for name in now], overwrite=True)
    assert lines(output) == records
    assert len(list((output / "masks").iterdir())) == len(now)


def test_a_moved_folder_takes_its_own_images_only(tmp_path: Path) -> None:
    """Where the hidden file stayed behind, the records still tell."""
    output = tmp_path / "out"
    paths = images(tmp_path / "in", a="one", b="two")
    run(output, paths)
    (output / INPUTS).unlink()
    with pytest.raises(UserError, match=r"a\.png' is not among what is asked now"):
        run(output, paths[1:])
    assert [record["letters"] for record in run(output, paths)] == [3, 3]


def test_images_of_one_name_and_files_of_others_stay(tmp_path: Path) -> None:
    (one,), (two,) = images(tmp_path / "x", a="one"), images(tmp_path / "y", A="two")
    output = tmp_path / "out"
    (output / "masks").mkdir(parents=True)
    (output / "masks/A-2.txt").write_text("mine")
    records = run(output, [one, two])
    assert [record["mask"] for record in records] == ["masks/a.txt", "masks/A-3.txt"]
    assert (output / "masks/A-2.txt").read_text() == "mine"
    records = run(output, [one], overwrite=True)
    assert lines(output) == records
    assert {path.name for path in (output / "masks").iterdir()} == {"a.txt", "A-2.txt"}


def test_one_bad_member_does_not_fail_its_batch(tmp_path: Path) -> None:
    paths = images(tmp_path / "in", a="one", b="bug", c="three")
    records = run(tmp_path / "out", paths, batch_size=8)
    assert [record.get("letters") for record in records] == [3, None, 5]
    assert records[1]["error"] == "ZeroDivisionError: by zero"


def test_sentences_are_numbered(tmp_path: Path) -> None:
    (path,) = images(tmp_path / "in", a="one")
    records = run(tmp_path / "out", [path], ["x", "y", "x"], numbered=True)
    assert [(r["sentence"], Path(r["mask"]).stem) for r in records] == [
        ("x", "a-1"),
        ("y", "a-2"),
        ("x", "a-1"),
    ]
    assert [record["sentence"] for record in lines(tmp_path / "out")] == ["x", "y"]
    with pytest.raises(UserError, match="another set of inputs"):
        run(tmp_path / "out", [path], ["z", "y"], numbered=True)


@pytest.mark.parametrize(
    "more", [{"network": network(2.0)}, {"protocol": "other"}, {"options": {"side": (1, 3)}}], ids=str
)
def test_models_and_options_are_not_mixed(tmp_path: Path, more: dict[str, Any]) -> None:
    paths = images(tmp_path / "in", a="one", b="two")
    run(tmp_path / "out", paths[:1])
    before = (tmp_path / "out" / RECORDS).read_text()
    with pytest.raises(UserError, match="another model or with other options"):
        run(tmp_path / "out", paths, **more)
    assert (tmp_path / "out" / RECORDS).read_text() == before
    assert len(run(tmp_path / "out", paths, overwrite=True, **more)) == 2


@pytest.mark.parametrize("content", ["[]\n", "{}\n", '{"file": 1', "words\n"])
def test_other_files_of_that_name_are_kept(tmp_path: Path, content: str) -> None:
    paths = images(tmp_path / "in", a="one")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RECORDS).write_text(content + "\n" * (not content.endswith("\n")))
    with pytest.raises(UserError, match="choose another --output"):
        run(tmp_path / "out", paths)


def test_results_never_replace_images(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    image = tmp_path / "masks/a.txt"
    image.write_text("one")
    with pytest.raises(UserError, match="overwritten by its own result"):
        run(tmp_path, [image], overwrite=True)
    assert image.read_text() == "one"


@pytest.mark.parametrize("name", ["x" * 250, ".", "a\nb", "con\udcff", "…" * 80, "a<b>"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.p"
    path.write_text("one")
    (record,) = run(tmp_path / "out", [path])
    assert "error" not in record
    assert (tmp_path / "out" / record["mask"]).is_file()
    assert run(tmp_path / "out", [path]) == [record]
    assert len(ASKED) == 1


def test_the_digest_knows_the_weights(tmp_path: Path) -> None:
    assert weights_digest(network()) == weights_digest(network())
    assert weights_digest(network()) != weights_digest(network(2.0))
    assert weights_digest(network().bfloat16()) != weights_digest(network())
    assert weights_digest(nn.BatchNorm2d(2).to(memory_format=torch.channels_last))


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_predictions as t
folder = Path(sys.argv[2])
t.run(folder / "out", sorted((folder / "in").iterdir()))
"""


def start(folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(folder)]
    return subprocess.Popen(arguments, env=os.environ | environment, stderr=subprocess.DEVNULL)


def test_killed_at_twenty_moments_it_ends_as_if_undisturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = images(tmp_path / "in", **{f"n{i:03}": f"text {i}" for i in range(200)})
    original = Path.read_text

    def slow(path: Path, *arguments: Any, **options: Any) -> str:
        if path.suffix == ".png":
            time.sleep(0.005)
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", slow)
    moments, found = random.Random(0), tmp_path / "out" / RECORDS
    for number in range(20):
        before = found.stat().st_size if found.exists() else 0
        process = multiprocessing.get_context("fork").Process(target=run, args=(tmp_path / "out", paths))
        process.start()
        while number % 2 and process.is_alive() and not (found.exists() and found.stat().st_size > before):
            time.sleep(0.001)  # half of the calls write at least one more record
        process.join(moments.uniform(0.0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it had not ended by itself"
    monkeypatch.undo()
    records = run(tmp_path / "out", paths)
    assert 0 < len(ASKED) < 200
    assert lines(tmp_path / "out") == records == run(tmp_path / "whole", paths)
    for name in ("out", "whole"):
        assert sorted(path.name for path in (tmp_path / name / "masks").iterdir()) == [
            f"n{i:03}.txt" for i in range(200)
        ]
    with open(tmp_path / "out" / RECORDS, "a") as file:
        file.write('{"file": "half a li')
    assert run(tmp_path / "out", paths) == records


def test_two_processes_give_the_records_of_one(tmp_path: Path) -> None:
    paths = images(tmp_path / "in", **{f"n{i:02}": f"text {i}" for i in range(9)})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = [
        start(tmp_path, RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        for rank in range(2)
    ]
    assert [process.wait(120) for process in both] == [0, 0]
    assert lines(tmp_path / "out") == run(tmp_path / "one", sorted(paths))
    assert not list((tmp_path / "out").glob("predictions-*"))


def test_records_that_somebody_has_changed_are_one_sentence(tmp_path: Path) -> None:
    paths = images(tmp_path / "in", a="one", b="two")
    output = tmp_path / "out"

    def table(path: Path, records: Sequence[dict[str, Any]]) -> None:
        path.write_text(" ".join(str(record["letters"]) for record in records))

    run(output, paths, products={"table.txt": table})
    assert (output / "table.txt").read_text() == "3 3"
    whole = (output / RECORDS).read_text()
    for old, new in (('"letters"', '"other"'), ('"mask": "', '"mask": "\\ud83d')):
        (output / RECORDS).write_text(whole.replace(old, new, 1))
        with pytest.raises(UserError, match=r"predictions\.jsonl was changed by somebody"):
            run(output, paths, products={"table.txt": table})
    (output / RECORDS).write_text(whole)
    (output / INPUTS).write_bytes(b"\xff")
    with pytest.raises(UserError, match="another set of inputs"):
        run(output, paths)


def test_overwriting_deletes_in_the_folder_alone(tmp_path: Path) -> None:
    paths = images(tmp_path / "in", a="one")
    output = tmp_path / "out"
    run(output, paths)
    (tmp_path / "mine.txt").write_text("mine")
    (output / RECORDS).write_text(
        (output / RECORDS).read_text().replace("masks/a.txt", "masks/../../mine.txt")
    )
    (output / STARTED.format(0)).write_text("../../mine\n")
    run(output, paths, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"
