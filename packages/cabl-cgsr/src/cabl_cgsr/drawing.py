"""Pictures for people: maps as colours, masks with outlines, box and points."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw

from cabl_cgsr.prompts import POSITIVE, Prompts
from papers_shared.heat import heat_map

MASK = (230, 40, 90)
BOX = (255, 214, 10)
POINTS = {True: (40, 200, 90), False: (235, 60, 50)}
"""Green: the positive point; red: the negative one; as in the paper's Fig. 1."""


def cam_picture(cam: np.ndarray) -> Image.Image:
    """A map (H, W) in [0, 1] in colours, dark for 0."""
    return heat_map(cam, (cam.shape[1], cam.shape[0]), limits=(0.0, 1.0))


def heat_over(image: Image.Image, cam: np.ndarray, alpha: float = 0.6) -> Image.Image:
    """The map's colours over the picture in grey."""
    return Image.blend(image.convert("L").convert("RGB"), cam_picture(cam), alpha)


def draw_mask(image: Image.Image, mask: np.ndarray, alpha: float = 0.45) -> Image.Image:
    """The picture with the mask (H, W) tinted and outlined; an empty mask leaves it as it is."""
    pixels = np.array(image)
    tint = np.array(MASK, np.float32)
    pixels[mask] = (pixels[mask] * (1 - alpha) + tint * alpha).astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(pixels, outlines, -1, MASK, _stroke(image))
    return Image.fromarray(pixels)


def draw_prompts(image: Image.Image, prompts: Prompts) -> Image.Image:
    """The picture with box and points."""
    drawn = image.copy()
    draw, stroke = ImageDraw.Draw(drawn), _stroke(image)
    if prompts.box_xyxy is not None:
        draw.rectangle(prompts.box_xyxy, outline=BOX, width=stroke)
    radius = 3 * stroke
    for (x, y), label in zip(prompts.points_xy, prompts.labels, strict=True):
        place = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(place, fill=POINTS[label == POSITIVE], outline="white", width=max(1, stroke // 2))
    return drawn


def shrink(image: Image.Image, max_side: int) -> Image.Image:
    """The picture within `max_side`, never enlarged; 0: as it is."""
    if not max_side or max(image.size) <= max_side:
        return image
    factor = max_side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _stroke(image: Image.Image) -> int:
    return max(2, max(image.size) // 300)
