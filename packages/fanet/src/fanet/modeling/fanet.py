"""FANet, the feature amplification network (Section 3), as a timm model.

Annotations are evaluated here: torch.fx copies those of `forward` into the code that TorchScript then reads.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.layers import SelectAdaptivePool2d
from timm.models import checkpoint_seq
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from fanet.modeling.blocks import Block, channels_last
from fanet.names import OWN_STEM, timm_names
from papers_shared.errors import UserError
from papers_shared.initialisation import trunc_normal_


class FANet(nn.Module):
    """Four stages at strides 4, 8, 16 and 32, each a strided convolution and a row of blocks.

    The public tensors are (B, C, H, W). A stage's map is ceil(H/4), then ceil of half at each further stage,
    so that any input size works. Inside, the maps lie in channels-last memory, whatever layout the images have.

    `scm`, `frm_high` and `frm_low` are the rows of Table 2; neither the paper nor the official code gives the
    wiring of rows 1 to 5. Here the squeezing and the fusing 1x1 convolution are always kept, and the fusing
    one reads only the branches that exist (without any, the squeezed features); so does the projection inside
    the refinement module. Then two neighbouring rows differ in nothing but the module that the row names, and
    no branch is fed twice to make up for a missing one. Row 6 (all three) is the published network.

    Args:
        in_chans: Input channels.
        num_classes: Classes of the classifier; 0: pooled features, without the classifier and its norm.
        global_pool: Pooling before the classifier; "": none, then the classifier answers (B, num_classes, h, w).
        embed_dims: Width of each of the four stages.
        depths: Blocks of each stage.
        kernel_sizes: Kernel of the convolutional embedding in each stage.
        mlp_ratio: Width of the ConvMLP over the width of its stage.
        scm: Keep the spatial context module.
        frm_high: Keep the high-frequency branch of the feature refinement module.
        frm_low: Keep the low-frequency branch of the feature refinement module.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth of the last block; rises linearly from 0.
        output_stride: 32; timm passes it on, and the stages cannot be dilated.

    Raises:
        UserError: Another output stride.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        *,
        output_stride: int = 32,
        embed_dims: Sequence[int],
        depths: Sequence[int],
        kernel_sizes: Sequence[int],
        mlp_ratio: float,
        scm: bool = True,
        frm_high: bool = True,
        frm_low: bool = True,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if output_stride != 32:
            raise UserError(f"output_stride is {output_stride!r}: FANet has the strides 4, 8, 16 and 32 only")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.num_features = embed_dims[-1]
        self.feature_info = [
            {"num_chs": dim, "reduction": 4 * 2**i, "module": f"stage{i + 1}"}
            for i, dim in enumerate(embed_dims)
        ]
        first = [sum(depths[:i]) for i in range(4)]
        rates = [drop_path_rate * i / max(sum(depths) - 1, 1) for i in range(sum(depths))]

        self.stem = Stem(in_chans, embed_dims[0], **factory)
        stages = [
            Stage(
                embed_dims[max(i - 1, 0)],
                embed_dims[i],
                downsample=i > 0,
                kernel_size=kernel_sizes[i],
                mlp_ratio=mlp_ratio,
                drop_path_rates=rates[first[i] : first[i] + depths[i]],
                scm=scm,
                frm_high=frm_high,
                frm_low=frm_low,
                **factory,
            )
            for i in range(4)
        ]
        self.stage1, self.stage2, self.stage3, self.stage4 = stages
        self.head = ClassifierHead(self.num_features, num_classes, global_pool, drop_rate, **factory)
        self.head_hidden_size = self.head.width
        self.init_weights()

    @torch.jit.ignore
    def init_weights(self) -> None:
        self.apply(_init_weights)

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        return set()

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        fine = [(r"^stage(\d)\.downsample", (0,)), (r"^stage(\d)\.blocks\.(\d+)", None)]
        return {"stem": r"^stem", "blocks": r"^stage(\d)" if coarse else fine}

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        for stage in self._stages():
            stage.grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        parameter = self.stem.conv.weight
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool, device=parameter.device, dtype=parameter.dtype)
        self.head_hidden_size = self.head.width

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The outputs of chosen stages, and the features.

        Args:
            x: Images (B, in_chans, H, W).
            indices: Last n stages if an int, all if None, else these stages.
            norm: Accepted for timm's sake; there is no norm after the last stage.
            stop_early: Leave out the stages after the last one chosen.
            output_fmt: NCHW or NHWC.
            intermediates_only: Return only the list.
        """
        assert output_fmt in ("NCHW", "NHWC"), "output_fmt must be NCHW or NHWC"
        take, last = feature_take_indices(4, indices)
        intermediates = []
        x = self.stem(x)
        for i, stage in enumerate(self._stages()):
            if stop_early and i > last:
                break
            x = stage(x)
            if i in take:
                intermediates.append(x if output_fmt == "NCHW" else x.permute(0, 2, 3, 1))
        return intermediates if intermediates_only else (x, intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last one chosen, and the classifier, which is sized for the last stage."""
        take, last = feature_take_indices(4, indices)
        for i in range(last + 1, 4):
            setattr(self, f"stage{i + 1}", nn.Identity())
        if last < 3:
            self.num_features = self.head.dim = self.feature_info[last]["num_chs"]
        if prune_head or last < 3:
            self.reset_classifier(0, "")
        return take

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights, also those of a `fanet` model folder or of an official file (timm's `checkpoint_path`)."""
        known = OWN_STEM in state_dict
        return super().load_state_dict(state_dict if known else timm_names(state_dict), strict, assign)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, embed_dims[3], H/32, W/32), rounded up."""
        x = self.stem(x)
        x = self.stage1(x)
        x = self.stage2(x)
        x = self.stage3(x)
        return self.stage4(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, embed_dims[3], h, w) -> (B, num_classes), or the pooled (B, embed_dims[3]) before the norm."""
        return self.head(x, pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) normalised images -> (B, num_classes) logits."""
        return self.forward_head(self.forward_features(x))

    def _stages(self) -> list[Any]:
        return [self.stage1, self.stage2, self.stage3, self.stage4]


class Stem(nn.Module):
    """5x5 convolution with stride 4 and padding 2; sets the memory format of all that follows."""

    def __init__(self, in_chans: int, dim: int, **factory: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, dim, 5, stride=4, padding=2, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, dim, H/4, W/4), rounded up."""
        return self.conv(channels_last(x))


class Stage(nn.Module):
    """A 3x3 convolution with stride 2 (not in the first stage), then blocks."""

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        downsample: bool,
        kernel_size: int,
        mlp_ratio: float,
        drop_path_rates: Sequence[float],
        scm: bool,
        frm_high: bool,
        frm_low: bool,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.downsample = (
            nn.Conv2d(in_dim, dim, 3, stride=2, padding=1, **factory) if downsample else nn.Identity()
        )
        self.blocks = nn.Sequential(
            *(
                Block(
                    dim,
                    kernel_size,
                    mlp_ratio,
                    drop_path=rate,
                    scm=scm,
                    frm_high=frm_high,
                    frm_low=frm_low,
                    **factory,
                )
                for rate in drop_path_rates
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        if torch.jit.is_scripting():
            return self.blocks(x)
        return checkpoint_seq(self.blocks, x) if self.grad_checkpointing else self.blocks(x)


class ClassifierHead(nn.Module):
    """Global pooling, then LayerNorm, dropout and a linear layer; without classes the pooling alone, without
    pooling the classes of each pixel.
    """

    width: int
    """Pooled features: `dim`, or twice as many where the pooling concatenates two kinds."""

    def __init__(self, dim: int, num_classes: int, pool_type: str, drop_rate: float, **factory: Any) -> None:
        super().__init__()
        self.dim = dim
        self.norm: nn.Module = nn.Identity()
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module = nn.Identity()
        self.reset(num_classes, pool_type, **factory)

    @torch.jit.ignore
    def reset(self, num_classes: int, pool_type: str | None = None, **factory: Any) -> None:
        """New classifier on fresh weights (the norm is kept if it fits), or none at all with `num_classes` 0."""
        if pool_type is not None:
            self.global_pool = SelectAdaptivePool2d(pool_type=pool_type, flatten=bool(pool_type))
        self.width = self.dim * self.global_pool.feat_mult()
        self.classifies = num_classes > 0
        if not self.classifies:
            self.norm, self.fc = nn.Identity(), nn.Identity()
        else:
            if not isinstance(self.norm, nn.LayerNorm) or self.norm.normalized_shape != (self.width,):
                self.norm = nn.LayerNorm(self.width, eps=1e-6, **factory)
            self.fc = nn.Linear(self.width, num_classes, **factory)
            _init_weights(self.fc)
        self.train(self.training)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.global_pool(x)
        if pre_logits:
            return x
        if self.global_pool.is_identity() and self.classifies:
            x = x.permute(0, 2, 3, 1)
            return self.fc(self.drop(self.norm(x))).permute(0, 3, 1, 2)
        return self.fc(self.drop(self.norm(x)))


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        trunc_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
