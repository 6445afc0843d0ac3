"""The page: drop an image, see what each pixel is. The same server answers `gradio_client` and plain HTTP.

Answers are those of `fanet.inference.predict`, with the options that the server was started with; an image goes
through the network once, whoever asks about it and how often.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from fanet.inference import MULTI_SCALE, Segmentation, check_options, predict
from fanet.modeling.segmenter import Segmenter
from fanet.toy import write_zerowaste
from papers_shared import app
from papers_shared.devices import choose_precision, device_of
from papers_shared.provenance import check_trained

if TYPE_CHECKING:
    from fanet.options import AppOptions

TITLE = "FANet: what each pixel is"


def page(segmenter: Segmenter, options: AppOptions, folder: app.Folder, *, name: str, toy: bool) -> gr.Blocks:
    """The page of a model.

    Args:
        name: Of the model, for people and records.
        toy: It is the demo's, and the page says so.

    Raises:
        UserError: The model was never trained, or an option does not fit it.
    """
    check_trained(segmenter, options.untrained)
    ratios = MULTI_SCALE if options.multi_scale else (1.0,)
    check_options(segmenter.config, ratios, options.tile, options.overlap, options.max_pixels)
    asked: dict[str, Any] = {"flip": options.flip, "ratios": ratios, "tile": options.tile}
    asked |= {"overlap": options.overlap, "max_pixels": options.max_pixels, "untrained": options.untrained}
    asked["precision"] = choose_precision(options.precision, device_of(segmenter))
    segment = app.Kept(lambda file: predict(segmenter, file, **asked), _nbytes)

    def record(file: Path, found: Segmentation) -> dict[str, Any]:
        height, width = found.mask.shape
        return {
            "file": file.name,
            "model": name,
            "width": width,
            "height": height,
            "shares": found.shares,
            "untrained": list(found.untrained),
            "protocol": found.protocol,
            "notices": app.notices(file),
        }

    @app.said
    def show(image: dict[str, Any] | None, past: list[dict[str, str]], progress: Any = gr.Progress()) -> Any:  # noqa: B008
        file = folder.uploaded(image)
        progress(0.1, "segmenting")
        found = segment(file)
        progress(0.7, "drawing")
        about, stem, drawn = record(file, found), app.result_name(file), found.draw()
        files = (
            folder.save(found.mask_image(), f"{stem}-mask.png"),
            folder.save(drawn, f"{stem}-overlay.png"),
            folder.write_json(about, f"{stem}.json"),
        )
        names = [(one.replace("_", " "), f"{share:.1%}") for one, share in found.shares.items()]
        layer = app.layer(folder, found.mask, app.table(found.palette), "classes", names=names)
        warning = "This model was never trained: its answers mean nothing." if found.untrained else ""
        seen = app.view(folder, found.image, [layer], warning=warning)
        past, gallery = app.remember(folder, past, file, drawn, file.name)
        said = "\n\n".join(
            [*about["notices"], f"{about['width']} x {about['height']} pixels. {found.protocol}."]
        )
        return seen, said, *app.ready(*files), past, gallery

    @app.said
    def answer(image: dict) -> dict:
        """The classes of an uploaded image: `record`, `mask` (a palette PNG of class ids at the image's own size) and
        `overlay`."""
        file = folder.uploaded(image)
        found, stem = segment(file), app.result_name(file)
        return {
            "record": record(file, found),
            "mask": app.reference(folder.save(found.mask_image(), f"{stem}-mask.png")),
            "overlay": app.reference(folder.save(found.draw(), f"{stem}-overlay.png")),
        }

    with app.blocks(TITLE) as built:
        app.head(TITLE, name, segmenter, toy=toy)
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                image = app.upload()
                chosen = app.examples(options.examples, draw_examples, folder, image)
            with gr.Column(scale=3, min_width=480):
                viewer = app.viewer()
                about = gr.Markdown(elem_id="about")
                files = app.downloads("Mask", "Overlay", "JSON")
        past, gallery, again = app.history_of(image)
        for listen in app.brought(image, viewer, chosen, again):
            listen(
                show,
                [image, past],
                [viewer, about, *files, past, gallery],
                trigger_mode="always_last",
                show_progress_on=viewer,
                **app.EVENT,
            )
        gr.api(answer, api_name="segment", concurrency_id=app.NETWORK, concurrency_limit=app.AT_ONCE)
    return built


def draw_examples(folder: Path) -> list[list[str]]:
    """Conveyor-belt scenes of the demo."""
    write_zerowaste(folder, seed=1, train=0, val=0, test=4)
    return [[str(path)] for path in sorted((folder / "test/data").iterdir())]


def prepared(options: AppOptions) -> AbstractContextManager[gr.Blocks]:
    """The page that the options describe; see `papers_shared.app.prepared`."""
    return app.prepared(options, Segmenter, "fanet", page)


def run(options: AppOptions) -> int:
    """`fanet app`: serves until it is interrupted."""
    return app.run(prepared(options), options)


def _nbytes(found: Segmentation) -> int:
    logits = sum(window.logits.nbytes for view in found.views for window in view)
    return found.mask.nbytes + 3 * found.mask.size + logits
