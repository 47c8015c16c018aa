"""Pictures of one part: found under other light and cut otherwise; parts merely alike are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.data.same_parts import agreement, relief, same_parts

Gray = NDArray[np.uint8]


def surface(seed: int, side: int = 200) -> NDArray[np.float32]:
    """A surface with grooves along it that all have, and a texture of its own."""
    texture = np.random.default_rng(seed).normal(0, 1, (side, side))
    grooves = np.random.default_rng(99).normal(0, 1, (1, side)).repeat(side, 0)
    shown = cv2.GaussianBlur(texture, (0, 0), 2) * 60 + cv2.GaussianBlur(grooves, (0, 0), 1) * 25
    return (shown + 100).astype(np.float32)


def photo(seed: int, *, gain: float, top: int, left: int, noise: int = 0) -> Gray:
    """A cut-out under a light that falls off to one side."""
    cut = surface(seed)[top : top + 160, left : left + 170]
    light = gain * np.linspace(0.8, 1.2, 170)[None]
    taken = cut * light + np.random.default_rng([seed, noise]).normal(0, 2, cut.shape)
    return np.clip(taken, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def exposures() -> list[Gray]:
    """Twelve parts, each taken three times, one after the other."""
    return [
        photo(part, gain=(0.6, 1.0, 1.3)[take], top=4 * take, left=10 - 5 * take, noise=take)
        for part in range(12)
        for take in range(3)
    ]


def test_exposures_of_one_part_are_found(exposures: list[Gray]) -> None:
    found = same_parts([relief(each) for each in exposures])
    assert sorted(map(sorted, found)) == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(12)]


def test_depth_and_colour_make_no_difference(exposures: list[Gray]) -> None:
    one = relief(exposures[0])
    assert one is not None
    for other in (exposures[1].astype(np.uint16) * 257, np.dstack([exposures[1]] * 3)):
        seen = relief(other)
        assert seen is not None
        assert agreement(one, seen) > 0.6
    strange = relief(exposures[3])
    assert strange is not None
    assert agreement(one, strange) < 0.25  # grooves in common are no agreement


def test_parts_of_one_layout_are_not_one_part() -> None:
    pictures = [
        np.clip(surface(0) + np.random.default_rng(i).normal(0, 12, (200, 200)), 0, 255)
        for i in range(30)
    ]
    assert same_parts([relief(each.astype(np.uint8)) for each in pictures]) == []


def test_agreement_by_degrees_is_no_structure() -> None:
    # Each is the one before, changed a little: there is no place to divide them.
    steps = [np.cos(i / 8) * surface(0) + np.sin(i / 8) * surface(1) for i in range(60)]
    assert same_parts([relief(np.clip(each, 0, 255).astype(np.uint8)) for each in steps]) == []


def test_plain_and_few_pictures_have_none(exposures: list[Gray]) -> None:
    assert relief(np.full((90, 50), 70, np.uint8)) is None
    assert same_parts([relief(exposures[0]), None, relief(exposures[1])]) == []
    assert relief(np.zeros((3, 4000), np.uint8)) is None
