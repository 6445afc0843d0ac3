"""The book-keeping of one training, so that a package's loop shows only what it computes."""

from __future__ import annotations

import copy
import json
import math
import signal
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader

from papers_shared.compiling import compile_units
from papers_shared.errors import UserError
from papers_shared.files import check_room
from papers_shared.hub import TRAINING
from papers_shared.loading import loaded, make_loader
from papers_shared.progress import Progress
from papers_shared.seeding import sample_seed
from papers_shared.training.average import MovingAverage
from papers_shared.training.changed_data import changed_samples
from papers_shared.training.distributed import describe_machine, same_everywhere, sum_over_processes
from papers_shared.training.divergence import stop_on_divergence
from papers_shared.training.optimizer import make_adamw, training_mode
from papers_shared.training.plan import plan_step
from papers_shared.training.resume import open_run, same_samples
from papers_shared.training.run_folder import RunFolder, run_path
from papers_shared.training.sampler import SampleOrder, StepBatchSampler
from papers_shared.training.schedule import durations, epoch_of, learning_rate
from papers_shared.training.sharding import gather_whole, shard, whole
from papers_shared.training.signals import StopSignals
from papers_shared.training.state import TrainingState
from papers_shared.training.trackers import start_trackers

Batch = dict[str, Any]
"""Tensors with the batch first, `image` (B, C, H, W) among them, and `name`, one string per sample."""


class TrainingRun:
    """One training: its folder, its samples in their order, optimizer, log, chosen models and checkpoints.

    Nothing is drawn from a random state that must be saved: sample order, augmentation, dropout and learning rate are
    functions of (seed, step), so a run that is killed and resumed takes the same steps as one that is not.

    Args:
        recipe: A dataclass with the sections `optim`, `run` and `data`; all options are stored in `config.json`.
        samples: The training set; its items are dictionaries of tensors with `image` and `name`, made of its `rows`.
        package: Name for trackers.
        resumable: For each section the options that a resumed run may change, because they do not change the numbers.
        best_by: Model folder -> the metric of the validation whose highest value chooses it.
        collate: Samples -> batch; None: torch's own.
        on_device: Batch as it travels -> batch as network and losses take it, computed on the device; None: they are
            the same.
        smallest_micro_batch: Samples that a forward pass of training needs.

    Raises:
        UserError: The processes cannot compute the batch or do not agree on the data, or the run folder holds another
            run.
    """

    network: Any
    """The bare network, whose weights are trained."""
    model: nn.Module
    """What a training step calls: the network, wrapped for several processes."""
    optimizer: Any
    ema: MovingAverage | None = None

    def __init__(
        self,
        recipe: Any,
        accelerator: Accelerator,
        samples: Any,
        *,
        package: str,
        resumable: Mapping[str, Collection[str]],
        best_by: Mapping[str, str],
        collate: Callable[[Sequence[Any]], Batch] | None = None,
        on_device: Callable[[Batch], Batch] | None = None,
        smallest_micro_batch: int = 1,
    ) -> None:
        self.recipe, self.optim, self.options = recipe, recipe.optim, recipe.run
        self.accelerator, self.samples = accelerator, samples
        self.collate, self.on_device = collate, on_device
        self.package, self.best_by = package, best_by
        self.plan = plan_step(
            self.optim.batch_size,
            accelerator.num_processes,
            micro_batch=self.optim.micro_batch,
            smallest=smallest_micro_batch,
        )
        self.steps, _ = durations(self.optim, len(samples))
        self.folder = RunFolder(run_path(recipe))
        with accelerator.main_process_first():
            self.checkpoint = open_run(
                self.folder,
                recipe,
                free=resumable,
                main_process=accelerator.is_main_process,
            )
        if accelerator.is_main_process:
            changed = changed_samples(self.folder.path, samples.rows, contents=recipe.data.verify)
            if changed:
                warnings.warn(changed, stacklevel=2)
        name = self.checkpoint and self.checkpoint.name
        same_everywhere(accelerator, training_samples=len(samples), checkpoint=name)
        self.start = 0
        self.best: dict[str, dict[str, Any]] = {name: {"score": None, "step": 0} for name in best_by}
        self._parts: dict[str, Tensor] = {}
        self._norms: dict[str, Tensor] = {}
        self._signals, self._stopping = StopSignals(), False

    def prepare(
        self,
        network: Any,
        groups: Callable[[nn.Module], list[dict[str, Any]]],
        fsdp_units: Iterable[nn.Module] = (),
    ) -> nn.Module:
        """Bring the network to the device, make moving average and optimizer, and load the checkpoint to resume from.

        Args:
            groups: Network -> the optimizer's parameter groups.
            fsdp_units: Parts of the network whose weights are gathered one at a time with `--optim.shard`.

        Returns:
            What a training step calls; the bare network is `network`.
        """
        optim, accelerator = self.optim, self.accelerator
        if optim.channels_last and not optim.shard:
            network.to(memory_format=torch.channels_last)
        if optim.sync_bn:
            if accelerator.device.type != "cuda":
                raise UserError("--optim.sync-bn needs GPUs: leave it out on this machine")
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        network.to(accelerator.device)
        if optim.ema > 0:
            self.ema = MovingAverage(network, optim.ema)
        self._evaluated: Any = network if self.ema is None else self.ema.module
        if optim.shard:
            self._evaluated = accelerator.prepare_model(copy.deepcopy(network), evaluation_mode=True)
            self.model = shard(network, fsdp_units, accelerator)
        else:
            if (
                accelerator.ddp_handler is not None
            ):  # every step uses all weights; torch refuses it with `no_sync`
                accelerator.ddp_handler.static_graph = self.plan.accumulation == 1
            self.model = accelerator.prepare(network)
        optimizer: Any = make_adamw(groups(network), optim, accelerator.device)
        self.network, self.optimizer, self._adamw = network, accelerator.prepare(optimizer), optimizer
        if accelerator.is_main_process:
            check_room(self.folder.path, self._bytes_written())
        self.state = TrainingState(
            network, optimizer, self.ema, accelerator.scaler, accelerator.is_main_process
        )
        if self.checkpoint is not None:
            saved = self.state.load(self.folder, self.checkpoint)
            self.start, self.best = saved["step"], saved["best"]
            same_samples(saved["samples"], len(self.samples), self.checkpoint)
        if optim.compile:
            for one in (network,) if self._evaluated is network else (network, self._evaluated):
                compile_units(one)
        return self.model

    def __iter__(self) -> Iterator[int]:
        """The steps still to do, counted from 1; before each, random numbers, learning rates and mode are set."""
        self._batches = loaded(self._loader(), self._name_of)
        if self.options.trackers:
            start_trackers(self.accelerator, self.package, self.recipe)
        self._progress = Progress(self.steps, start=self.start, enabled=self.accelerator.is_main_process)
        self._log(
            {"kind": "start", "step": self.start, **describe_machine(self.accelerator), **asdict(self.plan)}
        )
        self._progress.line(str(self.plan))
        scaler = self.accelerator.scaler
        self._scale = scaler.get_scale() if scaler is not None and self.ema is not None else 0.0
        with self._signals:
            for step in range(self.start, self.steps):
                self._began = time.perf_counter()
                set_seed(sample_seed(self.options.seed, step, self.accelerator.process_index) % 2**32)
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(self.optim, step, len(self.samples), base=group["base_lr"])
                training_mode(self.model, self.optim.norm_eval)
                yield step + 1

    def next_batches(self) -> list[Batch]:
        """The micro-batches of this step and process, on its device."""
        self._micro_batches = [self._to_device(next(self._batches)) for _ in range(self.plan.accumulation)]
        return self._micro_batches

    def total(self, counts: Iterable[Tensor]) -> Tensor:
        """The sum of the micro-batches' counts over all processes: what a loss of the global batch is divided by."""
        return self.accelerator.reduce(torch.stack(list(counts)).sum(0), "sum")

    def micro_batches(self, batches: Sequence[Batch]) -> Iterator[Batch]:
        """The batches one by one; processes exchange gradients in the backward pass of the last one only."""
        for number, batch in enumerate(batches, start=1):
            last = number == len(batches)
            if self.optim.shard:
                sharded: Any = self.model
                sharded.set_requires_gradient_sync(last)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                yield batch

    def backward(self, losses: Mapping[str, Tensor]) -> None:
        """Add the gradients of the summed losses, each of which is this micro-batch's share of the global batch's.

        Data parallelism averages gradients over the processes: the factor makes the average a sum.
        """
        self.accelerator.backward(sum(losses.values()) * self.accelerator.num_processes)
        for name, value in losses.items():
            self._parts[name] = self._parts.get(name, 0.0) + value.detach()

    def clip_gradients(self) -> None:
        """Scale the gradients down to `--optim.clip-grad`, if it is on; their norm before that becomes a metric."""
        if self.optim.clip_grad:
            norm: Any = self.accelerator.clip_grad_norm_(self.model.parameters(), self.optim.clip_grad)
            self._norms = {"grad_norm": whole(norm)}

    def sum_losses(self, step: int) -> None:
        """Sum the micro-batches' losses over all processes, and see to it that one that is not finite updates nothing.

        A GPU is not waited for: the optimizer is told on the device, and `read_metrics` stops the run. Where it cannot
        be told, as with fp16's loss scaler, the metrics are read here.

        Raises:
            UserError: Read here, the loss is not finite.
        """
        told = self._signals.received is not None
        sums = sum_over_processes(self._parts, self.accelerator, flag=told)
        self._named = [*self._parts, "flag", *self._norms]
        self._values = torch.cat([sums, *(norm.reshape(1).to(sums) for norm in self._norms.values())])
        self._parts, self._metrics = {}, {}
        if self._adamw.defaults["fused"] and self.accelerator.scaler is None:
            self._adamw.found_inf = (~sums.isfinite().all()).float()
        else:
            self._metrics = self._read(step)

    def update_average(self) -> None:
        """Let the moving average follow the weights, if there is one and the loss scaler did not skip the step."""
        if self.ema is None:
            return
        scaler, before = self.accelerator.scaler, self._scale
        if scaler is not None:
            self._scale = scaler.get_scale()
        if self._scale >= before:
            self.ema.update(self.network)

    def read_metrics(self, step: int) -> dict[str, float]:
        """Wait for the step that was queued, once.

        Returns:
            The losses of the global batch, their sum as `loss`, and with `--optim.clip-grad` the norm of the gradients
            before they were scaled down to it, as `grad_norm`.

        Raises:
            UserError: The loss is not finite: weights and names of samples are saved, and nothing was updated.
        """
        return self._metrics or self._read(step)

    def _read(self, step: int) -> dict[str, float]:
        metrics = dict(zip(self._named, self._values.tolist(), strict=True))
        self._stopping = metrics.pop("flag") > 0
        metrics = {"loss": sum(value for name, value in metrics.items() if name != "grad_norm"), **metrics}
        if not math.isfinite(metrics["loss"]):
            samples = [name for batch in self._micro_batches for name in batch["name"]]
            stop_on_divergence(self.folder, step, metrics, samples, self.network, self.accelerator)
        return metrics

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write a training step to `log.jsonl` and the progress bar, and now and then to the trackers."""
        rate = learning_rate(self.optim, step - 1, len(self.samples))
        self._log({"kind": "train", "step": step, **metrics, "lr": rate})
        self._progress.update(step, loss=metrics["loss"], lr=rate)
        if step % self.options.log_every == 0:
            speed = self.optim.batch_size / (time.perf_counter() - self._began)
            self.accelerator.log({**metrics, "lr": rate, "samples_per_second": speed}, step=step)

    def validates(self, step: int) -> bool:
        """Whether the model is scored after this step: at an interval or the end of an epoch, and at the last step.

        Where nothing is chosen by a score (`best_by` is empty), after the last step alone.
        """
        if not self.best_by:
            return step == self.steps
        if self.options.eval_every:
            due = step % self.options.eval_every == 0
        else:
            batch, samples = self.optim.batch_size, len(self.samples)
            due = epoch_of(step, batch, samples) > epoch_of(step - 1, batch, samples)
        return due or step == self.steps

    def evaluated(self) -> Any:
        """The network to score and to save, alike on all processes: the moving average if there is one."""
        if self.optim.shard:
            self._evaluated.load_state_dict(gather_whole(self.network.state_dict()))
        broadcast(list(self._evaluated.buffers()))  # the batch norm statistics that process 0 saves
        return self._evaluated

    def record_validation(self, step: int, result: Mapping[str, Any]) -> None:
        """Log the metrics, and save the model where one of them is the best so far; after the last step as `last`.

        Without any metrics, as of a training that holds nothing out, it is only saved.
        """
        if not result:
            self._save_model("last", step, "last step", result)
            return
        floats = {f"val_{name}": value for name, value in result.items() if isinstance(value, float)}
        self.accelerator.log(floats, step=step)
        self._log({"kind": "val", "step": step, **result})
        shown = {name: result[name] for name in self.best_by.values() if result[name] is not None}
        scores = ", ".join(f"{name} {100 * value:.2f} %" for name, value in shown.items())
        self._progress.line(f"step {step}: val {scores}")
        for folder, metric in self.best_by.items():
            score, best = result[metric], self.best[folder]["score"]
            if score is not None and (best is None or score > best):
                self.best[folder] = {"score": score, "step": step}
                self._save_model(folder, step, metric, result)
        if step == self.steps:
            self._save_model("last", step, "last step", result)

    def save_checkpoint(self, step: int) -> None:
        """Write what a resumed run needs, if one is due after this step or a signal has asked the run to end.

        The training goes on while it is written; the next one, and the end of the run, wait for it.

        Raises:
            UserError: The checkpoint before could not be written.
            SystemExit: The run was asked to end: 128 + the number of the signal, after the checkpoint.
        """
        due = step % self.options.checkpoint_every == 0 or step == self.steps or self._stopping
        if due and (
            self.accelerator.is_main_process or self.optim.shard
        ):  # each process holds a part of a shard
            self.state.save(self.folder, step, self.options.keep, best=self.best, samples=len(self.samples))
        if self._stopping and step < self.steps:
            self.state.wait()
            number = self._signals.received or signal.SIGTERM
            name = signal.Signals(number).name
            self._progress.line(
                f"ended by {name} after step {step}: a checkpoint is written, the same command resumes"
            )
            self.finish()
            raise SystemExit(128 + number)

    def finish(self) -> Path:
        """Wait for the last checkpoint and all processes, end trackers, and return the run folder.

        Raises:
            UserError: The checkpoint could not be written.
        """
        self.state.wait()
        self._progress.close()
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return self.folder.path

    def _loader(self) -> DataLoader:
        sampler = StepBatchSampler(
            SampleOrder(len(self.samples), self.options.seed),
            start_step=self.start,
            total_steps=self.steps,
            global_batch=self.optim.batch_size,
            accumulation=self.plan.accumulation,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )
        return make_loader(
            self.samples,
            batch_sampler=sampler,
            collate_fn=self.collate,
            workers=self.recipe.data.workers,
            timeout=self.recipe.data.timeout,
            pin=self.accelerator.device.type == "cuda",
        )

    def _bytes_written(self) -> int:
        """Bytes of the checkpoints that are kept, of one that is being written, and of the model folders."""
        sizes = [value.numel() * value.element_size() for value in self.network.state_dict().values()]
        weights = sum(sizes)
        checkpoint = weights * (3 if self.ema is None else 4)  # AdamW keeps two values for each weight
        return checkpoint * (self.options.keep + 1) + weights * (len(self.best_by) + 2)

    def _name_of(self, position: tuple[int, int]) -> str:
        return str(self.samples.rows[position[1]]["name"])

    def _to_device(self, batch: Batch) -> Batch:
        moved = {
            key: value.to(self.accelerator.device, non_blocking=True) if isinstance(value, Tensor) else value
            for key, value in batch.items()
        }
        moved = moved if self.on_device is None else self.on_device(moved)
        layout = torch.channels_last if self.optim.channels_last else torch.contiguous_format
        moved["image"] = moved["image"].contiguous(memory_format=layout)
        return moved

    def _log(self, record: Mapping[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.folder.log(record)

    def _save_model(self, name: str, step: int, chosen_by: str, result: Mapping[str, Any]) -> None:
        """A model folder whose `training.json` says where it comes from."""
        if not self.accelerator.is_main_process:
            return
        about = {"recipe": self.recipe.name, "step": step, "chosen_by": chosen_by, "val": dict(result)}
        text = (json.dumps(about, indent=2) + "\n").encode()
        self._evaluated.origin = replace(
            self._evaluated.origin,
            untrained=(),
            recipe=self.recipe.name,
            steps=step,
            samples=step * self.optim.batch_size,
            data=Path(self.recipe.data.root).name,
            chosen_by=chosen_by,
            metrics={name: value for name, value in result.items() if isinstance(value, float)},
            protocol=str(result.get("protocol", "")),
        )
        self._evaluated.extra_files = {**self._evaluated.extra_files, TRAINING: text}
        self._evaluated.save_pretrained(self.folder.path / name)


def check_teaches(total: Tensor, needed: Mapping[str, str], root: str) -> None:
    """Refuse a first batch that has nothing to learn from.

    Args:
        total: What `TrainingRun.total` counted, one number for each entry of `needed`.
        needed: What is counted -> what to do where there is none; an empty advice: it may be missing.
        root: The data, for the message.

    Raises:
        UserError: A count is 0 and its advice is not empty.
    """
    for count, (what, advice) in zip(total.reshape(-1).tolist(), needed.items(), strict=True):
        if advice and not count:
            raise UserError(f"{root}: the first batch has no {what}: {advice}")
