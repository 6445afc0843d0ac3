"""Which words of a sentence a mirrored or a cropped picture would make false, and left and right swapped.

English only. A sentence in doubt is neither mirrored nor cropped: the picture stays as it is.
"""

from __future__ import annotations

import re

_BEFORE = r"(?:top|bottom|upper|lower|far|mid|middle|center|centre|front|back|rear)?"
_AFTER = r"(?:most|hand|handed|side|ward|wards|y|ie|s)?"
_SIDE = re.compile(rf"(?<![a-z])({_BEFORE})(left|right|east|west)({_AFTER})(?![a-z])", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left", "east": "west", "west": "east"}

_NO_SIDE = re.compile(
    r"\bright\s+(?:next|in\s+front|behind|beside|besides|beneath|above|below|under|over|by|before|after|now|here"
    r"|there|up|down|away|against|between|into|out|off|angles?|way|size|colou?r|one\s+is)\b"
    r"|\b(?:all|alright|just|that'?s|is)\s+right\s*[.,;!?]"
    r"|\bleft\s+(?:over|overs|alone|behind|open|unattended|out|off|in\s+(?:the\s+)?(?:bottle|glass|cup|bowl|plate))\b"
    r"|\b(?:been|being|remaining|much|nothing)\s+left\b",
    re.IGNORECASE,
)
"""Where left and right are no side of the picture."""
_CLOCK = r"clock|oclock|o'clock|clockwise|counterclockwise|anticlockwise"
_MISSPELT = r"l|r|lt|rt|lft|lef|leff|letf|leftt|lefft|lfet|rigt|rigth|rihgt|rght|righ|rigjt|rite|ritgh|rightt|eft|ight"
_LETTERING = (
    r"says?|saying|reads?|reading|written|writing|lettering|letters?|word|words|spelled|spells|number|numbers"
    r"|numbered|digits?|logo|text|licen[cs]e|mirrored|reversed|backwards?"
)
_NO_FLIP = re.compile(rf"\d|[\"“”]|(?<![a-z'])(?:{_CLOCK}|{_MISSPELT}|{_LETTERING})(?![a-z])", re.IGNORECASE)

_NO_CROP = re.compile(
    r"\d|(?<![a-z])(?:"
    r"top|topmost|bottom|bottommost|upper|uppermost|lower|lowermost|lowest|highest|middle|mid|center|centre|centered"
    r"|central|centermost|corners?|edges?|sides?|borders?|frame|picture|pic|photo|image|screen|shot|view|half|quarter"
    r"|far|farthest|furthest|near|nearest|close|closest|end|ends|cut|cropped|partial|partially|partly|visible"
    r"|above|below|north|south|over|under|beneath|next|behind|beside|between|outer|outermost|inner|innermost"
    r"|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|only|whole|entire|full|complete|all"
    r"|smaller|larger|bigger|taller|shorter|longer|wider|thinner|fatter|older|younger|lighter|darker|[a-z]+est|most"
    rf"|two|three|four|five|six|seven|eight|nine|ten|row|column|{_CLOCK}|{_MISSPELT})(?![a-z])",
    re.IGNORECASE,
)


def mirrored_expression(expression: str) -> str | None:
    """The sentence about the mirrored picture: left and right (east and west) swapped as whole words, with
    compounds such as `leftmost`, `right-hand` or `topleft`; None where the picture must not be mirrored.

    It must not where left or right is no side ("right behind", "left over"), is misspelt or given by a clock
    ("at 3 o'clock"), or where the sentence quotes lettering, which a mirror spoils.
    """
    if _NO_FLIP.search(expression) or _NO_SIDE.search(expression):
        return None
    return _SIDE.sub(lambda match: match[1] + _swapped(match[2]) + match[3], expression)


def swapped_letters(expression: str) -> str:
    """The authors' swap: every `left` and `right`, also inside words, so that "upright" becomes "upleft"."""
    return re.sub("left|right", lambda match: _OTHER[match[0]], expression)


def may_be_cropped(expression: str) -> bool:
    """Whether no word of the sentence speaks of a place in the picture, of an order, of a comparison or of a
    neighbour: a crop could take away what the object is compared with."""
    return not (_NO_CROP.search(expression) or _SIDE.search(expression))


def authors_may_crop(expression: str) -> bool:
    """The authors' rule: none of five words occurs, be it inside another word."""
    return not any(word in expression for word in ("left", "right", "top", "bottom", "middle"))


def _swapped(word: str) -> str:
    other = _OTHER[word.lower()]
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
