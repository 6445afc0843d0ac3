"""Many images, many sentences: what to find where, and the folder that the answers go to."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from papers_shared.batches import Group, Item, Loaded, Steps, item_of
from papers_shared.coco import Annotation, annotate, write_coco
from papers_shared.compiling import speed_up
from papers_shared.devices import choose_precision, device_of, use_precision
from papers_shared.entries import is_text
from papers_shared.errors import UserError
from papers_shared.hub import open_model
from papers_shared.images import MAX_PIXELS, load_image
from papers_shared.inputs import match_items
from papers_shared.paths import inside
from papers_shared.predictions import RECORDS, Product, failures, predict_into
from papers_shared.provenance import check_trained
from papers_shared.results import PARTS, Column, Record
from papers_shared.sam import Asked, PromptedSegmenter, make_refiner, predict_all
from papers_shared.summary import save_small, write_summary
from papers_shared.tables import check_parquet, write_parquet, write_results
from papers_shared.text import read_json_lines, read_table
from papers_shared.threads import lock_of
from papers_shared.types import AskedPrecision
from plvl.config import ModelConfig
from plvl.inference import CALLS, Grounding, TextFeatures, describe_protocol, ground_images
from plvl.modeling.plvl import PLVL
from plvl.transforms import prepare_image

if TYPE_CHECKING:
    from plvl.options import PredictOptions

FILES = {
    "overlay": "overlays/{}.png",
    "mask": "masks/{}.png",
    "refined_mask": "refined_masks/{}.png",
    "small": "small/{}.jpg",
}
OVERLAY_SIDE = 2048
Job = tuple[Path | Item, Sequence[str]]
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
    items = match_items([options.image])
    return [(item.path if item.open is None else item, list(options.sentences)) for item in items]


def read_sentences(file: Path, folder: Path) -> list[Job]:
    """JSON lines `{"image": "a.jpg", "expression": "..." or ["...", ...]}`, or a table with these columns, as jobs.

    Lines about one image become one job. A missing image is left to be reported with the results.

    Args:
        file: A table where its name ends in .csv or .tsv, else JSON lines.
        folder: Where the images lie.

    Raises:
        UserError: The file cannot be read, or a line does not have that form.
    """
    table = file.suffix.lower() in (".csv", ".tsv")
    jobs: dict[Path, list[str]] = {}
    for number, record in read_table(file) if table else read_json_lines(file):
        where = f"{file}, line {number}"
        image = record.get("image") if isinstance(record, dict) else None
        found = record.get("expression") if isinstance(record, dict) else None
        sentences = [found] if isinstance(found, str) else found
        if (
            not isinstance(image, str)
            or not isinstance(sentences, list)
            or not all(isinstance(sentence, str) and is_text(sentence) for sentence in sentences)
        ):
            raise UserError(
                f"{where}: needs `image`, a file name, and `expression`, a sentence or a list of them"
            )
        jobs.setdefault(inside(folder, image, where), []).extend(sentences)
    if not any(jobs.values()):
        raise UserError(f"{file} holds no sentence")
    return list(jobs.items())


def predict_many(
    model: PLVL,
    jobs: Sequence[Job],
    output: str | Path,
    *,
    model_name: str = "",
    precision: AskedPrecision = "auto",
    refiner: PromptedSegmenter | str | None = None,
    score_map: bool = False,
    overlay_side: int = OVERLAY_SIDE,
    max_pixels: int = MAX_PIXELS,
    untrained: bool = False,
    coco: bool = False,
    parquet: bool = False,
    batch_size: int = 0,
    workers: int = 0,
    overwrite: bool = False,
    skip_errors: bool = False,
) -> list[Record]:
    """Write the answers to jobs into `output`: masks/IMAGE-1.png (0 and 255), overlays/IMAGE-1.png, and one line per
    sentence in predictions.jsonl, with the sentence as `expression`, its key in all JSON lines; about all of them
    predictions.csv and the page predictions.html. The number counts the sentences about images of that name.

    An image that cannot be read is reported on stderr, its sentences have an `error`, and the rest goes on. Sentences
    that the folder holds an answer to are not answered again, and all its answers are kept.

    Args:
        model_name: Written into the records.
        refiner: Makes a second mask from each box (refined_masks/IMAGE-1.png): a promptable segmenter of
            `papers_shared.sam`, or the word that makes one.
        coco: Write boxes and masks to predictions.coco.json too; the sentence is an annotation's `caption`.
        parquet: Write the records to predictions.parquet too.
        batch_size, workers, overwrite, skip_errors: As `papers_shared.predictions.predict_into` has them. The answers
            about images that go through the network together are those of each alone but for float32 rounding.

    Returns:
        The records of these jobs.

    Raises:
        UserError: What `predict_into` raises.
    """
    output = Path(output)
    computed = choose_precision(precision, device_of(model))
    if isinstance(refiner, str):
        refiner = make_refiner(refiner, device=str(device_of(model)), precision=computed)
    if refiner is not None and not model.config.rec:
        raise UserError(
            f"{model_name or 'the model'} finds no boxes, and --refiner refines a box: leave it out"
        )
    fresh, text = check_trained(model, untrained), TextFeatures(model, computed)

    def answer(batch: Sequence[tuple[Group, _Prepared]]) -> list[list[Grounding]]:
        images = [Image.fromarray(image.pixels.numpy()) for _, image in batch]
        inputs = [image.input for _, image in batch]
        sentences = [[item.asked["expression"] for item in group] for group, _ in batch]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the records hold them
            found = ground_images(
                model, images, inputs, sentences, text=text, precision=computed, untrained=fresh
            )
        if refiner is not None:
            for groundings in found:
                refine(groundings, refiner)
        return found

    def write(item: Item, grounding: Grounding) -> Record:
        for warning in grounding.warnings:
            print(f"{item.file}, {grounding.sentence[:40]!r}: {warning}", file=sys.stderr)
        drawn = grounding.draw(score_map=score_map, max_side=overlay_side)
        return _write(grounding, drawn, output, item.name) | {"precision": computed}

    return predict_into(
        output,
        [_group(image, sentences) for image, sentences in jobs],
        Steps(_Reader(model.config, max_pixels), answer, write),
        model=model_name,
        network=model,
        protocol=describe_protocol(model.config, "original", computed),
        options={
            "refiner": None if refiner is None else refiner.name,
            "score_map": score_map,
            "overlay_side": overlay_side,
        },
        files=FILES,
        products=_products(coco, parquet),
        asked=("expression", *PARTS),
        numbered=True,
        unit="sentence",
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
        skip_errors=skip_errors,
    )


def _group(image: Path | Item, sentences: Sequence[str]) -> list[Item]:
    item = item_of(image)
    return [replace(item, asked={**item.asked, "expression": sentence}) for sentence in sentences]


def _products(coco: bool, parquet: bool) -> dict[str, Product]:
    """What is written about all records of a folder."""

    def corner(number: int) -> Column:
        return lambda record: record["box_xyxy"] and round(record["box_xyxy"][number], 2)

    columns: dict[str, Column] = {"score": itemgetter("score")}
    columns |= {name: corner(number) for number, name in enumerate(("x0", "y0", "x1", "y1"))}

    def page(path: Path, records: Sequence[Record]) -> None:
        sentence: dict[str, Column] = {"sentence": itemgetter("expression")}
        lead = "What each sentence means in its image. Every sentence is answered, whether or not it fits the image."
        write_summary(path, records, columns=sentence | columns, label=itemgetter("expression"), lead=lead)

    check_parquet(parquet)
    products: dict[str, Product] = {
        "predictions.html": page,
        "predictions.csv": partial(write_results, columns=columns),
    }
    if coco:
        products["predictions.coco.json"] = _write_coco
    if parquet:
        products["predictions.parquet"] = write_parquet
    return products


def _write_coco(path: Path, records: Sequence[Record]) -> None:
    """An annotation for each sentence: its mask, and the box that the network found."""
    images: dict[tuple[Any, ...], dict[str, Any]] = {}
    found: list[Annotation] = []
    for record in (record for record in records if "error" not in record):
        part: dict[str, Any] = {name: record[name] for name in PARTS if name in record}
        size = {"width": record["width"], "height": record["height"]}
        number = len(images) + 1
        image = images.setdefault(
            (record["file"], *part.values()), {"id": number, "file_name": record["file"], **size, **part}
        )
        more = {
            "image_id": image["id"],
            "category_id": 0,
            "caption": record["expression"],
            "score": record["score"],
        }
        mask = record["mask"] and np.asarray(Image.open(path.parent / record["mask"])) > 0
        drawn = annotate(mask, **more) if mask is not None else []
        one = drawn[0] if drawn else {"area": 0, "iscrowd": 0, **more}
        if record["box_xyxy"]:
            x0, y0, x1, y1 = record["box_xyxy"]
            one["bbox"] = [x0, y0, x1 - x0, y1 - y0]
        found.append(one)
    write_coco(path, list(images.values()), found, ["object"], "boxes and masks predicted by plvl")


class _Prepared(NamedTuple):
    pixels: Tensor
    """(H, W, 3) uint8 RGB, upright."""
    input: Tensor
    """What `prepare_image` makes of it, (3, h, w) uint8."""


@dataclass(frozen=True)
class _Reader:
    """Decodes and resizes images; loader processes get a copy of it."""

    config: ModelConfig
    max_pixels: int

    def __call__(self, group: Group) -> Loaded:
        image = load_image(group[0].source, max_pixels=self.max_pixels)
        prepared = _Prepared(torch.tensor(np.asarray(image)), prepare_image(image, self.config))
        side = self.config.image_size
        return Loaded(prepared, ((side, side),), prepared.pixels.nbytes + prepared.input.nbytes)


def refine(groundings: Sequence[Grounding], refiner: PromptedSegmenter) -> None:
    """Give groundings in one image, encoded once, the masks that a promptable segmenter finds in their boxes."""
    with lock_of(refiner):
        refiner.set_image(np.asarray(groundings[0].image))
        boxed = []
        for grounding in groundings:
            assert grounding.box_xyxy is not None
            grounding.refiner = refiner.name
            x0, y0, x1, y1 = grounding.box_xyxy
            if x0 < x1 and y0 < y1:
                boxed.append(grounding)
        answers = predict_all(refiner, [Asked(box=grounding.box_xyxy) for grounding in boxed])
        for grounding, answer in zip(boxed, answers, strict=True):
            grounding.refined_mask = answer.masks[0]


def run(options: PredictOptions) -> int:
    """`plvl predict`: 0, or 1 if an image failed."""
    jobs = jobs_of(options)
    model = open_model(PLVL, options.model, options.device)
    precision = use_precision(options.precision, device_of(model))
    speed_up(model, precision, compiled=options.compile, graphs=options.cuda_graphs, calls=CALLS)
    records = predict_many(
        model,
        jobs,
        options.output,
        model_name=options.model,
        precision=precision,
        refiner=None if options.refiner == "none" else options.refiner,
        score_map=options.score_map,
        overlay_side=options.overlay_side,
        max_pixels=options.max_pixels,
        untrained=options.untrained,
        coco=options.coco,
        parquet=options.format == "parquet",
        batch_size=options.batch_size,
        workers=options.workers,
        overwrite=options.overwrite,
        skip_errors=options.skip_errors,
    )
    failed = failures(records)
    if len(records) <= 10:
        for record in records:
            box = record.get("box_xyxy", "failed")
            shown = [round(corner, 2) for corner in box] if isinstance(box, list) else box
            print(f"{record['file']}: {record['expression']!r}: {shown}")
    print(f"{len(records) - failed} of {len(records)} answered: {options.output}/masks, overlays, {RECORDS},")
    print("predictions.csv and predictions.html")
    return 1 if failed else 0


def _write(grounding: Grounding, drawn: Image.Image, output: Path, name: str) -> Record:
    record: Record = {
        "width": grounding.image.width,
        "height": grounding.image.height,
        "box_xyxy": grounding.box_xyxy and list(grounding.box_xyxy),
        "score": grounding.score,
        "mask": None,
        "refined_mask": None,
        "refiner": grounding.refiner or None,
        "overlay": FILES["overlay"].format(name),
        "small": FILES["small"].format(name),
        "untrained": list(grounding.untrained),
        "warnings": list(grounding.warnings),
    }
    if grounding.mask is not None:
        record["mask"] = FILES["mask"].format(name)
        Image.fromarray(grounding.mask).convert("L").save(output / record["mask"])
    if grounding.refined_mask is not None:
        record["refined_mask"] = FILES["refined_mask"].format(name)
        Image.fromarray(grounding.refined_mask).convert("L").save(output / record["refined_mask"])
    drawn.save(output / record["overlay"])
    save_small(drawn, output / record["small"])
    return record
