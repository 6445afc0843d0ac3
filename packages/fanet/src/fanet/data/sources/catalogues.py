"""Lists of classes, as tools write them beside the masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fanet.data.codes import IGNORED, Codes
from papers_shared.errors import UserError
from papers_shared.text import read_table, read_text
from papers_shared.types import RGB

VOID_COLOUR = (224, 224, 192)
"""Of pixels that Pascal VOC does not score."""
VOID_NAMES = frozenset({"__ignore__", "ignore", "ignored", "void"})


@dataclass(frozen=True)
class Catalogue:
    """Names of classes in id order, and what the masks hold for them."""

    names: tuple[str, ...]
    codes: Codes | None
    """None: the masks hold the ids."""
    file: Path


def find_catalogue(folders: Iterable[Path]) -> Catalogue | None:
    """The first list of classes in the folders.

    Raises:
        UserError: There is one, and it cannot be read.
    """
    for folder in folders:
        for name, read in READERS.items():
            if (folder / name).is_file():
                return read(folder / name)
    return None


def plain_name(name: str) -> str:
    """`background` for the names that tools give to it, any other as it is."""
    return "background" if name.lower() in ("background", "_background_") else name


def read_names(file: Path) -> tuple[str, ...]:
    """One name a line, as they stand.

    Raises:
        UserError: The file cannot be read or names nothing.
    """
    names = tuple(line.strip() for line in read_text(file).split("\n") if line.strip())
    if not names:
        raise UserError(f"{file} names no class: write one name a line, background first")
    return names


def _plain_list(file: Path) -> Catalogue:
    """One name a line in id order; labelme's own list begins with a name for what is ignored."""
    names = read_names(file)
    if names[0] == "__ignore__":
        names = names[1:]
    return Catalogue(tuple(map(plain_name, names)), None, file)


def _labelmap(file: Path) -> Catalogue:
    """CVAT's and Pascal VOC's list: `name:red,green,blue:parts:actions`."""
    colours: dict[RGB, str] = {}
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        colour = _colour(rest.partition(":")[0].split(","), f"{file}, line {number}")
        if colour in colours:
            raise UserError(f"{file}, line {number}: {name!r} has the colour of {colours[colour]!r}")
        colours[colour] = plain_name(name.strip())
    return _coloured(colours, file)


def _colour_table(file: Path) -> Catalogue:
    """CamVid's list: the columns name, r, g, b."""
    colours: dict[RGB, str] = {}
    for number, row in read_table(file):
        where = f"{file}, line {number}"
        colour = _colour([row.get(column, "") for column in ("r", "g", "b")], where)
        if colour in colours:
            raise UserError(f"{where}: {row.get('name')!r} has the colour of {colours[colour]!r}")
        colours[colour] = plain_name(row.get("name", ""))
    return _coloured(colours, file)


def _colour_lines(file: Path) -> Catalogue:
    """CVAT's list for CamVid: `red green blue name`."""
    colours: dict[RGB, str] = {}
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        *values, name = line.split(maxsplit=3)
        colour = _colour(values, f"{file}, line {number}")
        if colour in colours:
            raise UserError(f"{file}, line {number}: {name!r} has the colour of {colours[colour]!r}")
        colours[colour] = plain_name(name.strip())
    return _coloured(colours, file)


def _pixel_values(file: Path) -> Catalogue:
    """Roboflow's list: the columns Pixel Value, Class."""
    rows = []
    for number, row in read_table(file):
        value = _whole(row.get("Pixel Value", ""), f"{file}, line {number}")
        rows.append((value, plain_name(row.get("Class", ""))))
    return _valued(rows, file)


def _ade20k(file: Path) -> Catalogue:
    """ADE20K's list: the columns Idx and Name; 0 in a mask is none of the 150 classes."""
    rows = [
        (_whole(row.get("Idx", ""), f"{file}, line {number}"), row.get("Name", ""))
        for number, row in read_table(file)
    ]
    return _valued([(0, "__ignore__"), *rows], file)


def _coloured(colours: dict[RGB, str], file: Path) -> Catalogue:
    names = _ordered([name for name in colours.values() if name not in VOID_NAMES], file)
    ids = {name: number for number, name in enumerate(names)}
    codes = {VOID_COLOUR: IGNORED} | {colour: ids.get(name, IGNORED) for colour, name in colours.items()}
    return Catalogue(names, Codes(colours=codes), file)


def _valued(rows: Sequence[tuple[int, str]], file: Path) -> Catalogue:
    rows = sorted(rows)
    names = tuple(name for _, name in rows if name not in VOID_NAMES)
    ids = {name: number for number, name in enumerate(names)}
    if len(ids) < len(names) or len({value for value, _ in rows}) < len(rows):
        raise UserError(f"{file} names a class or a value twice")
    values = {value: ids.get(name, IGNORED) for value, name in rows}
    return Catalogue(names, None if values == {i: i for i in values} else Codes(values=values), file)


def _ordered(names: Sequence[str], file: Path) -> tuple[str, ...]:
    """`background` first, the others as they come."""
    if not names:
        raise UserError(f"{file} names no class")
    unique = dict.fromkeys(names)
    return tuple(sorted(unique, key=lambda name: name != "background"))


def _colour(values: Sequence[str], where: str) -> RGB:
    if len(values) != 3:
        raise UserError(f"{where}: a class needs a colour red,green,blue, and has {','.join(values)!r}")
    red, green, blue = (_whole(value, where) for value in values)
    return red, green, blue


def _whole(text: str, where: str) -> int:
    if not (text.strip().isascii() and text.strip().isdigit() and len(text) < 9 and int(text) < 256):
        raise UserError(f"{where}: {text!r} is no whole number from 0 to 255")
    return int(text)


READERS: dict[str, Callable[[Path], Catalogue]] = {
    "classes.txt": _plain_list,
    "class_names.txt": _plain_list,
    "labelmap.txt": _labelmap,
    "_classes.csv": _pixel_values,
    "class_dict.csv": _colour_table,
    "label_colors.txt": _colour_lines,
    "objectInfo150.txt": _ade20k,
}
