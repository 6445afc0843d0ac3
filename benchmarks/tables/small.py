"""The ablations on toy sizes: a recipe's switches on the toy network, the embedded data, the package's own metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PLVL_BLOCKS = (2, 5, 8, 11)
"""The paper's backbone blocks with language, which are blocks 0 to 3 of the small one."""


@dataclass(frozen=True)
class Small:
    """What a package brings to the miniature."""

    tables: tuple[str, ...]
    write_data: Callable[[Path], object]
    """Write the embedded data to a folder."""
    recipe: Callable[[Any, Path], Any]
    """(a recipe of the paper, the data) -> its small sibling."""
    train: Callable[[Any], Path]
    score: Callable[[Path, Any], tuple[Any, dict[str, float | None], str]]
    """(run folder, small recipe) -> network, metrics as fractions, protocol."""


def small_of(package: str) -> Small:
    return {"fanet": _fanet, "plvl": _plvl, "cabl-cgsr": _cabl_cgsr}[package]()


def _fanet() -> Small:
    from fanet.data import open_split
    from fanet.evaluate import evaluate
    from fanet.modeling.segmenter import Segmenter
    from fanet.recipes import toy
    from fanet.toy import write_zerowaste
    from fanet.train import train

    def recipe(paper: Any, data: Path) -> Any:
        base, model = toy(), paper.model
        switches = {"scm": model.scm, "frm_high": model.frm_high, "frm_low": model.frm_low}
        small = replace(base.data, root=str(data), layout="zerowaste", cache=str(data.parent / "cache"))
        return replace(base, model=replace(base.model, **switches), data=small)

    def score(run: Path, small: Any) -> tuple[Any, dict[str, float | None], str]:
        network = Segmenter.from_pretrained(run / "best")
        found = evaluate(network, open_split(small.data, "test"))
        metrics = {"miou": found["miou"], "pixel_acc": found["pixel_acc"]}
        return network, metrics, f"{found['images']} embedded test scenes, {found['protocol']}"

    return Small(("Table 2",), write_zerowaste, recipe, train, score)


def _plvl() -> Small:
    from plvl.data import open_split
    from plvl.data.commands import build_dataset
    from plvl.evaluate import evaluate
    from plvl.modeling.plvl import PLVL
    from plvl.recipes import toy
    from plvl.toy import write_refer
    from plvl.train import train

    def write_data(folder: Path) -> None:
        write_refer(folder / "refer")
        build_dataset("toy", str(folder / "built"), refer=str(folder / "refer"))

    def recipe(paper: Any, data: Path) -> Any:
        base, model = toy(), paper.model
        named = ("rec", "res", "decoder", "head", "head_groups")
        switches = {name: getattr(model, name) for name in named}
        blocks = tuple(PLVL_BLOCKS.index(block) for block in model.language_blocks)
        depth = len(PLVL_BLOCKS)
        network = replace(base.model, **switches, depth=depth, language_blocks=blocks)
        return replace(base, model=network, data=replace(base.data, root=str(data / "built")))

    def score(run: Path, small: Any) -> tuple[Any, dict[str, float | None], str]:
        network = PLVL.from_pretrained(run / "best")
        found = evaluate(network, open_split(small.data, "val"), batch_size=32)
        metrics = {name: found["paper"][name] for name in ("acc_at_05", "miou")}
        protocol = (
            f"{found['expressions']} sentences about embedded scenes (val), {found['paper']['protocol']}"
        )
        return network, metrics, protocol

    return Small(("Table 4", "Table 5", "Table 6", "Table 7"), write_data, recipe, train, score)


def _cabl_cgsr() -> Small:
    from cabl_cgsr.config import DataConfig
    from cabl_cgsr.data import open_set
    from cabl_cgsr.evaluate import evaluate
    from cabl_cgsr.modeling.localizer import Localizer
    from cabl_cgsr.recipes import toy
    from cabl_cgsr.toy import write_casia
    from cabl_cgsr.train import train
    from papers_shared.sam import GrabCut

    def recipe(paper: Any, data: Path) -> Any:
        base = toy()
        images = replace(base.data, root=str(data / "CASIA2"), layout="casia2")
        return replace(base, model=replace(base.model, cabl=paper.model.cabl), data=images)

    def score(run: Path, small: Any) -> tuple[Any, dict[str, float | None], str]:
        network = Localizer.from_pretrained(run / "best")
        test = DataConfig(root=str(Path(small.data.root).parent / "CASIA1"), layout="casia1", workers=0)
        rows = open_set(test, masks=True)
        found = evaluate(network, rows, refiner=GrabCut(), variants=("point", "box", "box_point"), draws=0)
        protocol = (
            f"{found['images']} embedded test images, {found['protocol']}; CGSR: GrabCut in SAM's place"
        )
        return network, found["metrics"], protocol

    tables = ("Table II", "Table III", "Table IV", "Table V", "Table VI")
    return Small(tables, write_casia, recipe, train, score)
