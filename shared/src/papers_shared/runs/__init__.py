"""What every training run needs besides its loop: sample order, checkpoints, log, progress."""

from papers_shared.runs.atomic import write_json, writing_folder
from papers_shared.runs.folder import RunFolder
from papers_shared.runs.optimizer import optimizer_from_tensors, optimizer_to_tensors
from papers_shared.runs.order import SampleOrder, StepBatchSampler, forked_rng, sample_seed
from papers_shared.runs.processes import make_accelerator
from papers_shared.runs.progress import Progress
from papers_shared.runs.tensors import save_tensors
from papers_shared.runs.training import TrainingState

__all__ = [
    "Progress",
    "RunFolder",
    "SampleOrder",
    "StepBatchSampler",
    "TrainingState",
    "forked_rng",
    "make_accelerator",
    "optimizer_from_tensors",
    "optimizer_to_tensors",
    "sample_seed",
    "save_tensors",
    "write_json",
    "writing_folder",
]
