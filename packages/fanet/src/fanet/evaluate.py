"""A model and a split in, the paper's metrics out.

Every image goes the road of `fanet.inference.predict`; one confusion matrix over the split at original resolution,
background included, label 255 left out. Each image counts once on any number of processes, so the metrics do not
depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fanet.data import ClassificationSamples, class_names, load_image, load_mask, open_split, quick_check
from fanet.data.cache import PixelCache
from fanet.inference import MULTI_SCALE, describe_protocol, predict
from fanet.modeling.segmenter import Segmenter
from papers_shared.errors import UserError
from papers_shared.files import write_json
from papers_shared.metrics import ConfusionMatrix
from papers_shared.progress import Progress
from papers_shared.results import evaluation_file
from papers_shared.threads import evaluation_mode
from papers_shared.training.distributed import make_accelerator

if TYPE_CHECKING:
    from fanet.options import EvaluateOptions


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
) -> dict[str, Any]:
    """mIoU and pixel accuracy of a segmenter over the rows of `fanet.data.open_split`, as fractions.

    Args:
        flip, ratios, tile, overlap: Of `fanet.inference.predict`.
        workers: Processes that decode images and masks.
        accelerator: Shares the images among its processes; every process returns the same result. Its precision is
            what the network computes in.

    Returns:
        `miou`, `pixel_acc`, `iou` and `class_acc` (one value per class, None where it never occurs), `classes`,
        `images`, `protocol` and `definition`.
    """
    accelerator = accelerator or make_accelerator()
    config = segmenter.config
    options: dict[str, Any] = {"flip": flip, "ratios": ratios, "tile": tile, "overlap": overlap}
    options["precision"] = accelerator.mixed_precision
    mine = range(accelerator.process_index, len(rows), accelerator.num_processes)
    samples = _Samples(rows, mine, config.num_classes, ignore_index, cache)
    confusion = ConfusionMatrix(config.num_classes, ignore_index)
    shown = progress and accelerator.is_main_process
    with Progress(len(mine), unit="image", enabled=shown) as bar:
        loader = DataLoader(samples, batch_size=None, num_workers=workers)
        for number, (image, mask, name) in enumerate(loader, start=1):
            found = predict(segmenter, np.asarray(image), **options)
            try:
                confusion.update(found.mask, mask)
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
            bar.update(number)
    counts = accelerator.reduce(confusion.counts.to(accelerator.device), "sum")
    confusion.counts = counts.cpu()
    scores = confusion.compute()
    return {
        "miou": scores.miou,
        "pixel_acc": scores.pixel_acc,
        "iou": list(scores.iou),
        "class_acc": list(scores.class_acc),
        "classes": list(config.class_names),
        "images": len(rows),
        "protocol": describe_protocol(config, **options),
        "definition": scores.definition,
    }


class _Samples(Dataset):
    """(image (H, W, 3) uint8, mask (H, W) uint8, name) for each of this process's rows."""

    def __init__(
        self, rows: Any, indices: range, num_classes: int, ignore_index: int, cache: PixelCache | None
    ) -> None:
        self.rows, self.indices, self.num_classes = rows, indices, num_classes
        self.ignore_index, self.cache = ignore_index, cache

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor, str]:
        row = self.rows[self.indices[position]]
        image = load_image(row, self.cache)
        mask = load_mask(row, self.num_classes, self.ignore_index, self.cache)
        return torch.from_numpy(image), torch.from_numpy(mask), row["name"]


def evaluate_classifier(
    classifier: nn.Module,
    rows: Any,
    transform: Callable[..., Tensor],
    *,
    batch_size: int = 64,
    workers: int = 0,
    accelerator: Accelerator | None = None,
) -> dict[str, Any]:
    """Top-1 and top-5 accuracy as fractions, each image counted once on any number of processes."""
    accelerator = accelerator or make_accelerator()
    mine = list(range(accelerator.process_index, len(rows), accelerator.num_processes))
    samples = ClassificationSamples(rows, transform, seed=0)
    loader = DataLoader(
        samples, sampler=[(0, index) for index in mine], batch_size=batch_size, num_workers=workers
    )
    hits = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
    with evaluation_mode(classifier), torch.inference_mode(), accelerator.autocast():
        for batch in loader:
            labels = batch["label"].to(accelerator.device)
            logits = classifier(batch["image"].to(accelerator.device)).float()
            best = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
            counts = [len(labels), int(best[:, 0].sum()), int(best.any(1).sum())]
            hits += torch.tensor(counts, dtype=torch.float64, device=accelerator.device)
    images, top1, top5 = accelerator.reduce(hits, "sum").tolist()
    return {
        "top1": top1 / images,
        "top5": top5 / images,
        "images": int(images),
        "protocol": "one centre crop",
        "definition": "share of images whose class is the first (top1) or among the first five (top5) answers",
    }


def run(options: EvaluateOptions) -> int:
    """`fanet evaluate`: print the table and write the JSON."""
    accelerator = make_accelerator(options.precision)
    data = options.data
    segmenter = Segmenter.from_pretrained(options.model).to(accelerator.device)
    with accelerator.main_process_first():
        quick_check(data, (options.split,)).raise_if_broken(f"fanet data check {data.root}")
        rows = open_split(data, options.split)
        names = class_names(data)
    if names != segmenter.config.class_names:
        raise UserError(
            f"{options.model} knows the classes {list(segmenter.config.class_names)} and {data.root} has "
            f"{list(names)}: evaluate a model on data of its own classes, or name them with --data.class-names"
        )
    result = evaluate(
        segmenter,
        rows,
        flip=options.flip,
        ratios=MULTI_SCALE if options.multi_scale else (1.0,),
        tile=options.tile,
        overlap=options.overlap,
        ignore_index=data.ignore_index,
        workers=data.workers,
        cache=PixelCache(data.cache, data.cache_gb),
        accelerator=accelerator,
        progress=True,
    )
    result = {"model": options.model, "data": data.root, "split": options.split, **result}
    if accelerator.is_main_process:
        file = evaluation_file(options.model, options.output, *_about(options))
        write_json(file, result)
        print(table(result))
        print(f"\nprotocol: {result['protocol']}\n{result['definition']}\nwritten: {file}")
    return 0


def _about(options: EvaluateOptions) -> list[str]:
    """What tells this evaluation of a model from its others: data, split, and what differs from the protocol."""
    return [
        Path(options.data.root).expanduser().resolve().name,
        options.split,
        "flip" if options.flip else "",
        "multi-scale" if options.multi_scale else "",
        f"tile-{options.tile}-overlap-{options.overlap:g}" if options.tile else "",
        "" if options.precision == "no" else options.precision,
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
