"""Clean small text on pictures, in the typeface that Pillow carries."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["INK", "PAGE", "SOFT", "WHITE", "Color", "Rgb", "letter", "shorten", "text_width"]

Rgb = NDArray[np.uint8]
Color = tuple[int, int, int]
PAGE: Color = (251, 251, 249)
INK: Color = (22, 25, 29)
SOFT: Color = (90, 96, 104)
WHITE: Color = (255, 255, 255)


@cache
def _typeface(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def text_width(text: str, size: int) -> int:
    """Return how many pixels wide a line of text is at a height of `size` pixels."""
    left, _, right, _ = _typeface(size).getbbox(text)
    return int(np.ceil(right - min(0, left)))


def shorten(text: str, size: int, width: int) -> str:
    """Return the text, its beginning replaced by three dots where it is wider than `width` pixels.

    >>> shorten("thread/000.png", 14, 1000)
    'thread/000.png'
    """
    if text_width(text, size) <= width:
        return text
    # No letter is narrower than a pixel, so that more of them than pixels never fit.
    for start in range(max(1, len(text) - max(width, 0)), len(text)):
        if text_width(short := "..." + text[start:], size) <= width:
            return short
    return ""


def letter(
    page: Rgb,
    text: str,
    place: tuple[int, int],
    size: int,
    color: Color = INK,
    anchor: str = "lm",
) -> None:
    """Write a line of text on an H×W×3 uint8 RGB picture, in place.

    `place` is x and y in pixels. `anchor` says what of the text lies there: its left, middle or
    right (``l``, ``m``, ``r``), then its ascender, middle or baseline (``a``, ``m``, ``s``).
    """
    from PIL import Image, ImageDraw

    x, y = place
    top = max(0, y - 2 * size)
    strip = page[top : y + 2 * size]  # Pillow takes a copy: of no more than the text needs
    image = Image.fromarray(strip)
    ImageDraw.Draw(image).text((x, y - top), text, color, _typeface(size), anchor)
    strip[:] = np.asarray(image)
