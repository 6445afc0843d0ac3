"""The embedded data: splices and copy-moves of real photographs, in the layout of the CASIA releases.

The photographs lie inside scikit-image's wheel (`PHOTOGRAPHS`); nothing is downloaded. Training and test
images come from different ones. Each scene is written as it is and once manipulated, so that what an image
shows tells nothing about its label. What does tell is the history of the pasted part: it was resampled by
another factor and angle, has another noise (stronger than its surroundings, or next to none), and went through
a coarser JPEG compression. Both kinds of images are compressed twice, and saved in the same formats. All is
decided by the seed.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from papers_shared.errors import UserError
from papers_shared.files import check_replaceable, writing_folder
from papers_shared.images import load_image
from papers_shared.written import own_files, read_manifest, write_manifest

Random = np.random.Generator


@dataclass(frozen=True)
class Photograph:
    """An image in skimage/data."""

    file: str
    category: str
    """CASIA's code of what it shows."""
    licence: str


PHOTOGRAPHS = {
    "train": (
        Photograph("astronaut.png", "cha", "public domain, NASA"),
        Photograph("brick.png", "txt", "CC0, CC0Textures"),
        Photograph("coffee.png", "ind", "CC0, Rachel Michetti"),
        Photograph("coins.png", "art", "no known copyright restrictions, Brooklyn Museum"),
        Photograph("gravel.png", "sec", "CC0, CC0Textures"),
        Photograph("hubble_deep_field.jpg", "nat", "public domain, NASA"),
        Photograph("ihc.png", "pla", "no known copyright restrictions, CMMI"),
    ),
    "test": (
        Photograph("camera.png", "cha", "CC0, Lav Varshney"),
        Photograph("chelsea.png", "ani", "CC0, Stefan van der Walt"),
        Photograph("grass.png", "pla", "CC0, linolafett"),
        Photograph("retina.jpg", "nat", "CC0, Mikael Haggstrom"),
        Photograph("rocket.jpg", "arc", "public domain, SpaceX"),
    ),
}
"""Photographs in scikit-image's wheel by use, with the licences its documentation states."""

SETS = {"train": "CASIA2", "test": "CASIA1"}
"""Names of the sets' folders by use."""
HOST_NOISE = (0.5, 2.0)
"""Standard deviation of a scene's noise, in grey levels."""
PASTED_NOISE = (20.0, 32.0)
SMOOTH_SHARE = 0.15
"""Share of pasted parts that were enlarged and have next to no noise of their own instead."""
SCENE_QUALITY, PASTED_QUALITY, FINAL_QUALITY = (80, 95), (45, 65), (88, 96)
"""JPEG qualities of the scene, of the pasted part, and of the second compression of every image."""


def write_casia(
    root: str | Path, *, seed: int = 0, train: int = 160, test: int = 32, size: tuple[int, int] = (96, 128)
) -> Path:
    """Write `root`/CASIA2 (training) and `root`/CASIA1 (test), each to be read as a released set.

    The traces are strong enough for a small network on few images: `test_conformer`, trained from scratch on
    the defaults (crops of 96 at native size, no jitter, batch 8, AdamW 2e-3) reached an I-AUC of 0.92 on the test
    set after 450 steps, about 70 CPU seconds.

    Args:
        train: Scenes of the training set, even; each gives an authentic and a manipulated image.
        test: Scenes of the test set, even.
        size: (height, width) of the images in pixels.

    A set that is there already stays as it is.

    Raises:
        UserError: A number of scenes is odd: scenes come in pairs that lend each other parts; a folder of a set holds
            other files, or cannot be written.
    """
    root = Path(root).expanduser()
    for split, count in {"train": train, "test": test}.items():
        if count % 2:
            raise UserError(f"{split}: {count} scenes are odd, and they come in pairs: give an even number")
    ours = {split: own_files(root / name) for split, name in SETS.items()}
    for split, name in SETS.items():
        check_replaceable(root / name, ours[split])
    for number, (split, count) in enumerate({"train": train, "test": test}.items()):
        final = root / SETS[split]
        about = {"toy": 1, "seed": seed, "scenes": count, "size": list(size)}
        if ours[split] and about.items() <= read_manifest(final).items():
            continue
        with writing_folder(final, ours[split]) as folder:
            for index in range(0, count, 2):
                _write_pair(folder, split, np.random.default_rng([seed, number, index]), index, size)
            files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
            write_manifest(folder, list(files), **about)
    return root


@dataclass(frozen=True)
class Scene:
    pixels: np.ndarray
    """(H, W, 3) float32 RGB on 0..255, without the camera's noise."""
    photograph: Photograph
    number: int
    noise: float
    """Standard deviation of the noise."""


def manipulate(rng: Random, host: Scene, donor: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Paste a part of `donor` (which may be `host`) into `host`.

    Returns:
        The image (H, W, 3) uint8 RGB, compressed once, and where it is manipulated, (H, W) bool.
    """
    height, width = host.pixels.shape[:2]
    mask = _blob(rng, height, width)
    smooth = rng.random() < SMOOTH_SHARE
    factor = rng.uniform(1.6, 2.2) if smooth else rng.uniform(0.7, 1.3)
    part = _resampled(rng, _jpeg(rng, donor.pixels, PASTED_QUALITY), factor, rng.uniform(-40, 40))
    part = part + rng.normal(0, 0.3 if smooth else rng.uniform(*PASTED_NOISE), part.shape)
    weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.6)[..., None]
    surroundings = _jpeg(rng, _noisy(rng, host), SCENE_QUALITY)
    return _to_bytes(surroundings * (1 - weight) + part * weight), mask


def _write_pair(folder: Path, split: str, rng: Random, first: int, size: tuple[int, int]) -> None:
    """Two scenes of different photographs as they are, and each with a part of the other or of itself."""
    choice = rng.permutation(len(PHOTOGRAPHS[split]))[:2]
    scenes = [
        _draw_scene(rng, PHOTOGRAPHS[split][kind], first + k + 1, size) for k, kind in enumerate(choice)
    ]
    for scene, other in (scenes, scenes[::-1]):
        copy_move = scene.number % 4 >= 2
        image, mask = manipulate(rng, scene, scene if copy_move else other)
        clean = _to_bytes(_jpeg(rng, _noisy(rng, scene), SCENE_QUALITY))
        quality, tiff = int(rng.integers(*FINAL_QUALITY, endpoint=True)), scene.number % 3 == 0
        donor = scene if copy_move else other
        stem, drawn = _paths(folder, split, scene, donor, copy_move)
        base = folder / "Au" / f"Au_{scene.photograph.category}_{scene.number:0{_digits(split)}d}"
        for path, pixels in ((base, clean), (stem, image)):
            _save(path, pixels, quality, "" if split == "test" else ".tif" if tiff and path == stem else "")
        drawn.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(drawn), mask.astype(np.uint8) * 255)


def _paths(folder: Path, split: str, scene: Scene, donor: Scene, copy_move: bool) -> tuple[Path, Path]:
    """Path of the manipulated image without its suffix, path of the mask."""
    digits, kind = _digits(split), "S" if copy_move else "D"
    source, target = (f"{s.photograph.category}{s.number:0{digits}d}" for s in (donor, scene))
    ids = f"{source}_{target}_{scene.number:0{digits}d}"
    if split == "train":
        stem = f"Tp_{kind}_NRN_M_N_{ids}"
        return folder / "Tp" / stem, folder / "CASIA 2 Groundtruth" / f"{stem}_gt.png"
    stem, part = f"Sp_{kind}_NRN_A_{ids}", "CM" if copy_move else "Sp"
    drawn = folder / "CASIA 1.0 groundtruth" / part / f"{stem}_gt.png"
    return folder / "Modified Tp" / "Tp" / part / stem, drawn


def _draw_scene(rng: Random, photograph: Photograph, number: int, size: tuple[int, int]) -> Scene:
    """A random view of a photograph: a window, shrunk a little, mirrored, with its own light."""
    pixels = read_photograph(photograph.file)
    largest = min(pixels.shape[0] / size[0], pixels.shape[1] / size[1])
    factor = rng.uniform(1.0, min(2.0, largest)) if largest > 1 else largest
    height, width = int(size[0] * factor), int(size[1] * factor)
    top, left = (
        int(rng.integers(0, limit, endpoint=True)) for limit in np.subtract(pixels.shape[:2], (height, width))
    )
    window: np.ndarray = pixels[top : top + height, left : left + width].astype(np.float32)
    window = cv2.resize(window, size[::-1], interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        window = window[:, ::-1]
    lit = np.clip((window - 128) * rng.uniform(0.75, 1.0) + 128 + rng.uniform(-15, 15), 8, 247)
    return Scene(lit, photograph, number, rng.uniform(*HOST_NOISE))


@lru_cache(maxsize=2)
def read_photograph(file: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image in skimage/data.

    Raises:
        UserError: scikit-image is not installed, or lacks the file.
    """
    try:
        with as_file(files("skimage") / "data" / file) as path:
            return np.asarray(load_image(path))
    except ModuleNotFoundError as error:
        raise UserError("the embedded images lie in scikit-image: pip install scikit-image") from error


def _blob(rng: Random, height: int, width: int) -> np.ndarray:
    """A round but uneven region of 8 to 30 % of the image, inside it."""
    y, x = np.mgrid[0:height, 0:width]
    reach = np.sqrt(rng.uniform(0.08, 0.3) * height * width / np.pi)
    stretch = rng.uniform(0.75, 1.35)
    radius = reach * np.array([stretch, 1 / stretch])
    centre = [
        rng.uniform(min(r + 2, side / 2), max(side - r - 2, side / 2))
        for r, side in zip(radius, (height, width), strict=True)
    ]
    v, u = (y - centre[0]) / radius[0], (x - centre[1]) / radius[1]
    angle = np.arctan2(v, u)
    outline = 1 + sum(rng.uniform(-0.1, 0.1) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 5))
    return np.hypot(u, v) < outline


def _resampled(rng: Random, pixels: np.ndarray, factor: float, angle: float) -> np.ndarray:
    """The image turned and scaled around a random point, of the same size; mirrored at its borders."""
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D(
        (width * rng.uniform(0.3, 0.7), height * rng.uniform(0.3, 0.7)), angle, factor
    )
    matrix[:, 2] = matrix[:, 2] + rng.uniform(-0.15, 0.15, 2) * (width, height)
    return cv2.warpAffine(
        pixels, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )


def _noisy(rng: Random, scene: Scene) -> np.ndarray:
    return scene.pixels + rng.normal(0, scene.noise, scene.pixels.shape)


def _jpeg(rng: Random, pixels: np.ndarray, qualities: tuple[int, int]) -> np.ndarray:
    """What a JPEG file of a random quality gives back, float32."""
    quality = int(rng.integers(*qualities, endpoint=True))
    return _decoded(_encoded(_to_bytes(pixels), quality)).astype(np.float32)


def _encoded(pixels: np.ndarray, quality: int) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG file with colours at full resolution: noise of the colours survives it."""
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling])
    return data.tobytes()


def _decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def _save(path: Path, pixels: np.ndarray, quality: int, suffix: str) -> None:
    """As JPEG, or as a TIFF of what that JPEG would give back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = _encoded(pixels, quality)
    if suffix:
        Image.fromarray(_decoded(data)).save(f"{path}{suffix}")
    else:
        Path(f"{path}.jpg").write_bytes(data)


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _digits(split: str) -> int:
    return 5 if split == "train" else 4
