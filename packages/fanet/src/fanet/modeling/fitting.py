"""How a timm model must be built and fed: tried out on torch's meta device, where nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import timm
import torch
from torch import Tensor

from papers_shared.errors import UserError

LEVELS = 4
"""So many of a model's last maps are used; a model may have fewer."""
LARGEST_MULTIPLE = 256
TRIAL_SIDE = 96
"""Trial images have sides of so many pixels, or a little more."""


@dataclass(frozen=True)
class Fit:
    """What makes one timm model a backbone or a classifier here."""

    options: dict[str, Any]
    """Arguments of `timm.create_model`."""
    multiple: int = 1
    """Sides of its images must be multiples of this."""
    side: int = 0
    """The side of the only, square, images that it takes; 0: any."""
    chans: tuple[int, ...] = ()
    """Channels of its maps, from fine to coarse."""
    strides: tuple[int, ...] = ()
    """Pixels of the image per pixel of each map."""
    plain: bool = False
    """It has maps of about one size only, as plain vision transformers have, and the last one is taken."""
    notes: tuple[str, ...] = ()
    """What it lacks, and what is done about it."""

    def smallest(self, side: int) -> int:
        """The side of the images that the network sees where those given have `side` pixels."""
        return self.side or -(-side // self.multiple) * self.multiple


def fit(name: str, options: dict[str, Any], image_size: int) -> Fit:
    """The fit of the timm model `name`.

    Args:
        options: Arguments of `timm.create_model` for any model; with `features_only` the fit is that of its maps.
        image_size: Side of the training images, which a model of one size is built for where it can; 0: unknown.

    Raises:
        UserError: The model cannot be built with these options, or takes no images of `image_size`.
    """
    features = bool(options.get("features_only"))
    if features:
        options = {**options, "out_indices": (-1,)}
    options, notes = _drop_path(name, options)
    found = _sizes(name, options, image_size)
    if found.side:
        notes.append(f"images are resized to {found.side}x{found.side}, the one size that it takes")
    elif image_size and image_size % found.multiple:
        notes.append(f"images are resized to multiples of {found.multiple} pixels")
    if not features:
        return replace(found, notes=tuple(notes))
    levels = build(name, found.options, "meta").feature_info.info[-LEVELS:]
    strides = tuple(int(level["reduction"]) for level in levels)
    plain = max(strides) < 2 * min(strides)
    if plain:
        strides = strides[-1:]
        notes.append(f"all its maps have stride {strides[0]}: a feature pyramid is made of the last one")
    elif len(strides) < LEVELS or strides[0] != 4:
        notes.append(f"its maps have the strides {', '.join(map(str, strides))}")
    found = replace(found, options={**found.options, "out_indices": tuple(range(-len(strides), 0))})
    for device in DEVICES:
        backbone = build(name, found.options, device)
        maps = _answer(backbone, (found.smallest(TRIAL_SIDE),) * 2, options["in_chans"])
        if maps is not None:
            break
    chans = tuple(x.shape[1] for x in in_order(backbone, maps or []))
    return replace(found, chans=chans, strides=strides, plain=plain, notes=tuple(notes))


FREE_SIZES: tuple[dict[str, Any], ...] = (
    {},
    {"strict_img_size": False, "always_partition": True},
    {"strict_img_size": False},
    {"dynamic_img_size": True},
)
"""Arguments with which families of timm take images of other sizes than their own."""
DEVICES = ("meta", "cpu")
"""Where trials are made: a few models compute with values, which the meta device has not."""


def build(name: str, options: dict[str, Any], device: str) -> Any:
    """`timm.create_model` on random weights for a trial, in evaluation mode."""
    options = {key: value for key, value in options.items() if not key.startswith("pretrained")}
    with torch.device(device):
        return timm.create_model(name, **options).eval()


def in_order(backbone: Any, maps: list[Tensor]) -> list[Tensor]:
    """Maps of a timm feature extractor as (B, C, H, W); some that keep no format have this one."""
    if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        return [x.permute(0, 3, 1, 2) for x in maps]
    return maps


def _drop_path(name: str, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The options, without drop path where the model has none."""
    without = {key: value for key, value in options.items() if key != "drop_path_rate"}
    problem: Exception | None = None
    for tried in [options, without] if "drop_path_rate" in options else [options]:
        try:
            build(name, tried, "meta")
        except Exception as error:  # each family of timm refuses an option in its own way
            problem = error
            continue
        return tried, [] if tried is options else ["it has no drop path, --model.drop-path-rate is left out"]
    raise UserError(f"--model.backbone: timm cannot build {name!r} as it is wanted here: {problem}")


def _sizes(name: str, options: dict[str, Any], image_size: int) -> Fit:
    """Which images the model takes: any, or those of some multiple, or one size only; the first that holds."""
    own = int((timm.get_pretrained_cfg_value(name, "input_size") or (3, 224, 224))[-1])
    fixed: list[tuple[dict[str, Any], int]] = [({}, own)]
    if image_size:
        whole = -(-image_size // 32) * 32
        fixed = [({"img_size": side}, side) for side in (image_size, whole)] + [({}, image_size), *fixed]
    chans = options["in_chans"]
    for device in DEVICES:
        for more in FREE_SIZES:
            model = _built(name, {**options, **more}, device)
            for multiple in _multiples(model):
                count = -(-TRIAL_SIDE // multiple) // 2 * 2 + 1
                if _answer(model, (count * multiple, (count + 2) * multiple), chans) is not None:
                    found = Fit({**options, **more}, multiple)
                    side = found.smallest(image_size)
                    if image_size and _answer(model, (side, side), chans) is None:
                        raise UserError(
                            f"--data.crop-size {image_size}: {name!r} takes no images so small; choose {own} or more"
                        )
                    return found
        for more, side in fixed:
            model = _built(name, {**options, **more}, device)
            if _answer(model, (side, side), chans) is not None:
                return Fit({**options, **more}, side=side)
    raise UserError(f"--model.backbone: {name!r} takes no image that was tried, not even {own}x{own} pixels")


def _multiples(model: Any) -> list[int]:
    """1, the strides of the model, and larger ones for windows that must fill its last map."""
    if model is None:
        return []
    info = getattr(model, "feature_info", None) or []
    strides = {int(level["reduction"]) for level in getattr(info, "info", info)} or {16, 32}
    found = strides | {max(strides) * factor for factor in (2, 4, 8)}
    return [1, *sorted(multiple for multiple in found if 1 < multiple <= LARGEST_MULTIPLE)]


def _built(name: str, options: dict[str, Any], device: str) -> Any:
    try:
        return build(name, options, device)
    except Exception:  # an option that this model lacks
        return None


@torch.no_grad()
def _answer(model: Any, size: tuple[int, int], in_chans: int) -> Any:
    """What the model answers for an image of this size; None if it does not take one."""
    if model is None:
        return None
    device = next(model.parameters()).device
    try:
        return model(torch.zeros(1, in_chans, *size, device=device))
    except Exception:  # a size that this model refuses
        return None
