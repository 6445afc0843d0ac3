"""The promptable segmenters of transformers that are known here, by `model_type` of their configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from papers_shared.errors import UserError
from papers_shared.sam.frame import PADDED, STRETCHED, Preparation
from papers_shared.sam.shape import SIZES

SAM3 = Preparation(stretched=True, mean=(127.5,) * 3, std=(127.5,) * 3)


class Kind(NamedTuple):
    """How transformers has one of them."""

    network: str
    """Name of its class."""
    since: str
    """The release of transformers that first has it."""
    title: Callable[[Any], str]
    """Configuration -> name for reports."""
    preparation: Preparation
    embed: Callable[[Any, Tensor], tuple[Tensor, ...]]
    """Network and (B, 3, side, side) -> levels (B, ...)."""
    embedded: Callable[[tuple[Tensor, ...]], dict[str, Any]]
    """Those levels as arguments of the network."""


def kind_of(source: str, model_type: object, package: Any) -> tuple[Kind, Any]:
    """The kind that a configuration states, and the class of its network in the installed transformers.

    Raises:
        UserError: It is none of these, or the installed release is older than it.
    """
    kind = KINDS.get(model_type) if isinstance(model_type, str) else None
    if kind is None:
        known = ", ".join(sorted(KINDS))
        raise UserError(
            f"{source}: model_type {model_type!r} in config.json is no promptable segmenter known here: {known}"
        )
    network = getattr(package, kind.network, None)
    if network is None:
        raise UserError(
            f"{source} needs {kind.network}, which transformers {package.__version__} lacks: "
            f'pip install "transformers>={kind.since}"'
        )
    return kind, network


def _sam_title(family: str) -> Callable[[Any], str]:
    def title(config: Any) -> str:
        width = config.vision_config.hidden_size
        return f"{family} {SIZES.get(width, f'vit-{width}')}"

    return title


def _embed_sam(network: Any, pixels: Tensor) -> tuple[Tensor, ...]:
    return (network.vision_encoder(pixels)[0],)


def _embed_sam_hq(network: Any, pixels: Tensor) -> tuple[Tensor, ...]:
    seen = network.vision_encoder(pixels)
    return seen.intermediate_embeddings[
        0
    ], seen.last_hidden_state  # the decoder reads no other intermediate one


def _embed_sam2(network: Any, pixels: Tensor) -> tuple[Tensor, ...]:
    return tuple(network.get_image_embeddings(pixels))


SAM = Kind(
    "SamModel", "4.56", _sam_title("SAM"), PADDED, _embed_sam, lambda levels: {"image_embeddings": levels[0]}
)
SAM_HQ = Kind(
    "SamHQModel",
    "4.56",
    _sam_title("SAM-HQ"),
    PADDED,
    _embed_sam_hq,
    lambda levels: {"image_embeddings": levels[1], "intermediate_embeddings": [levels[0]]},
)


def _like_sam2(network: str, since: str, title: str, preparation: Preparation = STRETCHED) -> Kind:
    return Kind(
        network,
        since,
        lambda config: title,
        preparation,
        _embed_sam2,
        lambda levels: {"image_embeddings": list(levels)},
    )


SAM2 = _like_sam2("Sam2Model", "4.56", "SAM 2")
EDGETAM = _like_sam2("EdgeTamModel", "4.57", "EdgeTAM")
SAM3_TRACKER = _like_sam2("Sam3TrackerModel", "5.0", "SAM 3 tracker", SAM3)
KINDS = {
    "sam": SAM,
    "sam_hq": SAM_HQ,
    "sam2": SAM2,
    "sam2_video": SAM2,
    "edgetam": EDGETAM,
    "edgetam_video": EDGETAM,
    "sam3_tracker": SAM3_TRACKER,
    "sam3_tracker_video": SAM3_TRACKER,
    "sam3_video": SAM3_TRACKER,
}
