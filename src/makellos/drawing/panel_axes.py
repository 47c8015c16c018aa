"""The axes of a chart on a picture, and what is drawn on it: ticks, titles, curves and text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.drawing.lettering import INK, PAGE, SOFT, Color, letter, shorten, text_width

__all__ = [
    "EDGE",
    "MARGIN",
    "SMALL",
    "TEXT",
    "WHITE",
    "Axes",
    "Floats",
    "Rgb",
    "Ticks",
    "draw_axes",
    "draw_curve",
    "draw_title",
    "fine",
    "in_hz",
    "ticks",
    "write",
]

Rgb = NDArray[np.uint8]
Ticks = list[tuple[float, str]]
Floats = NDArray[np.float64]

MARGIN = 24
TEXT, SMALL = 15, 13  # heights of letters in pixels
WHITE, EDGE = (255, 255, 255), (150, 155, 161)
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

    def column(self, value: float) -> int:
        """Return the pixel column of a value on the x axis, clipped to the chart."""
        return min(self.left + self.width - 1, int(self.places([value], [self.y[0]])[0, 0]))

    def row(self, value: float) -> int:
        """Return the pixel row of a value on the y axis, clipped to the chart."""
        return min(self.top + self.height - 1, int(self.places([self.x[0]], [value])[0, 1]))

    def places(self, xs: Any, ys: Any) -> Floats:
        """Return where points lie, n×2 (x, y) in pixels from the picture's corner, clipped."""
        low, high = self.y
        levels = np.clip(np.asarray(ys, np.float64), low, high)
        if self.log:
            levels, low, high = np.log10(levels), math.log10(low), math.log10(high)
        across = np.clip((np.asarray(xs) - self.x[0]) / (self.x[1] - self.x[0]), 0.0, 1.0)
        down = np.clip((high - levels) / (high - low), 0.0, 1.0)
        return np.stack([self.left + across * self.width, self.top + down * self.height], axis=-1)


def draw_title(page: Rgb, axes: Axes, name: str, what: str, up: int = 0) -> None:
    """Write what a chart shows above it, `up` pixels higher than next to it."""
    middle, shown = axes.top - 13 - up, shorten(name, TEXT, axes.width // 2)
    write(page, shown, (axes.left, middle), TEXT, INK)
    write(page, what, (axes.left + text_width(shown, TEXT) + 9, middle), TEXT, SOFT)


def draw_axes(page: Rgb, axes: Axes, y_label: str, y_ticks: Ticks, x_label: str = "") -> None:
    """Draw an empty chart; without a label of x its numbers stand at a chart below."""
    left, bottom, right = axes.left, axes.top + axes.height, axes.left + axes.width
    page[axes.top : bottom, left:right] = WHITE
    page[axes.top : bottom + 1, left - 1] = EDGE
    page[bottom, left - 1 : right] = EDGE
    for value, text in y_ticks:
        row = axes.row(value)
        page[row, left:right] = _GRID
        page[row, left - 6 : left] = EDGE
        write(page, text, (left - 10, row), SMALL, SOFT, "rm")
    for value, text in ticks(*axes.x, 12):
        column = axes.column(value)
        page[bottom : bottom + 6, column] = EDGE
        if x_label:
            write(page, text, (column, bottom + 15), SMALL, SOFT, "mm")
    write(page, x_label, (left + axes.width // 2, bottom + 34), SMALL, SOFT, "mm")
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


def write(
    page: Rgb, text: str, place: tuple[int, int], size: int, color: Color, anchor: str = "lm"
) -> None:
    """Write a line of text on the page, as `letter` does, however large the page."""
    top = max(0, place[1] - 2 * size)
    strip = page[top : place[1] + 2 * size]  # lettering takes as long as its picture is large
    letter(strip, text, (place[0], place[1] - top), size, color, anchor=anchor)


def ticks(low: float, high: float, most: int, unit: float = 1.0) -> Ticks:
    """Return round values of a unit from low to high, in steps of 1, 2 or 5, with their text."""
    raw = (high - low) / unit / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / unit / step - 1e-6), math.floor(high / unit / step + 1e-6)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    plain = f".{digits}f" if max(abs(low), abs(high)) < 1e6 and digits < 6 else ".4g"
    return [(n * step * unit, format(n * step, plain)) for n in range(first, last + 1)]


def in_hz(value: float) -> str:
    """Return a frequency as text, in Hz or kHz."""
    return f"{value:.4g} Hz" if value < 1000 else f"{value / 1000:.4g} kHz"
