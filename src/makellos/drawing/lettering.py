"""Clean small text on pictures, in the typeface that Pillow carries."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["INK", "PAGE", "SOFT", "Color", "letter", "shorten", "text_width"]

Color = tuple[int, int, int]
PAGE: Color = (251, 251, 249)
INK: Color = (22, 25, 29)
SOFT: Color = (90, 96, 104)


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
    for start in range(1, len(text)):
        if text_width(short := "..." + text[start:], size) <= width:
            return short
    return ""


def letter(
    canvas: NDArray[np.uint8],
    text: str,
    place: tuple[int, int],
    size: int,
    color: Color = INK,
    *,
    anchor: str = "lm",
) -> None:
    """Write a line of text on an H×W×3 uint8 RGB picture, in place.

    `place` is x and y in pixels. `anchor` says what of the text lies there: its left, middle or
    right (``l``, ``m``, ``r``), then its ascender, middle or baseline (``a``, ``m``, ``s``).
    """
    from PIL import Image, ImageDraw

    page = Image.fromarray(canvas)
    ImageDraw.Draw(page).text(place, text, fill=color, font=_typeface(size), anchor=anchor)
    canvas[:] = np.asarray(page)
