"""The picture of a finding: heat map, outline, box and score drawn on the part."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture, full_scale
from makellos.errors import StorageError
from makellos.inspection.inspector import Inspection
from makellos.inspection.regions import Region, damage_mask, resize_map

__all__ = ["draw_overlay", "write_picture"]

COLORS = {"ok": (46, 160, 100), "look_again": (214, 148, 12), "reject": (214, 40, 40)}
TITLES = {"ok": "ok", "look_again": "look again", "reject": "reject"}
_OPACITY = 0.6
_MOST_USUAL = 0.9  # of the threshold: from here on a part is odd all over, and nothing is usual
_BAND = 256  # rows blended at once, to bound the memory that large pictures take
_DISPLAY_SIDE = 480  # small pictures are enlarged to this, so that outline and text stay readable
_LARGEST_SIDE = 4096  # large ones are shrunk to this, which is more than screens show


def draw_overlay(
    picture: Picture,
    inspection: Inspection,
    *,
    map_threshold: float,
    caption: bool = True,
    white_level: int | None = None,
) -> NDArray[np.uint8]:
    """Draw heat map, outlines, boxes and (with `caption`) verdict and score on a part.

    Returns H×W×3 uint8 RGB; a picture smaller than 480 pixels is enlarged by a whole factor, one
    larger than 4096 is shrunk to that. The heat begins half way from the map's median to
    `map_threshold`, where a place is no longer usual, has the same colour at the threshold on every
    part, and is full as far beyond it.
    """
    side = max(picture.shape[:2])
    factor = min(max(1, -(-_DISPLAY_SIDE // side)), _LARGEST_SIDE / side)
    if factor < 1:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    canvas = as_rgb(picture, white_level)
    if factor > 1:
        canvas = cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    height, width = canvas.shape[:2]
    line = max(1, round(max(height, width) / 400))
    color = COLORS.get(inspection.verdict, (90, 90, 90))
    if inspection.anomaly_map is not None:
        canvas = _blend(canvas, inspection.anomaly_map, map_threshold)
        mask = damage_mask(inspection.anomaly_map, height, width, map_threshold)
        outlines, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        cv2.drawContours(canvas, outlines, -1, (255, 255, 255), line + 1, cv2.LINE_AA)
        cv2.drawContours(canvas, outlines, -1, (214, 40, 40), line, cv2.LINE_AA)
        for region in inspection.regions:
            _draw_box(canvas, region, factor, line)
    if caption and inspection.score is not None:
        _write_caption(canvas, inspection, color)
    return canvas


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write an RGB or gray uint8 picture, in the format that the suffix says."""
    pixels = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    try:
        done, encoded = cv2.imencode(path.suffix, pixels)
    except cv2.error:  # an unknown suffix
        done = False
    if not done:
        raise StorageError(f"{path} could not be encoded. Use .png, .jpg or .webp.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error.strerror}.") from error


def as_rgb(picture: Picture, white_level: int | None) -> NDArray[np.uint8]:
    levels = np.arange(np.iinfo(picture.dtype).max + 1) / full_scale(picture, white_level)
    eight: NDArray[np.uint8] = np.minimum(255 * levels, 255).round().astype(np.uint8)[picture]
    return np.dstack([eight] * 3) if eight.ndim == 2 else eight


def _blend(
    canvas: NDArray[np.uint8], anomaly_map: NDArray[np.float32], map_threshold: float
) -> NDArray[np.uint8]:
    height, width = canvas.shape[:2]
    full = resize_map(anomaly_map, height, width)
    median = float(np.median(anomaly_map))
    usual = median if 0 < median < _MOST_USUAL * map_threshold else 0.0
    blended = np.empty_like(canvas)
    for top in range(0, height, _BAND):
        rows = slice(top, top + _BAND)
        heat = np.clip((full[rows] - usual) / max(map_threshold - usual, 1e-12) - 0.5, 0.0, 1.0)
        # The darkest third of the colour map would dirty the part instead of lighting it up.
        shades = (85 + 170 * heat).astype(np.uint8)
        colors = cv2.cvtColor(cv2.applyColorMap(shades, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
        opacity = (_OPACITY * np.minimum(1.0, 1.6 * heat))[..., np.newaxis]
        blended[rows] = canvas[rows] * (1 - opacity) + colors * opacity
    return blended


def _draw_box(canvas: NDArray[np.uint8], region: Region, factor: float, line: int) -> None:
    pad = 3 * line
    start = (max(0, round(region.x * factor) - pad), max(0, round(region.y * factor) - pad))
    right, bottom = region.x + region.width, region.y + region.height
    end = (round(right * factor) + pad, round(bottom * factor) + pad)
    cv2.rectangle(canvas, start, end, (255, 255, 255), line, cv2.LINE_AA)


def _write_caption(
    canvas: NDArray[np.uint8], inspection: Inspection, color: tuple[int, int, int]
) -> None:
    scale = max(0.5, max(canvas.shape[:2]) / 1000)
    text = (
        f"{TITLES[inspection.verdict]}   score {inspection.score:.3g}   p {inspection.p_value:.3g}"
    )
    weight = max(1, round(1.6 * scale))
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    pad = round(height * 0.6)
    corner = (min(canvas.shape[1], width + 2 * pad), height + base + 2 * pad)
    cv2.rectangle(canvas, (0, 0), corner, color, cv2.FILLED)
    cv2.putText(
        canvas,
        text,
        (pad, height + pad),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        (255, 255, 255),
        weight,
        cv2.LINE_AA,
    )
