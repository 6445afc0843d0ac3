"""Many pictures, many sentences: what to look for where, and the folder that the answers go to."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from papers_shared.errors import UserError
from papers_shared.inputs import match_pictures, unique_names
from papers_shared.runs import Progress
from plvl.modeling.plvl import PLVL
from plvl.options import Precision, PredictOptions
from plvl.predict import Grounding, TextFeatures, predict

Job = tuple[Path, list[str]]
"""A picture and what to find in it."""


def jobs_of(options: PredictOptions) -> list[Job]:
    """What the command line asks for, one job per picture.

    Raises:
        UserError: no such picture, nothing to find, or a line of the sentences file that cannot be used.
    """
    path = Path(options.picture).expanduser()
    if options.sentences_file:
        if options.sentences:
            raise UserError("give sentences or --sentences-file, not both")
        if not path.is_dir():
            raise UserError(f"{path} is no folder: --sentences-file names pictures of a folder")
        return read_sentences(Path(options.sentences_file), path)
    if not options.sentences:
        raise UserError("nothing to find: give sentences in quotes, or --sentences-file (JSON lines)")
    return [(picture, list(options.sentences)) for picture in match_pictures([options.picture])]


def read_sentences(file: Path, folder: Path) -> list[Job]:
    """JSON lines `{"image": "a.jpg", "expression": "..." or ["...", ...]}` as jobs; pictures lie in `folder`.

    Lines about one picture become one job. A picture that is missing is left to be reported with the results.

    Raises:
        UserError: the file cannot be read, or a line does not have that form.
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
    name: str = "",
    precision: Precision = "no",
    score_map: bool = False,
    overlay_side: int = PredictOptions.overlay_side,
    max_pixels: int = PredictOptions.max_pixels,
) -> list[dict[str, Any]]:
    """Answer jobs into `output`: masks/PICTURE-1.png (0 and 255), overlays/PICTURE-1.png, and one line per sentence
    in predictions.jsonl; 1 is the number of the sentence, and -2, -3, ... is appended to equal picture names.

    A picture that cannot be read is reported on stderr, its sentences have an `error`, and the rest goes on.

    Args:
        name: Of the model; written into the records.

    Returns:
        The records.
    """
    output = Path(output)
    for folder in ("masks", "overlays"):
        (output / folder).mkdir(parents=True, exist_ok=True)
        inside = [path for path, _ in jobs if path.resolve().parent == (output / folder).resolve()]
        if inside:
            raise UserError(f"{inside[0]} lies where its own results go: choose another --output")
    text = TextFeatures(model, precision)
    records: list[dict[str, Any]] = []
    progress = Progress(sum(len(sentences) for _, sentences in jobs), unit="sentence")
    with open(output / "predictions.jsonl", "w", encoding="utf-8") as lines:
        for (path, sentences), stem in zip(jobs, unique_names([path for path, _ in jobs]), strict=True):
            about: dict[str, Any] = {"file": str(path), "model": name}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # remarks stand in the records
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
                    for remark in grounding.remarks:
                        progress.line(f"{path}, sentence {number}: {remark}")
                    drawn = grounding.draw(score_map=score_map, max_side=overlay_side)
                    answers.append(about | _write(grounding, drawn, output, f"{stem}-{number}"))
            for record in answers:
                lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines.flush()
            records += answers
            progress.update(len(records))
    progress.close()
    return records


def _write(grounding: Grounding, drawn: Image.Image, output: Path, name: str) -> dict[str, Any]:
    record: dict[str, Any] = {
        "expression": grounding.sentence,
        "width": grounding.image.width,
        "height": grounding.image.height,
        "box_xyxy": None if grounding.box_xyxy is None else [round(x, 2) for x in grounding.box_xyxy],
        "score": grounding.score,
        "mask": None,
        "overlay": f"overlays/{name}.png",
        "remarks": list(grounding.remarks),
    }
    if grounding.mask is not None:
        record["mask"] = f"masks/{name}.png"
        Image.fromarray(grounding.mask).convert("L").save(output / record["mask"])
    drawn.save(output / record["overlay"])
    return record
