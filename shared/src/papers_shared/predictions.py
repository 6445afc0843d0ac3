"""A folder of predictions that grows one record at a time, on any number of processes, and never mixes two models.

    predictions.jsonl    one line for each prediction, in the order of the inputs once the work is done
    masks/NAME.png ...   what the package writes for each
    predictions.* ...    what is made of all records at the end: a page, tables

A call that was killed goes on where it ended when it is given again: what has a record is not computed again. The
folder takes the same images, model and options, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papers_shared.batches import Failure, Group, Item, Steps, answered
from papers_shared.entries import first_line, shown
from papers_shared.errors import UserError
from papers_shared.files import (
    atomic_file,
    check_writable,
    lock_file,
    make_folder,
    tensors_digest,
    write_text,
)
from papers_shared.paths import safe_name
from papers_shared.progress import Progress
from papers_shared.results import RECORDS, Record
from papers_shared.text import read_json_lines

if TYPE_CHECKING:
    from torch import nn

STARTED = ".predictions-started-{}"
INPUTS = ".predictions-inputs"
"""Holds the digest of what was asked."""
LOCK = ".predictions.lock"
SAME = frozenset({"model", "weights", "protocol", "options"})
"""What all records of a folder have in common; in memory it is kept once."""
Product = Callable[[Path, Sequence[Record]], None]
"""Writes a file about all records of a folder."""


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of the weights of a network, 16 digits of it: the same on every device."""
    return tensors_digest(network.state_dict())[:16]


def predict_into(
    output: str | Path,
    groups: Sequence[Group],
    steps: Steps,
    *,
    model: str,
    network: nn.Module,
    protocol: str,
    options: Mapping[str, Any],
    files: Mapping[str, str],
    asked: Sequence[str] = (),
    products: Mapping[str, Product] | None = None,
    numbered: bool = False,
    unit: str = "image",
    batch_size: int = 0,
    workers: int = 0,
    overwrite: bool = False,
    skip_errors: bool = False,
) -> list[Record]:
    """Make predictions and write a record for each; with `torchrun` or `accelerate launch` the processes share them.

    Args:
        groups: Items about one image; every process gives the same groups in the same order.
        steps: How they are read, answered and written.
        model: The name that the records have for it.
        network: Whose weights the records name.
        options: What else the answers depend on; JSON values.
        files: Kind -> where its file lies, such as `{"mask": "masks/{}.png"}`; a record holds the path as `mask`.
        asked: All names that `Item.asked` can have; with the file they tell one prediction from another.
        products: File name -> what writes it about all records of the folder, at the end.
        numbered: The first result of an image has a number too: NAME-1, NAME-2; otherwise NAME, NAME-2.
        batch_size, workers: As `papers_shared.batches.answered` has them.
        overwrite: Delete what the folder holds of earlier calls, and its files.
        skip_errors: Leave what failed in an earlier call as it is; otherwise it is tried again.

    Returns:
        A record for each item, in order, of all processes; it has `error` in place of results where one failed.

    Raises:
        UserError: The folder holds predictions of other items, or of another model, protocol or options, a result
            would overwrite an image or a file of somebody else, or another command writes there.
    """
    folder = _Folder(make_folder(output), files, products or {}, asked)
    about = {"weights": weights_digest(network), "protocol": protocol, "options": _plain(options)}
    items = [item for group in groups for item in group]
    with _processes() as (rank, count, wait), folder.lock(rank):
        if rank == 0:
            folder.check_products()
            if overwrite:
                folder.clear()
            folder.merge([])
        wait()
        folder.check_images(items)
        earlier = folder.records()
        folder.check_same(earlier, about)
        keys = set(map(folder.key_of, items))
        inputs = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()
        folder.check_inputs(earlier, keys, inputs)
        done = folder.done(items, earlier, skip_errors)
        todo = _named(groups, done, folder.names(items, earlier, numbered), folder)[rank::count]
        kept = len(done)
        earlier.clear()  # memory does not grow with what was done before
        wait()  # all have read what is there before any adds to it
        if rank == 0:
            write_text(folder.path / INPUTS, inputs)
        folder.start(todo, rank)
        with Progress(sum(map(len, todo)), unit=unit, enabled=rank == 0) as progress:
            found = answered(todo, steps, network, batch_size=batch_size, workers=workers)
            for number, (item, answer) in enumerate(found, start=1):
                head = {"file": item.file, **item.asked, "model": model, **about, **_stamp(item.path)}
                record = answer if isinstance(answer, Failure) else head | answer
                if not isinstance(record, Failure) and not _finite(record):
                    record = Failure(
                        "the answer holds values that are not finite: the model's weights are damaged"
                    )
                if isinstance(record, Failure):
                    folder.remove(item)
                    progress.line(f"{record.trace}failed: {item.file}: {record.reason}")
                    record = {**head, "error": record.reason}
                folder.append(record, rank)
                progress.update(number)
        wait()
        if rank == 0:
            folder.merge(items)
        wait()
        records = {folder.key(record): record for record in folder.records()}
        if rank == 0:
            for name, write in folder.products.items():
                with folder.ours(kept):
                    write(folder.path / name, list(records.values()))
    return [records[folder.key_of(item)] for item in items]


def failures(records: Sequence[Record]) -> int:
    """How many of the predictions failed."""
    return sum("error" in record for record in records)


class _Folder:
    """What lies in a folder of predictions.

    Each process appends to a file of its own; the files of all become one before the work and after it. The names of
    results are written down before the files, so that what a killed call left is known as ours.
    """

    def __init__(
        self, path: Path, files: Mapping[str, str], products: Mapping[str, Product], asked: Sequence[str]
    ) -> None:
        self.path, self.files, self.products, self.asked = path, files, products, asked
        check_writable(path / RECORDS)

    @contextmanager
    def lock(self, rank: int) -> Iterator[None]:
        if rank:
            yield
            return
        file = lock_file(self.path / LOCK, f"{self.path} is in use by another prediction")
        try:
            yield
        finally:
            file.close()

    def key(self, record: Mapping[str, Any]) -> str:
        """What tells a prediction from the others of the folder."""
        return json.dumps([record["file"], *(record.get(name) for name in self.asked)])

    def key_of(self, item: Item) -> str:
        return self.key({"file": item.file, **item.asked})

    @contextmanager
    def ours(self, kept: int) -> Iterator[None]:
        """Say of records of earlier calls, if some are kept, that they are not as predict writes them."""
        try:
            yield
        except UserError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            if not kept:
                raise
            raise UserError(
                f"{self.path / RECORDS} was changed by somebody, or is of another version of this program "
                f"({type(error).__name__}: {first_line(error)}): choose another --output, or give --overwrite"
            ) from error

    def records(self) -> list[Record]:
        path = self.path / RECORDS
        return self._read(path) if path.exists() else []

    def merge(self, items: Sequence[Item]) -> None:
        """The records of all processes as one file: those of other items first, then those of `items` in order."""
        shards = sorted(self.path.glob("predictions-*.jsonl"))
        records = {
            self.key(r): r
            for path in (self.path / RECORDS, *shards)
            if path.exists()
            for r in self._read(path)
        }
        for key in dict.fromkeys(map(self.key_of, items)):
            records[key] = records.pop(key)
        with (
            self.ours(len(records)),
            atomic_file(self.path / RECORDS) as partial,
            open(partial, "w", encoding="utf-8") as file,
        ):
            file.writelines(map(_line, records.values()))
        for path in shards:
            path.unlink()
        if items:
            for path in self.path.glob(STARTED.format("*")):
                path.unlink()

    def check_products(self) -> None:
        """Refuse a folder where a file of somebody else has the name of a product."""
        for name in self.products:
            if (self.path / name).exists() and not (self.path / RECORDS).exists():
                raise UserError(
                    f"{self.path / name} exists and was not written by predict: move it, or choose another --output"
                )

    def clear(self) -> None:
        """Delete the records, the files that they name, and what a killed call had begun."""
        for path in self.path.glob(STARTED.format("*")):
            for name in path.read_text("utf-8", errors="replace").split("\n"):
                for pattern in self.files.values() if name and name == safe_name(name) else ():
                    (self.path / pattern.format(name)).unlink(missing_ok=True)
            path.unlink()
        for path in [*self.path.glob("predictions-*.jsonl"), self.path / RECORDS]:
            for record in self._read(path) if path.exists() else []:
                for kind, pattern in self.files.items():
                    named = record.get(kind)
                    if isinstance(named, str) and named == pattern.format(Path(named).stem):
                        (self.path / named).unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    def check_same(self, records: Sequence[Record], about: Mapping[str, Any]) -> None:
        for record in records:
            for name, value in about.items():
                if record.get(name) != value:
                    raise UserError(
                        f"{self.path} holds predictions of another model or with other options ({name} "
                        f"{shown(record.get(name))}, now {shown(value)}): choose another --output, or give --overwrite"
                    )

    def check_inputs(self, records: Sequence[Record], keys: set[str], digest: str) -> None:
        """Refuse other items than the records and what is still missing are about."""
        path = self.path / INPUTS
        others = [record["file"] for record in records if self.key(record) not in keys]
        if others or (records and path.is_file() and path.read_bytes() != digest.encode()):
            missing = f" ({shown(others[0])} is not among what is asked now)" if others else ""
            raise UserError(
                f"{self.path} holds predictions about another set of inputs{missing}: give the command that it was "
                "begun with, choose another --output, or give --overwrite"
            )

    def done(self, items: Sequence[Item], records: Sequence[Record], skip_errors: bool) -> set[str]:
        """Keys of the items that need no work: answered, about the image that lies there now."""
        known = {self.key(record): record for record in records}
        done = set()
        for item in items:
            record, stamp = known.get(self.key_of(item)), _stamp(item.path)
            if record is None or {name: record.get(name) for name in stamp} != stamp:
                continue
            if skip_errors or "error" not in record:
                done.add(self.key_of(item))
        return done

    def names(self, items: Sequence[Item], records: Sequence[Record], numbered: bool) -> dict[str, str]:
        """Key -> name of the result files: none that another record or a file of somebody else has."""
        found = [(self.key(record), self._name(record)) for record in records]
        known: dict[str, str] = {key: name for key, name in found if name}
        taken = {name.lower() for name in known.values()}
        started = {
            name.lower()
            for path in self.path.glob(STARTED.format("*"))
            for name in path.read_text("utf-8", errors="replace").split("\n")
        }
        names: dict[str, str] = {}
        last: dict[str, int] = {}
        for item in items:
            key, stem = self.key_of(item), safe_name(item.stem or item.path.stem)
            if key in names:
                continue
            if key not in known:
                number = last.get(stem.lower(), 0) + 1
                while not self._free(name := _numbered(stem, number, numbered), taken, started):
                    number += 1
                last[stem.lower()] = number
                known[key] = name
                taken.add(name.lower())
            names[key] = known[key]
        return names

    def check_images(self, items: Sequence[Item]) -> None:
        """Refuse images that lie where results go; make the folders of the results."""
        folders = {os.path.realpath(make_folder((self.path / one).parent)) for one in self.files.values()}
        for item in items:
            if os.path.realpath(item.path.parent) in folders:
                raise UserError(
                    f"{item.file} lies where results are written and could be overwritten by its own result: choose "
                    "another --output"
                )

    def start(self, groups: Sequence[Group], rank: int) -> None:
        """Note the names of results that are about to be written."""
        with open(self.path / STARTED.format(rank), "a", encoding="utf-8") as file:
            file.writelines(f"{item.name}\n" for group in groups for item in group)

    def append(self, record: Record, rank: int) -> None:
        name = f"predictions-{rank}.jsonl" if rank else RECORDS
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.write(_line(record))

    def remove(self, item: Item) -> None:
        """Delete what a failed answer has written."""
        for pattern in self.files.values():
            with suppress(OSError):
                (self.path / pattern.format(item.name)).unlink()

    def _free(self, name: str, taken: set[str], started: set[str]) -> bool:
        if name.lower() in taken:
            return False
        return name.lower() in started or not any(
            (self.path / pattern.format(name)).exists() for pattern in self.files.values()
        )

    def _name(self, record: Record) -> str | None:
        for kind in self.files:
            if isinstance(record.get(kind), str):
                return Path(record[kind]).stem
        return None

    def _read(self, path: Path) -> list[Record]:
        """The records of a file; half a line at its end, which a kill leaves, is cut off."""
        text = path.read_bytes()
        if text and not text.endswith(b"\n"):
            with atomic_file(path) as partial:
                partial.write_bytes(text[: text.rfind(b"\n") + 1])
        try:
            records = [record for _, record in read_json_lines(path)]
        except UserError as error:
            raise UserError(
                f"{error}: {path.parent} is no folder of predictions, choose another --output"
            ) from None
        if not all(isinstance(record, dict) and {"file", "model"} <= record.keys() for record in records):
            raise UserError(f"{path} does not hold predictions of this kind: choose another --output")
        known: dict[str, Any] = {}
        for record in records:
            for name in SAME & record.keys():
                record[name] = known.setdefault(f"{name} {record[name]}", record[name])
        return records


def _named(
    groups: Sequence[Group], done: set[str], names: Mapping[str, str], folder: _Folder
) -> list[list[Item]]:
    """The groups without what is done or asked twice, with the names of their results."""
    seen = set(done)
    todo = []
    for group in groups:
        left = []
        for item in group:
            key = folder.key_of(item)
            if key not in seen:
                seen.add(key)
                left.append(replace(item, name=names[key]))
        if left:
            todo.append(left)
    return todo


def _stamp(path: Path) -> Record:
    """Size in bytes and time of change of an image: another image under its name is answered anew."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return {"bytes": None, "modified": None}
    return {"bytes": status.st_size, "modified": status.st_mtime}


def _numbered(stem: str, number: int, numbered: bool) -> str:
    return stem if number == 1 and not numbered else f"{stem}-{number}"


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(record: Record) -> bool:
    """Whether a record can be written as JSON."""
    try:
        return bool(_line(record))
    except ValueError:
        return False


def _plain(options: Mapping[str, Any]) -> Record:
    """Options as JSON has them: tuples are lists."""
    return json.loads(json.dumps(dict(options), sort_keys=True))


@contextmanager
def _processes() -> Iterator[tuple[int, int, Callable[[], Any]]]:
    """Rank, number of processes, and what waits for all of them."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield 0, 1, lambda: None
        return
    import torch.distributed as dist

    own = not dist.is_initialized()
    if own:  # gloo: nothing is computed together, and a process may wait for hours
        dist.init_process_group("gloo", timeout=timedelta(days=30))
    try:
        yield dist.get_rank(), dist.get_world_size(), dist.barrier
    finally:
        if own:
            dist.destroy_process_group()
