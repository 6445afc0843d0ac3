"""The embedded data: procedural conveyor-belt scenes in the layout of the ZeroWaste-f release.

Bent, overlapping and translucent objects of the four classes lie on paper clutter (background) on a belt.
Classes differ by texture, gloss and outline more than by colour. Everything is decided by the seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fanet.config import ZEROWASTE_CLASSES
from fanet.data.objects import fill_polygon
from fanet.toy_materials import MATERIALS, Patch, Random, noise, paper, sheet
from papers_shared.files import writing_folder
from papers_shared.written import own_files, read_manifest, write_manifest

FRAMES_PER_VIDEO = 8
SHARES = (0.22, 0.28, 0.26, 0.24)
"""How often an object is rigid plastic, cardboard, metal, soft plastic."""


def write_zerowaste(
    root: str | Path,
    *,
    seed: int = 0,
    train: int = 48,
    val: int = 12,
    test: int = 12,
    size: tuple[int, int] = (192, 320),
) -> Path:
    """Write scenes of (height, width) = `size` to `root`/{train,val,test}/{data,sem_seg,labels.json}.

    Names are NN_frame_NNNNNN.PNG; a video (NN) has its own belt, light and clutter, and lies in one split.
    Polygons in labels.json give sem_seg back exactly: pixel centres, the highest category wins. Scenes that are there
    already stay as they are.

    Raises:
        UserError: `root` holds other files, or cannot be written.
    """
    root = Path(root).expanduser()
    about = {"seed": seed, "images": [train, val, test], "size": list(size)}
    ours = own_files(root)
    if ours and about.items() <= read_manifest(root).items():
        return root
    with writing_folder(root, ours) as folder:
        _write_scenes(folder, seed, {"train": train, "val": val, "test": test}, size)
        files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        write_manifest(folder, list(files), **about)
    return root


def _write_scenes(root: Path, seed: int, counts: dict[str, int], size: tuple[int, int]) -> None:
    video = 0
    for number, (split, count) in enumerate(counts.items()):
        for folder in ("data", "sem_seg"):
            (root / split / folder).mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            video += index % FRAMES_PER_VIDEO == 0
            name = f"{video:02d}_frame_{10 * (index % FRAMES_PER_VIDEO) + 100 * video:06d}.PNG"
            belt = _Belt.draw(np.random.default_rng([seed, 1, video]))
            scene = draw_scene(np.random.default_rng([seed, 2, number, index]), belt, size)
            cv2.imwrite(str(root / split / "data" / name), cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
            cv2.imwrite(str(root / split / "sem_seg" / name), scene.labels)
            images.append(
                {"id": index, "file_name": name, "height": size[0], "width": size[1], "license": None}
            )
            for category, outline in scene.objects:
                annotations.append(_annotation(len(annotations), index, category, outline))
        categories = [{"id": i, "name": n, "supercategory": ""} for i, n in enumerate(ZEROWASTE_CLASSES) if i]
        content: dict[str, Any] = {"info": {"description": "procedural conveyor-belt scenes"}, "licenses": []}
        content |= {"categories": categories, "images": images, "annotations": annotations}
        (root / split / "labels.json").write_text(json.dumps(content))


@dataclass(frozen=True)
class Scene:
    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    labels: np.ndarray
    """(H, W) uint8 class ids."""
    objects: list[tuple[int, np.ndarray]]
    """(class id, outline (N, 2) x, y in pixels), the lowest class first, as they are stacked."""


@dataclass(frozen=True)
class _Belt:
    """What the frames of one video share."""

    colour: np.ndarray
    light: float
    """Brightness of the lamp."""
    lamp: float
    """Where across the image the lamp is, 0..1."""
    rib: float
    """Distance of the belt's ribs in pixels of a 192 pixel high image."""
    papers: int

    @staticmethod
    def draw(rng: Random) -> _Belt:
        grey = rng.uniform(0.16, 0.34)
        colour = np.clip(
            grey + rng.normal(0, 0.015, 3) + rng.choice([0, 0.03]) * np.array([-0.5, 0, 1]), 0, 1
        )
        return _Belt(
            colour,
            rng.uniform(0.85, 1.1),
            rng.uniform(0.3, 0.7),
            rng.uniform(9, 18),
            int(rng.integers(9, 20)),
        )


def draw_scene(rng: Random, belt: _Belt, size: tuple[int, int]) -> Scene:
    """One frame of a video."""
    height, width = size
    unit = height / 192
    canvas = _belt_surface(rng, belt, height, width, unit)
    for _ in range(belt.papers):
        piece = _Piece.lay(rng, size, unit * rng.uniform(12, 34), rng.uniform(0.35, 1.0), sheet)
        piece.paint(rng, canvas, paper, unit)
    counts = rng.multinomial(int(rng.integers(5, 10)), SHARES)
    objects, labels = [], np.zeros(size, np.uint8)
    for category, (count, material) in enumerate(zip(counts, MATERIALS, strict=True), start=1):
        for _ in range(count):
            reach = unit * rng.uniform(*material.reach)
            piece = _Piece.lay(rng, size, reach, rng.uniform(*material.aspect), material.outline)
            inside = fill_polygon(piece.outline, height, width)
            if inside.sum() < 40 * unit**2:
                continue
            piece.paint(rng, canvas, material.surface, unit)
            labels[inside] = category
            objects.append((category, piece.outline))
    canvas = cv2.GaussianBlur(canvas, (0, 0), 0.45 * unit)
    canvas = canvas + rng.normal(0, 0.012, canvas.shape)
    return Scene((np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8), labels, objects)


def _belt_surface(rng: Random, belt: _Belt, height: int, width: int, unit: float) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    ribs = 0.018 * np.sin(2 * np.pi * (y / unit + rng.uniform(0, 20)) / belt.rib)
    streaks = cv2.GaussianBlur(
        rng.normal(0, 0.35, (height, width)), (0, 0), sigmaX=28 * unit, sigmaY=0.7 * unit
    )
    dirt = 0.05 * noise(rng, (height, width), 26 * unit, 4) + 0.03 * rng.normal(0, 0.5, (height, width))
    lamp = belt.light * (1.12 - 0.55 * (x / width - belt.lamp) ** 2 - 0.18 * (y / height - 0.4) ** 2)
    grey = (1 + 2.2 * (ribs + dirt) + streaks) * lamp
    return grey[..., None] * belt.colour


@dataclass(frozen=True)
class _Piece:
    """A flat thing on the belt: its own axes (u along, v across, both about -1..1), bent along u."""

    centre: tuple[float, float]
    angle: float
    half: tuple[float, float]
    bend: float
    outline: np.ndarray

    @staticmethod
    def lay(rng: Random, size: tuple[int, int], reach: float, aspect: float, shape: Callable) -> _Piece:
        """Lay a thing of half length `reach` pixels somewhere, so that most of it is in view."""
        height, width = size
        centre = (rng.uniform(-0.02, 1.02) * width, rng.uniform(0.0, 1.0) * height)
        angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.22)
        half = (reach, reach * aspect)
        local = shape(rng)
        along = local[:, 0] * half[0]
        across = (local[:, 1] + bend * local[:, 0] ** 2) * half[1]
        cos, sin = np.cos(angle), np.sin(angle)
        x = centre[0] + along * cos - across * sin
        y = centre[1] + along * sin + across * cos
        outline = np.round(np.stack([x, y], 1), 1)
        outline = np.clip(outline, 0, [width, height])
        return _Piece(centre, angle, half, bend, outline)

    def paint(self, rng: Random, canvas: np.ndarray, surface: Callable, unit: float) -> None:
        """Blend the surface and a soft shadow into the canvas (H, W, 3) float in place."""
        margin = int(6 * unit) + 2
        left, top = np.maximum(np.floor(self.outline.min(0)).astype(int) - margin, 0)
        right, bottom = np.ceil(self.outline.max(0)).astype(int) + margin
        patch = canvas[top:bottom, left:right]
        if not patch.size:
            return
        height, width = patch.shape[:2]
        fine = 4
        corners = np.round((self.outline - [left, top]) * fine - 0.5).astype(np.int32)
        cover = np.zeros((height * fine, width * fine), np.uint8)
        cv2.fillPoly(cover, [corners], 255)
        soft = cv2.resize(cover, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        y, x = np.mgrid[top : top + height, left : left + width] + 0.5
        dx, dy = x - self.centre[0], y - self.centre[1]
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        u = (dx * cos + dy * sin) / self.half[0]
        v = (-dx * sin + dy * cos) / self.half[1] - self.bend * u**2
        depth = cv2.distanceTransform((soft > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        colour, opacity = surface(rng, Patch(u, v, depth / unit, self.half, unit))
        shift = np.array([[1, 0, 1.6 * unit], [0, 1, 2.2 * unit]])
        shadow = cv2.GaussianBlur(cv2.warpAffine(soft, shift, (width, height)), (0, 0), 1.8 * unit)
        patch *= 1 - (0.42 * shadow * np.mean(opacity))[..., None]
        weight = (soft * opacity)[..., None]
        patch[:] = patch * (1 - weight) + colour * weight


def _annotation(number: int, image: int, category: int, outline: np.ndarray) -> dict[str, Any]:
    low, high = outline.min(0), outline.max(0)
    x, y = outline.T
    area = 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [round(float(value), 1) for value in (*low, *(high - low))],
        "area": round(area, 1),
        "iscrowd": 0,
        "segmentation": [[float(value) for value in outline.reshape(-1)]],
    }
