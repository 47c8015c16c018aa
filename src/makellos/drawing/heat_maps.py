"""What a classifier looked at: the part, its heat map and both overlaid, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture
from makellos.drawing.lettering import INK, PAGE, SOFT, letter, shorten, text_width
from makellos.drawing.overlays import COLORS, TITLES
from makellos.drawing.panels import DIFFERENCE, PART, draw_tiles
from makellos.inspection.inspector import Inspection
from makellos.inspection.regions import resize_map

__all__ = ["draw_explanation"]

Rgb = NDArray[np.uint8]
_MARGIN, _GAP, _SPACE = 24, 16, 20
_TEXT, _CAPTION, _SMALL = 15, 19, 12  # heights in pixels
_ROW, _LABEL_ROW, _SCALE_ROW = 46, 27, 30
_NAME = 160  # pixels that the name gets at least, where it needs them
_N_CLASSES = 4  # named in the caption, the likeliest first
_OPACITY = 0.65
_FULL = 1.5  # units of the threshold at which a tile's colours are brightest


def draw_explanation(
    picture: Picture,
    heat_map: NDArray[np.float32],
    *,
    name: str,
    verdict: str,
    probabilities: Mapping[str, float],
    title: str,
    white_level: int | None = None,
) -> Rgb:
    """Draw part, heat map and overlay side by side below verdict and class probabilities.

    `heat_map` is h×w from 0 up on any grid; colours reach from 0 to its own maximum, so that they
    do not compare from part to part. `title` stands above it. Returns H×W×3 uint8 RGB; pictures
    are enlarged and shrunk as in `draw_panel`.
    """
    highest = float(heat_map.max(initial=0.0))
    relative = np.float32(_FULL / highest if highest > 0 else 0.0) * heat_map
    judged = Inspection(name, verdict, anomaly_map=relative)
    drawn = draw_tiles(picture, judged, map_threshold=1.0, white_level=white_level)
    part, heat = drawn[PART], drawn[DIFFERENCE]
    tiles = {PART: part, title: heat, "overlay": _overlay(part, relative / np.float32(_FULL))}
    height, width = part.shape[:2]
    column = max(width, *(text_width(label, _TEXT) for label in tiles))
    caption = _caption(verdict, probabilities)
    named = min(text_width(PurePath(name).name, _TEXT), _NAME)
    inside = max(len(tiles) * (column + _GAP) - _GAP, _length(caption) + named)
    top = _MARGIN + _ROW + _LABEL_ROW
    page = np.full((top + height + _SCALE_ROW + _MARGIN, 2 * _MARGIN + inside, 3), PAGE, np.uint8)
    _write(page, caption, name, COLORS.get(verdict, SOFT))
    for index, (label, tile) in enumerate(tiles.items()):
        left = _MARGIN + index * (column + _GAP)
        letter(page, label, (left, top - 9), _TEXT, SOFT, anchor="ls")
        page[top : top + height, left : left + width] = tile
        if label == title:
            _draw_scale(page, left, top + height + 10, width)
    return page


def _overlay(part: Rgb, relative: NDArray[np.float32]) -> Rgb:
    height, width = part.shape[:2]
    heat = np.clip(resize_map(relative, height, width), 0.0, 1.0)
    # The darkest third of the colour map would dirty the part instead of lighting it up.
    opacity = (_OPACITY * np.minimum(1.0, 1.6 * heat))[..., np.newaxis]
    blended = part * (1 - opacity) + _colors((85 + 170 * heat).astype(np.uint8)) * opacity
    overlay: Rgb = np.rint(blended).astype(np.uint8)
    return overlay


def _colors(shades: NDArray[np.uint8]) -> Rgb:
    colors: Rgb = cv2.cvtColor(cv2.applyColorMap(shades, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return colors


def _caption(verdict: str, probabilities: Mapping[str, float]) -> list[str]:
    likeliest = sorted(probabilities, key=lambda label: -probabilities[label])[:_N_CLASSES]
    texts = [TITLES.get(verdict, verdict)]
    for label in [known for known in probabilities if known in likeliest]:
        texts += [label, f"{probabilities[label]:.3f}"]
    return texts


def _length(caption: list[str]) -> int:
    return sum(text_width(text, _CAPTION) + _SPACE for text in caption) + 2 * _SPACE


def _write(page: Rgb, caption: list[str], name: str, color: tuple[int, int, int]) -> None:
    middle = _MARGIN + 15
    title, *figures = caption
    right = _MARGIN + text_width(title, _CAPTION) + 24
    cv2.rectangle(page, (_MARGIN, middle - 15), (right, middle + 15), color, cv2.FILLED)
    letter(page, title, ((_MARGIN + right) // 2, middle), _CAPTION, (255, 255, 255), anchor="mm")
    right += 18
    for label, value in zip(figures[::2], figures[1::2], strict=True):
        letter(page, label, (right, middle), _CAPTION, SOFT)
        right += text_width(label, _CAPTION) + 7
        letter(page, value, (right, middle), _CAPTION, INK)
        right += text_width(value, _CAPTION) + _SPACE
    end = page.shape[1] - _MARGIN
    shown = shorten(PurePath(name).name, _TEXT, end - right)
    letter(page, shown, (end, middle), _TEXT, SOFT, anchor="rm")


def _draw_scale(page: Rgb, left: int, top: int, width: int) -> None:
    """Draw what the colours mean: from nothing to the most heat on this part."""
    shades = np.linspace(0, 255, width).astype(np.uint8)[np.newaxis]
    page[top : top + 6, left : left + width] = _colors(shades)
    letter(page, "0", (left, top + 16), _SMALL, SOFT)
    letter(page, "its maximum", (left + width, top + 16), _SMALL, SOFT, anchor="rm")
