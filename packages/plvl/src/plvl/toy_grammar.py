"""The toy scenes' language: which sentences there are, and which objects each of them means.

    the [size] [texture] [colour] shape [position of the [texture] colour shape]

size: largest, smallest, larger, smaller (of two), leftmost, rightmost, highest, lowest. position: left of, right of,
above, below. A sentence is unambiguous when it means one object however it is read, and no comparison in it is close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

COLOURS = ("red", "green", "blue", "yellow")
TEXTURES = ("plain", "striped")
SHAPES = ("circle", "square", "triangle")
ANY = "shape"
"""The noun for an object of any shape."""
RANKS = {
    "largest": ("size", True), "smallest": ("size", False), "larger": ("size", True), "smaller": ("size", False),
    "leftmost": ("x", False), "rightmost": ("x", True), "highest": ("y", False), "lowest": ("y", True),
}  # fmt: skip
"""Word -> (what is compared, whether the greatest is meant)."""
OF_TWO = ("larger", "smaller")
POSITIONS = {"left of": ("x", False), "right of": ("x", True), "above": ("y", False), "below": ("y", True)}
WORDS = ("the", "of", "left", "right", "above", "below", ANY, *RANKS, *COLOURS, *TEXTURES, *SHAPES)
"""Every word of the language."""
CLOSE_SIZE = 1.2
"""Sizes whose ratio is below this are not compared."""
CLOSE_POSITION = 0.06
"""Positions nearer than this share of the image are not compared."""


@dataclass(frozen=True)
class Thing:
    """One object of a scene; lengths as shares of the image's side, y grows downwards."""

    shape: str
    colour: str
    texture: str
    x: float
    y: float
    size: float
    """Radius of the circle that has its area."""


@dataclass(frozen=True)
class Phrase:
    """A noun phrase without its article."""

    rank: str = ""
    texture: str = ""
    colour: str = ""
    shape: str = ANY
    position: str = ""
    anchor: Phrase | None = None

    def __str__(self) -> str:
        words = ["the", self.rank, self.texture, self.colour, self.shape]
        if self.anchor is not None:
            words += [self.position, str(self.anchor)]
        return " ".join(word for word in words if word)


def parse(sentence: str) -> Phrase:
    """The phrase that a sentence stands for.

    Raises:
        ValueError: the sentence is not of the language.
    """
    words = sentence.split()
    if not words or words.pop(0) != "the":
        raise ValueError(f"'{sentence}' does not begin with 'the'")
    rank, texture, colour, shape = (
        words.pop(0) if words and words[0] in choices else ""
        for choices in (tuple(RANKS), TEXTURES, COLOURS, (*SHAPES, ANY))
    )
    if not shape:
        raise ValueError(f"'{sentence}' names no shape")
    if not words:
        return Phrase(rank, texture, colour, shape)
    rest = " ".join(words)
    for position in POSITIONS:
        if rest.startswith(f"{position} the "):
            return Phrase(rank, texture, colour, shape, position, parse(rest[len(position) + 1 :]))
    raise ValueError(f"'{sentence}' goes on with '{rest}'")


def referent(phrase: Phrase, things: Sequence[Thing]) -> int | None:
    """The number of the one object that the phrase means, however it is read; None where it is ambiguous.

    "The smallest circle left of the square" can mean the smallest of the circles left of it, or the smallest
    circle, which is left of it: where both readings mean something, they must mean the same.
    """
    nouns = [i for i, thing in enumerate(things) if _is(thing, phrase)]
    beside: list[int] | None = nouns
    if phrase.anchor is not None:
        anchor = referent(phrase.anchor, things)
        if anchor is None:
            return None
        others = [i for i in nouns if i != anchor]
        beside = _beside(others, things[anchor], phrase.position, things)
        nouns = others
    if beside is None:
        return None
    if not phrase.rank:
        return beside[0] if len(beside) == 1 else None
    found = _first(beside, phrase.rank, things)
    if found is None or phrase.anchor is None:
        return found
    overall = _first(nouns, phrase.rank, things)
    wanted = len(nouns) == 2 if phrase.rank in OF_TWO else len(nouns) > 1
    return found if overall == found or not wanted else None


@cache
def phrases() -> tuple[Phrase, ...]:
    """Every phrase without an anchor that names a colour: what an object is known by at a few pixels."""
    slots = product(("", *RANKS), ("", *TEXTURES), COLOURS, (*SHAPES, ANY))
    return tuple(Phrase(*words) for words in slots)


def _is(thing: Thing, phrase: Phrase) -> bool:
    return (
        phrase.shape in (thing.shape, ANY)
        and phrase.colour in ("", thing.colour)
        and phrase.texture in ("", thing.texture)
    )


def _beside(numbers: list[int], anchor: Thing, position: str, things: Sequence[Thing]) -> list[int] | None:
    """Those at the position; None where one of them is neither clearly at it nor clearly not."""
    axis, beyond = POSITIONS[position]
    kept = []
    for number in numbers:
        distance = getattr(things[number], axis) - getattr(anchor, axis)
        if abs(distance) < CLOSE_POSITION:
            return None
        if (distance > 0) == beyond:
            kept.append(number)
    return kept


def _first(numbers: list[int], rank: str, things: Sequence[Thing]) -> int | None:
    """The one that the rank singles out; None of fewer than two, or where it is close."""
    if len(numbers) < 2 or (rank in OF_TWO and len(numbers) != 2):
        return None
    what, greatest = RANKS[rank]
    ordered = sorted(numbers, key=lambda number: getattr(things[number], what), reverse=greatest)
    first, second = (getattr(things[number], what) for number in ordered[:2])
    clear = (
        max(first, second) / min(first, second) >= CLOSE_SIZE
        if what == "size"
        else abs(first - second) >= CLOSE_POSITION
    )
    return ordered[0] if clear else None
