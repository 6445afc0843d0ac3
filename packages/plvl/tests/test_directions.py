"""Which sentences survive a mirror and a crop."""

from __future__ import annotations

import pytest

from plvl.directions import may_be_cropped, mirrored_sentence, official_may_crop, swapped_letters


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("left man upright", "right man upright"),
        ("right of the left one", "left of the right one"),
        ("bright copyright leftover", "bright copyright leftover"),
        ("Far LEFT guy, Right hand up", "Far RIGHT guy, Left hand up"),
        ("leftmost bowl", "rightmost bowl"),
        ("right-hand side of the topleft plate", "left-hand side of the topright plate"),
        ("the man's left shoe", "the man's right shoe"),
        ("left/right", "right/left"),
        ("lefty", "righty"),
        ("eastern", "eastern"),
        ("east corner", "west corner"),
        ("a dog", "a dog"),
        ("", ""),
        ("the woman to the left of the bride", "the woman to the right of the bride"),
        ("2nd from left, brightest shirt", "2nd from right, brightest shirt"),
        ("clock on left", "clock on right"),
    ],
)
def test_left_and_right_are_swapped_as_words(before: str, after: str) -> None:
    assert mirrored_sentence(before) == after
    assert mirrored_sentence(after) == before


@pytest.mark.parametrize(
    "expression",
    [
        "person right behind the bench",
        "chair right next to the wall",
        "the pizza left over",
        "guy at 3 o'clock",
        "lft guy",
        "man on r",
        "rigth bowl",
        "player number 9",
        "the bus that says stop",
        'sign with "exit"',
        "all right, the dog",
        "leftguy",
        "banana leftmiddle",
        "righth one",
    ],
)
def test_sentences_in_doubt_are_not_mirrored(expression: str) -> None:
    assert mirrored_sentence(expression) is None


@pytest.mark.parametrize(
    "expression",
    ["red shirt", "the lady with the blue shirt", "bright umbrella", "stopped bus", "orange vest"],
)
def test_sentences_about_the_object_alone_may_be_cropped(expression: str) -> None:
    assert may_be_cropped(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "left man", "rightmost cup", "topleft bowl", "upper corner", "the middle one", "second dog", "near the wall",
        "center of the image", "bottom row", "behind the bench", "only half of him visible", "man at 9", "lft guy",
        "leftguy", "the biggest dog", "taller boy",
    ],
)  # fmt: skip
def test_sentences_about_places_orders_and_neighbours_may_not(expression: str) -> None:
    assert not may_be_cropped(expression)


def test_the_authors_rules() -> None:
    assert swapped_letters("upright cleft") == "upleft cright"
    assert not official_may_crop("stopped bus")
    assert official_may_crop("upper corner")
