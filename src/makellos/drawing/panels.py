"""A finding beside what the part should look like: part, nearest good part, difference, damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture
from makellos.drawing.lettering import INK, PAGE, SOFT, letter, shorten, text_width
from makellos.drawing.overlays import COLORS, TITLES, as_rgb, draw_overlay
from makellos.inspection.inspector import Inspection
from makellos.inspection.regions import Region, resize_map

__all__ = [
    "DAMAGE",
    "DIFFERENCE",
    "NEAREST",
    "PART",
    "draw_panel",
    "draw_tiles",
    "fit_picture",
    "from_planes",
]

Rgb = NDArray[np.uint8]
PART, NEAREST, DIFFERENCE, DAMAGE = "part", "nearest good part", "difference", "damage"
_SMALLEST, _LARGEST = 320, 512  # pictures with a longer side below or above change their size
_MARGIN, _GAP = 24, 16
_TEXT, _CAPTION = 15, 19  # heights in pixels
_LABEL_SPACE, _CAPTION_SPACE, _SCALE_SPACE = 27, 46, 30


def draw_panel(
    picture: Picture,
    inspection: Inspection,
    *,
    map_threshold: float,
    white_level: int | None = None,
) -> Rgb:
    """Draw part, nearest good part, difference and damage side by side below verdict and score.

    Returns H×W×3 uint8 RGB. A picture smaller than 320 pixels is enlarged by a whole factor, pixel
    by pixel; one larger than 512 is shrunk to that. What the detector does not give (nearest good
    part, difference) is left out. The difference is the anomaly map: its colours reach the
    brightest at one and a half of `map_threshold`, as in `draw_overlay` where maps begin at 0.
    """
    tiles = draw_tiles(picture, inspection, map_threshold=map_threshold, white_level=white_level)
    height, width = tiles[PART].shape[:2]
    column = max(width, *(text_width(label, _TEXT) for label in tiles))
    has_scale = DIFFERENCE in tiles
    panel = np.full(
        (
            2 * _MARGIN + _CAPTION_SPACE + _LABEL_SPACE + height + has_scale * _SCALE_SPACE,
            2 * _MARGIN + len(tiles) * column + (len(tiles) - 1) * _GAP,
            3,
        ),
        PAGE,
        np.uint8,
    )
    _write_caption(panel, inspection)
    top = _MARGIN + _CAPTION_SPACE + _LABEL_SPACE
    for index, (label, tile) in enumerate(tiles.items()):
        left = _MARGIN + index * (column + _GAP)
        letter(panel, label, (left, top - 9), _TEXT, SOFT, anchor="ls")
        panel[top : top + height, left : left + width] = tile
        if label == DIFFERENCE:
            _draw_scale(panel, left, top + height + 10, column)
    return panel


def draw_tiles(
    picture: Picture,
    inspection: Inspection,
    *,
    map_threshold: float,
    white_level: int | None = None,
) -> dict[str, Rgb]:
    """Return the tiles of a panel by label, all H×W×3 uint8 RGB of one size."""
    part = as_rgb(picture, white_level)
    factor = max(1, -(-_SMALLEST // max(part.shape[:2])))
    height, width = part.shape[0] * factor, part.shape[1] * factor
    enlarged = fit_picture(part, height, width)
    if factor == 1:
        shrink = min(1.0, _LARGEST / max(height, width))
        height, width = max(1, round(height * shrink)), max(1, round(width * shrink))
    tiles = {PART: fit_picture(enlarged, height, width)}
    if inspection.reconstruction is not None:
        tiles[NEAREST] = fit_picture(from_planes(inspection.reconstruction), height, width)
    if inspection.anomaly_map is not None:
        full = resize_map(inspection.anomaly_map, height, width)
        tiles[DIFFERENCE] = _heat(full / np.float32(max(map_threshold, 1e-12)))
    scaled = replace(inspection, regions=_scaled(inspection.regions, factor))
    drawn = draw_overlay(enlarged, scaled, map_threshold=map_threshold, caption=False)
    tiles[DAMAGE] = fit_picture(drawn, height, width)
    return tiles


def fit_picture(picture: Rgb, height: int, width: int) -> Rgb:
    """Return an RGB picture at a size: enlarged pixel by pixel where a whole factor does it."""
    rows, columns = picture.shape[:2]
    if height % rows == 0 and width % columns == 0:
        if (height, width) == (rows, columns):
            return picture
        return picture.repeat(height // rows, axis=0).repeat(width // columns, axis=1)
    shrinks = height <= rows and width <= columns
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    fitted: Rgb = cv2.resize(picture, (width, height), interpolation=how)
    return fitted


def from_planes(planes: NDArray[np.float32]) -> Rgb:
    """Return C×H×W float32 in [0, 1], of one channel or three, as an RGB picture."""
    levels = np.broadcast_to(planes, (3, *planes.shape[1:])).transpose(1, 2, 0)
    return np.ascontiguousarray(np.rint(255 * np.clip(levels, 0.0, 1.0)).astype(np.uint8))


def _heat(relative: NDArray[np.float32]) -> Rgb:
    """Return the colours of a map in units of its threshold, those of `draw_overlay` above 0.5."""
    shades = (170 * np.clip(relative, 0.0, 1.5)).astype(np.uint8)
    colors: Rgb = cv2.cvtColor(cv2.applyColorMap(shades, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return colors


def _scaled(regions: Sequence[Region], factor: int) -> tuple[Region, ...]:
    return tuple(
        replace(
            region,
            x=region.x * factor,
            y=region.y * factor,
            width=region.width * factor,
            height=region.height * factor,
        )
        for region in regions
    )


def _write_caption(panel: Rgb, inspection: Inspection) -> None:
    middle = _MARGIN + 15
    title = TITLES.get(inspection.verdict, inspection.verdict)
    right = _MARGIN + text_width(title, _CAPTION) + 24
    color = COLORS.get(inspection.verdict, (90, 90, 90))
    _draw_pill(panel, (_MARGIN, middle - 15), (right, middle + 15), color)
    letter(panel, title, ((_MARGIN + right) // 2, middle), _CAPTION, (255, 255, 255), anchor="mm")
    right += 18
    for name, value in (
        ("score", inspection.score),
        ("threshold", inspection.threshold),
        ("p", inspection.p_value),
    ):
        if value is not None:
            letter(panel, name, (right, middle), _CAPTION, SOFT)
            right += text_width(name, _CAPTION) + 7
            letter(panel, text := f"{value:.3g}", (right, middle), _CAPTION, INK)
            right += text_width(text, _CAPTION) + 20
    end = panel.shape[1] - _MARGIN
    name = shorten(PurePath(inspection.input).name, _TEXT, end - right)
    letter(panel, name, (end, middle), _TEXT, SOFT, anchor="rm")


def _draw_pill(
    panel: Rgb, start: tuple[int, int], end: tuple[int, int], color: tuple[int, int, int]
) -> None:
    from PIL import Image, ImageDraw

    width, height = end[0] - start[0], end[1] - start[1]
    factor = 4  # Pillow draws edges without smoothing
    mask = Image.new("L", (factor * width, factor * height))
    box = (0, 0, factor * width - 1, factor * height - 1)
    ImageDraw.Draw(mask).rounded_rectangle(box, radius=factor * 5, fill=255)
    opacity = np.asarray(mask.reduce(factor), np.float32)[..., np.newaxis] / 255
    there = panel[start[1] : end[1], start[0] : end[0]]
    there[:] = np.rint(there * (1 - opacity) + np.array(color, np.float32) * opacity)


def _draw_scale(panel: Rgb, left: int, top: int, width: int) -> None:
    """Draw what the colours of the difference mean: from 0 to 1.5 thresholds."""
    relative = np.linspace(0, 1.5, width, dtype=np.float32)[np.newaxis]
    panel[top : top + 6, left : left + width] = _heat(relative)
    tick = left + round(width / 1.5)
    panel[top : top + 12, tick - 1 : tick + 1] = INK
    letter(panel, "0", (left, top + 20), 12, SOFT)
    letter(panel, "threshold", (tick, top + 20), 12, SOFT, anchor="mm")
