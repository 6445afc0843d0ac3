"""The training loop: image labels only, no mask is ever opened.

Every sample has a label, so no batch can lack something to learn from: `hold_out` refuses a set of one label, and what
is held out for validation has both labels too, or the run stops before its first step.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cabl_cgsr.config import Calibration, Recipe, check_config, check_data
from cabl_cgsr.data import LabelSamples, check_command, quick_check, training_split
from cabl_cgsr.data.samples import label_batch
from cabl_cgsr.evaluate import image_metrics
from cabl_cgsr.losses import classification_losses
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.transforms import normalization, train_transform
from papers_shared.errors import UserError
from papers_shared.training.distributed import report_lost_processes, start_processes
from papers_shared.training.optimizer import parameter_groups
from papers_shared.training.resume import RESUMABLE_RUN_OPTIONS
from papers_shared.training.run import TrainingRun

RESUMABLE_OPTIONS = {
    "model": {"pretrained", "prompts", "grad_checkpointing"},
    "data": {"root", "layout", "workers", "timeout", "verify"},
    "optim": {"micro_batch", "compile", "channels_last", "shard"},
    "run": RESUMABLE_RUN_OPTIONS,
}
"""Options that a resumed run may change: paths, intervals, and how a step is computed."""


@report_lost_processes
def train(recipe: Recipe) -> Path:
    """Train as the recipe says and return the run folder.

    The folder holds `config.json`, `log.jsonl` (one record per step and per validation), `checkpoints/`, and two model
    folders for `from_pretrained`: `best/` (by I-AUC on the held-out images) and `last/`. With `--data.val-share 0`
    nothing is held out, and `last/` is the result.

    Raises:
        UserError: A broken data set, an option that does not fit the data or the processes, a run folder of another
            configuration, a loss that is not finite.
    """
    check_config(recipe.model)
    check_data(recipe.data)
    accelerator = start_processes(recipe)
    with accelerator.main_process_first():
        quick_check(recipe.data).raise_if_broken(check_command(recipe.data))
        transform = train_transform(recipe.data)
        samples = LabelSamples(training_split(recipe.data, "train"), transform, seed=recipe.run.seed)
        val_rows = training_split(recipe.data, "val")
    _check_both_labels(val_rows, recipe)
    network = Localizer.from_config(recipe.model)
    run = TrainingRun(
        recipe,
        accelerator,
        samples,
        package="cabl-cgsr",
        resumable=RESUMABLE_OPTIONS,
        best_by={"best": "i_auc"} if len(val_rows) else {},
        on_device=partial(label_batch, normalize=normalization(recipe.model).to(accelerator.device)),
    )
    model = run.prepare(network, lambda net: parameter_groups(net, recipe.optim), network.fsdp_units())

    for step in run:
        for batch in run.micro_batches(run.next_batches()):
            output = model(batch["image"])
            losses = classification_losses(
                output.logits_conv,
                output.logits_trans,
                batch["label"].long(),
                activation=recipe.model.activation,
                kind=recipe.loss.kind,
            )
            share = len(batch["label"]) / recipe.optim.batch_size
            run.backward({name: share * loss for name, loss in losses.items()})
        run.clip_gradients()
        run.sum_losses(step)
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.update_average()
        metrics = run.read_metrics(step)

        run.log(step, metrics)
        if run.validates(step):
            evaluated, workers = run.evaluated(), recipe.data.workers
            result = {}
            if len(val_rows):
                result = image_metrics(evaluated, val_rows, workers=workers, accelerator=accelerator)
                chosen = Calibration(**result["calibration"])
                evaluated.config = replace(evaluated.config, calibration=chosen)
            run.record_validation(step, result)
        run.save_checkpoint(step)
    return run.finish()


def _check_both_labels(val_rows: Any, recipe: Recipe) -> None:
    """I-AUC, by which the best weights are chosen, needs held-out images of both kinds, if any are held out."""
    labels = set(val_rows["label"]) if len(val_rows) else set()
    if labels != {0, 1} and recipe.data.val_share > 0:
        raise UserError(
            f"{recipe.data.root}: the {len(val_rows)} held-out images are not of both kinds, authentic and "
            f"manipulated: raise --data.val-share (it is {recipe.data.val_share:g}) or change --data.val-seed"
        )
