"""The evidence sheet of one image: one HTML file that shows what was found, how, and by what."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from cabl_cgsr.drawing import BOX, POINTS, draw_map_over, draw_mask, draw_prompts
from cabl_cgsr.inference import Localization
from cabl_cgsr.prompts import POSITIVE
from papers_shared import pages
from papers_shared.drawing import shrink

SIDE = 960
"""Longest side of the images of a sheet in pixels."""


def sheet(found: Localization, *, file: str = "", model: str = "") -> str:
    """The sheet as HTML that needs nothing else.

    Args:
        file: The image's name, for the headline.
        model: What judged it.
    """
    name = Path(file).name or "the image"
    share = 100 * float(found.mask.mean())
    shown = found.manipulated or found.refined_mask is not None
    body = [
        pages.numbers(
            [
                ("Verdict", found.verdict, f"probability > {found.threshold:.3g} means manipulated"),
                (
                    "Probability",
                    f"{found.probability:.3f}",
                    f"score {found.score:.3f}, both branches, all scales",
                ),
                ("Marked area", f"{share:.1f} %" if shown else "-", "of the image, in the final mask"),
                ("Mask made by", found.refiner or "the map alone", found.not_refined or "CGSR refinement"),
            ]
        ),
        pages.section("Before and after", _images(found, name)),
        pages.section("What the segmenter was asked", _prompts(found)),
        pages.section("Score at each scale", _scales(found)),
    ]
    note = (
        f"Image: {file or name}, {found.image.width} x {found.image.height} pixels. Model: {model or 'not named'}. "
        f"Protocol: {found.protocol}. Refiner: {found.refiner or 'none, ' + found.not_refined}. The map shows what "
        "drove the classifier, which learned from image labels alone: a hint to follow, no proof."
    )
    if found.untrained:
        parts = ", ".join(found.untrained)
        warning = f"The model was never trained for this ({parts}): nothing here means anything."
        return pages.page(f"{name}: not judged, the model was never trained", warning, body, note)
    return pages.page(f"{name}: judged {found.verdict}", _lead(found), body, note)


def _lead(found: Localization) -> str:
    if found.verdict == "can't say":
        return (
            f"The probability of {found.probability:.3f} lies within {found.unsure:.2g} of the threshold "
            f"{found.threshold:.3g}: on held-out images the model was wrong too often there to give a verdict."
        )
    if not found.manipulated:
        return (
            f"The probability of {found.probability:.3f} does not exceed {found.threshold:.3g}. The map below is shown "
            "for completeness: its highest values mean little in an image judged authentic."
        )
    end = f"refined by {found.refiner}" if found.refiner else f"not refined: {found.not_refined}"
    return (
        f"The probability of {found.probability:.3f} exceeds {found.threshold:.3g}. The marked area is {end}."
    )


def _images(found: Localization, name: str) -> str:
    after = f"final mask, by {found.refiner}" if found.refiner else "final mask: the coarse one"
    first: list[tuple[str, Image.Image]] = [
        ("image", found.image),
        ("activation map, scaled to its own range", draw_map_over(found.image, found.cam)),
    ]
    second = [
        (
            "coarse mask, box and points",
            draw_prompts(draw_mask(found.image, found.coarse_mask), found.prompts),
        ),
        (after, draw_mask(found.image, found.mask)),
    ]
    rows = (
        [(title, shrink(image, SIDE, Image.Resampling.LANCZOS)) for title, image in row]
        for row in (first, second)
    )
    return "".join(pages.images(row, name, lossy=True) for row in rows)


def _prompts(found: Localization) -> str:
    prompts = found.prompts
    if prompts.empty:
        return "<p>Nothing: the coarse mask is empty, or the model asks for no prompts.</p>"
    rows = []
    if prompts.box_xyxy is not None:
        x0, y0, x1, y1 = prompts.box_xyxy
        rows.append(
            [
                pages.chips([("box", BOX)]),
                f"({x0}, {y0}) to ({x1}, {y1})",
                "the user" if found.asked_by_user else "largest part of the coarse mask",
            ]
        )
    for (x, y), label in zip(prompts.points_xy, prompts.labels, strict=True):
        positive = label == POSITIVE
        kind = "positive point" if positive else "negative point"
        extreme = "the user's point" if found.asked_by_user else "highest" if positive else "lowest"
        value = f"map {found.raw_map[y, x]:.4g} before scaling, {extreme}"
        rows.append([pages.chips([(kind, POINTS[positive])]), f"({x}, {y})", value])
    outside = (
        "<p>The highest point lies outside the box: the largest part of the mask is not where the map peaks.</p>"
        if prompts.point_in_box is False and not found.asked_by_user
        else ""
    )
    return pages.table(["prompt", "x, y in pixels", "from"], rows, words=(2,)) + outside


def _scales(found: Localization) -> str:
    rows = [[pages.text(name), f"{score:.3f}"] for name, score in found.scale_scores.items()]
    return pages.table(["input", "score"], [*rows, ["mean", f"<b>{found.score:.3f}</b>"]])
