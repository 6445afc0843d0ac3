"""A model and a split in, the paper's metrics out.

Two protocols. `paper` (the authors' test pipeline): the image stretched to the network's square, boxes as fractions of
it, masks compared in the square. `original`: what `plvl predict` answers, in the image's own pixels, compared with box
and mask as they were annotated. Each sentence counts once on any number of processes, so the metrics do not depend on
it. Why neither flips nor scales are options: see `plvl.inference`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from papers_shared.boxes import cxcywh_to_xyxy
from papers_shared.compiling import speed_up
from papers_shared.devices import use_precision
from papers_shared.errors import UserError
from papers_shared.files import write_json
from papers_shared.hub import TRAINING
from papers_shared.loading import loaded, make_loader
from papers_shared.metrics import GroundingMetrics
from papers_shared.progress import Progress
from papers_shared.provenance import tell_untrained
from papers_shared.results import check_evaluation, evaluation_file
from papers_shared.text import read_json
from papers_shared.training.distributed import make_accelerator, precision_of
from plvl.config import ModelConfig
from plvl.data import load_image, load_mask
from plvl.data.check import box_problem
from plvl.data.pixels import size_problem, source_of, values_of
from plvl.data.readers import open_usable
from plvl.inference import (
    BATCH_SIZE,
    CALLS,
    PROTOCOLS,
    Answers,
    Network,
    Protocol,
    TextFeatures,
    answer,
    describe_protocol,
)
from plvl.modeling.plvl import PLVL
from plvl.transforms import Sample, prepare_image, test_transform

if TYPE_CHECKING:
    from plvl.options import EvaluateOptions


SKIPPED = (UserError, OSError, MemoryError, torch.OutOfMemoryError)
"""What one image or sentence can cause."""


def evaluate(
    model: Network,
    rows: Any,
    *,
    protocols: tuple[Protocol, ...] = ("paper",),
    batch_size: int = BATCH_SIZE,
    workers: int = 0,
    accelerator: Accelerator | None = None,
    progress: bool = False,
    skip_failed: bool = False,
) -> dict[str, Any]:
    """Acc@0.5 of the boxes; mIoU, oIoU and Precision@0.5 to 0.9 of the masks, as fractions.

    Args:
        rows: Of `plvl.data.open_split`, one per sentence. Sentences without a box do not count for boxes, those
            without a mask not for masks.
        batch_size: Most sentences about one image per forward pass.
        accelerator: Shares the images among its processes; every process returns the same result. Its precision is
            what the network computes in.
        skip_failed: Leave sentences out that cannot be scored, say so on stderr, and name them under `failed`.

    Returns:
        Per protocol a dict with `acc_at_05`, `box_miou`, `miou`, `oiou`, `precision_at` (None for what the model or
        the data does not have) and the wording of `protocol`; beside them `expressions`, `failed` (name -> what is
        wrong), `definition`, `seconds` and `expressions_per_second`, reading of images included.

    Raises:
        UserError: A sentence that cannot be scored, without `skip_failed`; with it, if none is left.
    """
    accelerator = accelerator or make_accelerator()
    precision = precision_of(accelerator)
    images = _Images(rows, model.config, protocols)
    images.groups = images.groups[accelerator.process_index :: accelerator.num_processes]
    pin = accelerator.device.type == "cuda"
    loader = make_loader(images, batch_size=None, workers=workers, collate_fn=_as_it_is, pin=pin)
    metrics = {protocol: GroundingMetrics() for protocol in protocols}
    began, done = time.perf_counter(), 0
    text = TextFeatures(model, precision)
    total, shown = sum(map(len, images.groups)), progress and accelerator.is_main_process
    failed: dict[str, str] = {}
    with Progress(total, unit="sentence", enabled=shown) as bar:
        for group, (inputs, truths, problems) in zip(images.groups, loaded(loader), strict=True):
            sentences = [truth["sentence"] for truth in truths]
            try:
                answers = answer(
                    model, [inputs], sentences, text=text, precision=precision, batch_size=batch_size
                )
                for number, found in enumerate(answers if sentences else ()):
                    found.check_finite()
                    first = number * batch_size
                    for protocol in protocols:
                        _count(metrics[protocol], protocol, found, truths[first : first + batch_size])
            except SKIPPED as error:
                problems |= {truth["row"]: _sentence(error) for truth in truths}
                for counted in metrics.values():
                    for truth in truths:
                        counted.rows.pop(truth["index"], None)
            for row, problem in problems.items():
                name = str(rows[row]["name"])
                if not skip_failed:
                    raise UserError(f"{name!r}: {problem}")
                failed[name if name not in failed else f"{name} (row {row})"] = problem
                bar.line(f"failed: {name!r}: {problem}")
            done += len(group)
            if shown:
                bar.update(done)
    if skip_failed:
        failed = dict(pair for pairs in gather_object([list(failed.items())]) for pair in pairs)
        if len(failed) == len(rows):
            raise UserError(
                f"none of the {len(rows)} sentences can be scored; {next(iter(failed.values()), '')}"
            )
    result: dict[str, Any] = {}
    for protocol in protocols:
        gathered = GroundingMetrics()
        gathered.rows = dict(gather_object(list(metrics[protocol].rows.items())))
        scores = asdict(gathered.compute())
        result["expressions"], result["definition"] = scores.pop("num_samples"), scores.pop("definition")
        result[protocol] = {**scores, "protocol": describe_protocol(model.config, protocol, precision)}
    seconds = time.perf_counter() - began
    return {
        **result,
        "failed": failed,
        "seconds": seconds,
        "expressions_per_second": result["expressions"] / seconds,
        "precision": precision,
    }


def _count(
    metrics: GroundingMetrics, protocol: Protocol, found: Answers, truths: Sequence[dict[str, Any]]
) -> None:
    """Count sentences about one image by one protocol; pixels are compared where the network computes."""
    height, width = truths[0]["size"]
    if protocol == "paper":
        boxes = None if found.boxes is None else found.boxes.cpu().double().numpy()
        masks = None if found.masks is None else found.masks >= 0.5
    else:
        corners, masks = found.boxes_at(height, width), found.masks_at(height, width)
        boxes = None if corners is None else corners / np.array([width, height, width, height])
    overlaps = [None] * len(truths) if masks is None else _overlaps(masks, truths, protocol)
    for i, (truth, overlap) in enumerate(zip(truths, overlaps, strict=True)):
        box = None if boxes is None else boxes[i]
        metrics.update(truth["index"], box=box, true_box=truth[protocol][0], overlap=overlap)


def _overlaps(masks: Tensor, truths: Sequence[dict[str, Any]], protocol: Protocol) -> list[Any]:
    """(pixels in both masks, pixels in either) of each sentence that has a true mask, else None."""
    trues = {i: truth[protocol][1] for i, truth in enumerate(truths) if truth[protocol][1] is not None}
    for i, true in trues.items():
        if true.shape != masks.shape[1:]:
            raise UserError(
                f"{truths[i]['sentence']!r}: the masks have the shapes {tuple(masks.shape[1:])} and {true.shape}"
            )
    overlaps: list[Any] = [None] * len(truths)
    if trues:
        true = torch.from_numpy(np.stack([mask > 0 for mask in trues.values()])).to(masks.device)
        found = torch.stack([masks[i] for i in trues])
        counts = torch.stack([(found & true).sum((1, 2)), (found | true).sum((1, 2))], dim=1)
        for i, pair in zip(trues, counts.tolist(), strict=True):
            overlaps[i] = tuple(pair)
    return overlaps


class _Images(Dataset):
    """The images of a split, each prepared for the network once, with the truth about all of its sentences."""

    def __init__(self, rows: Any, config: ModelConfig, protocols: tuple[Protocol, ...]) -> None:
        self.rows, self.config, self.protocols = rows, config, protocols
        self.targets = test_transform(config, "official")  # of the protocol `paper`
        groups: dict[Any, list[int]] = {}
        for index, (entry,) in enumerate(values_of(rows, "image")):
            groups.setdefault(index if entry["bytes"] else entry["path"], []).append(index)
        self.groups = list(groups.values())
        """Row numbers by image."""

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: int) -> tuple[Any, list[dict[str, Any]], dict[int, str]]:
        """The image for the network, what is true of its sentences, and what is wrong with the other ones by row."""
        truths, problems = [], {}
        indices = self.groups[number]
        try:
            first = self.rows[indices[0]]
            image = Image.fromarray(load_image(first))
            inputs = prepare_image(image, self.config)
        except SKIPPED as error:
            return None, [], dict.fromkeys(indices, _sentence(error))
        for index in indices:
            try:
                row = self.rows[index]
                size = (row["height"], row["width"])
                if problem := size_problem((image.height, image.width), size):
                    raise UserError(f"{source_of(row)} {problem}")
                about = {"row": index, "index": f"{index:09d}", "sentence": row["expression"], "size": size}
                truths.append(about | self._truth(row, image))
            except SKIPPED as error:
                problems[index] = _sentence(error)
        return inputs, truths, problems

    def _truth(self, row: dict[str, Any], image: Image.Image) -> dict[str, Any]:
        """(box as fractions or None, mask or None) by each protocol."""
        box = None if row["box_xyxy"] is None else np.asarray(row["box_xyxy"], np.float64)
        problem = "" if box is None else box_problem(box.tolist(), row["height"], row["width"])
        if problem:
            raise UserError(f"{problem}: {row['box_xyxy']} in {row['width']}x{row['height']}")
        mask = load_mask(row) if self.config.res else None
        truth: dict[str, Any] = {}
        if "original" in self.protocols:
            truth["original"] = (None if box is None else box / np.tile(image.size, 2), mask)
        if "paper" in self.protocols:
            grey = None if mask is None else Image.fromarray(mask.view(np.uint8))
            target = self.targets(Sample(image, row["expression"], box, grey))
            truth["paper"] = (
                None if box is None else cxcywh_to_xyxy(target["box"]).double().numpy(),
                None if mask is None else target["mask"][0].numpy(),
            )
        return truth


def _sentence(error: BaseException) -> str:
    plain = isinstance(error, UserError)
    return str(error) if plain else f"{type(error).__name__}: {str(error)[:300]}".rstrip(": ")


def _as_it_is(item: Any) -> Any:
    return item


def run(options: EvaluateOptions) -> int:
    """`plvl evaluate`: print the table and write the JSON; 1 if a sentence could not be scored."""
    if options.batch_size < 1:
        raise UserError(f"--batch-size is {options.batch_size!r}: give 1 or more")
    accelerator = make_accelerator(options.precision)
    use_precision(options.precision, accelerator.device)
    data, output = options.data, _output(options)
    named = {"model": options.model, "data": data.root, "split": options.split}
    if accelerator.is_main_process:
        check_evaluation(output, named)
    model = PLVL.from_pretrained(options.model, device=accelerator.device)
    speed_up(
        model,
        precision_of(accelerator),
        compiled=options.compile,
        graphs=options.cuda_graphs,
        calls=CALLS,
    )
    with accelerator.main_process_first():
        rows, broken = open_usable(data, options.split)
    result = evaluate(
        model,
        rows,
        protocols=("paper", "original") if options.protocol == "all" else (options.protocol,),
        batch_size=options.batch_size,
        workers=data.workers,
        accelerator=accelerator,
        progress=True,
        skip_failed=True,
    )
    result["failed"] = {f"entry {number}": problem for number, problem in enumerate(broken, 1)} | result[
        "failed"
    ]
    origin = json.loads(model.extra_files.get(TRAINING, b"{}"))
    origin.pop("val", None)
    if accelerator.is_main_process:
        untrained = tell_untrained(model, options.model)
        write_json(output, {**named, "trained": origin or None, "untrained": untrained, **result})
        print(table(result))
        print(f"\nmodel: {options.model}{_chosen(origin)}")
        print(f"{result['definition']}\nwritten: {output}")
        if result["failed"]:
            first = next(f"{name}: {problem}" for name, problem in result["failed"].items())
            print(
                f"{len(result['failed'])} sentences could not be scored ({first}): see `failed` in the file"
            )
    return 1 if result["failed"] else 0


def table(result: dict[str, Any]) -> str:
    """One column per protocol, in percent, and the wording of each below."""
    protocols = [protocol for protocol in PROTOCOLS if protocol in result]
    lines = [("", *protocols)]
    for key, name in (
        ("acc_at_05", "Acc@0.5"),
        ("box_miou", "box mIoU"),
        ("miou", "mask mIoU"),
        ("oiou", "mask oIoU"),
    ):
        lines.append((name, *(_percent(result[protocol][key]) for protocol in protocols)))
    for threshold in ("0.5", "0.6", "0.7", "0.8", "0.9"):
        values = ((result[protocol]["precision_at"] or {}).get(threshold) for protocol in protocols)
        lines.append((f"Precision@{threshold}", *map(_percent, values)))
    text = [f"{line[0]:<14}" + "".join(f"{cell:>10}" for cell in line[1:]) for line in lines]
    text.append(
        f"\n{result['expressions']:,} sentences, {result['expressions_per_second']:.1f} per second with reading"
    )
    text += [f"{protocol}: {result[protocol]['protocol']}" for protocol in protocols]
    return "\n".join(text)


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}"


def _chosen(origin: dict[str, Any]) -> str:
    if not origin:
        return ""
    by = {
        "joint": "the mean of Acc@0.5 and mask mIoU on val",
        "acc_at_05": "Acc@0.5 on val",
        "miou": "mask mIoU on val",
    }
    reason = by.get(origin["chosen_by"], origin["chosen_by"])
    return f" (recipe {origin['recipe']}, step {origin['step']}, chosen by {reason})"


def _output(options: EvaluateOptions) -> Path:
    """The file to write; one of another data set with the same name is never replaced."""
    root = Path(options.data.root).expanduser()
    about = [
        root.resolve().name if root.exists() else options.data.root,
        options.split,
        "" if options.protocol == "all" else options.protocol,
        "" if options.precision == "fp32" else options.precision,
    ]
    path, number = evaluation_file(options.model, options.output, *about), 2
    while not options.output and path.is_file() and read_json(path).get("data") != options.data.root:
        path, number = evaluation_file(options.model, "", *about, str(number)), number + 1
    return path
