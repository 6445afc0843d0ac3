"""The page: is an image manipulated, and where. The same server answers `gradio_client` and plain HTTP.

Answers are those of `cabl_cgsr.inference.predict`. What the network says of an image is kept: another threshold of the
map, or other points and boxes for the refiner, cost no second pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image

from cabl_cgsr.drawing import BOX, MASK
from cabl_cgsr.evidence import sheet
from cabl_cgsr.inference import (
    Localization,
    ViewMaps,
    ask_again,
    check_options,
    judge,
    network_maps,
    prepare_views,
)
from cabl_cgsr.modeling.localizer import Localizer
from cabl_cgsr.prompts import Prompts
from cabl_cgsr.toy import write_casia
from papers_shared import app
from papers_shared.cache import TensorCache
from papers_shared.devices import choose_precision, device_of
from papers_shared.errors import UserError
from papers_shared.images import load_image
from papers_shared.provenance import check_trained
from papers_shared.sam import make_refiner

if TYPE_CHECKING:
    from cabl_cgsr.options import AppOptions

TITLE = "CABL and CGSR: is this image manipulated, and where"
COARSE = (30, 120, 240)


class Seen(NamedTuple):
    """An image and what the network says of it."""

    image: Image.Image
    """RGB, upright."""
    maps: ViewMaps


def page(localizer: Localizer, options: AppOptions, folder: app.Folder, *, name: str, toy: bool) -> gr.Blocks:
    """The page of a model.

    Args:
        name: Of the model, for people and records.
        toy: It is the demo's, and the page says so.

    Raises:
        UserError: The model was never trained, an option does not fit it, or there is no such refiner.
    """
    fresh = check_trained(localizer, options.untrained)
    check_options(options.threshold, options.max_pixels)
    config = options.config_for(localizer.config)
    computed, device = choose_precision(options.precision, device_of(localizer)), str(device_of(localizer))
    refiner = None
    if options.refiner != "none":
        cache = TensorCache(folder.new("embeddings"), limit_gb=2)
        refiner = make_refiner(options.refiner, device=device, precision=computed, cache=cache)

    def see(file: Path) -> Seen:
        image = load_image(file, max_pixels=options.max_pixels)
        views = [view[None] for view in prepare_views(image, config)]
        (maps,) = network_maps(localizer, views, [(image.height, image.width)], config, computed)
        return Seen(image, maps)

    seen = app.Kept(see, _nbytes)

    def decide(file: Path, level: float | None, asked: Mapping[str, Any]) -> Localization:
        """The judgement with another threshold of the map than the model's, and with a user's prompts."""
        image, maps = seen(file)
        given = config
        if level is not None:
            if not 0 <= level <= 1:
                raise UserError(f"the threshold of the map {level!r} is not in [0, 1]")
            given = replace(config, prompts=replace(config.prompts, threshold=float(level)))
        prompts = prompts_of(asked)
        found = judge(
            image,
            maps,
            given,
            refiner=refiner if prompts.empty else None,
            always_refine=options.always_refine,
            threshold=options.threshold,
            precision=computed,
            untrained=fresh,
        )
        if prompts.empty:
            return found
        if refiner is None:
            raise UserError(
                "points and boxes are for a refiner, and this page has none: start it with --refiner"
            )
        return ask_again(found, refiner, prompts, config.prompts.multimask)

    def record(file: Path, found: Localization, level: float | None) -> dict[str, Any]:
        about = {"file": file.name, "model": name, "map_threshold": level, "notices": app.notices(file)}
        return about | found.to_json()

    def write(file: Path, found: Localization, level: float | None) -> dict[str, str]:
        stem = app.result_name(file)
        return {
            "mask": folder.save(Image.fromarray(found.mask.astype(np.uint8) * 255), f"{stem}-mask.png"),
            "map": folder.save(found.map_image(), f"{stem}-map.png"),
            "overlay": folder.save(found.draw(), f"{stem}-overlay.png"),
            "sheet": folder.write(sheet(found, file=file.name, model=name), f"{stem}-evidence.html"),
            "json": folder.write_json(record(file, found, level), f"{stem}.json"),
        }

    def draw(file: Path, found: Localization, asked: Mapping[str, Any]) -> dict[str, Any]:
        own = prompts_of(asked).empty
        heat = np.rint(found.cam * 255).astype(np.uint8)
        layers = [
            app.layer(folder, heat, app.heat_table(), "map", "what drove the classifier", scaled=True),
            app.layer(
                folder,
                found.coarse_mask,
                app.mask_table(COARSE),
                "coarse mask",
                f"{found.coarse_mask.mean():.1%} of the image",
                shown=False,
            ),
        ]
        if found.refined_mask is not None:
            note = f"by {found.refiner}, {found.refined_mask.mean():.1%} of the image"
            layers.append(
                app.layer(
                    folder, found.refined_mask, app.mask_table(MASK), "refined mask", note, shown=not own
                )
            )
        if own and found.prompts.box_xyxy is not None:
            box = found.prompts.box_xyxy
            layers.append(
                app.layer(folder, None, [[*BOX, 255]], "box", "of the coarse mask, for the refiner", box=box)
            )
        if not own:
            layers[0]["shown"] = False
        warning = "This model was never trained: its answers mean nothing." if fresh else ""
        prompts = None if refiner is None else {"points": [], "labels": [], "box": None, **asked}
        return app.view(folder, found.image, layers, warning=warning, prompts=prompts, subject=str(file))

    def said(file: Path, found: Localization) -> str:
        verdict = "not judged, the model was never trained" if found.untrained else found.verdict
        made = f"mask by {found.refiner}" if found.refiner else f"not refined: {found.not_refined}"
        line = (
            f"probability {found.probability:.3f}, manipulated above {found.threshold:.3g}; {made}; "
            f"{found.image.width} x {found.image.height} pixels"
        )
        return "\n\n".join([f"## {verdict}", *app.notices(file), line])

    @app.said
    def show(
        image: dict[str, Any] | None,
        past: list[dict[str, str]],
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> Any:
        file = folder.uploaded(image)
        progress(0.1, "judging")
        seen(file)
        progress(0.6, "refining and drawing")
        found = decide(file, None, {})
        caption = f"{found.verdict}, {found.probability:.2f} ({file.name})"
        past, gallery = app.remember(folder, past, file, found.draw(max_side=640), caption)
        return draw(file, found, {}), said(file, found), _level(found), {}, past, gallery

    @app.said
    def change(image: dict[str, Any] | None, level: float, asked: dict[str, Any]) -> Any:
        file = folder.uploaded(image)
        found = decide(file, level, asked)
        return draw(file, found, asked), said(file, found)

    @app.said
    def prompt(image: dict[str, Any] | None, level: float, given: gr.EventData) -> Any:
        asked = {"points": given.points, "labels": given.labels, "box": given.box}
        return (*change(image, level, asked), asked)

    @app.said
    def files_of(image: dict[str, Any] | None, level: float, asked: dict[str, Any]) -> Any:
        file = folder.uploaded(image)
        written = write(file, decide(file, level, asked), level)
        return app.ready(*(written[kind.lower()] for kind in KINDS))

    @app.said
    def answer(
        image: dict,
        threshold: float | None = None,
        points: list[list[float]] | None = None,
        labels: list[int] | None = None,
        box: list[float] | None = None,
    ) -> dict:
        """Is an uploaded image manipulated, and where: `record` and the files `mask`, `map` (0 to 65535), `overlay` and
        `sheet`. `threshold` is that of the map; `points` (x, y) with `labels` (1 inside, 0 outside) and `box` (x0, y0,
        x1, y1), in pixels of the image, go to the refiner."""
        file = folder.uploaded(image)
        found = decide(file, threshold, {"points": points, "labels": labels, "box": box})
        written = write(file, found, threshold)
        files = {kind: app.reference(path) for kind, path in written.items() if kind != "json"}
        return {"record": record(file, found, threshold), **files}

    with app.blocks(TITLE) as built:
        app.head(TITLE, name, localizer, toy=toy)
        asked = gr.State({})
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                image = app.upload()
                level = gr.Slider(
                    0, 1, 0.5, step=0.01, label="Threshold of the map", elem_id="level",
                    info="what exceeds it is the coarse mask; the network is not asked again",
                )  # fmt: skip
                chosen = app.examples(options.examples, draw_examples, folder, image)
            with gr.Column(scale=3, min_width=480):
                about = gr.Markdown(elem_id="verdict")
                viewer = app.viewer()
                files = app.downloads(*KINDS)
        past, gallery, again = app.history_of(image)
        same = {"trigger_mode": "always_last", "show_progress_on": viewer, **app.EVENT}
        quiet = same | {"show_progress": "hidden"}
        changes = [
            *(
                listen(show, [image, past], [viewer, about, level, asked, past, gallery], **same)
                for listen in app.brought(image, viewer, chosen, again)
            ),
            level.input(change, [image, level, asked], [viewer, about], **quiet),
            viewer.input(prompt, [image, level], [viewer, about, asked], **same),
        ]
        for changed in changes:
            changed.success(files_of, [image, level, asked], files, **quiet)
        gr.api(answer, api_name="judge", concurrency_id=app.NETWORK, concurrency_limit=app.AT_ONCE)
    return built


KINDS = ("Mask", "Map", "Overlay", "Sheet", "JSON")


def prompts_of(asked: Mapping[str, Any]) -> Prompts:
    """What a user asks the refiner with.

    Args:
        asked: `points` [[x, y], ...], `labels` of them, 1 inside and 0 outside, and `box` [x0, y0, x1, y1], in pixels
            of the image; each may be missing.

    Raises:
        UserError: They do not have that form.
    """
    points, labels, box = asked.get("points") or (), asked.get("labels") or (), asked.get("box")
    try:
        return Prompts(
            None if box is None else _four(box),
            tuple((round(x), round(y)) for x, y in points),
            tuple(int(label) for label in labels),
        )
    except (TypeError, ValueError, OverflowError):
        raise UserError(
            "points are [[x, y], ...] with as many labels, and a box is [x0, y0, x1, y1]"
        ) from None


def draw_examples(folder: Path) -> list[list[str]]:
    """Images of the demo, as they are and with a part pasted in."""
    write_casia(folder, seed=1, train=0, test=4)
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".tif", ".png"))
    return [[str(path)] for path in paths if "gt" not in path.stem and "Gt" not in str(path.parent)]


def prepared(options: AppOptions) -> AbstractContextManager[gr.Blocks]:
    """The page that the options describe; see `papers_shared.app.prepared`."""
    return app.prepared(options, Localizer, "cabl-cgsr", page)


def run(options: AppOptions) -> int:
    """`cabl-cgsr app`: serves until it is interrupted."""
    return app.run(prepared(options), options)


def _four(box: Sequence[float]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (round(value) for value in box)
    return x0, y0, x1, y1


def _level(found: Localization) -> float:
    """Where the threshold of the map stands: below the lowest value of the coarse mask."""
    inside = found.cam[found.coarse_mask]
    return float(np.floor(inside.min() * 100) / 100) if inside.size else 0.5


def _nbytes(seen: Seen) -> int:
    return 3 * seen.image.width * seen.image.height + sum(entry.nbytes for entry in seen.maps.maps)
