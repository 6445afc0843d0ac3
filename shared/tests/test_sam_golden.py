"""Both SAM back ends against the values of Meta's program on a tiny network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_sam
import torch
from tiny_sam import GOLDEN, HEADS, PROMPTS, TENSORS, sliced

from papers_shared.errors import UserError
from papers_shared.sam import SegmentAnything, TransformersSam, convert_meta_checkpoint, make_refiner
from papers_shared.sam.frame import Frame
from papers_shared.sam.hf import rename
from papers_shared.sam.shape import SamShape

BOUND = 2e-5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sam.checkpoint(tmp_path_factory.mktemp("meta"))


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return convert_meta_checkpoint(checkpoint, tmp_path_factory.mktemp("hf") / "sam", decoder_heads=HEADS)


@pytest.fixture(scope="module", params=["meta", "transformers"])
def segmenter(request: pytest.FixtureRequest, checkpoint: Path):
    if request.param == "meta":
        pytest.importorskip("segment_anything")
        made = SegmentAnything(checkpoint, decoder_heads=HEADS)
    else:
        made = TransformersSam(request.getfixturevalue("folder"))
    made.set_image(tiny_sam.image())
    return made


def test_preprocessed_square() -> None:
    frame = Frame.of(tiny_sam.image(), 256)
    assert frame.inner == (154, 256)
    stored = TENSORS["sam.input"].numpy()
    assert np.abs(sliced("sam.input", frame.pixels(tiny_sam.image())[None].numpy()) - stored).max() < 1e-6
    assert frame.to_square(np.array([70.0, 50.0])) == pytest.approx([89.6, 64.1666667])


def test_embedding(segmenter) -> None:
    ours = segmenter._embedding[0][None].numpy()
    assert np.abs(sliced("sam.features", ours) - TENSORS["sam.features"].numpy()).max() < BOUND


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_masks_scores_and_logits(prompt: str, multimask: bool, segmenter) -> None:
    key = f"{prompt}.{'multi' if multimask else 'single'}"
    frame, low_res, scores = segmenter.predict_logits(**PROMPTS[prompt], multimask=multimask)
    for name, ours in (("low_res", low_res), ("iou", scores), ("logits", frame.logits(low_res))):
        full = f"sam.{key}.{name}"
        assert np.abs(sliced(full, ours.numpy()) - TENSORS[full].numpy()).max() < BOUND, name
    result = segmenter.predict(**PROMPTS[prompt], multimask=multimask)
    assert result.masks.shape == ((3 if multimask else 1), 120, 200)
    pixels = result.masks.sum((1, 2))
    assert np.abs(pixels - GOLDEN["mask_pixels"][key]).max() <= 0.005 * pixels.max() + 1
    assert np.array_equal(result.low_res_logits, low_res.numpy())


def test_prompts_of_the_whole_refinement(segmenter) -> None:
    case = GOLDEN["cgsr"]
    result = segmenter.predict(box=case["box_xyxy"], points=case["points_xy"], labels=case["labels"])
    assert (
        np.abs(sliced("cgsr.low_res", result.low_res_logits) - TENSORS["cgsr.low_res"].numpy()).max() < BOUND
    )
    assert result.scores[0] == pytest.approx(case["iou"], abs=BOUND)
    assert abs(int(result.masks.sum()) - case["mask_pixels"]) <= 0.005 * case["mask_pixels"]


def test_pictures_of_one_batch_answer_as_alone(segmenter) -> None:
    images = [tiny_sam.image(), tiny_sam.image()[:90, ::-1].copy()]
    segmenter.set_images(images)
    for image in images[::-1]:
        segmenter.set_image(image)
        together = segmenter.predict_logits(**PROMPTS["box"])[1]
        segmenter._prepared.clear()
        segmenter.set_image(image)
        assert torch.allclose(segmenter.predict_logits(**PROMPTS["box"])[1], together, atol=1e-5)
        segmenter.set_images(images)
    segmenter.set_images([tiny_sam.image()])
    segmenter.set_image(tiny_sam.image())


def test_every_entry_is_renamed_as_transformers_has_it() -> None:
    for name, (_, theirs) in GOLDEN["names"].items():
        assert rename(name) == theirs[0]


def test_decoder_epsilon_is_metas_whatever_the_folder_says(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "published"
    copied.mkdir()
    for file in folder.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    config = (copied / "config.json").read_text()
    assert '"layer_norm_eps": 1e-05' in config
    (copied / "config.json").write_text(config.replace('"layer_norm_eps": 1e-05', '"layer_norm_eps": 1e-06'))
    segmenter = make_refiner(copied)
    segmenter.set_image(tiny_sam.image())
    ours = segmenter.predict(**PROMPTS["two_points"]).low_res_logits
    assert (
        np.abs(
            sliced("sam.two_points.single.low_res", ours) - TENSORS["sam.two_points.single.low_res"].numpy()
        ).max()
        < BOUND
    )


def test_sizes_of_the_released_networks_are_read_from_shapes() -> None:
    config = GOLDEN["config"]
    shape = SamShape.of(tiny_sam.state_dict(), "tiny", HEADS)
    assert shape.global_blocks == tuple(config["global_attn_indexes"])
    ours = (
        shape.image_size,
        shape.window_size,
        shape.num_heads,
        shape.decoder_mlp_dim,
        shape.downsample_rate,
    )
    assert ours == (256, config["window_size"], 2, config["decoder_mlp_dim"], 2)
    meta = pytest.importorskip("segment_anything")
    with torch.device("meta"):
        released = meta.sam_model_registry["vit_b"]().state_dict()
    shape = SamShape.of(released, "vit_b")
    assert (shape.name, shape.depth, shape.num_heads, shape.global_blocks) == ("vit-b", 12, 12, (2, 5, 8, 11))
    assert (shape.image_size, shape.window_size, shape.mlp_dim) == (1024, 14, 3072)


def test_wrong_sources_are_named(checkpoint: Path, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    pytest.importorskip("segment_anything")
    with pytest.raises(UserError, match=r"other\.pth is not a SAM checkpoint as Meta released it"):
        make_refiner(tmp_path / "other.pth")
    partial = tiny_sam.state_dict()
    del partial["mask_decoder.iou_token.weight"]
    torch.save(partial, tmp_path / "partial.pth")
    with pytest.raises(UserError, match="does not fit SAM"):
        SegmentAnything(tmp_path / "partial.pth", decoder_heads=HEADS)
    pytest.importorskip("transformers")
    with pytest.raises(UserError, match="entries have no counterpart"):
        convert_meta_checkpoint(tmp_path / "partial.pth", tmp_path / "out", decoder_heads=HEADS)
    with pytest.raises(UserError, match="holds no SAM model"):
        make_refiner(tmp_path)
    for source in ("grabcat", "./missing.pth", "gone/sam.pth"):
        with pytest.raises(UserError, match="no segmenter"):
            make_refiner(source)
    with pytest.raises(UserError, match="computes in fp32, tf32, bf16, fp16, not in 'no'"):
        SegmentAnything(checkpoint, decoder_heads=HEADS, precision="no")


@pytest.mark.parametrize(
    ("package", "source", "line"),
    [
        ("segment_anything", "file", "pip install segment-anything"),
        ("transformers", "folder", "pip install transformers"),
    ],
)
def test_a_missing_package_is_named_with_its_install_line(
    package: str, source: str, line: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (package, f"{package}.modeling"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(UserError, match=line):
        make_refiner(checkpoint if source == "file" else tmp_path)
