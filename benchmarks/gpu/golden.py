"""What small networks answer in float64 on a CPU, and whether a device answers the same in each precision.

`python -m benchmarks.gpu.golden` computes the values anew and writes them to `goldens.safetensors` beside this file.
Weights and inputs are drawn from torch's CPU generator by name, so that they are equal on all machines and do not
depend on the order in which a network is built.
"""

from __future__ import annotations

import copy
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.cabl_cgsr_jobs import SMALL as CABL_CGSR
from benchmarks.plvl_jobs import SMALL as PLVL_SIZES
from cabl_cgsr.losses import classification_loss
from cabl_cgsr.modeling.localizer import Localizer
from fanet.config import LossConfig
from fanet.config import ModelConfig as FanetConfig
from fanet.losses import count_pixels, segmentation_losses
from fanet.modeling.segmenter import Segmenter
from papers_shared.devices import autocast, choose_precision
from papers_shared.sam import TransformersSam
from papers_shared.sam.frame import Frame
from papers_shared.training.optimizer import FUSED_DEVICES, training_mode
from papers_shared.types import Precision
from plvl.losses import grounding_loss
from plvl.modeling.plvl import PLVL

FILE = Path(__file__).with_name("goldens.safetensors")
BOUNDS: dict[Precision, float] = {"fp32": 1e-5, "tf32": 2e-3, "bf16": 2e-2, "fp16": 5e-3}
"""The largest |answer - golden| / max |golden| of any tensor."""
LOSS_SCALE = 1024.0
"""Of the loss in fp16, whose small gradients would be zeros; the gradients are divided by it."""


@dataclass(frozen=True)
class Subject:
    """A network that is trained; its inputs and what it learns from are tensors, by name."""

    network: nn.Module
    inputs: Mapping[str, Tensor]
    answers: Callable[[Any, Mapping[str, Tensor]], dict[str, Tensor]]
    loss: Callable[[Any, Mapping[str, Tensor]], Tensor]


def fanet() -> Subject:
    config = FanetConfig(
        backbone="test_fanet",
        class_names=("a", "b", "c"),
        drop_path_rate=0.0,
        dropout=0.0,
        decoder_channels=16,
        auxiliary_channels=16,
        pool_scales=(2, 3),
    )
    labels = (uniform("labels", 2, 64, 64) * 1.5 + 1.5).long().clamp(max=2)

    def loss(network: Any, given: Mapping[str, Tensor]) -> Tensor:
        counts = count_pixels(given["labels"], 255)
        terms = segmentation_losses(network(given["images"]), given["labels"], LossConfig(), counts, 255)
        return torch.stack(list(terms.values())).sum()

    return Subject(
        drawn(Segmenter.from_config(config)),
        {"images": uniform("images", 2, 3, 64, 64) * 2, "labels": labels},
        lambda network, given: {"logits": network(given["images"]).logits},
        loss,
    )


def plvl() -> Subject:
    config = replace(PLVL_SIZES, drop_path_rate=0.0, cross_dropout=0.0, text_dropout=0.0, decoder_dropout=0.0)
    seen = torch.arange(12)[None] < torch.tensor([[12], [7]])
    ids = (uniform("ids", 2, 12) * 500 + 600).long() * seen
    boxes = torch.tensor([[0.5, 0.5, 0.25, 0.5], [0.7, 0.3, 0.2, 0.2]])
    masks = (uniform("masks", 2, 64, 64) > 0.4).float()
    names = ("boxes", "score_logits", "offset", "size", "mask_logits")

    def forward(network: Any, given: Mapping[str, Tensor]) -> Any:
        return network(given["images"], given["ids"], given["seen"])

    def answers(network: Any, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        output = forward(network, given)
        return {name: getattr(output, name) for name in names}

    def loss(network: Any, given: Mapping[str, Tensor]) -> Tensor:
        return grounding_loss(forward(network, given), given["boxes"], given["masks"]).total

    images = uniform("images", 2, 3, 64, 64) * 2
    given = {"images": images, "ids": ids, "seen": seen.long(), "boxes": boxes, "masks": masks}
    return Subject(drawn(PLVL.from_config(config), gain=0.6), given, answers, loss)


def cabl_cgsr() -> Subject:
    def answers(network: Any, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        output = network(given["images"], cam=True)
        return {"logits": torch.cat([output.logits_conv, output.logits_trans], dim=1), "cam": output.cam}

    def loss(network: Any, given: Mapping[str, Tensor]) -> Tensor:
        output = network(given["images"])
        return classification_loss(output.logits_conv, output.logits_trans, given["labels"])

    slope = torch.linspace(-1, 1, 64)
    saddle = slope * slope[:, None] * torch.tensor([1.0, -1.0])[:, None, None, None]
    colour = torch.tensor([0.5, -0.3, 0.2])[:, None, None]
    images = 1.5 * (saddle + 0.3 * uniform("images", 2, 3, 64, 64) + colour)
    network = drawn(Localizer.from_config(CABL_CGSR), gain=0.5)
    return Subject(network, {"images": images, "labels": torch.tensor([0, 1])}, answers, loss)


SUBJECTS = {"fanet": fanet, "plvl": plvl, "cabl-cgsr": cabl_cgsr}
NAMES = (*SUBJECTS, "sam")
SAM_SIDE = 64
SAM_PROMPTS: dict[str, tuple[Any, Any, Any]] = {
    "box": (np.array([10.0, 12.0, 40.0, 50.0]), None, None),
    "points": (None, np.array([[20.0, 30.0], [50.0, 8.0]]), np.array([1, 0])),
}


def compute(name: str, device: torch.device, precision: Precision) -> dict[str, Tensor]:
    """What a network of `NAMES` answers on a device, as float64 on the CPU: answers in eval mode, loss, norms of the
    gradients by part of the network, and norms of what one step of AdamW changes in each part.
    """
    if name == "sam":
        return _sam(device, precision)
    return _compute(SUBJECTS[name](), device, precision)


def differences(name: str, device: torch.device, precision: Precision) -> dict[str, float]:
    """Name of a tensor -> max |answer - golden| / max |golden|; NaN where an answer is not finite."""
    prefix = f"{name}/"
    golden = {key.removeprefix(prefix): x for key, x in goldens().items() if key.startswith(prefix)}
    found = compute(name, device, precision)
    if golden.keys() != found.keys():
        raise ValueError(f"{FILE.name} does not fit {name}: python -m benchmarks.gpu.golden writes it anew")
    return {key: float((found[key] - x).abs().max() / x.abs().max()) for key, x in golden.items()}


@cache
def goldens() -> dict[str, Tensor]:
    return load_file(FILE)


def uniform(name: str, *shape: int) -> Tensor:
    """Values in [-1, 1), by the name alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.rand(*shape, generator=generator) * 2 - 1


def drawn(network: nn.Module, gain: float = 1.0) -> Any:
    """The network with weights, statistics and random positions drawn by their names.

    Args:
        gain: Of the weights of all layers but the classifying ones. Deep networks on random weights multiply a
            rounding; this keeps them so that half precision stays within its bound.
    """
    with torch.no_grad():
        for name, value in (*network.named_parameters(), *network.named_buffers()):
            noise = uniform(name, *value.shape) if value.ndim else torch.zeros(())
            if name.endswith("running_var"):
                value.copy_(1 + 0.5 * noise)
            elif name.endswith("positional_embedding"):
                value.copy_(noise)
            elif name.endswith("running_mean") or isinstance(value, nn.Parameter):
                if value.ndim > 1:
                    own = 1.0 if "cls_head" in name else gain
                    value.copy_(noise * own * (3 / max(1, value[0].numel())) ** 0.5)
                else:
                    value.copy_(float(name.endswith(("weight", "gamma"))) + 0.1 * noise)
    return network


def _compute(
    subject: Subject, device: torch.device, precision: Precision, *, double: bool = False
) -> dict[str, Tensor]:
    network = copy.deepcopy(subject.network)
    given = dict(subject.inputs)
    if double:
        network.double()
        given = {name: x.double() if x.is_floating_point() else x for name, x in given.items()}
    network.to(device)
    given = {name: x.to(device) for name, x in given.items()}
    scale = LOSS_SCALE if precision == "fp16" else 1.0
    with torch.no_grad(), autocast(network.eval(), precision):
        found = subject.answers(network, given)
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        groups.setdefault(".".join(name.split(".")[:2]), []).append(parameter)
    # eps so large that a step is nearly proportional to the gradient: that of a weight without one is rounding alone
    fused = device.type in FUSED_DEVICES
    optimizer = torch.optim.AdamW(network.parameters(), lr=1.0, eps=1e-1, fused=fused)
    training_mode(network, norm_eval=True)  # statistics of so few values would multiply a rounding
    with autocast(network, precision):
        loss = subject.loss(network, given)
    (loss * scale).backward()
    for parameter in network.parameters():
        if parameter.grad is not None:
            parameter.grad /= scale
    before = {name: [wide(x) for x in group] for name, group in groups.items()}
    gradients = [_norm([wide(x.grad) for x in group if x.grad is not None]) for group in groups.values()]
    optimizer.step()
    changes = [
        _norm([wide(x) - old for x, old in zip(group, before[name], strict=True)])
        for name, group in groups.items()
    ]
    return {
        **{name: wide(value) for name, value in found.items()},
        "loss": wide(loss).reshape(1),
        "gradients": torch.stack(gradients),
        "changes": torch.stack(changes),
    }


def wide(value: Tensor) -> Tensor:
    """A float64 copy on the CPU."""
    return value.detach().cpu().double().clone().contiguous()


def _norm(values: list[Tensor]) -> Tensor:
    return torch.stack([value.square().sum() for value in values or [torch.zeros(1).double()]]).sum().sqrt()


def _sam(device: torch.device, precision: Precision, *, double: bool = False) -> dict[str, Tensor]:
    """Mask logits and predicted qualities of each prompt."""
    from transformers import SamConfig, SamModel

    vision = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "mlp_dim": 64,
        "image_size": SAM_SIDE,
        "window_size": 2,
        "global_attn_indexes": [1],
        "output_channels": 32,
        "num_pos_feats": 16,
    }
    decoder = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": SAM_SIDE},
        mask_decoder_config=decoder,
    )
    with tempfile.TemporaryDirectory() as folder:
        drawn(SamModel(config)).save_pretrained(folder)
        sam: Any = TransformersSam(folder, device=device, precision=precision)
    image = ((uniform("image", SAM_SIDE, SAM_SIDE, 3) + 1) * 127.5).to(torch.uint8).numpy()
    found = {}
    if double:
        sam.network.double()
        with torch.no_grad():
            embedding = sam._embed(Frame.of(image, SAM_SIDE).pixels(image)[None].double())
    else:
        sam.set_image(image)
    for name, (box, points, labels) in SAM_PROMPTS.items():
        if double:
            corners = None if box is None else torch.from_numpy(box)[None]
            places = None if points is None else torch.from_numpy(points)[None]
            kinds = None if labels is None else torch.from_numpy(labels)[None]
            with torch.no_grad():
                (logits,), (scores,) = sam._decode(embedding, corners, places, kinds, False)
        else:
            _, logits, scores = sam.predict_logits(box, points, labels)
        found |= {f"{name} logits": wide(logits), f"{name} scores": wide(scores)}
    return found


def main() -> None:
    cpu = torch.device("cpu")
    values = {
        f"{name}/{key}": x
        for name, make in SUBJECTS.items()
        for key, x in _compute(make(), cpu, "fp32", double=True).items()
    }
    values |= {f"sam/{key}": x for key, x in _sam(cpu, "fp32", double=True).items()}
    save_file(values, FILE)
    goldens.cache_clear()
    print(f"{FILE}: {len(values)} tensors, {FILE.stat().st_size} bytes")
    for name in NAMES:
        for precision in ("fp32", "bf16", "fp16"):
            found = differences(name, cpu, choose_precision(precision, cpu))
            print(name, precision, " ".join(f"{key} {value:.1e}" for key, value in found.items()))


if __name__ == "__main__":
    main()
