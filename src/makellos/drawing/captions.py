"""The line above a picture of findings: the verdict in its colour, figures, the part's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from makellos.drawing.lettering import SOFT, WHITE, Color, Rgb, letter, shorten, text_width
from makellos.drawing.overlays import COLORS

__all__ = ["Caption", "draw_caption"]

_TEXT, _NAME_TEXT = 19, 15  # heights in pixels
_PAD, _GAP, _SPACE = 12, 7, 20
_NAME = 160  # pixels that the name gets at least, where it needs them


@dataclass(frozen=True)
class Caption:
    """Hold what a caption says: a verdict, `figures` as text by what they are, the part's file."""

    verdict: str
    figures: Mapping[str, str]
    input: str

    @property
    def title(self) -> str:
        """Return the verdict in words."""
        return self.verdict.replace("_", " ")

    @property
    def name(self) -> str:
        """Return the name of the file without its folders."""
        return PurePath(self.input).name

    @property
    def width(self) -> int:
        """Return how many pixels it takes at least; a long name is then shortened."""
        texts = [text for figure in self.figures.items() for text in figure]
        written = sum(text_width(text, _TEXT) for text in [self.title, *texts])
        spaces = 2 * _PAD + 18 + len(self.figures) * (_GAP + _SPACE)
        return written + spaces + min(text_width(self.name, _NAME_TEXT), _NAME)


def draw_caption(page: Rgb, caption: Caption, margin: int) -> None:
    """Draw a caption of 30 rows `margin` pixels below the upper edge and from the sides."""
    middle, end = margin + 15, page.shape[1] - margin
    right = margin + text_width(caption.title, _TEXT) + 2 * _PAD
    color = COLORS.get(caption.verdict, SOFT)
    _draw_pill(page, (margin, middle - 15), (right, middle + 15), color)
    letter(page, caption.title, ((margin + right) // 2, middle), _TEXT, WHITE, "mm")
    right += 18
    for name, value in caption.figures.items():
        letter(page, name, (right, middle), _TEXT, SOFT)
        right += text_width(name, _TEXT) + _GAP
        letter(page, value, (right, middle), _TEXT)
        right += text_width(value, _TEXT) + _SPACE
    letter(
        page, shorten(caption.name, _NAME_TEXT, end - right), (end, middle), _NAME_TEXT, SOFT, "rm"
    )


def _draw_pill(page: Rgb, start: tuple[int, int], end: tuple[int, int], color: Color) -> None:
    from PIL import Image, ImageDraw

    width, height = end[0] - start[0], end[1] - start[1]
    factor = 4  # Pillow draws edges without smoothing
    mask = Image.new("L", (factor * width, factor * height))
    box = (0, 0, factor * width - 1, factor * height - 1)
    ImageDraw.Draw(mask).rounded_rectangle(box, radius=factor * 5, fill=255)
    opacity = np.asarray(mask.reduce(factor), np.float32)[..., np.newaxis] / 255
    there = page[start[1] : end[1], start[0] : end[0]]
    there[:] = np.rint(there * (1 - opacity) + np.array(color, np.float32) * opacity)
