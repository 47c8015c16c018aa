"""What a classifier looked at: the part, its heat map and both overlaid, side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture
from makellos.drawing.captions import Caption
from makellos.drawing.lettering import Rgb
from makellos.drawing.overlays import lay_heat
from makellos.drawing.panels import DIFFERENCE, PART, draw_tiles, lay_out
from makellos.inspection.findings import Inspection
from makellos.inspection.regions import resize_map

__all__ = ["draw_explanation"]

_N_CLASSES = 4  # named in the caption, the likeliest first
_OPACITY = 0.65
_FULL = np.float32(1.5)  # units of the threshold at which a tile's colours are brightest


def draw_explanation(
    picture: Picture,
    inspection: Inspection,
    heat_map: NDArray[np.float32],
    *,
    title: str,
    white_level: int | None = None,
) -> Rgb:
    """Draw part, heat map and overlay side by side below verdict and class probabilities.

    `heat_map` is h×w from 0 up on any grid; colours reach from 0 to its own maximum, so that they
    do not compare from part to part. `title` stands above it. Returns H×W×3 uint8 RGB; pictures
    are enlarged and shrunk as in `draw_panel`.
    """
    highest = heat_map.max(initial=0.0)
    relative = heat_map / highest if highest > 0 else np.zeros_like(heat_map)
    judged = replace(inspection, anomaly_map=_FULL * relative, reconstruction=None, map_name="")
    drawn = draw_tiles(picture, judged, map_threshold=1.0, white_level=white_level)
    part = drawn[PART]
    heat = np.clip(resize_map(relative, *part.shape[:2]), 0.0, 1.0)
    tiles = {PART: part, title: drawn[DIFFERENCE], "overlay": lay_heat(part, heat, _OPACITY)}
    chances = inspection.probabilities
    likeliest = sorted(chances, key=lambda label: -chances[label])[:_N_CLASSES]
    figures = {label: f"{chances[label]:.3f}" for label in chances if label in likeliest}
    caption = Caption(inspection.verdict, figures, inspection.input)
    return lay_out(tiles, caption, title, {"0": 0.0, "its maximum": 1.0})
