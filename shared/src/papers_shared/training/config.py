"""Options of training that the three packages share; each package's `config.py` sets its paper's values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from papers_shared.ranges import Formerly
from papers_shared.types import Precision


@dataclass(frozen=True)
class OptimConfig:
    """AdamW, the schedule of its learning rate, and how a global batch is computed."""

    batch_size: int = 8
    """Global batch: samples per optimizer step, over all processes and accumulation steps."""
    micro_batch: int = 0
    """Samples per forward pass of one process, over which batch norm takes its statistics; 0: `batch_size` divided by
    the processes. The accumulation steps follow: `batch_size` / (`micro_batch` x processes)."""
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    """Added to the denominator of AdamW's update."""
    weight_decay: float = 0.05
    decay_norms: bool = True
    """Apply weight decay to norms and biases too."""
    schedule: Literal["constant", "poly", "cosine"] = "poly"
    power: float = 1.0
    """Exponent of the poly schedule."""
    decay_per: Literal["step", "epoch"] = "step"
    """Whether the rate falls at every step or stays the same for an epoch."""
    min_lr: float = 0.0
    """The rate at the end of the poly and cosine schedules."""
    warmup_steps: int = 0
    """Steps of linear warm-up; it multiplies the schedule."""
    warmup_ratio: float = 1e-6
    """Share of the rate at step 0 of the warm-up."""
    steps: int = 0
    """Optimizer steps; 0: as many whole batches as `epochs` hold. With `steps` given, `epochs` is not used."""
    epochs: int = 0
    warmup_epochs: int = 0
    """Warm-up in epochs, used when `steps` is 0."""
    clip_grad: float = 0.0
    """Largest gradient norm; 0: no clipping."""
    ema: float = 0.0
    """Decay of the moving average of the weights, which then is what is evaluated and saved as a model; 0: none."""
    precision: Annotated[Precision, Formerly("no", "fp32")] = "fp32"
    """What matrix products and convolutions compute in: fp32, tf32 (on GPUs), or bf16 or fp16 (autocast); weights and
    optimizer are float32 always."""
    compile: bool = False
    """Compile the network's blocks with `torch.compile`."""
    channels_last: bool = False
    """Keep convolutions in the channels-last memory format."""
    sync_bn: bool = False
    """Batch norm over all processes (GPU only)."""
    norm_eval: bool = False
    """Keep batch norm on its running statistics while training."""
    shard: bool = False
    """Divide weights, gradients and optimizer state among the processes (FSDP2), for less memory on each; checkpoints
    hold them whole. Not with `ema`, `compile`, `sync_bn` or fp16."""


@dataclass(frozen=True)
class RunConfig:
    """Run folder, intervals, and experiment trackers."""

    output: str = ""
    """Run folder; empty: runs/RECIPE."""
    seed: int = 0
    resume: bool = True
    """Continue from the newest complete checkpoint of the run folder, if there is one."""
    restart: bool = False
    """Begin again at step 0 where all checkpoints of a run are lost."""
    eval_every: int = 0
    """Steps between validations; 0: once per epoch."""
    checkpoint_every: int = 1_000
    """Steps between checkpoints."""
    keep: int = 2
    """Newest checkpoints kept."""
    timeout: int = 1800
    """Seconds after which a process gives up on others that do not answer."""
    log_every: int = 50
    """Steps between records for the trackers; `log.jsonl` has every step."""
    trackers: tuple[str, ...] = ()
    """Accelerate trackers by name: tensorboard, wandb, trackio, ..."""
    deterministic: bool = False
    """Deterministic algorithms on the GPU where torch has them (slower); a warning names what it lacks."""
