"""One image: the paper's protocol, bands, tiles, odd images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fanet.config import ModelConfig
from fanet.inference import Window, class_map, class_scores, network_views, predict, prepare
from fanet.modeling.segmenter import Segmenter
from fanet.transforms import prepare_image
from papers_shared.errors import UserError

CLASSES = ("background", "box", "bag")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """An untrained network whose answers vary over the image."""
    torch.manual_seed(0)
    config = ModelConfig(
        backbone="test_fanet",
        class_names=CLASSES,
        decoder_channels=8,
        auxiliary=False,
        test_scale=(256, 64),
    )
    segmenter = Segmenter.from_config(config).eval()
    for parameter in segmenter.decode_head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return segmenter


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("size", [(90, 160), (61, 37), (40, 300)])
def test_protocol_of_the_paper(segmenter: Segmenter, size: tuple[int, int]) -> None:
    image = Image.fromarray(noise(*size))
    result = segmenter.predict(image)
    inputs = prepare_image(image, segmenter.config)
    with torch.no_grad():
        logits = segmenter(inputs).logits
    for target in (inputs.shape[-2:], size):
        logits = F.interpolate(logits, target, mode="bilinear", align_corners=False)
    expected = logits[0].softmax(0).numpy()
    assert result.mask.shape == size
    assert result.mask.dtype == np.uint8
    assert len(np.unique(result.mask)) > 1
    np.testing.assert_allclose(result.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(result.mask, expected.argmax(0))
    shares = {name: float((result.mask == index).mean()) for index, name in enumerate(CLASSES)}
    assert result.shares == pytest.approx(shares)


@pytest.mark.parametrize(
    ("source", "target"), [((16, 24), (97, 131)), ((40, 24), (23, 19)), ((1, 3), (50, 7))]
)
@pytest.mark.parametrize("rows", [1, 7])
def test_bands_equal_one_resize(source: tuple[int, int], target: tuple[int, int], rows: int) -> None:
    logits = torch.randn(3, *source, generator=torch.Generator().manual_seed(1))
    window = Window(logits, source, (0, 0, target[1], target[0]))
    bands = list(class_scores([(window,)], *target, max_bytes=rows * 3 * 4 * target[1]))
    assert max(band.shape[1] for band in bands) == rows
    whole = F.interpolate(logits[None], target, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(torch.cat(bands, 1), whole, rtol=1e-5, atol=1e-5)


def test_tiles_average_the_windows_that_cover_a_pixel(segmenter: Segmenter) -> None:
    pixels = noise(70, 110)
    result = predict(segmenter, pixels, tile=64, overlap=0.5)
    mean, std = (np.float32(value) for value in (segmenter.config.mean, segmenter.config.std))
    sums, counts = torch.zeros(3, 70, 110), torch.zeros(70, 110)
    for top in (0, 6):
        for left in (0, 32, 46):
            window = (pixels[top : top + 64, left : left + 64] - mean) / std
            with torch.no_grad():
                logits = segmenter(torch.from_numpy(window).permute(2, 0, 1)[None]).logits
            sums[:, top : top + 64, left : left + 64] += F.interpolate(logits, (64, 64), mode="bilinear")[0]
            counts[top : top + 64, left : left + 64] += 1
    expected = (sums / counts).softmax(0).numpy()
    np.testing.assert_allclose(result.probabilities, expected, atol=1e-5)
    np.testing.assert_array_equal(result.mask, result.probabilities.argmax(0))


def test_one_tile_over_a_smaller_image(segmenter: Segmenter) -> None:
    pixels = noise(33, 45)
    few, many = (predict(segmenter, pixels, tile=tile).mask for tile in (64, 512))
    assert few.shape == (33, 45)
    np.testing.assert_array_equal(few, many)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16", "1"])
def test_modes(segmenter: Segmenter, mode: str, tmp_path) -> None:
    grey = noise(50, 70)[..., 0]
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(grey).convert("RGB").convert(mode)
    path = tmp_path / f"image.{'tif' if mode == 'CMYK' else 'png'}"
    image.save(path)
    mask = predict(segmenter, path).mask
    assert mask.shape == (50, 70)
    if mode not in ("1", "P", "CMYK"):
        np.testing.assert_array_equal(mask, predict(segmenter, Image.fromarray(grey)).mask)


def test_exif_rotation(segmenter: Segmenter, tmp_path) -> None:
    upright = Image.fromarray(noise(48, 96))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(tmp_path / "phone.png", exif=exif)
    np.testing.assert_array_equal(
        predict(segmenter, tmp_path / "phone.png").mask, predict(segmenter, upright).mask
    )


def test_drawing_and_mask_image(segmenter: Segmenter) -> None:
    result = predict(segmenter, noise(60, 200))
    assert result.draw().width == 200
    assert result.draw().height > 60
    assert result.draw(max_side=100).width == 100
    image = result.mask_image()
    np.testing.assert_array_equal(np.asarray(image), result.mask)
    colours = np.asarray(image.convert("RGB"))[result.mask == 1]
    assert (colours == result.palette[1]).all()


def test_training_mode_is_kept(segmenter: Segmenter) -> None:
    mask = predict(segmenter, noise(50, 70)).mask
    segmenter.train()
    try:
        np.testing.assert_array_equal(predict(segmenter, noise(50, 70)).mask, mask)
        assert segmenter.training
    finally:
        segmenter.eval()


def test_bf16(segmenter: Segmenter) -> None:
    result, exact = (predict(segmenter, noise(60, 90), precision=kind) for kind in ("bf16", "fp32"))
    assert 0 < abs(result.probabilities - exact.probabilities).max() < 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [({"tile": 8}, "tile"), ({"tile": 64, "overlap": 1.0}, "overlap"), ({"max_pixels": 100}, "pixels")],
)
def test_mistakes(segmenter: Segmenter, options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        predict(segmenter, noise(50, 70), **options)


@pytest.mark.parametrize(
    "options", [{"flip": True, "ratios": (0.5, 1.0)}, {"tile": 40}, {"tile": 48, "flip": True}]
)
@pytest.mark.parametrize("together", [2, 5, 100])
def test_inputs_that_go_through_the_network_together_answer_as_alone(
    segmenter: Segmenter, options: dict, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, sizes = noise(90, 70), []
    prepared = prepare(
        image, segmenter.config, ratios=options.get("ratios", (1.0,)), tile=options.get("tile", 0)
    )
    (alone,) = network_views(segmenter, [prepared], **options)
    monkeypatch.setattr("fanet.inference.inputs_at_once", lambda device, pixels: together)
    handle = segmenter.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    (batched,) = network_views(segmenter, [prepared], **options)
    handle.remove()
    assert max(sizes) > 1
    assert max(sizes) <= together
    for one, other in zip(alone, batched, strict=True):
        for window, again in zip(one, other, strict=True):
            assert (window.box, window.size) == (again.box, again.size)
            torch.testing.assert_close(window.logits, again.logits, rtol=1e-4, atol=1e-4)
    assert (class_map(alone, 90, 70) == class_map(batched, 90, 70)).float().mean() > 0.999
