"""The page of a model in a browser: what those of the packages share.

A package gives the functions that answer and the layout; here are the viewer, what is kept of the last images, the
sentences for what goes wrong, and the server, which is the HTTP interface too. An answer depends on what a request
holds and on nothing else, so clients cannot get one another's.
"""

from __future__ import annotations

import functools
import html
import json
import os
import secrets
import shutil
import tempfile
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from PIL import Image

from papers_shared.devices import device_of, use_precision
from papers_shared.drawing import COLOURMAP, shrink
from papers_shared.entries import first_line
from papers_shared.errors import UserError
from papers_shared.files import file_digest
from papers_shared.hub import open_model
from papers_shared.images import open_image
from papers_shared.inputs import match_images
from papers_shared.paths import safe_name
from papers_shared.types import RGB

try:
    import gradio as gr
    from gradio.data_classes import FileData
except ImportError as missing:
    raise UserError(
        f"the page needs gradio, which is not installed ({missing}): pip install 'PACKAGE[app]', such as 'fanet[app]'"
    ) from missing

T = TypeVar("T")
KEPT_BYTES = 1_000_000_000
"""What is computed of the last images may take so much memory; the newest is kept whatever it takes."""
SHOWN_SIDE = 2048
"""Longest side of what the browser shows, in pixels; what is downloaded has the image's own size."""
HISTORY = 24
"""Answers that a session remembers."""
SESSIONS = 200
"""Sessions that are remembered; the one not used for longest goes first."""
LONGEST_FILE = "500mb"
NETWORK, AT_ONCE = "network", 2
"""Requests that may need the network, and how many of them run at a time: one computes while another draws."""
EVENT: dict[str, Any] = {
    "preprocess": False,  # gradio would open the image, and answer for a wrong one in its own words
    "api_visibility": "private",
    "concurrency_id": NETWORK,
    "concurrency_limit": AT_ONCE,
}
"""How a page's events are answered."""
STALE_SECONDS = 3600
"""Uploaded and written files are deleted when they are so old."""
HERE = Path(__file__).parent


class Kept(Generic[T]):
    """What was computed of the last files, by their content: once for each, whoever asks; threads may share it.

    Args:
        compute: File -> value; the files of one content have one value.
        nbytes: The memory that a value takes.
        limit: Bytes for all of them; those not used for longest make room.
    """

    def __init__(
        self, compute: Callable[[Path], T], nbytes: Callable[[T], int], limit: int = KEPT_BYTES
    ) -> None:
        self.compute, self.nbytes, self.limit = compute, nbytes, limit
        self._values: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._guard, self._computing = threading.Lock(), threading.Lock()

    def __call__(self, file: Path) -> T:
        """The value of a file.

        Raises:
            UserError: What `compute` raises; nothing is kept then.
        """
        key = file_digest(file)
        try:
            return self._value(key, file)
        except UserError as error:  # where the server keeps it is nobody's business
            raise UserError(str(error).replace(str(file), file.name)) from error

    def __len__(self) -> int:
        return len(self._values)

    def _value(self, key: str, file: Path) -> T:
        found = self._find(key)
        if found is None:
            with self._computing:  # whoever waited here may find it done
                found = self._find(key)
                if found is None:
                    value = self.compute(file)
                    found = (value, self.nbytes(value))
                    self._keep(key, found)
        return found[0]

    def _find(self, key: str) -> tuple[T, int] | None:
        with self._guard:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def _keep(self, key: str, value: tuple[T, int]) -> None:
        with self._guard:
            self._values[key] = value
            while len(self._values) > 1 and sum(size for _, size in self._values.values()) > self.limit:
                self._values.popitem(last=False)


class Folder:
    """Where the files of a server lie: what was uploaded, and what it wrote for the browser and for downloads.

    gradio serves what lies there and deletes it by age.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def uploaded(self, file: Mapping[str, Any] | None) -> Path:
        """The file of a request.

        Args:
            file: Has it as `path`, as browsers and clients send it.

        Raises:
            UserError: There is none, or one that was not uploaded.
        """
        name = file.get("path") if isinstance(file, Mapping) else None
        if not name:
            raise UserError("no image: drop one, paste one, or take an example")
        path = Path(str(name)).resolve()
        if not path.is_relative_to(self.path):
            raise UserError("the image was not uploaded to this server: upload it first")
        if not path.is_file():
            raise UserError("the image is no longer here, it was uploaded too long ago: upload it again")
        return path

    def new(self, name: str) -> Path:
        """A path for a file of this name, which nobody else has and nobody can guess."""
        folder = self.path / secrets.token_hex(16)
        folder.mkdir()
        return folder / name

    def save(self, image: Image.Image, name: str) -> str:
        path = self.new(name)
        image.save(path)
        return str(path)

    def write_json(self, content: Any, name: str) -> str:
        return self.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n", name)

    def write(self, text: str, name: str) -> str:
        path = self.new(name)
        path.write_text(text, encoding="utf-8")
        return str(path)


def result_name(file: Path) -> str:
    """What files about an image are called, but for what they are."""
    return safe_name(file.stem)[:60]


def notices(file: Path) -> list[str]:
    """What a user should know of an image that was answered, one sentence each."""
    with open_image(file, max_pixels=2**63) as image:
        frames = getattr(image, "n_frames", 1)
    return [f"{file.name} has {frames} frames: the first one is shown and answered"] if frames > 1 else []


def table(colours: Sequence[RGB], alpha: int = 255) -> list[list[int]]:
    """Colours of the values 0, 1, ... of a layer."""
    return [[*colour, alpha] for colour in colours]


def mask_table(colour: RGB) -> list[list[int]]:
    """Colours of a mask of 0 and 1: only the mask is seen."""
    return [[0, 0, 0, 0], [*colour, 255]]


def heat_table() -> list[list[int]]:
    """Colours of a map of 0 to 255."""
    anchors = np.linspace(0, 255, len(COLOURMAP))
    channels = [np.interp(np.arange(256), anchors, COLOURMAP[:, channel]) for channel in range(3)]
    return [[*(round(float(value)) for value in colour), 255] for colour in zip(*channels, strict=True)]


def layer(
    folder: Folder,
    values: np.ndarray | None,
    colours: list[list[int]],
    name: str,
    note: str = "",
    *,
    names: Sequence[tuple[str, str]] = (),
    scaled: bool = False,
    box: Sequence[float] | None = None,
    shown: bool = True,
) -> dict[str, Any]:
    """One layer of the viewer.

    Args:
        values: (H, W) uint8 or bool, at the image's size; None: a box alone.
        colours: [red, green, blue, alpha] of each value.
        name: For the legend, with `note` behind it.
        names: Of each value, and what the legend says behind it; the legend then lists them in place of the layer.
        scaled: The values are a map in [0, 1] times 255.
        box: x0, y0, x1, y1 in pixels of the image.
        shown: At the beginning.
    """
    file = None
    if values is not None:
        grey = shrink(Image.fromarray(values.astype(np.uint8)), SHOWN_SIDE, Image.Resampling.NEAREST)
        file = _reference(folder.save(grey, "layer.png"))
    return {
        "file": file,
        "colours": colours,
        "name": name,
        "note": note,
        "names": [list(entry) for entry in names],
        "scaled": scaled,
        "box": None if box is None else list(box),
        "shown": shown,
    }


def view(
    folder: Folder,
    image: Image.Image,
    layers: Sequence[Mapping[str, Any]],
    *,
    warning: str = "",
    prompts: Mapping[str, Any] | None = None,
    subject: str = "",
) -> dict[str, Any]:
    """What the viewer shows: an image under layers.

    Args:
        warning: Stands above it.
        prompts: `points` [[x, y], ...], `labels` (1 inside, 0 outside) and `box` in pixels of the image, which the user
            may change; None: there are none to give.
        subject: What the prompts are about: those of a user outlast the answers to earlier ones.
    """
    path = folder.new("image.jpg")
    shrink(image, SHOWN_SIDE).save(path, quality=95)
    return {
        "image": _reference(str(path)),
        "width": image.width,
        "height": image.height,
        "layers": list(layers),
        "warning": warning,
        "prompts": None if prompts is None else dict(prompts),
        "subject": subject,
    }


def upload() -> gr.Image:
    """Where an image is dropped or pasted; events take its file unread, see `EVENT`."""
    return gr.Image(
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        label="Image",
        height=240,
        elem_id="image",
    )


def viewer() -> gr.HTML:
    """The component that shows a `view`; where prompts may be given, it triggers `input` with `points`, `labels` and
    `box` as event data."""
    return gr.HTML(
        value=None,
        html_template='<div class="viewer"></div>',
        css_template=(HERE / "viewer.css").read_text(encoding="utf-8"),
        js_on_load=(HERE / "viewer.js").read_text(encoding="utf-8"),
        elem_id="viewer",
        apply_default_css=False,
    )


def downloads(*labels: str) -> list[gr.DownloadButton]:
    """A row of buttons, each of which gives a file once there is one."""
    with gr.Row():
        return [
            gr.DownloadButton(
                label, size="sm", min_width=70, interactive=False, elem_id=f"download-{label.lower()}"
            )
            for label in labels
        ]


def ready(*files: str | None) -> list[Any]:
    """What `downloads` become: buttons for these files."""
    return [gr.DownloadButton(value=file, interactive=file is not None) for file in files]


def history_of(image: gr.Image) -> tuple[gr.State, gr.Gallery, Any]:
    """The answers of a session, the gallery that shows them, and the event that one is chosen, which brings its image
    back."""
    past = gr.State([])
    with gr.Accordion("History of this session", open=False):
        gallery = gr.Gallery(
            columns=6, height=220, fit_columns=False, object_fit="contain", allow_preview=False,
            show_label=False, elem_id="history",
        )  # fmt: skip

    def again(entries: list[dict[str, str]], chosen: gr.SelectData) -> Any:
        return entries[chosen.index]["file"]

    return past, gallery, gallery.select(again, past, image, api_visibility="private", queue=False)


def remember(
    folder: Folder, past: list[dict[str, str]], file: Path, drawn: Image.Image, caption: str
) -> tuple[list[dict[str, str]], list[tuple[str, str]]]:
    """A session's answers with one more, and the gallery's entries; an answer that was there already moves up."""
    entry = {"file": str(file), "thumbnail": "", "caption": caption}
    older = [known for known in past if (known["file"], known["caption"]) != (entry["file"], caption)]
    small = folder.new("thumbnail.jpg")
    shrink(drawn, 320).convert("RGB").save(small, quality=85)
    entry["thumbnail"] = str(small)
    entries = [entry, *older][:HISTORY]
    return entries, [
        (known["thumbnail"], known["caption"]) for known in entries if Path(known["thumbnail"]).is_file()
    ]


def said(answer: Callable[..., T]) -> Callable[..., T]:
    """The function with its errors as one sentence for the browser or the client.

    An error that no user causes is printed with its origin on the server's side.
    """

    @functools.wraps(answer)
    def saying(*arguments: Any, **named: Any) -> T:
        try:
            return answer(*arguments, **named)
        except UserError as error:
            sentence = str(error)
        except Exception as error:
            if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
                sentence = "out of memory: give a smaller image"
            else:
                traceback.print_exc()
                sentence = f"this could not be answered ({type(error).__name__}): the server's log says more"
        raise gr.Error(html.escape(sentence, quote=False), print_exception=False, title="Not answered")

    return saying


def reference(file: str) -> dict[str, Any]:
    """A file in an answer to a client, which downloads it."""
    return _reference(file)


def _reference(file: str) -> dict[str, Any]:
    return FileData(path=file, orig_name=Path(file).name).model_dump()


def find_model(model: str, demo: str, command: str) -> tuple[str, bool]:
    """The model to open, and whether it is a demo's toy.

    Args:
        model: As given; empty: the newest that a demo left in the folder `demo`.
        command: That makes a demo.

    Raises:
        UserError: None was given, and there is no demo's.
    """
    if model:
        return model, False
    found = [
        path.parent
        for path in Path(demo).glob("run-*/best/config.json")
        if not path.parent.parent.name.endswith("-blind")
    ]
    if not found:
        raise UserError(
            f"no model given, and {demo}/ holds none of a demo: name a model folder or a Hub name, or run "
            f"`{command}` first"
        )
    return str(max(found, key=lambda path: path.stat().st_mtime)), True


def head(title: str, name: str, network: Any, *, toy: bool) -> None:
    """The headline, and where the model comes from."""
    gr.Markdown(f"# {title}\n\nModel: `{name}`, {html.escape(network.origin.sentence())}.", elem_id="head")
    if toy:
        gr.Markdown(
            "This is the demo's **toy model**: it learned in minutes from embedded images and knows nothing else. "
            "Try it on the examples.",
            elem_id="toy",
        )


def examples(
    given: Sequence[str],
    make: Callable[[Path], Sequence[Sequence[str]]],
    folder: Folder,
    image: gr.Image,
    *others: Any,
) -> Any:
    """Images to begin with, and the event that one is chosen.

    Args:
        given: Files, folders or globs, 12 images of them at most; none: what `make` draws.
        make: Writes images into an empty folder and returns the path of each, and what the `others` get with it.
        others: Components that an example fills beside the image's.
    """
    if given:
        rows: list[list[str]] = [[str(path)] for path in match_images(given)[:12]]
        filled = [image]
    else:
        rows, filled = [list(row) for row in make(folder.new("examples"))], [image, *others]
    shown = gr.Examples(rows, filled, cache_examples=False, label="Examples", elem_id="examples")
    return shown.load_input_event


def brought(image: gr.Image, viewer: gr.HTML, *chosen: Any) -> list[Any]:
    """What listens to an image that is dropped, pasted, or `chosen` elsewhere; one taken away leaves the viewer.

    Its event `change` comes twice for one image, so only the browser listens to that.
    """
    image.change(None, [image, viewer], viewer, js="(image, view) => (image ? view : null)")
    return [image.upload, *(event.then for event in chosen)]


@contextmanager
def server_folder(name: str) -> Iterator[Folder]:
    """A folder for one server, deleted when it ends; a process has one at a time."""
    path = Path(tempfile.mkdtemp(prefix=f"{name}-app-"))
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(path)  # gradio has no argument for it
    try:
        yield Folder(path)
    finally:
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before
        shutil.rmtree(path, ignore_errors=True)


def blocks(title: str) -> gr.Blocks:
    """An empty page: nothing is reported to anyone, and old files go."""
    return gr.Blocks(
        title=title,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(STALE_SECONDS // 4, STALE_SECONDS),
    )


@contextmanager
def prepared(options: Any, network: Any, package: str, page: Callable[..., gr.Blocks]) -> Iterator[gr.Blocks]:
    """The page that the options describe; its files are deleted at the end.

    Args:
        options: The package's `AppOptions`.
        network: The class of its models.
        page: Network, options, folder, `name` and `toy` -> the page.

    Raises:
        UserError: No such model or device, or what `page` raises.
    """
    name, toy = find_model(options.model, f"{package}-demo", f"{package} demo")
    opened = open_model(network, name, options.device)
    use_precision(options.precision, device_of(opened))
    with server_folder(package) as folder:
        yield page(opened, options, folder, name=name, toy=toy)


def run(built: AbstractContextManager[gr.Blocks], options: Any) -> int:
    """Serve a page, as `prepared` gives it, until it is interrupted."""
    with built as blocks:
        serve(blocks, host=options.host, port=options.port)
    return 0


def serve(page: gr.Blocks, *, host: str, port: int, wait: bool = True) -> str:
    """Start the server and return its address; with `wait` only when it is interrupted.

    Raises:
        UserError: The port is taken, or the host is none of this machine's.
    """
    page.queue(default_concurrency_limit=4, max_size=256)
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port or None,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=["api"],
            max_file_size=LONGEST_FILE,
            state_session_capacity=SESSIONS,
            theme=gr.themes.Default(
                primary_hue="teal",
                neutral_hue="slate",
                font=["system-ui", "Segoe UI", "Roboto", "sans-serif"],
                font_mono=["ui-monospace", "monospace"],
            ),
            css=(HERE / "app.css").read_text(encoding="utf-8"),
        )
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror or first_line(error)}); "
            "give another port, or 0 for any free one"
        ) from error
    if host not in ("127.0.0.1", "localhost", "::1"):
        print(f"whoever reaches {host} may use this page: there is no password")
    print(f"open {address} (end with Ctrl-C)", flush=True)
    if wait:
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()
        finally:
            page.close(verbose=False)
    return str(address)
