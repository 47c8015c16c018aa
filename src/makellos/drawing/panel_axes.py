"""The axes of a chart on a picture, and what is drawn on it: ticks, titles and curves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from makellos.drawing.lettering import (
    PAGE,
    SOFT,
    WHITE,
    Color,
    Rgb,
    letter,
    shorten,
    text_width,
)
from makellos.drawing.scales import Scale, Tick, ticks

__all__ = [
    "EDGE",
    "MARGIN",
    "SMALL",
    "TEXT",
    "Axes",
    "Floats",
    "draw_axes",
    "draw_curve",
    "draw_title",
    "fine",
    "in_hz",
]

Floats = NDArray[np.float64]

MARGIN = 24
TEXT, SMALL = 15, 13  # heights of letters in pixels
EDGE = (150, 155, 161)
_GRID = (232, 233, 234)
_FINE = 16  # steps of a pixel that curves are drawn to


@dataclass(frozen=True)
class Axes:
    """Hold where a chart lies on the picture, in pixels, and what it spans.

    `x` are the values at its left and right edge, `y` those at its lower and upper one; with `log`
    all of `y` is positive and the rows are even by decades.
    """

    left: int
    top: int
    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False

    @property
    def across(self) -> Scale:
        """Return the scale from values to the distance from the picture's left edge."""
        return Scale(self.x, (self.left, self.left + self.width))

    @property
    def down(self) -> Scale:
        """Return the scale from values to the distance from the picture's upper edge."""
        return Scale(self.y[::-1], (self.top, self.top + self.height), self.log)

    def column(self, value: float) -> int:
        """Return the pixel column of a value on the x axis, clipped to the chart."""
        return min(self.left + self.width - 1, int(self.across.at(value)))

    def row(self, value: float) -> int:
        """Return the pixel row of a value on the y axis, clipped to the chart."""
        return min(self.top + self.height - 1, int(self.down.at(value)))

    def places(self, xs: ArrayLike, ys: ArrayLike) -> Floats:
        """Return where points lie, n×2 (x, y) in pixels from the picture's corner, clipped."""
        return np.stack([self.across.places(xs), self.down.places(ys)], axis=-1)


def draw_title(page: Rgb, axes: Axes, name: str, what: str, up: int = 0) -> None:
    """Write what a chart shows above it, `up` pixels higher than next to it."""
    middle, shown = axes.top - 13 - up, shorten(name, TEXT, axes.width // 2)
    letter(page, shown, (axes.left, middle), TEXT)
    letter(page, what, (axes.left + text_width(shown, TEXT) + 9, middle), TEXT, SOFT)


def draw_axes(
    page: Rgb, axes: Axes, y_label: str, y_ticks: Iterable[Tick], x_label: str = ""
) -> None:
    """Draw an empty chart; without a label of x its numbers stand at a chart below."""
    left, bottom, right = axes.left, axes.top + axes.height, axes.left + axes.width
    page[axes.top : bottom, left:right] = WHITE
    page[axes.top : bottom + 1, left - 1] = EDGE
    page[bottom, left - 1 : right] = EDGE
    for value, text in y_ticks:
        row = axes.row(value)
        page[row, left:right] = _GRID
        page[row, left - 6 : left] = EDGE
        letter(page, text, (left - 10, row), SMALL, SOFT, "rm")
    for value, text in ticks(*axes.x, 12):
        column = axes.column(value)
        page[bottom : bottom + 6, column] = EDGE
        if x_label:
            letter(page, text, (column, bottom + 15), SMALL, SOFT, "mm")
    letter(page, x_label, (left + axes.width // 2, bottom + 34), SMALL, SOFT, "mm")
    upright = np.full((20, text_width(y_label, SMALL) + 4, 3), PAGE, np.uint8)
    letter(upright, y_label, (2, 10), SMALL, SOFT)
    top = axes.top + (axes.height - upright.shape[1]) // 2
    page[top : top + upright.shape[1], MARGIN - 4 : MARGIN + 16] = np.rot90(upright)


def draw_curve(page: Rgb, places: Floats, color: Color, thickness: int) -> None:
    """Draw a line through places n×2 in pixels of the page, as `Axes.places` gives them."""
    ends_meet = False
    cv2.polylines(page, [fine(places)], ends_meet, color, thickness, cv2.LINE_AA, 4)


def fine(places: Floats) -> NDArray[np.int32]:
    """Return points as OpenCV takes them with a shift of 4, counted from the middle of a pixel."""
    return np.rint((places - 0.5) * _FINE).astype(np.int32)[:, None]


def in_hz(value: float) -> str:
    """Return a frequency as text, in Hz or kHz."""
    return f"{value:.4g} Hz" if value < 1000 else f"{value / 1000:.4g} kHz"
