"""Many images, many sentences: what to find where, and the folder that the answers go to."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from papers_shared.errors import UserError
from papers_shared.files import write_text
from papers_shared.hub import open_model
from papers_shared.images import MAX_PIXELS
from papers_shared.inputs import match_images
from papers_shared.progress import Progress
from papers_shared.types import Precision
from plvl.inference import Grounding, TextFeatures, describe_protocol, predict
from plvl.modeling.plvl import PLVL

if TYPE_CHECKING:
    from plvl.options import PredictOptions

RECORDS = "predictions.jsonl"
OVERLAY_SIDE = 2048
Job = tuple[Path, list[str]]
"""An image and what to find in it."""


def jobs_of(options: PredictOptions) -> list[Job]:
    """What the command line asks for, one job per image.

    Raises:
        UserError: No such image, nothing to find, or a line of the sentences file that cannot be used.
    """
    path = Path(options.image).expanduser()
    if options.sentences_file:
        if options.sentences:
            raise UserError("give sentences or --sentences-file, not both")
        if not path.is_dir():
            raise UserError(f"{path} is not a folder: --sentences-file names images of a folder")
        return read_sentences(Path(options.sentences_file), path)
    if not options.sentences:
        raise UserError("nothing to find: give sentences in quotes, or --sentences-file (JSON lines)")
    return [(image, list(options.sentences)) for image in match_images([options.image])]


def read_sentences(file: Path, folder: Path) -> list[Job]:
    """JSON lines `{"image": "a.jpg", "expression": "..." or ["...", ...]}` as jobs; images lie in `folder`.

    Lines about one image become one job. A missing image is left to be reported with the results.

    Raises:
        UserError: The file cannot be read, or a line does not have that form.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    jobs: dict[Path, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UserError(f"{file}, line {number}: not JSON ({error})") from error
        image = record.get("image") if isinstance(record, dict) else None
        found = record.get("expression") if isinstance(record, dict) else None
        sentences = [found] if isinstance(found, str) else found
        if (
            not isinstance(image, str)
            or not isinstance(sentences, list)
            or not all(isinstance(sentence, str) for sentence in sentences)
        ):
            raise UserError(
                f"{file}, line {number}: needs `image`, a file name, and `expression`, a sentence or a list of them"
            )
        jobs.setdefault(folder / image, []).extend(sentences)
    if not jobs:
        raise UserError(f"{file} holds no sentence")
    return list(jobs.items())


def predict_many(
    model: PLVL,
    jobs: Sequence[Job],
    output: str | Path,
    *,
    model_name: str = "",
    precision: Precision = "no",
    score_map: bool = False,
    overlay_side: int = OVERLAY_SIDE,
    max_pixels: int = MAX_PIXELS,
) -> list[dict[str, Any]]:
    """Write the answers to jobs into `output`: masks/IMAGE-1.png (0 and 255), overlays/IMAGE-1.png, and one line per
    sentence in predictions.jsonl, with the sentence as `expression`, its key in all JSON lines. The number counts the
    sentences about images of that name.

    An image that cannot be read is reported on stderr, its sentences have an `error`, and the rest goes on. Answers
    that `output` already holds are kept; an earlier answer of the same model to the same sentence about the same
    image is replaced.

    Args:
        model_name: Written into the records.

    Returns:
        The records of these jobs.

    Raises:
        UserError: An image lies where the results go, or `output` holds records of another kind.
    """
    output = Path(output)
    for folder in ("masks", "overlays"):
        (output / folder).mkdir(parents=True, exist_ok=True)
        inside = [path for path, _ in jobs if path.resolve().parent == (output / folder).resolve()]
        if inside:
            raise UserError(f"{inside[0]} lies where its own results go: choose another --output")
    asked = {(str(path), sentence, model_name) for path, sentences in jobs for sentence in sentences}
    earlier = []
    for record in _earlier(output):
        if (record["file"], record["expression"], record["model"]) not in asked:
            earlier.append(record)
            continue
        for name in filter(None, (record.get("mask"), record.get("overlay"))):
            (output / name).unlink(missing_ok=True)
    names = _Names(record["overlay"] for record in earlier if "overlay" in record)
    text, protocol = TextFeatures(model, precision), describe_protocol(model.config, "original", precision)
    records: list[dict[str, Any]] = []
    write_text(output / RECORDS, "".join(map(_line, earlier)))
    with (
        Progress(sum(len(sentences) for _, sentences in jobs), unit="sentence") as progress,
        open(output / RECORDS, "a", encoding="utf-8") as lines,
    ):
        for path, sentences in jobs:
            about: dict[str, Any] = {"file": str(path), "model": model_name, "protocol": protocol}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # the records hold them
                    found = predict(
                        model, path, sentences, precision=precision, max_pixels=max_pixels, text=text
                    )
            except (UserError, MemoryError, torch.OutOfMemoryError) as error:
                reason = str(error) or "out of memory"
                progress.line(f"failed: {path}: {reason}")
                answers = [{**about, "expression": sentence, "error": reason} for sentence in sentences]
            else:
                answers = []
                for number, grounding in enumerate(found, start=1):
                    for warning in grounding.warnings:
                        progress.line(f"{path}, sentence {number}: {warning}")
                    drawn = grounding.draw(score_map=score_map, max_side=overlay_side)
                    answers.append(about | _write(grounding, drawn, output, names.next(path.stem)))
            lines.writelines(map(_line, answers))
            lines.flush()
            records += answers
            progress.update(len(records))
    return records


def run(options: PredictOptions) -> int:
    """`plvl predict`: 0, or 1 if an image failed."""
    jobs = jobs_of(options)
    records = predict_many(
        open_model(PLVL, options.model, options.device),
        jobs,
        options.output,
        model_name=options.model,
        precision=options.precision,
        score_map=options.score_map,
        overlay_side=options.overlay_side,
        max_pixels=options.max_pixels,
    )
    failed = sum("error" in record for record in records)
    if len(records) <= 10:
        for record in records:
            box = record.get("box_xyxy", "failed")
            shown = [round(corner, 2) for corner in box] if isinstance(box, list) else box
            print(f"{record['file']}: {record['expression']!r}: {shown}")
    print(f"{len(records) - failed} of {len(records)} answered: {options.output}/masks, overlays, {RECORDS}")
    return 1 if failed else 0


class _Names:
    """Names of results that no file of the folder has: STEM-1, STEM-2, ..., whatever the case of the letters."""

    def __init__(self, taken: Any) -> None:
        self.taken = {Path(name).stem.lower() for name in taken}

    def next(self, stem: str) -> str:
        number = 1
        while f"{stem}-{number}".lower() in self.taken:
            number += 1
        self.taken.add(f"{stem}-{number}".lower())
        return f"{stem}-{number}"


def _earlier(output: Path) -> list[dict[str, Any]]:
    """The records that the folder holds."""
    path = output / RECORDS
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    try:
        records = [json.loads(line) for line in lines if line.endswith("\n")]  # a kill leaves half a line
        if all({"file", "expression", "model"} <= record.keys() for record in records):
            return records
    except (ValueError, AttributeError):
        pass
    raise UserError(f"{path} was not written by `plvl predict`: choose another --output")


def _write(grounding: Grounding, drawn: Image.Image, output: Path, name: str) -> dict[str, Any]:
    record: dict[str, Any] = {
        "expression": grounding.sentence,
        "width": grounding.image.width,
        "height": grounding.image.height,
        "box_xyxy": grounding.box_xyxy and list(grounding.box_xyxy),
        "score": grounding.score,
        "mask": None,
        "overlay": f"overlays/{name}.png",
        "warnings": list(grounding.warnings),
    }
    if grounding.mask is not None:
        record["mask"] = f"masks/{name}.png"
        Image.fromarray(grounding.mask).convert("L").save(output / record["mask"])
    drawn.save(output / record["overlay"])
    return record


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
