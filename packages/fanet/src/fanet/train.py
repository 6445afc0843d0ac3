"""The training loop, read from top to bottom.

Nothing in it is drawn from a random state that must be saved: the sample order, each sample's augmentation, the
network's dropout and the learning rate are functions of (seed, step), so a run that is killed and resumed takes
the same steps as one that is not.
"""

from __future__ import annotations

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

from fanet.config import OptimConfig, Recipe
from fanet.data import quick_check
from fanet.schedule import learning_rate
from fanet.tasks import Batch, make_task
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
    durations,
    make_accelerator,
    open_run,
    parameter_groups,
    plan_step,
    same_everywhere,
    same_samples,
    sample_seed,
    start_trackers,
    stop_on_bad_loss,
    sum_over_processes,
    telling_lost_processes,
    training_mode,
)

FREE = {
    "model": {"pretrained", "grad_checkpointing"},
    "data": {"root", "layout", "workers", "cache", "cache_gb"},
    "optim": {"accumulation", "compile", "channels_last"},
    "run": FREE_RUN_OPTIONS,
}
"""Options that a resumed run may change: where things lie, cadences, and how a step is computed."""


@telling_lost_processes
def train(recipe: Recipe) -> Path:
    """Train as the recipe says and return the run folder.

    The folder holds `config.json`, `log.jsonl` (one record per step and per validation), `checkpoints/`, and two
    model folders for `from_pretrained`: `best/` (by validation score) and `last/`.

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
    plan = plan_step(
        optim.batch_size,
        accelerator.num_processes,
        accumulation=optim.accumulation,
        smallest=recipe.smallest_micro_batch,
    )
    set_seed(recipe.run.seed)
    torch.backends.cudnn.benchmark = not recipe.run.deterministic
    torch.use_deterministic_algorithms(recipe.run.deterministic, warn_only=True)
    with accelerator.main_process_first():
        quick_check(recipe.data).raise_if_broken(f"fanet data check {recipe.data.root}")
        task = make_task(recipe)
    steps, warmup_steps = durations(optim, len(task.samples))
    run = RunFolder(folder)
    with accelerator.main_process_first():
        checkpoint = open_run(
            run, recipe, free=FREE, resume=recipe.run.resume, main_process=accelerator.is_main_process
        )
    same_everywhere(
        accelerator, training_samples=len(task.samples), checkpoint=checkpoint and checkpoint.name
    )

    # ---- network, optimizer, moving average
    network = task.build()
    if optim.channels_last:
        network.to(memory_format=torch.channels_last)
    if optim.sync_bn:
        if accelerator.device.type != "cuda":
            raise UserError("--optim.sync-bn needs GPUs: leave it out on this machine.")
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    ema = None
    if optim.ema > 0:
        ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(optim.ema)).to(accelerator.device)
    optimizer = torch.optim.AdamW(parameter_groups(network, optim), lr=optim.lr, betas=optim.betas)
    model, prepared_optimizer = accelerator.prepare(network, optimizer)
    state = TrainingState(network, optimizer, ema, accelerator.scaler)
    start, best = 0, {"score": -math.inf, "step": 0}
    if checkpoint is not None:
        saved = state.load(run, checkpoint)
        start, best = saved["step"], saved["best"]
        same_samples(saved["samples"], len(task.samples), checkpoint)
    if optim.compile:
        network.compile()
    evaluated: Any = network if ema is None else ema.module

    # ---- samples in their order
    sampler = StepBatchSampler(
        SampleOrder(len(task.samples), recipe.run.seed),
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
        num_workers=recipe.data.workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    batches = iter(loader)

    # ---- steps
    if recipe.run.trackers:
        start_trackers(accelerator, "fanet", recipe)
    progress = Progress(steps, start=start) if accelerator.is_main_process else None
    if progress is not None:
        run.log({"kind": "start", "step": start, **describe_machine(accelerator), **asdict(plan)})
        progress.line(str(plan))
    for step in range(start, steps):
        began, done = time.perf_counter(), step + 1
        set_seed(sample_seed(recipe.run.seed, step, accelerator.process_index) % 2**32)
        rate = learning_rate(optim, step, steps, warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        training_mode(model, optim.norm_eval)

        micro_batches = [_to_device(next(batches), accelerator, optim) for _ in range(plan.accumulation)]
        total = accelerator.reduce(torch.stack([task.count(batch) for batch in micro_batches]).sum(), "sum")
        total = total.clamp(min=1)
        parts: dict[str, Tensor] = {}
        for number, batch in enumerate(micro_batches, start=1):
            with nullcontext() if number == plan.accumulation else accelerator.no_sync(model):
                losses = task.losses(model, batch, total)
                # DDP averages the gradients over processes: the factor makes it the sum that `total` divides.
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
        if progress is not None:
            run.log({"kind": "train", "step": done, **figures, "lr": rate})
            progress.update(done, loss=figures["loss"], lr=rate)
        if done % recipe.run.log_every == 0:
            speed = optim.batch_size / (time.perf_counter() - began)
            accelerator.log({**figures, "lr": rate, "images_per_second": speed}, step=done)
        if done % recipe.run.eval_every == 0 or done == steps:
            broadcast(list(evaluated.buffers()))  # score the batch norm statistics that process 0 saves
            result = task.validate(evaluated, accelerator)
            accelerator.log({f"val_{k}": v for k, v in result.items() if isinstance(v, float)}, step=done)
            if progress is not None:
                run.log({"kind": "val", "step": done, **result})
                progress.line(f"step {done}: val {task.score} {100 * result[task.score]:.2f} %")
            if result[task.score] > best["score"]:
                best = {"score": result[task.score], "step": done}
                if accelerator.is_main_process:
                    evaluated.save_pretrained(run.path / "best")
        if accelerator.is_main_process:
            if done == steps:
                evaluated.save_pretrained(run.path / "last")
            if done % recipe.run.checkpoint_every == 0 or done == steps:
                state.save(run, done, recipe.run.keep, best=best, samples=len(task.samples))

    # ---- the end
    if progress is not None:
        progress.close()
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return run.path


def _to_device(batch: Batch, accelerator: Accelerator, optim: OptimConfig) -> Batch:
    layout = torch.channels_last if optim.channels_last else torch.contiguous_format
    moved = {
        key: value.to(accelerator.device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }
    moved["image"] = moved["image"].contiguous(memory_format=layout)
    return moved
