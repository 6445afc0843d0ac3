"""Every promptable segmenter of transformers, tiny and random, against transformers' own processor."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from papers_shared.cache import TensorCache
from papers_shared.errors import UserError
from papers_shared.sam import Asked, TransformersSam, make_refiner
from papers_shared.sam.kinds import KINDS, kind_of

transformers = pytest.importorskip("transformers")
SIDE = 128
PROMPTS: dict[str, dict[str, Any]] = {
    "points": {"points": [(20.0, 11.0), (37.5, 30.0)], "labels": [1, 0]},
    "box": {"box": (8.0, 6.0, 41.0, 33.0)},
    "both": {"box": (8.0, 6.0, 41.0, 33.0), "points": [(20.0, 11.0)], "labels": [1]},
}
SIZES = ((47, 61), (97, 43), (150, 211))
DECODER = {
    "hidden_size": 32,
    "mlp_dim": 24,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 32,
    "layer_norm_eps": 1e-5,
}
PROMPT = {"hidden_size": 32, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
PYRAMID = [[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2]


def sam(name: str, width: int = 32, mlp: int = 64, **decoder: int) -> Any:
    vision = {
        "hidden_size": width,
        "mlp_dim": mlp,
        "output_channels": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 16,
        "window_size": 4,
        "global_attn_indexes": [1],
        "num_pos_feats": 16,
    }
    config = getattr(transformers, f"{name}Config")(
        vision_config=vision, prompt_encoder_config=PROMPT, mask_decoder_config=DECODER | decoder
    )
    return getattr(transformers, f"{name}Model")(config)


def sam2() -> Any:
    hiera = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 16,
        "num_attention_heads": 1,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128],
        "num_attention_heads_per_stage": [1, 2, 2, 4],
        "window_size_per_stage": [4, 2, 4, 2],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }
    config = transformers.Sam2Config(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": hiera,
            "backbone_channel_list": [128, 64, 32, 16],
            "backbone_feature_sizes": PYRAMID,
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config=PROMPT,
        mask_decoder_config=DECODER,
    )
    return transformers.Sam2Model(config)


def edgetam() -> Any:
    pytest.importorskip("timm")
    backbone = transformers.TimmWrapperConfig(
        architecture="resnet18",
        model_args={"in_chans": 3, "features_only": True, "out_indices": [1, 2, 3, 4]},
        do_pooling=False,
    )
    config = transformers.EdgeTamConfig(
        vision_config={
            "model_type": "edgetam_vision_model",
            "backbone_config": backbone.to_dict(),
            "backbone_channel_list": [512, 256, 128, 64],
            "backbone_feature_sizes": PYRAMID,
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config=PROMPT,
        mask_decoder_config=DECODER,
    )
    return transformers.EdgeTamModel(config)


def sam3_tracker() -> Any:
    vit = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 16,
        "window_size": 4,
        "global_attn_indexes": [1],
        "pretrain_image_size": 64,
    }
    config = transformers.Sam3TrackerConfig(
        vision_config={
            "model_type": "sam3_vision_model",
            "backbone_config": vit,
            "backbone_feature_sizes": PYRAMID,
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config=PROMPT,
        mask_decoder_config=DECODER,
    )
    return transformers.Sam3TrackerModel(config)


def padded(name: str) -> Any:
    images = transformers.SamImageProcessor(
        size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}
    )
    return getattr(transformers, f"{name}Processor")(images)


def stretched(images: str = "Sam2", prompts: str = "Sam2") -> Any:
    square = {"height": SIDE, "width": SIDE}
    return getattr(transformers, f"{prompts}Processor")(
        getattr(transformers, f"{images}ImageProcessor")(size=square)
    )


NETWORKS: dict[str, Any] = {
    "SAM": (lambda: sam("Sam"), lambda: padded("Sam")),
    "SlimSAM": (lambda: sam("Sam", 28, 52), lambda: padded("Sam")),
    "SAM-HQ": (lambda: sam("SamHQ", vit_dim=32), lambda: padded("SamHQ")),
    "SAM 2": (sam2, stretched),
    "EdgeTAM": (edgetam, stretched),
    "SAM 3 tracker": (sam3_tracker, lambda: stretched("Sam3", "Sam3Tracker")),
}


@pytest.fixture(scope="module", params=NETWORKS)
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Any, Path]:
    """A network, its processor and its folder."""
    torch.manual_seed(0)
    make, processor = NETWORKS[request.param]
    network = make().eval()
    for parameter in network.parameters():
        if parameter.ndim < 2 or not parameter.any():
            torch.nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0, 0.3)
        else:
            parameter.data *= 4
    folder = tmp_path_factory.mktemp("network")
    network.save_pretrained(folder)
    return network, processor(), folder


def image(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 5, 6)))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return smooth[0].permute(1, 2, 0).numpy().astype(np.uint8)


def theirs(network: Any, processor: Any, picture: np.ndarray, prompt: dict[str, Any], several: bool) -> Any:
    """Logits and masks as transformers has them, from its own processor."""
    asked = {}
    if "points" in prompt:
        asked["input_points"] = [[[list(point) for point in prompt["points"]]]]
        asked["input_labels"] = [[prompt["labels"]]]
    if "box" in prompt:
        asked["input_boxes"] = [[list(prompt["box"])]]
    inputs = processor(images=picture, **asked, return_tensors="pt")
    sizes = [inputs.pop("original_sizes")]
    if "reshaped_input_sizes" in inputs:
        sizes.append(inputs.pop("reshaped_input_sizes"))
    with torch.no_grad():
        answer = network(**inputs, multimask_output=several)
    square = {"pad_size": {"height": SIDE, "width": SIDE}} if len(sizes) == 2 else {}
    masks = processor.image_processor.post_process_masks(answer.pred_masks, *sizes, binarize=False, **square)
    return answer.pred_masks[0, 0], answer.iou_scores[0, 0], masks[0][0]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_masks_are_those_of_transformers_in_pixels_of_the_image(
    prompt: str, several: bool, subject: tuple[Any, Any, Path]
) -> None:
    network, processor, folder = subject
    segmenter = make_refiner(f"sam:{folder}")
    for height, width in SIZES:
        picture = image(height, width)
        logits, scores, over_image = theirs(network, processor, picture, PROMPTS[prompt], several)
        segmenter.set_image(picture)
        found = segmenter.predict(**PROMPTS[prompt], multimask=several)
        scale = float(logits.abs().max())
        assert found.masks.shape == ((3 if several else 1), height, width)
        assert np.abs(found.low_res_logits - logits.numpy()).max() < 5e-3 * scale
        assert np.abs(found.scores - scores.numpy()).max() < 5e-3
        sure = np.abs(over_image.numpy()) > 1e-2 * scale
        assert sure.mean() > 0.7
        assert np.array_equal(found.masks[sure], over_image.numpy()[sure] > 0)


def test_one_pass_of_the_encoder_answers_all_prompts_and_a_cache_spares_it(
    subject: tuple[Any, Any, Path], tmp_path: Path
) -> None:
    class Counting(TransformersSam):
        encoded = 0

        def _embed(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            self.encoded += len(pixels)
            return super()._embed(pixels)

    first, second = (Counting(subject[2], cache=TensorCache(tmp_path)) for _ in range(2))
    picture = image(*SIZES[0])
    answers = []
    for segmenter in (first, second):
        for prompt in PROMPTS.values():
            segmenter.set_image(picture)
            answers.append(segmenter.predict(**prompt).low_res_logits)
    assert (first.encoded, second.encoded) == (1, 0)
    assert all(np.array_equal(a, b) for a, b in zip(answers[:3], answers[3:], strict=True))
    first.set_images([picture, image(*SIZES[1])])
    assert first.encoded == 2


def test_boxes_asked_together_are_answered_as_alone(subject: tuple[Any, Any, Path]) -> None:
    segmenter = make_refiner(subject[2])
    segmenter.set_image(image(*SIZES[0]))
    boxes = [(8.0, 6.0, 41.0, 33.0), (1.0, 20.0, 30.0, 44.0), (30.0, 2.0, 60.0, 40.0)]
    together = segmenter.predict_all([Asked(box) for box in boxes])
    for box, found in zip(boxes, together, strict=True):
        alone = segmenter.predict(box)
        scale = np.abs(alone.low_res_logits).max()
        np.testing.assert_allclose(found.low_res_logits, alone.low_res_logits, atol=1e-4 * scale)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-3)
        assert (found.masks != alone.masks).mean() < 1e-2


@pytest.mark.parametrize("kind", ["sam2", "edgetam", "sam3_tracker"])
def test_folders_of_the_video_models_are_opened(kind: str, tmp_path: Path) -> None:
    {"sam2": sam2, "edgetam": edgetam, "sam3_tracker": sam3_tracker}[kind]().save_pretrained(tmp_path)
    plain = make_refiner(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == kind
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": f"{kind}_video"}))
    video = make_refiner(tmp_path)
    assert video.name == plain.name
    for segmenter in (plain, video):
        segmenter.set_image(image(*SIZES[0]))
    answers = [segmenter.predict(**PROMPTS["both"]).low_res_logits for segmenter in (plain, video)]
    assert np.array_equal(*answers)


def test_other_folders_are_refused_in_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    for text, message in (
        (
            '{"model_type": "bert"}',
            "model_type 'bert' in config.json is no promptable segmenter known here: edgetam",
        ),
        ("{}", "model_type None"),
        ("{", "holds no SAM model"),
        ('{"model_type": "sam2", "vision_config": 7}', "holds no SAM model"),
    ):
        config.write_text(text)
        with pytest.raises(UserError, match=message) as caught:
            make_refiner(tmp_path)
        assert len(str(caught.value)) < 600
        assert "\n" not in str(caught.value)
    sam("Sam").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:5000])
    with pytest.raises(UserError, match="holds no SAM model"):
        make_refiner(tmp_path)
    weights.write_bytes(whole[:-4] + np.float32("nan").tobytes())
    with pytest.raises(UserError, match="not finite"):
        make_refiner(tmp_path)
    older = SimpleNamespace(__version__="4.55.0")
    for model_type, kind in KINDS.items():
        with pytest.raises(UserError, match=rf"needs {kind.network}, .* 4.55.0 lacks: .*>={kind.since}"):
            kind_of("folder", model_type, older)
