"""Outlines and surfaces of the things on the toy belt; a surface is drawn in the thing's own axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Random = np.random.Generator


@dataclass(frozen=True)
class Patch:
    """The pixels a surface is drawn on: own axes u and v, and the distance to the outline in units."""

    u: np.ndarray
    v: np.ndarray
    depth: np.ndarray
    half: tuple[float, float]
    unit: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.u.shape[0], self.u.shape[1]

    @property
    def along(self) -> np.ndarray:
        """u in units."""
        return self.u * self.half[0] / self.unit

    @property
    def across(self) -> np.ndarray:
        """v in units."""
        return self.v * self.half[1] / self.unit


def noise(rng: Random, shape: tuple[int, int], cell: float, octaves: int = 1) -> np.ndarray:
    """Smooth noise in about -1..1 whose blobs are `cell` pixels wide, with finer octaves on top."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        grid = rng.normal(0, 0.5, (int(shape[0] / step) + 3, int(shape[1] / step) + 3)).astype(np.float32)
        large = cv2.resize(
            grid, (int(grid.shape[1] * step), int(grid.shape[0] * step)), interpolation=cv2.INTER_CUBIC
        )
        total += np.asarray(large[: shape[0], : shape[1]], np.float32) / 1.6**octave
    return total


def _creases(rng: Random, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Thin bright ridges, 0..1: folds of film and paper."""
    ridge = np.exp(-np.abs(noise(rng, shape, cell)) * 16)
    return ridge * np.clip(0.6 + noise(rng, shape, 1.5 * cell), 0, 1.2)


def _rgb(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def _smooth_closed(radius: np.ndarray, exponent: float) -> np.ndarray:
    """Outline of a superellipse scaled by a radius per direction."""
    turn = np.linspace(0, 2 * np.pi, len(radius), endpoint=False)
    cos, sin = np.cos(turn), np.sin(turn)
    x = np.sign(cos) * np.abs(cos) ** (2 / exponent)
    y = np.sign(sin) * np.abs(sin) ** (2 / exponent)
    return np.stack([x * radius, y * radius], 1)


def _wobble(rng: Random, points: int, size: float, waves: int) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = np.ones(points)
    for wave in range(2, waves):
        radius += size * rng.normal(0, 1) / wave**0.6 * np.cos(wave * turn + rng.uniform(0, 2 * np.pi))
    return np.clip(radius, 0.45, 1.6)


def sheet(rng: Random) -> np.ndarray:
    """A torn quadrangle: paper and cardboard."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * rng.uniform(0.72, 1.05, (4, 2))
    if rng.random() < 0.45:  # a corner torn off
        corner = int(rng.integers(4))
        before, after = corners[corner - 1], corners[(corner + 1) % 4]
        cut = rng.uniform(0.25, 0.6, 2)
        pair = corners[corner] + cut[:, None] * (np.stack([before, after]) - corners[corner])
        corners = np.concatenate([corners[:corner], pair, corners[corner + 1 :]])
    steps = np.linspace(0, 1, 9, endpoint=False)[None, :, None]
    edges = corners[:, None] * (1 - steps) + np.roll(corners, -1, 0)[:, None] * steps
    return edges.reshape(-1, 2) + rng.normal(0, 0.018, (len(corners) * 9, 2))


def _film(rng: Random) -> np.ndarray:
    return _smooth_closed(_wobble(rng, 72, 0.17, 9), 2.4)


def _can(rng: Random) -> np.ndarray:
    return _smooth_closed(_wobble(rng, 56, 0.05, 6), 5.0)


def _container(rng: Random) -> np.ndarray:
    """A bottle seen from the side, or a tub or lid."""
    if rng.random() < 0.45:
        return _smooth_closed(_wobble(rng, 56, 0.035, 5), rng.uniform(2.0, 4.5))
    u = np.concatenate([np.linspace(-1, 0.35, 16), np.linspace(0.4, 1, 12)])
    shoulder = np.clip((u - 0.35) / 0.3, 0, 1)
    body = np.clip((u + 1) / 0.12, 0, 1) ** 0.5
    profile = (
        body * (1 - 0.66 * shoulder**2 * (3 - 2 * shoulder)) * (1 + 0.04 * np.sin(u * rng.uniform(6, 14)))
    )
    dents = 1 + 0.05 * rng.normal(0, 1, 2)
    upper, lower = np.stack([u, profile * dents[0]], 1), np.stack([u, -profile * dents[1]], 1)
    return np.concatenate([upper, lower[::-1]])


def paper(rng: Random, at: Patch) -> tuple[np.ndarray, np.ndarray]:
    """Background: white, grey and brownish sheets, printed or crumpled."""
    tones = (
        _rgb(0.86, 0.85, 0.82),
        _rgb(0.70, 0.70, 0.70),
        _rgb(0.80, 0.74, 0.62),
        _rgb(0.55, 0.47, 0.38),
        _rgb(0.60, 0.66, 0.74),
    )
    tone = tones[rng.choice(5, p=[0.4, 0.22, 0.16, 0.12, 0.1])] * rng.uniform(0.75, 1.05)
    shade = 1 + 0.10 * noise(rng, at.shape, 9 * at.unit, 3) - 0.16 * _creases(rng, at.shape, 9 * at.unit)
    if rng.random() < 0.45:  # lines of print
        lines = np.sin(2 * np.pi * at.across / 3.4) > 0.25
        words = noise(rng, at.shape, 3 * at.unit) > -0.25
        shade = shade - 0.30 * lines * words * (np.abs(at.u) < 0.8)
    return shade[..., None] * tone, np.ones(at.shape)


def _cardboard(rng: Random, at: Patch) -> tuple[np.ndarray, np.ndarray]:
    """Brown board with corrugation, a fold, sometimes tape or print."""
    tone = (_rgb(0.64, 0.48, 0.32), _rgb(0.55, 0.40, 0.27), _rgb(0.72, 0.60, 0.45))[int(rng.integers(3))]
    tone = tone * rng.uniform(0.8, 1.08)
    pitch = rng.uniform(3.2, 4.6)
    flutes = np.sin(2 * np.pi * at.along / pitch + 0.5 * noise(rng, at.shape, 30 * at.unit))
    fold = rng.uniform(-0.5, 0.5)
    shade = (
        1
        + 0.11 * flutes
        + 0.08 * noise(rng, at.shape, 20 * at.unit, 3)
        + 0.14 * np.tanh((at.u - fold) * 25) * 0.5
    )
    shade = shade - 0.25 * np.exp(-(((at.u - fold) * at.half[0] / at.unit) ** 2)) + 0.12 * (at.depth < 1.3)
    colour = shade[..., None] * tone
    if rng.random() < 0.35:
        tape = np.abs(at.v - rng.uniform(-0.3, 0.3)) < 0.16
        colour[tape] = 0.55 * colour[tape] + 0.45 * _rgb(0.72, 0.62, 0.45)
    elif rng.random() < 0.4:
        mark = (np.abs(at.u - 0.35) < 0.22) & (np.abs(at.v) < 0.35) & (noise(rng, at.shape, 4 * at.unit) > 0)
        colour[mark] *= 0.5
    return colour, np.ones(at.shape)


def _rigid_plastic(rng: Random, at: Patch) -> tuple[np.ndarray, np.ndarray]:
    """Smooth glossy hull: clear, white or coloured, with sharp highlights along it."""
    tones = (
        _rgb(0.82, 0.86, 0.88), _rgb(0.55, 0.68, 0.74), _rgb(0.16, 0.42, 0.70), _rgb(0.72, 0.16, 0.14),
        _rgb(0.14, 0.52, 0.34), _rgb(0.88, 0.70, 0.16), _rgb(0.20, 0.20, 0.22), _rgb(0.58, 0.42, 0.28),
    )  # fmt: skip
    choice = int(rng.integers(len(tones)))
    tone = tones[choice] * rng.uniform(0.85, 1.1)
    round_ = np.sqrt(np.clip(1 - at.v**2, 0, 1))
    shade = 0.45 + 0.62 * round_ + 0.03 * noise(rng, at.shape, 24 * at.unit)
    shade = shade - 0.12 * np.clip(1 - at.depth / 2.2, 0, 1)
    if rng.random() < 0.6:  # grip rings
        rings = np.exp(-((np.mod(at.along, rng.uniform(7, 11)) - 3) ** 2))
        shade = shade - 0.16 * rings * (np.abs(at.u) < 0.55)
    colour = shade[..., None] * tone
    for offset, strength in ((-0.42, 0.75), (0.38, 0.3)):
        gloss = (
            strength
            * np.exp(-(((at.v - offset + 0.06 * np.sin(3 * at.u)) / 0.09) ** 2))
            * (np.abs(at.u) < 0.86)
        )
        colour = colour + gloss[..., None]
    opacity = np.where(at.depth < 2.0, 0.95, 0.66) if choice < 2 else np.ones(at.shape)
    return colour, opacity


def _metal(rng: Random, at: Patch) -> tuple[np.ndarray, np.ndarray]:
    """Crushed can or foil: grey with hard mirror bands, rims, sometimes a printed sleeve."""
    dents = 0.30 * noise(rng, at.shape, 15 * at.unit, 2)
    warp = at.v * rng.uniform(0.8, 1.3) + dents + rng.uniform(0, 1)
    bands = np.tanh(2.0 * np.sin(2 * np.pi * warp)) * (0.75 + 0.25 * np.sin(7 * warp))
    facets = np.abs(np.sin(2 * np.pi * (at.u * 0.8 + 2.2 * dents))) ** 3
    shade = 0.50 + 0.30 * bands + 0.22 * facets
    brushed = cv2.GaussianBlur(rng.normal(0, 0.25, at.shape), (0, 0), 0.6)
    tint = _rgb(0.97, 0.98, 1.0) if rng.random() < 0.75 else _rgb(1.0, 0.86, 0.62)
    colour = (shade + 0.12 * brushed)[..., None] * tint
    if rng.random() < 0.4:
        sleeve = np.abs(at.u) < 0.6
        tone = (_rgb(0.75, 0.12, 0.12), _rgb(0.12, 0.25, 0.6), _rgb(0.15, 0.5, 0.25))[int(rng.integers(3))]
        colour[sleeve] = 0.45 * colour[sleeve] + 0.75 * tone * shade[sleeve][:, None]
    colour = colour + 0.35 * (np.abs(np.abs(at.u) - 0.86) < 0.04)[..., None]
    return colour, np.ones(at.shape)


def _soft_plastic(rng: Random, at: Patch) -> tuple[np.ndarray, np.ndarray]:
    """Translucent film: what lies below shows through; folds are bright lines, the rim is denser."""
    tones = (
        _rgb(0.86, 0.88, 0.90),
        _rgb(0.70, 0.80, 0.90),
        _rgb(0.62, 0.82, 0.68),
        _rgb(0.25, 0.27, 0.32),
        _rgb(0.90, 0.82, 0.60),
    )
    tone = tones[rng.choice(5, p=[0.4, 0.2, 0.14, 0.13, 0.13])]
    folds = _creases(rng, at.shape, 12 * at.unit) + 0.8 * _creases(rng, at.shape, 6 * at.unit)
    shade = 0.82 + 0.16 * noise(rng, at.shape, 14 * at.unit, 3)
    colour = shade[..., None] * tone + 0.55 * np.clip(folds, 0, 1.3)[..., None]
    density = rng.uniform(0.34, 0.6)
    rim = np.exp(-at.depth / 1.6)
    opacity = density + 0.12 * noise(rng, at.shape, 18 * at.unit) + 0.4 * np.clip(folds, 0, 1) + 0.25 * rim
    return colour, np.clip(opacity, 0.2, 0.97)


@dataclass(frozen=True)
class Material:
    outline: Callable[[Random], np.ndarray]
    surface: Callable[[Random, Patch], tuple[np.ndarray, np.ndarray]]
    reach: tuple[float, float]
    """Half length in pixels of a 192 pixel high image."""
    aspect: tuple[float, float]
    """Half width over half length."""


MATERIALS = (
    Material(_container, _rigid_plastic, (22, 40), (0.34, 0.6)),
    Material(sheet, _cardboard, (28, 56), (0.45, 0.9)),
    Material(_can, _metal, (20, 36), (0.5, 0.75)),
    Material(_film, _soft_plastic, (28, 52), (0.5, 0.9)),
)
