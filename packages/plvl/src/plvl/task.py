"""What the loop trains: samples, network, losses and validation of visual grounding.

Every term of the loss is divided by what it counts in the *global* batch (boxes, centres, masks), so that processes,
accumulation steps and a single process with the whole batch compute the same gradient, up to batch norm, which takes
its statistics over `micro_batch`. An expression without a box or without a mask adds nothing to those terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from plvl.config import Recipe
from plvl.data import GroundingSamples, open_split
from plvl.evaluate import evaluate
from plvl.losses import count_centers, grounding_loss
from plvl.modeling.plvl import PLVL, PLVLOutput
from plvl.tokenizer import VOCABULARY, Tokenizer, vocabulary_for
from plvl.transforms import train_transform

Batch = dict[str, Any]


class GroundingTask:
    """The training problem of a recipe: `samples`, `collate`, `build`, `count`, `losses`, `validate`."""

    def __init__(self, recipe: Recipe) -> None:
        data, self.model = recipe.data, recipe.model
        self.recipe = recipe
        rows = open_split(data, data.train_split)
        self.val_rows = open_split(data, data.val_split)
        transform = train_transform(data, recipe.model)
        self.samples = GroundingSamples(rows, transform, recipe.run.seed, masks=recipe.model.res)
        self.vocabulary = vocabulary_for(recipe.model, rows["expression"])
        tokenizer = Tokenizer(self.vocabulary, recipe.model.max_tokens)
        self.collate = Collate(tokenizer, rec=recipe.model.rec, res=recipe.model.res)
        self.grid = (recipe.model.image_size // recipe.model.patch_size,) * 2

    def build(self) -> PLVL:
        network = PLVL.from_config(self.model)
        network.extra_files = {VOCABULARY: self.vocabulary}
        return network

    def count(self, batch: Batch) -> Tensor:
        """(3,) float: boxes, centres with a cell on the map, masks."""
        boxes, masks = batch["boxes"], batch["masks"]
        centers = count_centers(boxes, self.grid, form=self.recipe.loss.form)
        return torch.stack([centers.new_tensor(len(boxes)), centers, centers.new_tensor(len(masks))])

    def missing(self, totals: Tensor) -> str:
        """What this network learns from and a batch with the counts `totals` has none of; empty if nothing."""
        boxes, _, masks = totals.tolist()
        if self.model.rec and not boxes:
            return "box"
        return "mask" if self.model.res and not masks else ""

    def losses(self, network: nn.Module, batch: Batch, totals: Tensor) -> dict[str, Tensor]:
        """Weighted terms of this micro-batch; over all of a step they sum to the loss of the global batch."""
        output: PLVLOutput = network(batch["image"], batch["input_ids"], batch["attention_mask"])
        chosen = _learning(output, batch["boxed"], batch["masked"])
        terms = grounding_loss(chosen, batch["boxes"], batch["masks"], self.recipe.loss)
        boxes, centers, masks = (self.count(batch).clamp(min=1) / totals.clamp(min=1)).unbind()
        det, seg = self.recipe.loss.det_weight, self.recipe.loss.seg_weight
        losses = {}
        for name, source, weight in (
            ("giou", output.boxes, det * boxes),
            ("l1", output.boxes, det * boxes),
            ("center_focal", output.score_logits, det * centers),
            ("mask_focal", output.mask_logits, seg * masks),
            ("dice", output.mask_logits, seg * masks),
        ):
            if source is not None:
                term = getattr(terms, name)
                losses[name] = 0 * source.sum() if term is None else weight * term
        return losses

    def validate(self, network: Any, accelerator: Accelerator) -> dict[str, Any]:
        """Figures of the protocol `paper` on the validation split, and `joint`, the mean of the two main ones."""
        scores = evaluate(
            network,
            self.val_rows,
            batch_size=self.recipe.optim.micro_batch,
            workers=self.recipe.data.workers,
            accelerator=accelerator,
        )
        result = {"expressions": scores["expressions"], **scores["paper"]}
        main = [value for value in (result["acc_at_05"], result["miou"]) if value is not None]
        return {**result, "joint": sum(main) / len(main) if main else 0.0}


class Collate:
    """Samples of `GroundingSamples` -> one batch: pictures, word pieces, and the boxes and masks that there are."""

    def __init__(self, tokenizer: Tokenizer, *, rec: bool, res: bool) -> None:
        self.tokenizer, self.rec, self.res = tokenizer, rec, res

    def __call__(self, samples: Sequence[dict[str, Any]]) -> Batch:
        """`image` (B, 3, S, S), `input_ids` and `attention_mask` (B, N), `boxes` (b, 4) cxcywh of the samples
        `boxed` (b,), `masks` (m, 1, S, S) of the samples `masked` (m,), `name` (B strings).
        """
        boxed = [i for i, sample in enumerate(samples) if self.rec and sample["has_box"]]
        masked = [i for i, sample in enumerate(samples) if self.res and sample["has_mask"]]
        side = samples[0]["image"].shape[-1]
        input_ids, attention_mask = self.tokenizer([sample["expression"] for sample in samples])
        return {
            "image": torch.stack([sample["image"] for sample in samples]),
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "boxes": _stack([samples[i]["box"] for i in boxed], (4,)),
            "masks": _stack([samples[i]["mask"] for i in masked], (1, side, side)),
            "boxed": torch.tensor(boxed, dtype=torch.long),
            "masked": torch.tensor(masked, dtype=torch.long),
            "name": [sample["name"] for sample in samples],
        }


def _stack(tensors: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    return torch.stack(tensors) if tensors else torch.zeros(0, *shape)


def _learning(output: PLVLOutput, boxed: Tensor, masked: Tensor) -> PLVLOutput:
    """The rows of the output that have a target, by index; None for a task that has none."""

    def rows(source: Tensor | None, index: Tensor) -> Tensor | None:
        if source is None or not len(index):
            return None
        return source if len(index) == len(source) else source[index]

    return PLVLOutput(
        boxes=rows(output.boxes, boxed),
        score_logits=rows(output.score_logits, boxed),
        offset=rows(output.offset, boxed),
        size=rows(output.size, boxed),
        mask_logits=rows(output.mask_logits, masked),
    )
