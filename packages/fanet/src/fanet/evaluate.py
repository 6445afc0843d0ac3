"""A model and a split in, the paper's figures out.

Protocol `paper` (the authors' mmsegmentation test pipeline): whole frames, two resizes, logits brought back to the
frame's own size, one confusion matrix over the split at original resolution, background included, label 255 left
out. Each frame counts once on any number of processes, so the figures do not depend on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from fanet.cache import PixelCache
from fanet.config import ModelConfig
from fanet.data import ClassificationSamples, class_names, load_frame, load_labels, open_split, quick_check
from fanet.modeling.segmenter import Segmenter
from fanet.options import EvaluateOptions
from fanet.transforms import prepare_image
from papers_shared.errors import UserError
from papers_shared.metrics import ConfusionMatrix
from papers_shared.runs import Progress, make_accelerator

MULTI_SCALE_RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def evaluate(
    segmenter: Segmenter,
    rows: Any,
    *,
    ignore_index: int = 255,
    ratios: Sequence[float] = (1.0,),
    flip: bool = False,
    workers: int = 0,
    cache: PixelCache | None = None,
    accelerator: Accelerator | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """mIoU and pixel accuracy of a segmenter over the rows of `fanet.data.open_split`, as fractions.

    Args:
        ratios: test-time scales; more than one, or `flip`, averages the class probabilities over all views.
        accelerator: shares the frames among its processes; every process returns the same result.

    Returns:
        `miou`, `pixel_acc`, `iou` and `class_acc` (one value per class, None where it never occurs), `classes`,
        `frames`, `protocol` and `definition`.
    """
    accelerator = accelerator or make_accelerator()
    config = segmenter.config
    rank, world = accelerator.process_index, accelerator.num_processes
    mine = range(rank, len(rows), world)
    views = [(ratio, flipped) for ratio in ratios for flipped in ((False, True) if flip else (False,))]
    frames = _Frames(rows, mine, config, views, ignore_index, cache)
    confusion = ConfusionMatrix(config.num_classes, ignore_index)
    bar = Progress(len(mine), unit="frame") if progress and accelerator.is_main_process else None
    segmenter.eval()
    with torch.inference_mode():
        for number, (inputs, labels, name) in enumerate(
            DataLoader(frames, batch_size=None, num_workers=workers), start=1
        ):
            size = (labels.shape[0], labels.shape[1])
            with accelerator.autocast():
                prediction = _classify_pixels(
                    segmenter, [view.to(accelerator.device) for view in inputs], views, size
                )
            try:
                confusion.update(prediction.cpu(), labels)
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
            if bar is not None:
                bar.update(number)
    if bar is not None:
        bar.close()
    counts = accelerator.reduce(confusion.counts.to(accelerator.device), "sum")
    confusion.counts = counts.cpu()
    scores = confusion.compute()
    return {
        "miou": scores.miou,
        "pixel_acc": scores.pixel_acc,
        "iou": list(scores.iou),
        "class_acc": list(scores.class_acc),
        "classes": list(config.class_names),
        "frames": len(rows),
        "protocol": protocol_name(config, ratios, flip),
        "definition": scores.definition,
    }


def protocol_name(config: ModelConfig, ratios: Sequence[float], flip: bool) -> str:
    """The protocol as printed beside the figures."""
    long_side, short_side = config.test_scale
    views = f"ratios {', '.join(f'{r:g}' for r in ratios)}" if tuple(ratios) != (1.0,) else "one scale"
    return (
        f"whole frames resized within {long_side}x{short_side}, sides up to multiples of {config.test_divisor}, "
        f"{views}, {'with' if flip else 'no'} flip; scored at original resolution"
    )


def _classify_pixels(
    segmenter: Segmenter, inputs: list[Tensor], views: list[tuple[float, bool]], size: tuple[int, int]
) -> Tensor:
    """Class ids (H, W) at the frame's own size from one input (1, 3, h, w) per view."""
    if len(inputs) == 1 and not views[0][1]:
        # not argmax, which is several times slower on the CPU
        return _logits_at(segmenter, inputs[0], size).max(1).indices[0]
    mean = torch.zeros(())
    for view, (_, flipped) in zip(inputs, views, strict=True):
        probabilities = _logits_at(segmenter, view, size).softmax(1)
        mean = mean.to(probabilities.device) + (probabilities.flip(-1) if flipped else probabilities)
    return mean.max(1).indices[0]


def _logits_at(segmenter: Segmenter, view: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (1, C, H, W) at `size` through the network's input size: two bilinear steps, as the authors do."""
    logits = segmenter(view).logits.float()
    logits = F.interpolate(logits, view.shape[-2:], mode="bilinear", align_corners=False)
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


class _Frames(Dataset):
    """(one network input per view, labels (H, W) int64, name) for each of this process's frames."""

    def __init__(
        self,
        rows: Any,
        indices: range,
        config: ModelConfig,
        views: list[tuple[float, bool]],
        ignore_index: int,
        cache: PixelCache | None,
    ) -> None:
        self.rows, self.indices, self.config, self.views = rows, indices, config, views
        self.ignore_index, self.cache = ignore_index, cache

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[list[Tensor], Tensor, str]:
        row = self.rows[self.indices[position]]
        frame = load_frame(row, self.cache)
        labels = load_labels(row, self.config.num_classes, self.ignore_index, self.cache)
        inputs = [
            prepare_image(frame, self.config, ratio=ratio, flip=flipped) for ratio, flipped in self.views
        ]
        return inputs, torch.from_numpy(np.array(labels, dtype=np.int64)), row["name"]


def evaluate_classifier(
    classifier: nn.Module,
    rows: Any,
    transform: Callable[..., Tensor],
    *,
    batch_size: int = 64,
    workers: int = 0,
    accelerator: Accelerator | None = None,
) -> dict[str, Any]:
    """Top-1 and top-5 accuracy as fractions, each picture counted once on any number of processes."""
    accelerator = accelerator or make_accelerator()
    mine = list(range(accelerator.process_index, len(rows), accelerator.num_processes))
    samples = ClassificationSamples(rows, transform, seed=0)
    loader = DataLoader(
        samples, sampler=[(0, index) for index in mine], batch_size=batch_size, num_workers=workers
    )
    hits = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
    classifier.eval()
    with torch.inference_mode(), accelerator.autocast():
        for batch in loader:
            labels = batch["label"].to(accelerator.device)
            logits = classifier(batch["image"].to(accelerator.device)).float()
            best = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
            counts = [len(labels), int(best[:, 0].sum()), int(best.any(1).sum())]
            hits += torch.tensor(counts, dtype=torch.float64, device=accelerator.device)
    pictures, top1, top5 = accelerator.reduce(hits, "sum").tolist()
    return {
        "top1": top1 / pictures,
        "top5": top5 / pictures,
        "pictures": int(pictures),
        "protocol": "one centre crop",
        "definition": "share of pictures whose class is the first (top1) or among the first five (top5) answers",
    }


def run(options: EvaluateOptions) -> int:
    """The verb `fanet evaluate`: print the table and write the JSON."""
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
            f"{list(names)}: evaluate a model on data of its own classes, or name them with --data.class-names."
        )
    result = evaluate(
        segmenter,
        rows,
        ignore_index=data.ignore_index,
        ratios=MULTI_SCALE_RATIOS if options.multi_scale else (1.0,),
        flip=options.flip,
        workers=data.workers,
        cache=PixelCache(data.cache, data.cache_gb),
        accelerator=accelerator,
        progress=True,
    )
    result = {"model": options.model, "data": data.root, "split": options.split, **result}
    if accelerator.is_main_process:
        output = _output_file(options)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=2) + "\n")
        print(table(result))
        print(f"\nprotocol: {result['protocol']}\n{result['definition']}\nwritten: {output}")
    return 0


def _output_file(options: EvaluateOptions) -> Path:
    name = f"evaluation-{options.split}.json"
    model = Path(options.model)
    return Path(options.output) if options.output else (model.parent / name if model.is_dir() else Path(name))


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
