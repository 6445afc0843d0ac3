"""PLVL (Section 3): a sentence and a picture in, a box and a mask out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from papers_shared.errors import UserError
from papers_shared.hub import PretrainedFolder
from plvl.config import BOX_TASKS, ModelConfig, Task
from plvl.modeling.backbone import LanguageGuidedViT
from plvl.modeling.decoder import Decoder
from plvl.modeling.eevg import EEVGDecoder, EEVGHead
from plvl.modeling.head import CollaborativeHead, HeadOutput
from plvl.modeling.language import create_bert
from plvl.tokenizer import VOCABULARY, Tokenizer

PLVLOutput = HeadOutput
AT_ONCE = 2
"""Sentences that meet a picture in one pass on the CPU: what more of them compute no longer fits its caches."""
TRAINING = "training.json"
"""File of a model folder: the recipe and the step it is of, why it was chosen, and its figures then."""


class ImageFeatures(NamedTuple):
    """What pictures are worth before any sentence; sentences about one picture share it."""

    tokens: Tensor
    """(B, H/P, W/P, C): the state of the backbone before its first cross-attention."""
    mask: Tensor | None
    """(B, H/P, W/P) bool, True where a token is valid; None: everywhere."""

    def take(self, index: Tensor) -> ImageFeatures:
        """The features of picture `index[s]` for each sentence s; `index` is (S,) int64."""
        return ImageFeatures(self.tokens[index], None if self.mask is None else self.mask[index])


class PLVL(nn.Module, PretrainedFolder):
    """Language model, language-guided backbone, last global blocks and head; built by `from_config`.

    Sizes of the default network, and what each figure counts:

    - 217,018,655 parameters are built here, and all are used.
    - 218,015,545 is the authors' count (the paper's 218.02 M): 996,890 of theirs are never used (an old mask
      head, eight norms of the backbone, BERT's pooler) and are not built here.
    - 75.0 G (the paper's 75.04 G) are multiply-accumulates of one 448 x 448 picture with 40 word pieces as
      the authors count them: linear and convolution modules, four operations per element into a layer or
      batch norm; neither attention products nor the projections inside the cross-attentions and the decoder's
      attentions.
    - 90.8 G multiply-accumulates with both of these counted, as in training; 88.1 G are computed without gradients.
    """

    EXTRA_FILES: ClassVar[tuple[str, ...]] = (VOCABULARY, TRAINING)
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
        """A network on fresh weights, or on the start weights that the configuration names.

        The `config` of the network names no start weights: a folder saved from it stands alone.

        Raises:
            UserError: Sizes that do not fit one another, or start weights that do not fit them.
        """
        _check_heads(config)
        backbone = LanguageGuidedViT.from_config(config)
        if config.vision_pretrained:
            _load_vision(backbone, config)
        bare = replace(config, pretrained="", vision_pretrained="", text_pretrained="", vocabulary="")
        backbone.config = bare
        model = cls(bare, create_bert(config), backbone, _create_decoder(config), _create_head(config))
        if config.pretrained:
            _load_whole(model, cls.from_pretrained(config.pretrained), config.pretrained)
        return model

    @property
    def tokenizer(self) -> Tokenizer:
        """From sentences to what `encode_text` takes, on the vocabulary that lies in the model's folder.

        Raises:
            UserError: The folder has none.
        """
        if VOCABULARY not in self.extra_files:
            raise UserError(
                f"the model's folder has no {VOCABULARY}: copy that of its language model there "
                "(google-bert/bert-base-uncased's for the authors' checkpoints)"
            )
        return Tokenizer(self.extra_files[VOCABULARY], self.config.max_tokens)

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Word pieces (B, N) int64 and their mask (B, N), 1 where valid -> BERT's last layer (B, N, text_dim)."""
        # a (B, 1, 1, N) mask goes straight to the attention; into any other transformers looks, which makes a
        # GPU wait and breaks torch.compile
        seen = attention_mask[:, None, None, :].bool()
        return self.language(input_ids=input_ids, attention_mask=seen).last_hidden_state

    def encode_image(self, images: Tensor, pixel_mask: Tensor | None = None) -> ImageFeatures:
        """All that a picture needs before it meets a sentence.

        Args:
            images: (B, in_chans, H, W) float, normalised with `config.mean` and `config.std`.
            pixel_mask: (B, H, W), 1 where valid; None: everywhere. A token takes the value of its first
                pixel.
        """
        tokens = self.backbone.before_language(images)
        if pixel_mask is None:
            return ImageFeatures(tokens, None)
        patch_h, patch_w = self.backbone.patch_embed.kernel_size
        return ImageFeatures(tokens, pixel_mask[:, ::patch_h, ::patch_w].bool())

    def ground(self, image: ImageFeatures, text: Tensor, attention_mask: Tensor) -> PLVLOutput:
        """Sentence s in picture s: for several sentences about one picture give `image.take(index)`.

        Args:
            image: From `encode_image`, of as many pictures as there are sentences.
            text: From `encode_text`, (B, N, text_dim).
            attention_mask: (B, N), 1 where valid.
        """
        text_mask = attention_mask.bool()
        seen = text_mask if self.config.hide_text_padding else None
        tokens = self.backbone.with_language(image.tokens, text, seen)
        return self.head(*self.decoder(tokens, text, image.mask, text_mask))

    def ground_all(self, image: ImageFeatures, text: Tensor, attention_mask: Tensor) -> PLVLOutput:
        """Every sentence in one picture, in passes of `AT_ONCE` sentences on the CPU and of all elsewhere.

        Args:
            image: From `encode_image`, of one picture.
            text: From `encode_text`, (S, N, text_dim).
            attention_mask: (S, N), 1 where valid.
        """
        size = AT_ONCE if text.device.type == "cpu" else len(text)
        passes = [
            self.ground(image.take(seen.new_zeros(len(seen), dtype=torch.long)), words, seen)
            for words, seen in zip(text.split(size), attention_mask.split(size), strict=True)
        ]
        return PLVLOutput(
            *(None if parts[0] is None else torch.cat(parts) for parts in zip(*passes, strict=True))
        )

    def forward(
        self, images: Tensor, input_ids: Tensor, attention_mask: Tensor, pixel_mask: Tensor | None = None
    ) -> PLVLOutput:
        """The box and the mask of what each sentence means in its picture.

        Masks are 1 where valid; every picture has a valid pixel and every sentence a valid word piece.

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
        return self.ground(
            self.encode_image(images, pixel_mask), self.encode_text(input_ids, attention_mask), attention_mask
        )

    def predict(self, image: Any, sentences: str | Sequence[str], **options: Any) -> Any:
        """What a sentence means in one picture (a path, a PIL image or an RGB array); see `plvl.predict.predict`.

        Returns:
            A `Grounding` for a sentence, a list of them for a list.
        """
        from plvl.predict import predict

        if isinstance(sentences, str):
            return predict(self, image, [sentences], **options)[0]
        return predict(self, image, sentences, **options)


def _check_heads(config: ModelConfig) -> None:
    for width, heads in (
        ("embed_dim", "num_heads"),
        ("embed_dim", "cross_heads"),
        ("text_dim", "text_heads"),
        ("decoder_dim", "decoder_heads"),
    ):
        if getattr(config, width) % getattr(config, heads):
            raise UserError(
                f"model.{width} {getattr(config, width)} does not divide into {getattr(config, heads)} "
                f"model.{heads}"
            )


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
        raise UserError("model.rec and model.res are both off: there is nothing to predict")
    if config.head == "eevg":
        if config.decoder != "eevg":
            raise UserError("model.head eevg reads a box token: it needs model.decoder eevg")
        return EEVGHead(config.decoder_dim, config.patch_size, rec=config.rec, res=config.res)
    tasks: list[Task] = [*(BOX_TASKS if config.rec else ()), *(("mask",) if config.res else ())]
    return CollaborativeHead(
        config.decoder_dim, config.head_dim, config.patch_size, config.head_groups, tasks
    )


def _load_vision(backbone: LanguageGuidedViT, config: ModelConfig) -> None:
    """Start weights of all but the guides, which stay fresh."""
    start = LanguageGuidedViT.from_pretrained(config.vision_pretrained)
    fresh = {name: tensor for name, tensor in backbone.state_dict().items() if ".guide." in name}
    visual = {name: tensor for name, tensor in start.state_dict().items() if ".guide." not in name}
    _load(backbone, {**fresh, **visual}, f"model.vision_pretrained: '{config.vision_pretrained}'")


def _load_whole(model: PLVL, start: PLVL, source: str) -> None:
    """Start weights of everything; a head for other tasks gives those it has, and the rest of ours stays fresh."""
    own, tensors = model.state_dict(), start.state_dict()
    if (start.config.rec, start.config.res) != (model.config.rec, model.config.res):
        tensors = {name: x for name, x in tensors.items() if name in own or not name.startswith("head.")}
        tensors = {**{name: x for name, x in own.items() if name.startswith("head.")}, **tensors}
    _load(model, tensors, f"model.pretrained: '{source}'")


def _load(model: nn.Module, tensors: dict[str, Tensor], place: str) -> None:
    own = model.state_dict()
    problems = [f"{name} has no place here" for name in tensors if name not in own]
    for name, tensor in own.items():
        if name not in tensors:
            problems.append(f"{name} is missing")
        elif tensors[name].shape != tensor.shape:
            problems.append(f"{name} has shape {list(tensors[name].shape)} and not {list(tensor.shape)}")
    if problems:
        raise UserError(f"{place} does not fit the network: {'; '.join(problems)}")
    model.load_state_dict(tensors)
