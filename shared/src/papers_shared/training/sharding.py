"""Weights, gradients and optimizer state divided among the processes (torch's FSDP2), and whole again on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from papers_shared.errors import UserError
from papers_shared.training.config import OptimConfig

if TYPE_CHECKING:
    from accelerate import Accelerator


def check_shard(optim: OptimConfig, processes: int) -> None:
    """Refuse what has no meaning, or was never proven, with divided weights.

    Raises:
        UserError: It names the options, or says that there is only one process.
    """
    given = {
        "--optim.ema": optim.ema > 0,
        "--optim.compile": optim.compile,
        "--optim.sync-bn": optim.sync_bn,
        "--optim.precision fp16": optim.precision == "fp16",
    }
    wrong = [option for option, on in given.items() if on]
    if wrong:
        raise UserError(f"--optim.shard does not go with {' and '.join(wrong)}: leave one of them out")
    if processes == 1:
        raise UserError(
            "--optim.shard divides the weights among processes and there is one: start two or more"
        )


def shard(network: nn.Module, units: Iterable[nn.Module], accelerator: Accelerator) -> nn.Module:
    """Divide the network's parameters in place, so that each process holds its part; make the optimizer after it.

    A forward pass gathers the parameters of one unit at a time; what lies in no unit stays gathered for the whole step.
    With precision bf16 they travel and compute in bfloat16, and gradients are summed in float32. What lies in no unit,
    and units with batch norm, whose kernels take float32 statistics and weights alone, keep to autocast.
    Accelerate gives the device and the precision; its own FSDP does not start on CPUs, so torch's is used everywhere.

    Args:
        units: Parts that are called as modules, once in a forward pass.
    """
    from accelerate.utils import broadcast
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    accelerator.prepare_model(network, evaluation_mode=True)
    broadcast(list(network.state_dict().values()))  # all start from the first's, as in data parallelism
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()  # channels-last weights cannot be divided
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for unit in units:
        travels_half = accelerator.mixed_precision == "bf16" and not _normalizes_batches(unit)
        fully_shard(unit, mesh=mesh, mp_policy=half if travels_half else MixedPrecisionPolicy())
    fully_shard(network, mesh=mesh)
    return network


def _normalizes_batches(unit: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in unit.modules())


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or a divided one gathered from all processes, which must all call it."""
    part: Any = tensor
    return part.full_tensor() if _divided(part) else part


def gather_whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, the divided ones gathered from all processes, which must all call it, onto the CPU."""
    return {name: whole(part).cpu() if _divided(part) else part for name, part in tensors.items()}


def divide_like(tensors: Mapping[str, Tensor], examples: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Whole tensors as each process holds them: its part where the example of the same name and shape is divided."""
    return {name: _part(value, examples.get(name)) for name, value in tensors.items()}


def _part(value: Tensor, example: Any) -> Tensor:
    if example is None or not _divided(example) or value.shape != example.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    layout = {"device_mesh": example.device_mesh, "placements": example.placements}
    return distribute_tensor(value.to(example.device), **layout, src_data_rank=None)


def _divided(tensor: Tensor) -> bool:
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)
