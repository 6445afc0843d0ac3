"""What differs between training the segmenter and training the classifier: samples, losses, validation.

Both tasks divide a summed loss by a count over the *global* batch, so that processes, accumulation steps and a
single process with the whole batch compute the same gradient.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from fanet.cache import PixelCache
from fanet.config import Recipe, with_classes
from fanet.data import ClassificationSamples, SegmentationSamples, class_names, open_split
from fanet.evaluate import evaluate, evaluate_classifier
from fanet.modeling.classifier import Classifier
from fanet.modeling.segmenter import Segmenter
from fanet.transforms import classification_transform, train_transform
from papers_shared.losses import cross_entropy

Batch = dict[str, Any]


class Task(Protocol):
    """One training problem: a network, its samples, its loss and its validation."""

    score: str
    samples: Any

    def build(self) -> Any: ...

    def count(self, batch: Batch) -> Tensor: ...

    def losses(self, network: nn.Module, batch: Batch, total: Tensor) -> dict[str, Tensor]: ...

    def validate(self, network: Any, accelerator: Accelerator) -> dict[str, Any]: ...


class SegmentationTask:
    """Pixel-wise cross-entropy of the main head plus `auxiliary_weight` times that of the auxiliary head."""

    score = "miou"

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.model = with_classes(recipe.model, class_names(recipe.data))
        self.cache = PixelCache(recipe.data.cache, recipe.data.cache_gb)
        self.val_rows = open_split(recipe.data, recipe.data.val_split)
        self.samples = SegmentationSamples(
            open_split(recipe.data, recipe.data.train_split),
            train_transform(recipe.data, self.model),
            seed=recipe.run.seed,
            num_classes=self.model.num_classes,
            ignore_index=recipe.data.ignore_index,
            cache=self.cache,
        )

    def build(self) -> Segmenter:
        return Segmenter.from_config(self.model)

    def count(self, batch: Batch) -> Tensor:
        """Pixels that the summed loss is divided by: labelled ones, or all."""
        labels = batch["labels"]
        if self.recipe.loss.average == "all":
            return torch.tensor(float(labels.numel()), device=labels.device)
        return (labels != self.recipe.data.ignore_index).sum().float()

    def losses(self, network: nn.Module, batch: Batch, total: Tensor) -> dict[str, Tensor]:
        output = network(batch["image"])
        losses = {"decode_loss": self._cross_entropy(output.logits, batch["labels"], total)}
        if output.aux_logits is not None:
            weight = self.recipe.loss.auxiliary_weight
            losses["auxiliary_loss"] = weight * self._cross_entropy(output.aux_logits, batch["labels"], total)
        return losses

    def _cross_entropy(self, logits: Tensor, labels: Tensor, total: Tensor) -> Tensor:
        logits = F.interpolate(logits.float(), labels.shape[-2:], mode="bilinear", align_corners=False)
        return (
            cross_entropy(logits, labels, ignore_index=self.recipe.data.ignore_index, average="sum") / total
        )

    def validate(self, network: Any, accelerator: Accelerator) -> dict[str, Any]:
        data = self.recipe.data
        return evaluate(
            network,
            self.val_rows,
            ignore_index=data.ignore_index,
            workers=data.workers,
            cache=self.cache,
            accelerator=accelerator,
        )


class ClassificationTask:
    """Cross-entropy with label smoothing over mixed-up batches: the ImageNet-1K pre-training of section 4.2."""

    score = "top1"

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.model = with_classes(recipe.model, class_names(recipe.data))
        self.val_rows = open_split(recipe.data, recipe.data.val_split)
        self.samples = ClassificationSamples(
            open_split(recipe.data, recipe.data.train_split),
            classification_transform(recipe.data, self.model, train=True),
            seed=recipe.run.seed,
        )
        mixes = [
            mix(alpha=alpha, num_classes=self.model.num_classes)
            for mix, alpha in ((v2.MixUp, recipe.loss.mixup), (v2.CutMix, recipe.loss.cutmix))
            if alpha > 0
        ]
        self.mix = v2.RandomChoice(mixes) if mixes else None

    def build(self) -> Classifier:
        return Classifier.from_config(self.model)

    def count(self, batch: Batch) -> Tensor:
        return torch.tensor(float(len(batch["label"])), device=batch["label"].device)

    def losses(self, network: nn.Module, batch: Batch, total: Tensor) -> dict[str, Tensor]:
        images, labels = batch["image"], batch["label"]
        if self.mix is not None:
            images, labels = self.mix(images, labels)
        smoothing = self.recipe.loss.label_smoothing
        summed = cross_entropy(network(images).float(), labels, average="sum", label_smoothing=smoothing)
        return {"classification_loss": summed / total}

    def validate(self, network: Any, accelerator: Accelerator) -> dict[str, Any]:
        transform = classification_transform(self.recipe.data, self.model, train=False)
        return evaluate_classifier(
            network, self.val_rows, transform, workers=self.recipe.data.workers, accelerator=accelerator
        )


def make_task(recipe: Recipe) -> Task:
    return SegmentationTask(recipe) if recipe.model.task == "segment" else ClassificationTask(recipe)
