"""SAM and its kin by transformers, with fused attention; and Meta's checkpoints brought to its `SamModel`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn

from papers_shared.cache import TensorCache
from papers_shared.entries import first_line
from papers_shared.errors import UserError
from papers_shared.files import check_replaceable, writing_folder
from papers_shared.foreign import load_official
from papers_shared.sam.kinds import Kind, kind_of
from papers_shared.sam.network import Embedding, SamNetwork
from papers_shared.sam.shape import DECODER_EPS, ENCODER_EPS, SamShape
from papers_shared.types import Precision

if TYPE_CHECKING:
    from transformers import SamConfig

INSTALL = "pip install transformers"
SHARED = "shared_image_embedding.positional_embedding"
RENAMED = (
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", SHARED),
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"^image_encoder\.", "vision_encoder."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
)
HEAD = re.compile(r"((?:iou_prediction_head|output_hypernetworks_mlps\.\d+)\.)layers\.(\d+)\.")


class TransformersSam(SamNetwork):
    """A promptable segmenter: a folder that `convert_meta_checkpoint` or transformers wrote, or a Hub name.

    `model_type` in its config.json says which: SAM (SlimSAM is one), SAM-HQ, SAM 2 and 2.1, EdgeTAM, or the tracker of
    SAM 3 (see `papers_shared.sam.kinds`). Prompts are of one image; what the video models remember is left aside.

    The LayerNorms of the mask decoder of SAM and SAM-HQ are given Meta's epsilon (1e-5) whatever the configuration
    says: the published conversions carry transformers' default (1e-6), which moves the logits.

    Args:
        source: A folder, opened without network access, or a Hub name such as `facebook/sam-vit-base`.

    Raises:
        UserError: transformers is not installed or too old, or there is no such folder or model.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        cache: TensorCache | None = None,
        revision: str | None = None,
    ) -> None:
        self.kind, network = _load(str(source), revision)
        for module in network.mask_decoder.transformer.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = DECODER_EPS
        side = network.config.prompt_encoder_config.image_size
        super().__init__(
            network.to(device).eval(),
            int(side if isinstance(side, int) else max(side)),
            f"transformers {self.kind.title(network.config)}",
            preparation=self.kind.preparation,
            precision=precision,
            cache=cache,
        )

    def _embed(self, pixels: Tensor) -> Embedding:
        return self.kind.embed(self.network, pixels)

    def _decode(
        self,
        embedding: Embedding,
        boxes: Tensor | None,
        points: Tensor | None,
        labels: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        answer = self.network(
            **self.kind.embedded(embedding),
            input_boxes=None if boxes is None else boxes[None],
            input_points=None if points is None else points[None],
            input_labels=None if labels is None else labels[None],
            multimask_output=multimask,
        )
        return answer.pred_masks[0], answer.iou_scores[0]


def convert_meta_checkpoint(source: str | Path, folder: str | Path, *, decoder_heads: int = 8) -> Path:
    """Write a checkpoint of Meta's as a folder for `SamModel` (safetensors and config.json), and return it.

    Args:
        decoder_heads: Heads of the mask decoder; 8 in all that Meta released.

    Raises:
        UserError: transformers is not installed, the file is no SAM checkpoint, or it holds an entry that is not known.
    """
    ours = ("config.json", "model.safetensors")
    check_replaceable(folder, ours)
    state = load_official(source)
    shape = SamShape.of(state, source, decoder_heads)
    network = _package().SamModel(_config(shape))
    renamed = {rename(name, shape.iou_depth): tensor for name, tensor in state.items()}
    renamed["prompt_encoder.shared_embedding.positional_embedding"] = renamed[SHARED]
    own = network.state_dict()
    wrong = sorted(renamed.keys() ^ own.keys())
    if wrong:
        raise UserError(
            f"{source}: {wrong[0]} and {len(wrong) - 1} more entries have no counterpart in SamModel"
        )
    network.load_state_dict(renamed)
    with writing_folder(folder, ours) as partial, _no_bars(_package()):
        network.save_pretrained(partial)
    return Path(folder)


def rename(name: str, iou_depth: int = 3) -> str:
    """The name in `SamModel` of an entry that Meta calls `name`."""
    if match := HEAD.search(name):
        number, last = int(match[2]), iou_depth - 1
        layer = {0: "proj_in", last: "proj_out"}.get(number, f"layers.{number - 1}")
        name = f"{name[: match.start()]}{match[1]}{layer}.{name[match.end() :]}"
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _config(shape: SamShape) -> SamConfig:
    """The configuration of `SamModel` for these sizes."""
    package = _package()
    vision = package.SamVisionConfig(
        hidden_size=shape.embed_dim,
        output_channels=shape.out_chans,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.num_heads,
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        layer_norm_eps=ENCODER_EPS,
        window_size=shape.window_size,
        global_attn_indexes=list(shape.global_blocks),
        num_pos_feats=shape.out_chans // 2,
        mlp_dim=shape.mlp_dim,
    )
    prompts = package.SamPromptEncoderConfig(
        hidden_size=shape.out_chans,
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        mask_input_channels=shape.mask_chans,
    )
    decoder = package.SamMaskDecoderConfig(
        hidden_size=shape.out_chans,
        mlp_dim=shape.decoder_mlp_dim,
        num_hidden_layers=shape.decoder_depth,
        num_attention_heads=shape.decoder_heads,
        attention_downsample_rate=shape.downsample_rate,
        num_multimask_outputs=shape.num_multimasks,
        iou_head_depth=shape.iou_depth,
        iou_head_hidden_dim=shape.iou_dim,
        layer_norm_eps=DECODER_EPS,
    )
    return package.SamConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompts.to_dict(),
        mask_decoder_config=decoder.to_dict(),
    )


def _load(source: str, revision: str | None) -> tuple[Kind, Any]:
    package = _package()
    local = Path(source).expanduser().is_dir()
    place = str(Path(source).expanduser()) if local else source
    where: dict[str, Any] = {"revision": revision, "local_files_only": local}
    try:
        found, _ = package.SamConfig.get_config_dict(place, **where)
        kind, network_class = kind_of(source, found.get("model_type"), package)
        with _no_bars(package):
            network, report = network_class.from_pretrained(
                place, **where, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        fault = (
            "this folder holds no SAM model" if local else "neither a folder here nor to be had from the Hub"
        )
        raise UserError(f"{source}: {fault} ({first_line(error, 300)})") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise UserError(f"{source} lacks {missing[0]} and {len(missing) - 1} more weights of a SAM model")
    for name, value in network.state_dict().items():
        if not torch.isfinite(value).all():
            raise UserError(f"{source}: {name} holds numbers that are not finite: fetch the weights again")
    return kind, network


@contextlib.contextmanager
def _no_bars(package: Any) -> Iterator[None]:
    """No progress bars of transformers for what takes a second, whatever the caller had set."""
    logging = package.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _package() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            f"SAM by transformers needs a package that is not installed ({error}): {INSTALL}"
        ) from error
    return transformers
