"""Explanations drawn: part, heat and overlay side by side, heat where it belongs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.drawing.heat_maps import draw_explanation
from makellos.drawing.lettering import PAGE
from makellos.inspection import Inspection

HEAT = np.zeros((8, 12), np.float32)
HEAT[2, 9] = 5.0
NAMES = {"good": 0.02, "crack": 0.9, "dent": 0.05, "scratch": 0.02, "stain": 0.008, "burr": 0.002}


def drawn(
    picture: NDArray[np.uint8], heat: NDArray[np.float32] = HEAT, **changes: Any
) -> NDArray[np.uint8]:
    white_level = changes.pop("white_level", None)
    found = Inspection("a.png", "reject", probabilities={"good": 0.1, "bad": 0.9})
    return draw_explanation(
        picture,
        replace(found, **changes),
        heat,
        title="gradcam of bad",
        white_level=white_level,
    )


def tiles(page: NDArray[np.uint8], height: int, width: int) -> list[NDArray[np.uint8]]:
    """Return the three tiles of a panel: they are the only rows of that many coloured pixels."""
    top = 24 + 46 + 27
    lefts = [24 + i * (width + 16) for i in range(3)]
    return [page[top : top + height, left : left + width] for left in lefts]


@pytest.mark.parametrize("shape", [(64, 96), (64, 96, 3)])
def test_part_heat_and_overlay_stand_side_by_side(shape: tuple[int, ...]) -> None:
    picture = np.full(shape, 120, np.uint8)
    page = drawn(picture)
    part, heat, overlay = tiles(page, 256, 384)  # enlarged by 4
    assert (part == 120).all()
    peak = (2 * 32 + 16, 9 * 32 + 16)
    bright = heat.astype(int).sum(axis=2)
    assert bright[peak] == bright.max()
    assert (heat[200:, :200] == heat[-1, 0]).all() and bright[-1, 0] < 30
    changed = np.abs(overlay.astype(int) - 120).sum(axis=2)
    assert changed[peak] > 100
    assert (changed[200:, :200] == 0).all()
    assert (page[:24] == PAGE).all() and (page[:, -24:] == PAGE).all()


def test_a_map_of_nothing_leaves_the_part_as_it_is() -> None:
    picture = np.full((64, 96), 120, np.uint8)
    part, _, overlay = tiles(drawn(picture, 0 * HEAT), 256, 384)
    np.testing.assert_array_equal(part, overlay)


def test_colours_reach_from_nothing_to_the_maps_own_maximum() -> None:
    picture = np.full((64, 96), 120, np.uint8)
    np.testing.assert_array_equal(drawn(picture), drawn(picture, 1e-6 * HEAT))


def test_verdict_and_class_are_written_and_many_classes_shortened() -> None:
    wide, picture = np.full((64, 96), 120, np.uint8), np.full((64, 20), 120, np.uint8)
    rejected, passed = drawn(wide), drawn(wide, verdict="ok")
    assert (rejected[:70] != passed[:70]).any()
    np.testing.assert_array_equal(rejected[97:], passed[97:])
    page = drawn(picture, probabilities=NAMES)
    assert (page[:, -24:] == PAGE).all()  # nothing runs over the edge
    fewer = dict(list(NAMES.items())[:4])
    np.testing.assert_array_equal(page, drawn(picture, probabilities=fewer))


def test_sixteen_bits_are_drawn_by_their_white_level() -> None:
    picture = np.full((64, 96), 1000, np.uint16)
    (part, _, _) = tiles(drawn(picture, white_level=2000), 256, 384)  # type: ignore[arg-type]
    assert (part == 128).all()


def test_large_pictures_shrink() -> None:
    page = drawn(np.full((2000, 3000), 120, np.uint8))
    assert max(page.shape) < 3 * 512 + 100
