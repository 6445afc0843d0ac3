"""What every training run needs besides its loop: sample order, checkpoints, log, progress."""

from papers_shared.runs.atomic import write_json, writing_folder
from papers_shared.runs.batches import StepPlan, plan_step
from papers_shared.runs.folder import RunFolder
from papers_shared.runs.losses import stop_on_bad_loss, sum_over_processes
from papers_shared.runs.opening import (
    FREE_RUN_OPTIONS,
    check_trackers,
    describe_machine,
    open_run,
    same_samples,
    start_trackers,
)
from papers_shared.runs.optimizer import optimizer_from_tensors, optimizer_to_tensors
from papers_shared.runs.order import SampleOrder, StepBatchSampler, forked_rng, sample_seed
from papers_shared.runs.processes import make_accelerator, same_everywhere, telling_lost_processes
from papers_shared.runs.progress import Progress
from papers_shared.runs.sharding import gather_whole, shard
from papers_shared.runs.steps import durations, parameter_groups, training_mode
from papers_shared.runs.tensors import save_tensors
from papers_shared.runs.training import TrainingState

__all__ = [
    "FREE_RUN_OPTIONS",
    "Progress",
    "RunFolder",
    "SampleOrder",
    "StepBatchSampler",
    "StepPlan",
    "TrainingState",
    "check_trackers",
    "describe_machine",
    "durations",
    "forked_rng",
    "gather_whole",
    "make_accelerator",
    "open_run",
    "optimizer_from_tensors",
    "optimizer_to_tensors",
    "parameter_groups",
    "plan_step",
    "same_everywhere",
    "same_samples",
    "sample_seed",
    "save_tensors",
    "shard",
    "start_trackers",
    "stop_on_bad_loss",
    "sum_over_processes",
    "telling_lost_processes",
    "training_mode",
    "write_json",
    "writing_folder",
]
