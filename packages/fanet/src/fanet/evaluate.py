"""A model and a split in, the paper's metrics out.

Every image goes the road of `fanet.inference.predict`; one confusion matrix over the split at original resolution,
background included, label 255 left out. Each image counts once on any number of processes, so the metrics do not
depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import Dataset

from fanet.config import DataConfig, ModelConfig
from fanet.data import ClassificationSamples, class_names, load_image, load_mask
from fanet.data.cache import PixelCache
from fanet.data.check import black_and_white_masks
from fanet.data.readers import open_usable
from fanet.inference import (
    MULTI_SCALE,
    Prepared,
    check_options,
    class_map,
    describe_protocol,
    network_views,
    prepare,
)
from fanet.modeling.segmenter import Segmenter
from papers_shared.compiling import speed_up
from papers_shared.devices import use_precision
from papers_shared.doctor import Report
from papers_shared.entries import shown
from papers_shared.errors import UserError
from papers_shared.files import write_json
from papers_shared.loading import loaded, make_loader
from papers_shared.metrics import ConfusionMatrix
from papers_shared.normalization import Normalization
from papers_shared.progress import Progress
from papers_shared.provenance import tell_untrained
from papers_shared.results import check_evaluation, evaluation_file
from papers_shared.threads import evaluation_mode
from papers_shared.training.distributed import make_accelerator, precision_of

if TYPE_CHECKING:
    from fanet.options import EvaluateOptions


SKIPPED = (UserError, OSError, MemoryError, torch.OutOfMemoryError)
"""What one image can cause."""


def evaluate(
    segmenter: Segmenter,
    rows: Any,
    *,
    flip: bool = False,
    ratios: Sequence[float] = (1.0,),
    tile: int = 0,
    overlap: float = 0.25,
    ignore_index: int = 255,
    workers: int = 0,
    cache: PixelCache | None = None,
    accelerator: Accelerator | None = None,
    progress: bool = False,
    skip_failed: bool = False,
) -> dict[str, Any]:
    """mIoU and pixel accuracy of a segmenter over the rows of `fanet.data.open_split`, as fractions.

    Args:
        flip, ratios, tile, overlap: Of `fanet.inference.predict`.
        workers: Processes that decode images and masks.
        skip_failed: Leave an image out that cannot be scored, say so on stderr, and name it under `failed`.
        accelerator: Shares the images among its processes; every process returns the same result. Its precision is
            what the network computes in.

    Returns:
        `miou`, `pixel_acc`, `iou` and `class_acc` (one value per class, None where it never occurs), `classes`,
        `images`, `failed` (name -> what is wrong), `ignore_index`, `protocol` and `definition`.

    Raises:
        UserError: An image that cannot be scored, without `skip_failed`; with it, if none is left.
    """
    accelerator = accelerator or make_accelerator()
    config = segmenter.config
    options: dict[str, Any] = {"flip": flip, "ratios": ratios, "tile": tile, "overlap": overlap}
    options["precision"] = precision_of(accelerator)
    mine = range(accelerator.process_index, len(rows), accelerator.num_processes)
    samples = _Samples(rows, mine, config, ratios, tile, ignore_index, cache)
    confusion = ConfusionMatrix(config.num_classes, ignore_index)
    failed: dict[str, str] = {}
    shown = progress and accelerator.is_main_process
    with Progress(len(mine), unit="image", enabled=shown) as bar:
        loader = make_loader(samples, batch_size=None, workers=workers)
        for number, sample in enumerate(loaded(loader), start=1):
            problem = sample.problem
            try:
                if sample.image is not None:
                    (views,) = network_views(segmenter, [sample.image], **options)
                    truth = sample.mask.to(views[0][0].logits.device)
                    confusion.update(class_map(views, *truth.shape), truth)
            except SKIPPED as error:
                problem = _sentence(error)
            if problem and not skip_failed:
                raise UserError(f"{sample.name}: {problem}")
            if problem:
                failed[sample.name] = problem
                bar.line(f"failed: {sample.name}: {problem}")
            bar.update(number)
    counts = accelerator.reduce(confusion.counts.to(accelerator.device), "sum")
    confusion.counts = counts.cpu()
    failed = dict(pair for pairs in gather_object([list(failed.items())]) for pair in pairs)
    if len(failed) == len(rows):
        raise UserError(
            f"none of the {len(rows)} images can be scored; {next(iter(failed.values()), 'there is none')}"
        )
    scores = confusion.compute()
    return {
        "miou": scores.miou,
        "pixel_acc": scores.pixel_acc,
        "iou": list(scores.iou),
        "class_acc": list(scores.class_acc),
        "classes": list(config.class_names),
        "images": len(rows) - len(failed),
        "failed": failed,
        "ignore_index": ignore_index,
        "precision": options["precision"],
        "protocol": describe_protocol(config, **options),
        "definition": scores.definition,
    }


class _Sample(NamedTuple):
    """One image with its truth, or what is wrong with it."""

    name: str
    image: Prepared | None = None
    mask: Tensor | None = None
    """(H, W) uint8."""
    problem: str = ""


def _sentence(error: BaseException) -> str:
    return (
        str(error)
        if isinstance(error, UserError)
        else f"{type(error).__name__}: {str(error)[:300]}".rstrip(": ")
    )


class _Samples(Dataset):
    """A `_Sample` for each of this process's rows."""

    def __init__(
        self,
        rows: Any,
        indices: range,
        config: ModelConfig,
        ratios: Sequence[float],
        tile: int,
        ignore_index: int,
        cache: PixelCache | None,
    ) -> None:
        self.rows, self.indices, self.config, self.ratios, self.tile = rows, indices, config, ratios, tile
        self.ignore_index, self.cache = ignore_index, cache

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> _Sample:
        name = f"image {self.indices[position]}"
        try:
            row = self.rows[self.indices[position]]
            name = row["name"]
            image = load_image(row, self.cache)
            size = (image.shape[0], image.shape[1])
            mask = load_mask(row, self.config.num_classes, self.ignore_index, self.cache, size)
            prepared = prepare(image, self.config, ratios=self.ratios, tile=self.tile)
        except SKIPPED as error:
            return _Sample(name, problem=_sentence(error))
        return _Sample(name, prepared, torch.from_numpy(mask))


def evaluate_classifier(
    classifier: nn.Module,
    rows: Any,
    transform: Callable[..., Tensor],
    normalize: Normalization,
    *,
    batch_size: int = 64,
    workers: int = 0,
    accelerator: Accelerator | None = None,
) -> dict[str, Any]:
    """Top-1 and top-5 accuracy as fractions, each image counted once on any number of processes.

    Args:
        rows: Of `fanet.data.open_split`.
        transform, normalize: Pillow image -> uint8, and on the accelerator's device float32.
    """
    accelerator = accelerator or make_accelerator()
    mine = list(range(accelerator.process_index, len(rows), accelerator.num_processes))
    samples = ClassificationSamples(rows, transform, seed=0)
    loader = make_loader(
        samples,
        sampler=[(0, index) for index in mine],
        batch_size=batch_size,
        workers=workers,
        pin=accelerator.device.type == "cuda",
    )
    hits = torch.zeros(3, dtype=torch.int64, device=accelerator.device)
    with evaluation_mode(classifier), torch.inference_mode(), accelerator.autocast():
        for batch in loaded(loader):
            labels = batch["label"].to(accelerator.device, non_blocking=True)
            images = normalize(batch["image"].to(accelerator.device, non_blocking=True))
            logits = classifier(images).float()
            best = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
            hits += torch.stack([torch.ones_like(labels), best[:, 0], best.any(1)]).sum(1)
    images, top1, top5 = accelerator.reduce(hits, "sum").tolist()
    return {
        "top1": top1 / images,
        "top5": top5 / images,
        "images": images,
        "precision": precision_of(accelerator),
        "protocol": "one centre crop",
        "definition": "share of images whose class is the first (top1) or among the first five (top5) answers",
    }


def run(options: EvaluateOptions) -> int:
    """`fanet evaluate`: print the table and write the JSON; 1 if an image could not be scored."""
    accelerator = make_accelerator(options.precision)
    use_precision(options.precision, accelerator.device)
    segmenter = Segmenter.from_pretrained(options.model).to(accelerator.device)
    speed_up(segmenter, precision_of(accelerator), compiled=options.compile, graphs=options.cuda_graphs)
    data = _with_ignored(options.data, segmenter.config.ignore_index, accelerator.is_main_process)
    ratios = MULTI_SCALE if options.multi_scale else (1.0,)
    how: dict[str, Any] = {
        "flip": options.flip,
        "ratios": ratios,
        "tile": options.tile,
        "overlap": options.overlap,
    }
    check_options(segmenter.config, ratios, options.tile, options.overlap)
    file = evaluation_file(options.model, options.output, *_about(options))
    about = {
        "model": _identity(options.model),
        "data": _identity(data.root),
        "split": options.split,
        "protocol": describe_protocol(segmenter.config, **how, precision=precision_of(accelerator)),
        "ignore_index": data.ignore_index,
    }
    if accelerator.is_main_process:
        check_evaluation(file, about)
    with accelerator.main_process_first():
        rows, broken = open_usable(data, options.split)
        names = class_names(data)
    if not len(rows):
        raise UserError("; ".join(f"{found.source}: {found.message}" for found in broken[:2]))
    if "mask" not in rows.column_names:
        raise UserError(f"{data.root} holds labels of whole images and no masks: {options.model} segments")
    if names != segmenter.config.class_names:
        raise UserError(
            f"{options.model} knows the classes {shown(list(segmenter.config.class_names))} and {data.root} has "
            f"{shown(list(names))}: evaluate a model on data of its own classes, or name them with --data.class-names"
        )
    Report(black_and_white_masks(data, rows, names, options.split)).raise_if_broken(
        f"fanet data check {data.root}"
    )
    found = evaluate(
        segmenter,
        rows,
        **how,
        ignore_index=data.ignore_index,
        workers=data.workers,
        cache=PixelCache(data.cache, data.cache_gb),
        accelerator=accelerator,
        progress=True,
        skip_failed=True,
    )
    found["failed"] = {finding.source: finding.message for finding in broken} | found["failed"]
    if accelerator.is_main_process:
        untrained = tell_untrained(segmenter, options.model)
        write_json(file, {**about, "untrained": untrained, **found})
        print(table(found))
        print(f"\nprotocol: {found['protocol']}\n{found['definition']}\nwritten: {file}")
        if found["failed"]:
            first = next(f"{name}: {problem}" for name, problem in found["failed"].items())
            print(f"{len(found['failed'])} images could not be scored ({first}): see `failed` in the file")
    return 1 if found["failed"] else 0


def _with_ignored(data: DataConfig, trained: int, speak: bool) -> DataConfig:
    """The ignored value that the model was trained with, unless `--data.ignore-index` gives another one."""
    if data.ignore_index == trained:
        return data
    if data.ignore_index == DataConfig.ignore_index:
        if speak:
            print(f"ignored in the masks: {trained}, as in the model's training")
        return replace(data, ignore_index=trained)
    if speak:
        print(
            f"ignored in the masks: {data.ignore_index} (--data.ignore-index), and {trained} in the model's training"
        )
    return data


def _identity(name: str) -> str:
    """A folder by its whole path, so that two of one name are told apart; a name of the Hub as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def _about(options: EvaluateOptions) -> list[str]:
    """What tells this evaluation of a model from its others: data, split, and what differs from the protocol."""
    return [
        Path(options.data.root).expanduser().resolve().name,
        options.split,
        "flip" if options.flip else "",
        "multi-scale" if options.multi_scale else "",
        f"tile-{options.tile}-overlap-{options.overlap:g}" if options.tile else "",
        "" if options.precision == "fp32" else options.precision,
    ]


def table(result: dict[str, Any]) -> str:
    """Per-class IoU and accuracy, then mIoU and pixel accuracy, in percent."""
    rows = [("class", "IoU", "accuracy")]
    for name, iou, acc in zip(result["classes"], result["iou"], result["class_acc"], strict=True):
        rows.append((name, _percent(iou), _percent(acc)))
    rows.append(("mIoU", _percent(result["miou"]), ""))
    rows.append(("pixel accuracy", _percent(result["pixel_acc"]), ""))
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name:<{width}}  {iou:>7}  {acc:>8}".rstrip() for name, iou, acc in rows)


def _percent(fraction: float | None) -> str:
    return "absent" if fraction is None else f"{100 * fraction:.2f}"
