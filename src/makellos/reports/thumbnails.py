"""Small pictures of a finding for the gallery of a report."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture
from makellos.drawing import DAMAGE, NEAREST, PART, draw_overlay, draw_tiles
from makellos.drawing.overlays import as_rgb
from makellos.inspection import Inspection

__all__ = ["Thumbnails", "draw_crop", "draw_small", "draw_thumbnails"]

_SIDE = 320


class Thumbnails(NamedTuple):
    """Hold a part, its damage and its nearest good part as WebP; empty where there is none."""

    picture: bytes = b""
    overlay: bytes = b""
    reconstruction: bytes = b""


def draw_thumbnails(
    picture: Picture,
    inspection: Inspection,
    *,
    map_threshold: float,
    white_level: int | None,
    plain: bool = True,
) -> Thumbnails:
    """Return small pictures of a part, where `plain` ones are wanted, and of what was found."""
    if inspection.reconstruction is not None:
        tiles = draw_tiles(
            picture, inspection, map_threshold=map_threshold, white_level=white_level
        )
        return Thumbnails(*(_encode(tiles[label]) for label in (PART, DAMAGE, NEAREST)))
    drawn = [
        _encode(
            draw_overlay(
                picture, shown, map_threshold=map_threshold, caption=False, white_level=white_level
            )
        )
        for shown in (*([Inspection(inspection.input, inspection.verdict)] * plain), inspection)
    ]
    return Thumbnails(picture=drawn[0] if plain else b"", overlay=drawn[-1])


def draw_small(picture: Picture, white_level: int | None = None) -> bytes:
    """Return a small copy of a picture as WebP."""
    return _encode(as_rgb(picture, white_level))


def draw_crop(
    picture: Picture, box: tuple[int, int, int, int], *, white_level: int | None = None
) -> bytes:
    """Return a square around a box x, y, width, height of a picture as WebP, enlarged."""
    x, y, w, h = box
    height, width = picture.shape[:2]
    side = min(height, width, max(32, round(1.5 * max(w, h)), min(height, width) // 6))
    left = min(max(0, x + w // 2 - side // 2), width - side)
    top = min(max(0, y + h // 2 - side // 2), height - side)
    cut = picture[top : top + side, left : left + side]
    if cut.dtype == np.uint16:  # lightened as the whole picture is
        cut = as_rgb(picture, white_level)[top : top + side, left : left + side]
    return _encode(as_rgb(cut, white_level))


def _encode(image: NDArray[np.uint8]) -> bytes:
    scale = _SIDE / max(image.shape[:2])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, 82])
    raw: bytes = encoded.tobytes()
    return raw
