"""Which words of a sentence a mirrored or a cropped image would make false, and left and right swapped.

English only. A sentence in doubt is neither mirrored nor cropped: the image stays as it is. Of the first 2,500
sentences of RefCOCO's val and testB 98 in 100 may be mirrored and 32 in 100 may be cropped (40 by the authors' rule).
"""

from __future__ import annotations

import re

_OTHER = {"left": "right", "right": "left", "east": "west", "west": "east"}
_BEFORE = r"(?:top|bottom|upper|lower|far|mid|middle|center|centre|front|back|rear)?"
_AFTER = r"(?:most|hand|handed|side|ward|wards|y|ie|s|est)?"
_SIDE = re.compile(rf"({_BEFORE})(left|right|east|west)({_AFTER})", re.IGNORECASE)
_WORD = re.compile(r"[a-z]+", re.IGNORECASE)
_NO_DIRECTION = {
    "bright", "brighter", "brightest", "brightly", "upright", "uprights", "copyright", "leftover", "leftovers", "cleft",
    "fright", "frightened", "frightening", "alright", "outright", "downright", "playwright", "righteous", "wright",
}  # fmt: skip
"""Words with "left" or "right" in them that mean no direction; any other such word but `_SIDE` is in doubt."""

_NO_SIDE = re.compile(
    r"\bright\s+(?:next|in\s+front|behind|beside|besides|beneath|above|below|under|over|by|before|after|now|here"
    r"|there|up|down|away|against|between|into|out|off|angles?|way|size|colou?r|one\s+is)\b"
    r"|\b(?:all|alright|just|that'?s|is)\s+right\s*[.,;!?]"
    r"|\bleft\s+(?:over|overs|alone|behind|open|unattended|out|off|in\s+(?:the\s+)?(?:bottle|glass|cup|bowl|plate))\b"
    r"|\b(?:been|being|remaining|much|nothing)\s+left\b",
    re.IGNORECASE,
)
"""Where left and right may be no side of the image."""
_CLOCK = r"o\s?'?\s?clock|clockwise|counterclockwise|anticlockwise"
_MISSPELT = r"l|r|lt|rt|lft|lef|leff|letf|lefft|lfet|rigt|rigth|rihgt|rght|righ|rigjt|rite|ritgh|eft|ight"
_LETTERING = (
    r"says?|saying|reads?|reading|written|writing|lettering|letters?|word|words|spelled|spells|number|numbers"
    r"|numbered|digits?|logo|text|licen[cs]e|mirrored|reversed|backwards?"
)
_NO_FLIP = re.compile(
    rf"\d(?!\d*(?:st|nd|rd|th)\b)|[\"“”]|(?<![a-z'])(?:{_CLOCK}|{_MISSPELT}|{_LETTERING})(?![a-z])",
    re.IGNORECASE,
)

_NO_CROP = re.compile(
    r"\d|(?<![a-z])(?:"
    r"top|topmost|ontop|bottom|bottommost|upper|uppermost|lower|lowermost|lowest|highest|middle|mid|center|centre"
    r"|centered|central|corners?|edges?|sides?|borders?|frame|image|pic|photo|image|screen|shot|view|half|quarter"
    r"|far|farthest|furthest|near|nearest|close|closest|end|ends|cut|cropped|partial|partially|partly|visible"
    r"|above|below|north|south|over|under|beneath|next|behind|beside|between|outer|outermost|inner|innermost"
    r"|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|only|whole|entire|full|complete|all"
    r"|smaller|larger|bigger|taller|shorter|longer|wider|thinner|fatter|older|younger|lighter|darker|most"
    r"|(?!(?:vest|chest|guest|forest|nest|rest|crest|priest)(?![a-z]))[a-z]+est"
    rf"|two|three|four|five|six|seven|eight|nine|ten|row|column|{_CLOCK}|{_MISSPELT})(?![a-z])",
    re.IGNORECASE,
)


def mirrored_sentence(sentence: str) -> str | None:
    """The sentence about the mirrored image: left and right (east and west) swapped as whole words, with
    compounds such as `leftmost`, `right-hand` or `topleft`; None where the image must not be mirrored.

    It must not where left or right is no side ("right behind", "left over"), is part of an unknown word ("leftguy"),
    misspelt, or given by a clock ("at 3 o'clock"), or where the sentence quotes lettering, which a mirror spoils.
    """
    if _NO_FLIP.search(sentence) or _NO_SIDE.search(sentence):
        return None
    if any(_has_side(word) and not _SIDE.fullmatch(word) for word in _WORD.findall(sentence)):
        return None
    return _WORD.sub(lambda match: _swapped_word(match[0]), sentence)


def swapped_letters(sentence: str) -> str:
    """The authors' swap: every `left` and `right`, also inside words, so that "upright" becomes "upleft"."""
    return re.sub("left|right", lambda match: _OTHER[match[0]], sentence)


def may_be_cropped(sentence: str) -> bool:
    """Whether no word of the sentence speaks of a position in the image, of an order, of a comparison or of a
    neighbour: a crop could take away what the object is compared with."""
    words = _WORD.findall(sentence)
    return not (_NO_CROP.search(sentence) or any(_has_side(word) or _SIDE.fullmatch(word) for word in words))


def official_may_crop(sentence: str) -> bool:
    """The authors' rule: none of five words occurs, be it inside another word."""
    return not any(word in sentence for word in ("left", "right", "top", "bottom", "middle"))


def _has_side(word: str) -> bool:
    low = word.lower()
    return ("left" in low or "right" in low) and low not in _NO_DIRECTION


def _swapped_word(word: str) -> str:
    match = _SIDE.fullmatch(word)
    if match is None:
        return word
    side, other = match[2], _OTHER[match[2].lower()]
    cased = other.upper() if side.isupper() else other.capitalize() if side[0].isupper() else other
    return match[1] + cased + match[3]
