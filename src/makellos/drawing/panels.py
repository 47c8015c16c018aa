"""A finding beside what the part should look like: part, nearest good part, difference, damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture
from makellos.drawing.captions import Caption, draw_caption
from makellos.drawing.lettering import INK, PAGE, SOFT, Rgb, letter, text_width
from makellos.drawing.overlays import as_rgb, draw_overlay, heat_colors
from makellos.inspection.findings import Inspection
from makellos.inspection.regions import Region, resize_map

__all__ = [
    "DAMAGE",
    "DIFFERENCE",
    "NEAREST",
    "PART",
    "draw_panel",
    "draw_reconstruction",
    "draw_tiles",
    "fit_picture",
    "from_planes",
    "lay_out",
]

PART, NEAREST, DIFFERENCE, DAMAGE = "part", "nearest good part", "difference", "damage"
_SMALLEST, _LARGEST = 320, 512  # pictures with a longer side below or above change their size
_MARGIN, _GAP = 24, 16
_TEXT, _SMALL = 15, 12  # heights in pixels
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
    part, difference) is left out. The difference is the anomaly map, labelled by its name if it has
    one: its colours are brightest at one and a half times `map_threshold`, as in `draw_overlay` if
    maps begin at 0.
    """
    known = {
        "score": inspection.score,
        "threshold": inspection.threshold,
        "p": inspection.p_value,
    }
    figures = {name: f"{value:.3g}" for name, value in known.items() if value is not None}
    tiles = draw_tiles(picture, inspection, map_threshold=map_threshold, white_level=white_level)
    caption = Caption(inspection.verdict, figures, inspection.input)
    heated = inspection.map_name or DIFFERENCE
    return lay_out(tiles, caption, heated, {"0": 0.0, "threshold": 1 / 1.5})


def lay_out(
    tiles: Mapping[str, Rgb], caption: Caption, heated: str, scale: Mapping[str, float]
) -> Rgb:
    """Lay tiles of one size side by side, each below its label, and a caption above them.

    Below the tile named `heated`, where there is one, stand the colours of heat, and the texts of
    `scale` at shares of their width.
    """
    height, width = next(iter(tiles.values())).shape[:2]
    column = max(width, *(text_width(label, _TEXT) for label in tiles))
    inside = max(len(tiles) * (column + _GAP) - _GAP, caption.width)
    top = _MARGIN + _CAPTION_SPACE + _LABEL_SPACE
    bottom = top + height + (_SCALE_SPACE if heated in tiles else 0) + _MARGIN
    page = np.full((bottom, 2 * _MARGIN + inside, 3), PAGE, np.uint8)
    draw_caption(page, caption, _MARGIN)
    for index, (label, tile) in enumerate(tiles.items()):
        left = _MARGIN + index * (column + _GAP)
        letter(page, label, (left, top - 9), _TEXT, SOFT, "ls")
        page[top : top + height, left : left + width] = tile
        if label == heated:
            _draw_scale(page, (left, top + height + 10), column, scale)
    return page


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
        label = inspection.map_name or DIFFERENCE
        tiles[label] = _heat(full / np.float32(max(map_threshold, 1e-12)))
    beside = inspection.beside and tuple(
        replace(each, region=_scaled([each.region], factor)[0]) for each in inspection.beside
    )
    scaled = replace(inspection, regions=_scaled(inspection.regions, factor), beside=beside)
    drawn = draw_overlay(enlarged, scaled, map_threshold=map_threshold, caption=False)
    tiles[DAMAGE] = fit_picture(drawn, height, width)
    return tiles


def draw_reconstruction(inspection: Inspection) -> Rgb | None:
    """Return the nearest good part of an inspection at its picture's size; None without one.

    It is H×W×3 uint8 RGB, enlarged pixel by pixel where a whole factor does it.
    """
    if inspection.reconstruction is None or inspection.size is None:
        return None
    return fit_picture(from_planes(inspection.reconstruction), *inspection.size)


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
    return heat_colors((170 * np.clip(relative, 0.0, 1.5)).astype(np.uint8))


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


def _draw_scale(page: Rgb, place: tuple[int, int], width: int, texts: Mapping[str, float]) -> None:
    left, top = place
    shades = np.linspace(0, 255, width).astype(np.uint8)[np.newaxis]
    page[top : top + 6, left : left + width] = heat_colors(shades)
    for text, share in texts.items():
        x = left + round(share * width)
        if 0 < share < 1:
            page[top : top + 12, x - 1 : x + 1] = INK
        anchor = "lm" if share <= 0 else "rm" if share >= 1 else "mm"
        letter(page, text, (x, top + 20), _SMALL, SOFT, anchor)
