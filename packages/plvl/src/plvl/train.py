"""The training loop, read from top to bottom.

Nothing in it is drawn from a random state that must be saved: the sample order, each sample's augmentation, the
network's dropout and the learning rates are functions of (seed, step), so a run that is killed and resumed takes
the same steps as one that is not.
"""

from __future__ import annotations

import copy
import json
import math
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, set_seed
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from papers_shared.cpu import direct_linears
from papers_shared.errors import UserError
from papers_shared.runs import (
    FREE_RUN_OPTIONS,
    Progress,
    RunFolder,
    SampleOrder,
    StepBatchSampler,
    TrainingState,
    check_trackers,
    describe_machine,
    gather_whole,
    make_accelerator,
    open_run,
    plan_step,
    same_everywhere,
    same_samples,
    sample_seed,
    shard,
    start_trackers,
    stop_on_bad_loss,
    sum_over_processes,
    telling_lost_processes,
    training_mode,
)
from plvl.config import Recipe
from plvl.data import quick_check
from plvl.modeling.plvl import TRAINING
from plvl.schedule import epoch_of, parameter_groups, rate_factor, total_steps
from plvl.sharding import check_shard, units
from plvl.task import Batch, GroundingTask

FREE = {
    "model": {"pretrained", "vision_pretrained", "text_pretrained", "vocabulary", "grad_checkpointing"},
    "data": {"root", "layout", "workers", "images"},
    "optim": {"micro_batch", "compile", "shard"},
    "run": FREE_RUN_OPTIONS,
}
"""Options that a resumed run may change: where things lie, cadences, and how a step is computed."""

CHOICES = {"best": "joint", "best_box": "acc_at_05", "best_mask": "miou"}
"""Model folder -> the figure of the validation that chooses it. `joint` is the mean of the other two."""


@telling_lost_processes
def train(recipe: Recipe) -> Path:
    """Train as the recipe says and return the run folder.

    The folder holds `config.json`, `log.jsonl` (one record per step and per validation), `checkpoints/`, and model
    folders for `from_pretrained`: `best/` by the joint score, `last/`, and of a network for both tasks `best_box/` by
    Acc@0.5 and `best_mask/` by mask mIoU. Each says in `training.json` when and why it was chosen.

    Raises:
        UserError: a broken data set, an option that does not fit the data or the processes, a run folder of
            another configuration, a loss that is not finite.
    """
    # ---- processes, folder, data
    optim = recipe.optim
    check_trackers(recipe.run.trackers)
    folder = Path(recipe.run.output or f"runs/{recipe.name}")
    accelerator = make_accelerator(
        optim.precision,
        timeout=recipe.run.timeout,
        log_with=list(recipe.run.trackers) or None,
        project_dir=folder,
    )
    check_shard(optim, accelerator)
    plan = plan_step(optim.batch_size, accelerator.num_processes, micro_batch=optim.micro_batch)
    set_seed(recipe.run.seed)
    torch.backends.cudnn.benchmark = not recipe.run.deterministic
    torch.use_deterministic_algorithms(recipe.run.deterministic, warn_only=True)
    with accelerator.main_process_first():
        quick_check(recipe.data).raise_if_broken(f"plvl data check {recipe.data.root}")
        task = GroundingTask(recipe)
    samples = len(task.samples)
    steps = total_steps(optim, samples)
    run = RunFolder(folder)
    with accelerator.main_process_first():
        checkpoint = open_run(
            run, recipe, free=FREE, resume=recipe.run.resume, main_process=accelerator.is_main_process
        )
    same_everywhere(accelerator, training_samples=samples, checkpoint=checkpoint and checkpoint.name)

    # ---- network, optimizer, moving average
    network, on_cpu = task.build(), accelerator.device.type == "cpu"
    if on_cpu:
        direct_linears(network)
    if optim.sync_bn:
        if accelerator.device.type != "cuda":
            raise UserError("--optim.sync-bn needs GPUs: leave it out on this machine.")
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    ema = None
    if optim.ema > 0:
        ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(optim.ema)).to(accelerator.device)
    evaluated: Any = network if ema is None else ema.module
    if optim.shard:
        evaluated = accelerator.prepare_model(copy.deepcopy(network), evaluation_mode=True)
        model = shard(network, units(network), accelerator)
    else:
        model = accelerator.prepare(network)
    optimizer = torch.optim.AdamW(parameter_groups(network, optim), betas=optim.betas, fused=on_cpu)
    prepared_optimizer = accelerator.prepare(optimizer)
    state = TrainingState(network, optimizer, ema, accelerator.scaler, accelerator.is_main_process)
    start, best = 0, {name: {"score": -math.inf, "step": 0} for name in _choices(recipe)}
    if checkpoint is not None:
        saved = state.load(run, checkpoint)
        start, best = saved["step"], saved["best"]
        same_samples(saved["samples"], samples, checkpoint)
    if optim.compile:
        network.compile()

    # ---- samples in their order
    sampler = StepBatchSampler(
        SampleOrder(samples, recipe.run.seed),
        start_step=start,
        total_steps=steps,
        global_batch=optim.batch_size,
        accumulation=plan.accumulation,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    loader = DataLoader(
        task.samples,
        batch_sampler=sampler,
        collate_fn=task.collate,
        num_workers=recipe.data.workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    batches = iter(loader)

    # ---- steps
    if recipe.run.trackers:
        start_trackers(accelerator, "plvl", recipe)
    progress = Progress(steps, start=start) if accelerator.is_main_process else None
    if progress is not None:
        run.log({"kind": "start", "step": start, **describe_machine(accelerator), **asdict(plan)})
        progress.line(str(plan))
    for step in range(start, steps):
        began, done = time.perf_counter(), step + 1
        set_seed(sample_seed(recipe.run.seed, step, accelerator.process_index) % 2**32)
        factor = rate_factor(optim, step, samples)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        training_mode(model, optim.norm_eval)

        micro_batches = [_to_device(next(batches), accelerator) for _ in range(plan.accumulation)]
        totals = accelerator.reduce(torch.stack([task.count(batch) for batch in micro_batches]).sum(0), "sum")
        if step == start and (missing := task.missing(totals)):
            raise UserError(
                f"{recipe.data.root}: no expression of the first batch has a {missing}: {_ADVICE[missing]}"
            )
        parts: dict[str, Tensor] = {}
        for number, batch in enumerate(micro_batches, start=1):
            with nullcontext() if number == plan.accumulation else accelerator.no_sync(model):
                losses = task.losses(model, batch, totals)
                # DDP averages the gradients over processes: the factor makes it the sum that `totals` divide.
                accelerator.backward(sum(losses.values()) * accelerator.num_processes)
            for name, value in losses.items():
                parts[name] = parts.get(name, 0.0) + value.detach()
        figures = sum_over_processes(parts, accelerator)
        if not math.isfinite(figures["loss"]):
            names = [name for batch in micro_batches for name in batch["name"]]
            stop_on_bad_loss(run, done, figures, names, network, accelerator)
        if optim.clip_grad > 0:
            figures["grad_norm"] = float(accelerator.clip_grad_norm_(model.parameters(), optim.clip_grad))
        prepared_optimizer.step()
        prepared_optimizer.zero_grad()
        if ema is not None and not accelerator.optimizer_step_was_skipped:
            ema.update_parameters(network)

        # ---- figures, validation, checkpoint
        rates = {"lr": optim.lr * factor}
        if progress is not None:
            run.log({"kind": "train", "step": done, **figures, **rates})
            progress.update(done, loss=figures["loss"], **rates)
        if done % recipe.run.log_every == 0:
            speed = optim.batch_size / (time.perf_counter() - began)
            accelerator.log({**figures, **rates, "expressions_per_second": speed}, step=done)
        if done == steps or _validates(done, recipe, samples):
            if optim.shard:
                evaluated.load_state_dict(gather_whole(network.state_dict()))
            broadcast(list(evaluated.buffers()))  # score the batch norm statistics that process 0 saves
            result = task.validate(evaluated, accelerator)
            accelerator.log({f"val_{k}": v for k, v in result.items() if isinstance(v, float)}, step=done)
            if progress is not None:
                run.log({"kind": "val", "step": done, **result})
                progress.line(f"step {done}: val {_summary(result)}")
            for name, chosen in best.items():
                if result[CHOICES[name]] > chosen["score"]:
                    best[name] = {"score": result[CHOICES[name]], "step": done}
                    if accelerator.is_main_process:
                        _save(evaluated, run.path / name, recipe, done, CHOICES[name], result)
            if done == steps and accelerator.is_main_process:
                _save(evaluated, run.path / "last", recipe, done, "last step", result)
        writes = accelerator.is_main_process or optim.shard  # of what is divided every process holds a part
        if writes and (done % recipe.run.checkpoint_every == 0 or done == steps):
            state.save(run, done, recipe.run.keep, best=best, samples=samples)

    # ---- the end
    if progress is not None:
        progress.close()
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return run.path


_ADVICE = {
    "box": "give boxes, or train masks alone with --model.no-rec.",
    "mask": "give masks, or train boxes alone with --model.no-res.",
}


def _choices(recipe: Recipe) -> list[str]:
    """The folders that a run of this recipe keeps: of a network for one task only `best`."""
    return list(CHOICES) if recipe.model.rec and recipe.model.res else ["best"]


def _validates(done: int, recipe: Recipe, samples: int) -> bool:
    """Whether there is a validation after `done` steps: on a cadence, or when an epoch has ended."""
    if recipe.run.eval_every:
        return done % recipe.run.eval_every == 0
    return epoch_of(done, recipe.optim, samples) > epoch_of(done - 1, recipe.optim, samples)


def _save(
    network: Any, folder: Path, recipe: Recipe, step: int, chosen_by: str, result: dict[str, Any]
) -> None:
    """A model folder that says where it comes from."""
    origin = {"recipe": recipe.name, "step": step, "chosen_by": chosen_by, "val": result}
    network.extra_files = {**network.extra_files, TRAINING: (json.dumps(origin, indent=2) + "\n").encode()}
    network.save_pretrained(folder)


def _summary(result: dict[str, Any]) -> str:
    names = {"acc_at_05": "Acc@0.5", "miou": "mask mIoU", "joint": "joint"}
    shown = {name: result[key] for key, name in names.items() if result[key] is not None}
    return ", ".join(f"{name} {100 * value:.2f} %" for name, value in shown.items())


def _to_device(batch: Batch, accelerator: Accelerator) -> Batch:
    return {
        key: value.to(accelerator.device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }
