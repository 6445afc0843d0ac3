"""The page: an image, a sentence, and where it is. The same server answers `gradio_client` and plain HTTP.

Answers are those of `plvl.inference.predict`; an image is encoded once, however many sentences are asked about it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from papers_shared import app
from papers_shared.cache import TensorCache
from papers_shared.devices import choose_precision, device_of
from papers_shared.drawing import palette_for
from papers_shared.errors import UserError
from papers_shared.provenance import check_trained
from papers_shared.sam import make_refiner
from plvl.inference import EncodedImage, Grounding, TextFeatures, describe_protocol, encode, ground
from plvl.modeling.plvl import PLVL
from plvl.predict import refine
from plvl.toy import draw_scene, scene

if TYPE_CHECKING:
    from plvl.options import AppOptions

TITLE = "PLVL: where is what a sentence means"
LONGEST = 1000
"""Characters of a sentence."""
LISTED = 20
"""Sentences about one image that are shown; older ones go."""
COLOURS = palette_for(9)[1:]


def page(model: PLVL, options: AppOptions, folder: app.Folder, *, name: str, toy: bool) -> gr.Blocks:
    """The page of a model.

    Args:
        name: Of the model, for people and records.
        toy: It is the demo's, and the page says so.

    Raises:
        UserError: The model was never trained or has no vocabulary, or there is no such refiner.
    """
    check_trained(model, options.untrained)
    computed = choose_precision(options.precision, device_of(model))
    text = TextFeatures(model, computed)
    refiner = None
    if options.refiner != "none":
        cache = TensorCache(folder.new("embeddings"), limit_gb=2)
        refiner = make_refiner(options.refiner, device=str(device_of(model)), precision=computed, cache=cache)
        if not model.config.rec:
            raise UserError(f"{name} finds no boxes, and --refiner refines a box: leave it out")
    encoded = app.Kept(
        lambda file: encode(model, file, precision=computed, max_pixels=options.max_pixels), _nbytes
    )

    def find(file: Path, sentences: Sequence[str]) -> list[Grounding]:
        for sentence in sentences:
            if len(sentence) > LONGEST:
                raise UserError(
                    f"the sentence has {len(sentence):,} characters, and {LONGEST:,} is the most: shorten it "
                    f"(the model reads {model.config.max_tokens - 2} word pieces)"
                )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the records hold them
            found = ground(model, encoded(file), sentences, text=text, untrained=options.untrained)
        if refiner is not None and found:
            refine(found, refiner)
        return found

    def record(file: Path, found: Grounding) -> dict[str, Any]:
        return {
            "file": file.name,
            "model": name,
            "expression": found.sentence,
            "width": found.image.width,
            "height": found.image.height,
            "box_xyxy": found.box_xyxy and list(found.box_xyxy),
            "score": found.score,
            "refiner": found.refiner or None,
            "untrained": list(found.untrained),
            "protocol": describe_protocol(model.config, "original", computed),
            "warnings": [*found.warnings, *app.notices(file)],
        }

    def mask_file(file: Path, found: Grounding) -> str | None:
        mask = found.mask if found.refined_mask is None else found.refined_mask
        return None if mask is None else folder.save(grey(mask), f"{app.result_name(file)}-mask.png")

    def seen(image: Image.Image, layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        fresh = model.origin.untrained
        warning = "This model was never trained: its answers mean nothing." if fresh else ""
        return app.view(folder, image, layers, warning=warning)

    @app.said
    def take(image: dict[str, Any] | None, asked: dict[str, list[Any]], progress: Any = gr.Progress()) -> Any:  # noqa: B008
        file = folder.uploaded(image)
        progress(0.1, "encoding the image")
        known = encoded(file)
        layers = [one["layer"] for one in asked.get(str(file), [])]
        said = [*app.notices(file), f"{known.image.width} x {known.image.height} pixels, encoded."]
        return seen(known.image, layers), "\n\n".join(said), *app.ready(None, None, None)

    @app.said
    def ask(
        image: dict[str, Any] | None,
        sentence: str,
        asked: dict[str, list[Any]],
        past: list[dict[str, str]],
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> Any:
        file, sentence = folder.uploaded(image), " ".join(sentence.split())
        if not sentence:
            raise UserError("no sentence: write what to find, such as: the man in the blue shirt")
        progress(0.2, "finding")
        (found,) = find(file, [sentence])
        progress(0.8, "drawing")
        about, drawn = record(file, found), found.draw()
        older = [one for one in asked.get(str(file), []) if one["record"]["expression"] != sentence]
        for one in older:
            one["layer"]["shown"] = False
        colour = COLOURS[len(older) % len(COLOURS)]
        note = "" if found.score is None else f"score {found.score:.2f}"
        if found.refiner:
            note += f", mask by {found.refiner}"
        mask = found.mask if found.refined_mask is None else found.refined_mask
        layer = app.layer(folder, mask, app.mask_table(colour), sentence, note, box=found.box_xyxy)
        entries = [*older, {"layer": layer, "record": about}][-LISTED:]
        asked = {key: value for key, value in asked.items() if key != str(file)}
        asked = dict([*asked.items(), (str(file), entries)][-app.HISTORY :])
        stem = app.result_name(file)
        files = (
            mask_file(file, found),
            folder.save(drawn, f"{stem}-overlay.png"),
            folder.write_json([one["record"] for one in entries], f"{stem}.json"),
        )
        past, gallery = app.remember(folder, past, file, drawn, f"{sentence} ({file.name})")
        said = "\n\n".join([*about["warnings"], _said(found)])
        shown = seen(found.image, [one["layer"] for one in entries])
        return shown, said, *app.ready(*files), asked, past, gallery

    @app.said
    def answer(image: dict, sentences: list[str]) -> dict:
        """Where the sentences are in an uploaded image: `records`, and for each its `masks` (grey PNGs of 0 and 255 at
        the image's own size, or null) and its `overlays`."""
        file = folder.uploaded(image)
        if not isinstance(sentences, list) or not all(isinstance(one, str) for one in sentences):
            raise UserError("sentences are a list of texts")
        found = find(file, sentences)
        masks = [mask_file(file, one) for one in found]
        overlays = [folder.save(one.draw(), f"{app.result_name(file)}-overlay.png") for one in found]
        return {
            "records": [record(file, one) for one in found],
            "masks": [mask and app.reference(mask) for mask in masks],
            "overlays": [app.reference(overlay) for overlay in overlays],
        }

    with app.blocks(TITLE) as built:
        app.head(TITLE, name, model, toy=toy)
        asked = gr.State({})
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                image = app.upload()
                sentence = gr.Textbox(
                    label="Sentence", placeholder="the man in the blue shirt", max_lines=1, elem_id="sentence"
                )
                find_button = gr.Button("Find", variant="primary", elem_id="find")
                chosen = app.examples(options.examples, draw_examples, folder, image, sentence)
            with gr.Column(scale=3, min_width=480):
                viewer = app.viewer()
                about = gr.Markdown(elem_id="about")
                files = app.downloads("Mask", "Overlay", "JSON")
        past, gallery, again = app.history_of(image)
        same = {"show_progress_on": viewer, **app.EVENT}
        for listen in app.brought(image, viewer, chosen, again):
            listen(take, [image, asked], [viewer, about, *files], trigger_mode="always_last", **same)
        gr.on(
            [sentence.submit, find_button.click],
            ask,
            [image, sentence, asked, past],
            [viewer, about, *files, asked, past, gallery],
            **same,
        )
        gr.api(answer, api_name="find", concurrency_id=app.NETWORK, concurrency_limit=app.AT_ONCE)
    return built


def grey(mask: np.ndarray) -> Image.Image:
    """A mask as a grey image of 0 and 255."""
    return Image.fromarray(mask).convert("L")


def draw_examples(folder: Path) -> list[list[str]]:
    """Scenes of the demo, each with a sentence about it."""
    folder.mkdir(exist_ok=True)
    found = []
    for number in range(4):
        things, sentences = scene(np.random.default_rng([7, number]))
        pixels, _ = draw_scene(np.random.default_rng([7, number, 1]), things, 64)
        path = folder / f"scene-{number + 1}.png"
        Image.fromarray(pixels).save(path)
        found.append([str(path), sentences[0][0]])
    return found


def prepared(options: AppOptions) -> AbstractContextManager[gr.Blocks]:
    """The page that the options describe; see `papers_shared.app.prepared`."""
    return app.prepared(options, PLVL, "plvl", page)


def run(options: AppOptions) -> int:
    """`plvl app`: serves until it is interrupted."""
    return app.run(prepared(options), options)


def _said(found: Grounding) -> str:
    where = "no box" if found.box_xyxy is None else f"box {', '.join(f'{x:.0f}' for x in found.box_xyxy)}"
    score = "" if found.score is None else f", score {found.score:.3f}"
    return f"**{found.sentence}**: {where}{score}; in pixels of the image."


def _nbytes(kept: EncodedImage) -> int:
    features = sum(part.nbytes for part in kept.features if part is not None)
    return 3 * kept.image.width * kept.image.height + features
