"""The state of any torch optimizer as flat tensors plus JSON, keyed by parameter name; no pickle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from papers_shared.errors import UserError

_KERNELS = ("foreach", "fused", "capturable")


def optimizer_to_tensors(
    optimizer: torch.optim.Optimizer, names: Iterable[tuple[str, Tensor]]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into tensors (`PARAMETER/KEY`) and a JSON object.

    Args:
        optimizer: Any `torch.optim` optimizer, or Accelerate's wrapper of one.
        names: `model.named_parameters()` of the unwrapped model.

    Raises:
        UserError: A parameter has no name, or a state or hyperparameter is neither a tensor nor JSON.
    """
    name_of = {id(param): name for name, param in names}
    tensors: dict[str, Tensor] = {}
    groups, state, shapes = [], {}, {}
    for number, group in enumerate(optimizer.param_groups):
        if any(id(param) not in name_of for param in group["params"]):
            raise UserError(f"a parameter of optimizer group {number} is not a named parameter of the model")
        hyper: dict[str, Any] = {}
        for key, value in group.items():
            if isinstance(value, Tensor):
                tensors[f"group {number}/{key}"] = value
            elif key != "params":
                hyper[key] = _json(value, f"group {number}/{key}")
        groups.append({"params": [name_of[id(param)] for param in group["params"]], "hyper": hyper})
        for param in group["params"]:
            name = name_of[id(param)]
            shapes[name] = list(param.shape)
            values = {}
            for key, value in optimizer.state.get(param, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{name}/{key}"] = value
                else:
                    values[key] = _json(value, f"{name}/{key}")
            state[name] = values
    return tensors, {"groups": groups, "state": state, "shapes": shapes, "tensors": sorted(tensors)}


def optimizer_from_tensors(
    optimizer: torch.optim.Optimizer,
    names: Iterable[tuple[str, Tensor]],
    tensors: dict[str, Tensor],
    json_state: dict[str, Any],
) -> None:
    """Put what `optimizer_to_tensors` returned into an optimizer built alike, bit for bit.

    Which kernels compute a step is this optimizer's affair, not the saved one's. Tensors move to their parameter's
    device and keep their type; `step` counters stay on the CPU unless the group is `capturable` or `fused`, as in
    torch.

    Raises:
        UserError: Groups, parameter names, shapes, hyperparameter names or tensors differ from the saved ones.
    """
    name_of = {id(param): name for name, param in names}
    _same("optimizer tensors", json_state["tensors"], tensors)
    groups = optimizer.param_groups
    if len(groups) != len(json_state["groups"]):
        raise UserError(f"the saved optimizer has {len(json_state['groups'])} groups, this one {len(groups)}")
    for number, (group, saved) in enumerate(zip(groups, json_state["groups"], strict=True)):
        here = [name_of.get(id(param), "?") for param in group["params"]]
        _same(f"parameters of optimizer group {number}", saved["params"], here)
        if here != saved["params"]:
            raise UserError(f"the parameters of optimizer group {number} are saved in another order")
        plain = [key for key, value in group.items() if key != "params" and not isinstance(value, Tensor)]
        _same(f"hyperparameters of optimizer group {number}", saved["hyper"], plain)
        for name, param in zip(here, group["params"], strict=True):
            if list(param.shape) != json_state["shapes"][name]:
                raise UserError(
                    f"{name} has shape {list(param.shape)}, saved was {json_state['shapes'][name]}"
                )
    entries: dict[str, dict[str, Tensor]] = {}
    for entry, tensor in tensors.items():
        owner, _, key = entry.rpartition("/")
        entries.setdefault(owner, {})[key] = tensor
    for number, (group, saved) in enumerate(zip(groups, json_state["groups"], strict=True)):
        for key, value in group.items():
            if isinstance(value, Tensor):
                value.copy_(entries[f"group {number}"][key])
            elif key not in ("params", *_KERNELS):
                new = saved["hyper"][key]
                group[key] = tuple(new) if isinstance(value, tuple) else new
        on_device = group.get("capturable") or group.get("fused")
        for name, param in zip(saved["params"], group["params"], strict=True):
            state: dict[str, Any] = dict(json_state["state"][name])
            for key, tensor in entries.get(name, {}).items():
                device = param.device if key != "step" or on_device else torch.device("cpu")
                state[key] = _laid_out_as(param, tensor.to(device, copy=True))
            optimizer.state.pop(param, None)
            if state:
                optimizer.state[param] = state


def _laid_out_as(param: Tensor, tensor: Tensor) -> Tensor:
    """The tensor in the parameter's order in memory, which fused kernels take for granted."""
    if tensor.shape != param.shape or tensor.stride() == param.stride():
        return tensor
    return torch.empty_like(param, dtype=tensor.dtype).copy_(tensor)


def _json(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_json(item, where) for item in value]
    raise UserError(f"the optimizer state {where} is a {type(value).__name__} and cannot be saved as JSON")


def _same(what: str, saved: Iterable[str], here: Iterable[str]) -> None:
    missing, unexpected = sorted(set(saved) - set(here)), sorted(set(here) - set(saved))
    if missing or unexpected:
        raise UserError(
            f"the {what} differ from the saved ones; missing here: {_short(missing)}; "
            f"unexpected here: {_short(unexpected)}"
        )


def _short(names: list[str], limit: int = 5) -> str:
    rest = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return (", ".join(names[:limit]) + rest) or "none"
