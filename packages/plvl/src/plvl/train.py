"""The training loop; `TrainingRun` keeps folder, resume, sample order, schedule, log and checkpoints."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from papers_shared.errors import UserError
from papers_shared.metrics.means import mean
from papers_shared.training.distributed import report_lost_processes, start_processes
from papers_shared.training.resume import RESUMABLE_RUN_OPTIONS
from papers_shared.training.run import TrainingRun, check_teaches
from plvl.config import OptimConfig, Recipe
from plvl.data import Collate, GroundingSamples, open_split, quick_check
from plvl.data.samples import grounding_batch
from plvl.evaluate import evaluate
from plvl.losses import count_targets, grounding_losses
from plvl.modeling.start_weights import build
from plvl.tokenizer import VOCABULARY, Tokenizer, vocabulary_for
from plvl.transforms import stretch_on, train_transform

RESUMABLE_OPTIONS = {
    "model": {"pretrained", "vision_pretrained", "text_pretrained", "vocabulary", "grad_checkpointing"},
    "data": {"root", "layout", "workers", "timeout", "verify", "images"},
    "optim": {"micro_batch", "compile", "shard"},
    "run": RESUMABLE_RUN_OPTIONS,
}
"""Options that a resumed run may change: paths, intervals, and how a step is computed."""

BEST_BY = {"best": "joint", "best_box": "acc_at_05", "best_mask": "miou"}
"""Model folder -> the metric of the validation that chooses it. `joint` is the mean of the other two."""


@report_lost_processes
def train(recipe: Recipe) -> Path:
    """Train as the recipe says and return the run folder.

    The folder holds `config.json`, `log.jsonl` (one record per step and per validation), `checkpoints/`, and model
    folders for `from_pretrained`: `best/` by the joint score, `last/`, and of a network for both tasks `best_box/` by
    Acc@0.5 and `best_mask/` by mask mIoU. Each says in `training.json` when and why it was chosen.

    Raises:
        UserError: A broken data set, an option that does not fit the data or the processes, a run folder of
            another configuration, or a loss that is not finite.
    """
    _check(recipe)
    accelerator = start_processes(recipe)
    data, config = recipe.data, recipe.model
    with accelerator.main_process_first():
        quick_check(data).raise_if_broken(f"plvl data check {data.root}")
        rows, val_rows = open_split(data, data.train_split), open_split(data, data.val_split)
    samples = GroundingSamples(rows, train_transform(data, config), recipe.run.seed, masks=config.res)
    vocabulary = vocabulary_for(config, rows["expression"])
    network = build(config)
    run = TrainingRun(
        recipe,
        accelerator,
        samples,
        package="plvl",
        resumable=RESUMABLE_OPTIONS,
        best_by=BEST_BY if config.rec and config.res else {"best": "joint"},
        collate=Collate(Tokenizer(vocabulary, config.max_tokens), rec=config.rec, res=config.res),
        on_device=partial(grounding_batch, stretch=stretch_on(accelerator.device, config)),
    )
    network.extra_files = {VOCABULARY: vocabulary}
    model = run.prepare(network, partial(parameter_groups, optim=recipe.optim), network.fsdp_units())
    grid = (config.image_size // config.patch_size,) * 2

    for step in run:
        batches = run.next_batches()
        total = run.total(count_targets(batch, grid, recipe.loss.form) for batch in batches)
        if step == run.start + 1:
            needed = {
                "box": "give boxes, or train masks alone with --model.no-rec" if config.rec else "",
                "centre": "",
                "mask": "give masks, or train boxes alone with --model.no-res" if config.res else "",
            }
            check_teaches(total, needed, data.root)
        for batch in run.micro_batches(batches):
            output = model(batch["image"], batch["input_ids"], batch["attention_mask"])
            run.backward(grounding_losses(output, batch, recipe.loss, total))
        run.clip_gradients()
        run.sum_losses(step)
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.update_average()
        metrics = run.read_metrics(step)

        run.log(step, metrics)
        if run.validates(step):
            scores = evaluate(run.evaluated(), val_rows, workers=data.workers, accelerator=accelerator)
            main = [x for x in (scores["paper"]["acc_at_05"], scores["paper"]["miou"]) if x is not None]
            joint = mean(main) if main else 0.0
            run.record_validation(
                step, {"expressions": scores["expressions"], **scores["paper"], "joint": joint}
            )
        run.save_checkpoint(step)
    return run.finish()


def parameter_groups(network: nn.Module, optim: OptimConfig) -> list[dict[str, Any]]:
    """The optimizer's groups: language, vision and the rest with their rates, by `lr_groups`.

    With `decay_norms` off, parameters of one dimension form groups of their own, undecayed.
    """
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        part = rate_of(name, optim)
        decay = optim.weight_decay if optim.decay_norms or parameter.ndim > 1 else 0.0
        group = {"params": [], "lr": getattr(optim, part), "weight_decay": decay}
        groups.setdefault((part, decay), group)["params"].append(parameter)
    return list(groups.values())


def rate_of(name: str, optim: OptimConfig) -> str:
    """Which rate of `OptimConfig` a parameter takes: lr_text, lr_vision or lr."""
    if name.startswith("language."):
        return "lr_text"
    if name.startswith("backbone.") and (optim.lr_groups == "official" or ".guide." not in name):
        return "lr_vision"
    return "lr"


def _check(recipe: Recipe) -> None:
    """Refuse options that only this package has, or that mean nothing to it."""
    optim = recipe.optim
    for option, value in (("optim.lr-vision", optim.lr_vision), ("optim.lr-text", optim.lr_text)):
        if not 0 <= value < float("inf"):
            raise UserError(f"--{option} is {value!r}: give 0 or more")
    if optim.channels_last:
        raise UserError("--optim.channels-last: PLVL's tokens hold their channels last already, leave it out")
