"""PLVL (Section 3): a sentence and an image in, a box and a mask out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from papers_shared.errors import UserError
from papers_shared.hub import PretrainedFolder
from papers_shared.provenance import drawn
from plvl.config import BOX_TASKS, ModelConfig, Task
from plvl.modeling.backbone import LanguageGuidedViT
from plvl.modeling.decoder import Decoder
from plvl.modeling.eevg import EEVGDecoder, EEVGHead
from plvl.modeling.head import CollaborativeHead, HeadOutput
from plvl.modeling.language import create_bert
from plvl.tokenizer import VOCABULARY

PLVLOutput = HeadOutput


class ImageFeatures(NamedTuple):
    """Image features before the first cross-attention; shared by all sentences about an image."""

    tokens: Tensor
    """(B, H/P, W/P, C): the state of the backbone before its first cross-attention."""
    mask: Tensor | None
    """(B, H/P, W/P) bool, True where a token is valid; None: everywhere."""

    def repeat_for(self, index: Tensor) -> ImageFeatures:
        """The features of image `index[s]` for each sentence s; `index` is (S,) int64."""
        return ImageFeatures(self.tokens[index], None if self.mask is None else self.mask[index])


class PLVL(nn.Module, PretrainedFolder):
    """Language model, language-guided backbone, last global blocks and head; built by `from_config`.

    Sizes of the default network, and what each number counts:

    - 217,018,655 parameters are built here, and all are used.
    - 218,015,545 is the official count (the paper's 218.02 M): 996,890 of them are never used (an old mask
      head, eight norms of the backbone, BERT's pooler) and are not built here.
    - 75.0 G (the paper's 75.04 G) are multiply-accumulates of one 448 x 448 image with 40 word pieces as
      the authors count them: linear and convolution modules, four operations per element into a layer or
      batch norm; neither attention products nor the projections inside the cross-attentions and the decoder's
      attentions.
    - 90.8 G multiply-accumulates with both of these counted.
    """

    EXTRA_FILES: ClassVar[tuple[str, ...]] = (VOCABULARY,)
    PIPELINE_TAG: ClassVar[str] = "zero-shot-object-detection"
    PIXELS: ClassVar[str] = "0..1"
    LIMITS: ClassVar[str] = (
        "It answers every sentence with one box and one mask, whether or not the image shows what the sentence names."
    )
    config: ModelConfig

    def __init__(
        self,
        config: ModelConfig,
        language: nn.Module,
        backbone: LanguageGuidedViT,
        decoder: nn.Module,
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.config = config
        self.language = language
        self.backbone = backbone
        self.decoder = decoder
        self.head = head

    @classmethod
    def from_config(cls, config: ModelConfig) -> PLVL:
        """A network on fresh weights; `plvl.modeling.start_weights.build` loads those that a configuration names.

        Raises:
            UserError: Sizes that do not fit one another.
        """
        _check_sizes(config)
        bare = replace(config, pretrained="", vision_pretrained="", text_pretrained="", vocabulary="")
        backbone = LanguageGuidedViT.from_config(bare)
        model = cls(bare, create_bert(bare), backbone, _create_decoder(bare), _create_head(bare))
        model.origin = drawn(model)
        return model

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Word pieces (B, N) int64 and their mask (B, N), 1 where valid -> BERT's last layer (B, N, text_dim)."""
        # a (B, 1, 1, N) mask goes straight to the attention; into any other transformers looks, which makes a
        # GPU wait and breaks torch.compile
        seen = attention_mask[:, None, None, :].bool()
        return self.language(input_ids=input_ids, attention_mask=seen).last_hidden_state

    def encode_image(self, images: Tensor, pixel_mask: Tensor | None = None) -> ImageFeatures:
        """All that an image needs before it meets a sentence.

        Args:
            images: (B, in_chans, H, W) float, normalised with `config.mean` and `config.std`.
            pixel_mask: (B, H, W), 1 where valid; None: everywhere. A token takes the value of its first
                pixel.
        """
        return ImageFeatures(self.backbone.forward_before_text(images), self._token_mask(pixel_mask))

    def ground(self, image: ImageFeatures, text: Tensor, attention_mask: Tensor) -> PLVLOutput:
        """Sentence s in image s: for several sentences about one image give `image.repeat_for(index)`.

        Args:
            image: From `encode_image`, of as many images as there are sentences.
            text: From `encode_text`, (B, N, text_dim).
            attention_mask: (B, N), 1 where valid.
        """
        text_mask = attention_mask.bool()
        tokens = self.backbone.forward_with_text(image.tokens, text, self._guide_mask(text_mask))
        return self.head(*self.decoder(tokens, text, image.mask, text_mask))

    def forward(
        self, images: Tensor, input_ids: Tensor, attention_mask: Tensor, pixel_mask: Tensor | None = None
    ) -> PLVLOutput:
        """The box and the mask of what each sentence means in its image.

        Masks are 1 where valid; every image has a valid pixel and every sentence a valid word piece.

        Args:
            images: (B, in_chans, H, W) float, normalised with `config.mean` and `config.std`; H and W are
                multiples of the patch.
            input_ids: (B, N) int64.
            attention_mask: (B, N). Padding is hidden inside the language model and from the decoder, and from
                the backbone only with `config.hide_text_padding`.
            pixel_mask: (B, H, W); padding is hidden as keys of the decoder's self-attention, nowhere else.

        Returns:
            Boxes (B, 4) as cxcywh in [0, 1]; logits of centre and mask; offsets in cells; sizes as fractions.
        """
        text, text_mask = self.encode_text(input_ids, attention_mask), attention_mask.bool()
        tokens = self.backbone(images, text, self._guide_mask(text_mask))
        return self.head(*self.decoder(tokens, text, self._token_mask(pixel_mask), text_mask))

    def predict(self, image: Any, sentences: str | Sequence[str], **options: Any) -> Any:
        """What a sentence means in one image (a path, a PIL image or an RGB array); see `plvl.inference.predict`.

        Returns:
            A `Grounding` for a sentence, a list of them for a list.
        """
        from plvl.inference import predict

        if isinstance(sentences, str):
            return predict(self, image, [sentences], **options)[0]
        return predict(self, image, sentences, **options)

    def fsdp_units(self) -> list[nn.Module]:
        """The layers that are compiled, or whose weights are gathered, one at a time."""
        language: Any = self.language
        decoder: Any = self.decoder
        return [*self.backbone.blocks, *language.encoder.layer, *decoder.layers]

    def _guide_mask(self, text_mask: Tensor) -> Tensor | None:
        """What the backbone's cross-attention may see of the sentence; None: padding too, as in the official code."""
        return text_mask if self.config.hide_text_padding else None

    def _token_mask(self, pixel_mask: Tensor | None) -> Tensor | None:
        """(B, H, W) -> (B, H/P, W/P) bool."""
        if pixel_mask is None:
            return None
        patch_h, patch_w = self.backbone.patch_embed.kernel_size
        return pixel_mask[:, ::patch_h, ::patch_w].bool()


def _check_sizes(config: ModelConfig) -> None:
    for width, heads in (
        ("embed_dim", "num_heads"),
        ("embed_dim", "cross_heads"),
        ("text_dim", "text_heads"),
        ("decoder_dim", "decoder_heads"),
    ):
        if getattr(config, width) % getattr(config, heads):
            raise UserError(
                f"--model.{_option(width)} {getattr(config, width)} does not divide into {getattr(config, heads)} "
                f"--model.{_option(heads)}"
            )


def _option(name: str) -> str:
    return name.replace("_", "-")


def _create_decoder(config: ModelConfig) -> nn.Module:
    sizes = (
        config.embed_dim,
        config.text_dim,
        config.decoder_dim,
        config.decoder_depth,
        config.decoder_heads,
        config.decoder_mlp_dim,
    )
    if config.decoder == "plvl":
        return Decoder(*sizes, dropout=config.decoder_dropout, grad_checkpointing=config.grad_checkpointing)
    return EEVGDecoder(
        *sizes,
        grid=config.image_size // config.patch_size,
        max_tokens=config.max_tokens,
        threshold=config.elimination,
        keep=config.elimination_keep,
        dropout=config.decoder_dropout,
        grad_checkpointing=config.grad_checkpointing,
    )


def _create_head(config: ModelConfig) -> nn.Module:
    if not (config.rec or config.res):
        raise UserError("--model.no-rec and --model.no-res together leave nothing to predict")
    if config.head == "eevg":
        if config.decoder != "eevg":
            raise UserError("--model.head eevg reads a box token: it needs --model.decoder eevg")
        return EEVGHead(config.decoder_dim, config.patch_size, rec=config.rec, res=config.res)
    tasks: list[Task] = [*(BOX_TASKS if config.rec else ()), *(("mask",) if config.res else ())]
    return CollaborativeHead(
        config.decoder_dim, config.head_dim, config.patch_size, config.head_groups, tasks
    )
