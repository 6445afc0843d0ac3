"""The training loop, read from top to bottom.

Nothing in it is drawn from a random state that must be saved: the sample order, each sample's augmentation, the
network's dropout and the learning rate are functions of (seed, step), so a run that is killed and resumed takes
the same steps as one that is not.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from fanet.config import Recipe
from fanet.data import class_names, open_split, quick_check
from fanet.data.cache import PixelCache
from fanet.data.layouts import model_of_data
from fanet.data.samples import ClassificationSamples, SegmentationSamples, segmentation_batch
from fanet.evaluate import evaluate, evaluate_classifier
from fanet.losses import batch_mix, classification_losses, count_images, count_pixels, segmentation_losses
from fanet.modeling.classifier import Classifier
from fanet.modeling.segmenter import Segmenter
from fanet.modeling.start_weights import follow_weights
from fanet.transforms import classification_transform, normalization, train_transform
from papers_shared.training.distributed import report_lost_processes, start_processes
from papers_shared.training.optimizer import parameter_groups
from papers_shared.training.resume import RESUMABLE_RUN_OPTIONS
from papers_shared.training.run import TrainingRun, check_teaches

RESUMABLE_OPTIONS = {
    "model": {"pretrained", "grad_checkpointing"},
    "data": {"root", "layout", "workers", "timeout", "verify", "cache", "cache_gb", "allow_outside"},
    "optim": {"micro_batch", "compile", "channels_last", "shard"},
    "run": RESUMABLE_RUN_OPTIONS,
}
"""Options that a resumed run may change: paths, intervals, and how a step is computed."""


@report_lost_processes
def train(recipe: Recipe) -> Path:
    """Train as the recipe says and return the run folder.

    The folder holds `config.json`, `log.jsonl` (one record per step and per validation), `checkpoints/`, and two
    model folders for `from_pretrained`: `best/` (by validation mIoU, of a classifier by top-1 accuracy) and `last/`.

    Raises:
        UserError: A broken data set, an option that does not fit the data or the processes, a run folder of
            another configuration, a loss that is not finite.
    """
    data, loss = recipe.data, recipe.loss
    classifies = recipe.model.task == "classify"
    accelerator = start_processes(recipe)
    with accelerator.main_process_first():
        quick_check(data).raise_if_broken(f"fanet data check {data.root}")
        names = class_names(data)
        rows, val_rows = open_split(data, data.train_split), open_split(data, data.val_split)
    config = follow_weights(model_of_data(recipe, names))
    samples: ClassificationSamples | SegmentationSamples
    normalize, on_device = normalization(config).to(accelerator.device), None
    if classifies:
        transform = classification_transform(data, config, train=True)
        samples = ClassificationSamples(rows, transform, recipe.run.seed)
        mix = batch_mix(loss, config.num_classes)
        val_transform = classification_transform(data, config, train=False)
        validate = partial(evaluate_classifier, rows=val_rows, transform=val_transform, normalize=normalize)
    else:
        transform, cache = train_transform(data, config), PixelCache(data.cache, data.cache_gb)
        samples = SegmentationSamples(
            rows,
            transform,
            recipe.run.seed,
            size=data.crop_size,
            num_classes=config.num_classes,
            ignore_index=data.ignore_index,
            cache=cache,
        )
        on_device = partial(segmentation_batch, normalize=normalize)
        validate = partial(evaluate, rows=val_rows, ignore_index=data.ignore_index, cache=cache)
    network = (Classifier if classifies else Segmenter).from_config(config)
    run = TrainingRun(
        recipe,
        accelerator,
        samples,
        package="fanet",
        resumable=RESUMABLE_OPTIONS,
        best_by={"best": "top1" if classifies else "miou"},
        on_device=on_device,
        smallest_micro_batch=smallest_micro_batch(recipe),
    )
    if network.notes and accelerator.is_main_process:
        print(f"--model.backbone {config.backbone}: {'; '.join(network.notes)}", file=sys.stderr)
    model = run.prepare(network, partial(parameter_groups, optim=recipe.optim), network.fsdp_units())

    for step in run:
        batches = run.next_batches()
        if classifies:
            total = run.total(count_images(batch["label"]) for batch in batches)
        else:
            total = run.total(count_pixels(batch["labels"], data.ignore_index) for batch in batches)
        if step == run.start + 1 and not classifies:
            needed = {"labelled pixel": "check the masks and --data.ignore-index", "pixel": ""}
            check_teaches(total, needed, data.root)
        for batch in run.micro_batches(batches):
            if classifies:
                images, labels = mix(batch["image"], batch["label"])
                losses = classification_losses(model(images), labels, loss, total)
            else:
                output = model(batch["image"])
                losses = segmentation_losses(output, batch["labels"], loss, total, data.ignore_index)
            run.backward(losses)
        run.clip_gradients()
        run.sum_losses(step)
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.update_average()
        metrics = run.read_metrics(step)

        run.log(step, metrics)
        if run.validates(step):
            result = validate(run.evaluated(), workers=data.workers, accelerator=accelerator)
            run.record_validation(step, result)
        run.save_checkpoint(step)
    return run.finish()


def smallest_micro_batch(recipe: Recipe) -> int:
    """Images that a forward pass of training needs: two where a head takes statistics of maps pooled to 1x1."""
    pooled = recipe.model.task == "segment" and not (recipe.optim.norm_eval or recipe.optim.sync_bn)
    return 2 if pooled else 1
