"""A model and a split in, the paper's figures out.

Two frames. `paper` (the authors' test pipeline): the picture stretched to the network's square, boxes as fractions of
it, masks compared in the square. `original`: the predicted mask brought back to the picture's own size, compared with
the mask as it was annotated; boxes in the picture's own pixels. Each expression counts once on any number of
processes, so the figures do not depend on it.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from papers_shared.cpu import pack_linears
from papers_shared.losses import cxcywh_to_xyxy
from papers_shared.metrics import GroundingMetrics
from papers_shared.runs import Progress, make_accelerator
from plvl.data import GroundingSamples, load_mask, open_split, quick_check
from plvl.modeling.plvl import PLVL, TRAINING, PLVLOutput
from plvl.options import EvaluateOptions
from plvl.resize import mask_at_size
from plvl.tokenizer import Tokenizer
from plvl.transforms import test_transform

Protocol = Literal["paper", "original"]
PROTOCOLS: dict[Protocol, str] = {
    "paper": "pictures and masks stretched to {side}x{side}, scored there, as the authors do",
    "original": "pictures stretched to {side}x{side}, masks brought back to the picture's size (bilinear "
    "probabilities), scored on original pixels",
}


def evaluate(
    model: PLVL,
    rows: Any,
    *,
    protocols: tuple[Protocol, ...] = ("paper",),
    batch_size: int = 20,
    workers: int = 0,
    accelerator: Accelerator | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Acc@0.5 of the boxes; mIoU, oIoU and Precision@0.5 to 0.9 of the masks, as fractions.

    Args:
        rows: Of `plvl.data.open_split`, one per expression. Expressions without a box do not count for boxes, those
            without a mask not for masks.
        batch_size: Expressions per forward pass.
        accelerator: shares the expressions among its processes; every process returns the same result.

    Returns:
        Per protocol a dict with `acc_at_05`, `box_miou`, `miou`, `oiou`, `precision_at` (None for what the model or
        the data does not have) and the wording of `protocol`; beside them `expressions`, `definition`, `seconds` and
        `expressions_per_second`, reading of pictures included.
    """
    accelerator = accelerator or make_accelerator()
    mine = range(accelerator.process_index, len(rows), accelerator.num_processes)
    loader = DataLoader(
        _Expressions(rows, mine, model, "original" in protocols),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_Collate(model.tokenizer),
    )
    metrics = {protocol: GroundingMetrics() for protocol in protocols}
    bar = Progress(len(mine), unit="expression") if progress and accelerator.is_main_process else None
    began, done = time.perf_counter(), 0
    model.eval()
    with torch.inference_mode():
        for batch in loader:
            inputs = [batch[key].to(accelerator.device) for key in ("image", "input_ids", "attention_mask")]
            with accelerator.autocast():
                output = model(*inputs)
            for protocol in protocols:
                _count(metrics[protocol], protocol, output, batch["samples"])
            done += len(batch["samples"])
            if bar is not None:
                bar.update(done)
    if bar is not None:
        bar.close()
    result: dict[str, Any] = {}
    for protocol in protocols:
        gathered = GroundingMetrics()
        gathered.rows = dict(gather_object(list(metrics[protocol].rows.items())))
        scores = asdict(gathered.compute())
        result["expressions"], result["definition"] = scores.pop("num_samples"), scores.pop("definition")
        result[protocol] = {**scores, "protocol": PROTOCOLS[protocol].format(side=model.config.image_size)}
    seconds = time.perf_counter() - began
    return {**result, "seconds": seconds, "expressions_per_second": result["expressions"] / seconds}


def _count(
    metrics: GroundingMetrics, protocol: Protocol, output: PLVLOutput, samples: list[dict[str, Any]]
) -> None:
    """Count the expressions of one batch in one frame."""
    boxes = None if output.boxes is None else cxcywh_to_xyxy(output.boxes.float()).double().cpu().numpy()
    for i, sample in enumerate(samples):
        box = None if boxes is None else boxes[i]
        mask = None if output.mask_logits is None else output.mask_logits[i, 0].float()
        if protocol == "paper":
            true_box = cxcywh_to_xyxy(sample["box"]).double().numpy() if sample["has_box"] else None
            true_mask = sample["mask"][0].numpy() if sample["has_mask"] else None
            found = None if mask is None else mask.sigmoid().cpu().numpy()
        else:
            height, width = (int(side) for side in sample["size"])
            corners = sample["box_xyxy"].double().numpy() / [width, height, width, height]
            true_box = corners if sample["has_box"] else None
            true_mask = sample.get("true_mask")
            found = (
                None if mask is None or true_mask is None else mask_at_size(mask, height, width).cpu().numpy()
            )
        metrics.update(sample["index"], box=box, true_box=true_box, mask=found, true_mask=true_mask)


class _Expressions(Dataset):
    """Samples of this process's expressions, with their masks at the picture's own size where they are needed."""

    def __init__(self, rows: Any, mine: range, model: PLVL, original: bool) -> None:
        self.rows, self.mine, self.original = rows, mine, original and model.config.res
        transform = test_transform(
            model.config, "official"
        )  # its boxes are the targets of the paper's protocol
        self.samples = GroundingSamples(rows, transform, seed=0, masks=model.config.res)

    def __len__(self) -> int:
        return len(self.mine)

    def __getitem__(self, number: int) -> dict[str, Any]:
        index = self.mine[number]
        sample = {**self.samples[0, index], "index": f"{index:09d}"}
        if self.original and sample["has_mask"]:
            sample["true_mask"] = load_mask(self.rows[index])
        return sample


class _Collate:
    """Network inputs as a batch, targets as they are."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        input_ids, attention_mask = self.tokenizer([sample["expression"] for sample in samples])
        images: Tensor = torch.stack([sample.pop("image") for sample in samples])
        return {
            "image": images,
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "samples": samples,
        }


def run(options: EvaluateOptions) -> int:
    """The verb `plvl evaluate`: print the table and write the JSON."""
    accelerator = make_accelerator(options.precision)
    data = options.data
    model = pack_linears(PLVL.from_pretrained(options.model).to(accelerator.device))
    with accelerator.main_process_first():
        quick_check(data, (options.split,)).raise_if_broken(f"plvl data check {data.root}")
        rows = open_split(data, options.split)
    result = evaluate(
        model,
        rows,
        protocols=("paper", "original") if options.protocol == "all" else (options.protocol,),
        batch_size=options.batch_size,
        workers=data.workers,
        accelerator=accelerator,
        progress=True,
    )
    origin = json.loads(model.extra_files.get(TRAINING, b"{}"))
    origin.pop("val", None)
    result = {
        "model": options.model,
        "trained": origin or None,
        "data": data.root,
        "split": options.split,
        **result,
    }
    if accelerator.is_main_process:
        output = _output_file(options)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=2) + "\n")
        print(table(result))
        print(f"\nmodel: {options.model}{_chosen(origin)}")
        print(f"{result['definition']}\nwritten: {output}")
    return 0


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
        f"\n{result['expressions']:,} expressions, {result['expressions_per_second']:.1f} per second with reading"
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


def _output_file(options: EvaluateOptions) -> Path:
    name = f"evaluation-{options.split}.json"
    model = Path(options.model)
    if options.output:
        return Path(options.output)
    return model.with_name(f"{model.name}-{name}") if model.is_dir() else Path(name)
