"""The picture of a finding: heat map, outline, box and score drawn on the part."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.own_outputs import marked
from makellos.data.pictures import Picture, full_scale
from makellos.drawing.lettering import SOFT, WHITE, Color, Rgb, letter, text_width
from makellos.errors import StorageError
from makellos.inspection.background import Beside
from makellos.inspection.findings import Inspection
from makellos.inspection.regions import Region, damage_mask, resize_map
from makellos.storage import storage_errors, write_bytes

__all__ = [
    "COLORS",
    "as_rgb",
    "draw_overlay",
    "heat_colors",
    "lay_heat",
    "picture_place",
    "write_drawing",
    "write_picture",
]

_MAX_NAME, _MAX_PATH = 180, 1000  # bytes
_ODD = frozenset('<>:"|?*\\/')  # Windows holds no such names
COLORS: dict[str, Color] = {
    "ok": (46, 160, 100),
    "look_again": (214, 148, 12),
    "reject": (214, 40, 40),
}
_OPACITY = 0.6
_OUTLINE = (214, 40, 40)
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
) -> Rgb:
    """Draw heat map, outlines, boxes and (with `caption`) verdict and score on a part.

    Returns H×W×3 uint8 RGB; a picture smaller than 480 pixels is enlarged by a whole factor, one
    larger than 4096 is shrunk to that. The heat begins halfway from the map's median to
    `map_threshold`, where a place is no longer usual, has the same colour at the threshold on every
    part, and is at its fullest the same distance beyond it. What lies beside the part has a grey
    box, the largest of each kind with its name.
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
    if inspection.anomaly_map is not None:
        canvas = _blend(canvas, inspection.anomaly_map, map_threshold)
        mask = damage_mask(inspection.anomaly_map, height, width, map_threshold)
        outlines, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        cv2.drawContours(canvas, outlines, -1, WHITE, line + 1, cv2.LINE_AA)
        cv2.drawContours(canvas, outlines, -1, _OUTLINE, line, cv2.LINE_AA)
        for region in inspection.regions:
            _draw_box(canvas, region, factor, line)
    beside = sorted(inspection.beside or (), key=lambda each: each.region.area)
    for each in beside:
        _draw_box(canvas, each.region, factor, line, SOFT)
    for each in {each.name: each for each in beside}.values():  # the largest of each
        _write_beside(canvas, each, factor, line)
    if caption and inspection.score is not None:
        _write_caption(canvas, inspection)
    return canvas


def picture_place(folder: Path, part: Path, suffix: str) -> Path:
    """Return where in a folder the picture of a part lies that has a relative path of its own.

    The suffix of the part stays in the name: a.png and a.jpg are two parts. A name that is too long
    for a further suffix, or that some system does not hold, is written otherwise, with a check sum
    that keeps it apart.
    """
    if len(os.fsencode(part)) > _MAX_PATH:
        part = Path(_plain(str(part)))
    *folders, name = part.parts
    return folder.joinpath(*map(_plain, folders), _plain(name) + suffix)


def _plain(name: str) -> str:
    plain = "".join(c if c.isprintable() and c not in _ODD else "_" for c in name).rstrip(". ")
    if plain == name and len(name.encode()) <= _MAX_NAME:
        return name
    start = plain.encode()[:_MAX_NAME].decode(errors="ignore")
    return f"{start}~{blake2b(os.fsencode(name), digest_size=4).hexdigest()}"


def write_drawing(path: Path, picture: Rgb) -> None:
    """Write what was drawn as `write_picture` does, marked so that it is not inspected itself."""
    _write(path, marked(_encoded(path, picture)))


def write_picture(path: Path | str, picture: Rgb) -> None:
    """Write an RGB or grey uint8 picture, in the format given by the suffix."""
    _write(Path(path), _encoded(Path(path), picture))


def _encoded(path: Path, picture: Rgb) -> bytes:
    pixels = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    try:
        done, encoded = cv2.imencode(path.suffix, pixels)
    except cv2.error:  # an unknown suffix
        done = False
    if not done:
        raise StorageError(f"{path} could not be encoded. Use .png, .jpg or .webp.")
    raw: bytes = encoded.tobytes()
    return raw


def _write(path: Path, encoded: bytes) -> None:
    with storage_errors(f"{path} cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, encoded)


def as_rgb(picture: Picture, white_level: int | None) -> Rgb:
    """Return a picture as 8-bit RGB; without a `white_level` the largest value is white."""
    levels = np.arange(np.iinfo(picture.dtype).max + 1) / full_scale(picture, white_level)
    eight: Rgb = np.minimum(255 * levels, 255).round().astype(np.uint8)[picture]
    return np.dstack([eight] * 3) if eight.ndim == 2 else eight


def heat_colors(shades: NDArray[np.uint8]) -> Rgb:
    """Return the colours H×W×3 of heat, from 0 to 255."""
    colors: Rgb = cv2.cvtColor(cv2.applyColorMap(shades, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return colors


def lay_heat(picture: Rgb, heat: NDArray[np.float32], opacity: float) -> Rgb:
    """Lay the colours of heat H×W in [0, 1] over a picture, up to an opacity in [0, 1]."""
    # The darkest third of the colour map would dirty the part instead of lighting it up.
    colors = heat_colors((85 + 170 * heat).astype(np.uint8))
    shares = (opacity * np.minimum(1.0, 1.6 * heat))[..., np.newaxis]
    blended: Rgb = (picture * (1 - shares) + colors * shares).astype(np.uint8)
    return blended


def _blend(canvas: Rgb, anomaly_map: NDArray[np.float32], map_threshold: float) -> Rgb:
    height, width = canvas.shape[:2]
    full = resize_map(anomaly_map, height, width)
    median = float(np.median(anomaly_map))
    usual = median if 0 < median < _MOST_USUAL * map_threshold else 0.0
    blended = np.empty_like(canvas)
    for top in range(0, height, _BAND):
        rows = slice(top, top + _BAND)
        heat = np.clip((full[rows] - usual) / max(map_threshold - usual, 1e-12) - 0.5, 0.0, 1.0)
        blended[rows] = lay_heat(canvas[rows], heat, _OPACITY)
    return blended


def _draw_box(
    canvas: Rgb, region: Region, factor: float, line: int, inner: Color | None = None
) -> None:
    """Draw a white box around a region; with `inner`, one of that colour in it."""
    start, end = _box(region, factor, line)
    if inner is None:
        cv2.rectangle(canvas, start, end, WHITE, line, cv2.LINE_AA)
        return
    cv2.rectangle(canvas, start, end, WHITE, line + 2, cv2.LINE_AA)
    cv2.rectangle(canvas, start, end, inner, line, cv2.LINE_AA)


def _box(region: Region, factor: float, line: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the corners (x, y) of the box around a region."""
    pad = 3 * line
    start = (max(0, round(region.x * factor) - pad), max(0, round(region.y * factor) - pad))
    right, bottom = region.x + region.width, region.y + region.height
    return start, (round(right * factor) + pad, round(bottom * factor) + pad)


def _write_beside(canvas: Rgb, beside: Beside, factor: float, line: int) -> None:
    """Write the name of what lies beside the part above its box, or below."""
    (left, top), (_, bottom) = _box(beside.region, factor, line)
    size = max(13, round(max(canvas.shape[:2]) / 45))
    width = text_width(beside.name, size) + size
    x = max(0, min(left, canvas.shape[1] - width))
    y = top - 2 * size if top >= 2 * size else min(bottom, canvas.shape[0] - 2 * size)
    cv2.rectangle(canvas, (x, y), (x + width, y + 2 * size - line), SOFT, cv2.FILLED)
    letter(canvas, beside.name, (x + size // 2, y + size), size, WHITE)


def _write_caption(canvas: Rgb, inspection: Inspection) -> None:
    scale = max(0.5, max(canvas.shape[:2]) / 1000)
    verdict = inspection.verdict.replace("_", " ")
    text = f"{verdict}   score {inspection.score:.3g}   p {inspection.p_value:.3g}"
    weight, font = max(1, round(1.6 * scale)), cv2.FONT_HERSHEY_SIMPLEX
    (width, height), base = cv2.getTextSize(text, font, scale, weight)
    pad = round(height * 0.6)
    corner = (min(canvas.shape[1], width + 2 * pad), height + base + 2 * pad)
    color = COLORS.get(inspection.verdict, SOFT)
    cv2.rectangle(canvas, (0, 0), corner, color, cv2.FILLED)
    cv2.putText(canvas, text, (pad, height + pad), font, scale, WHITE, weight, cv2.LINE_AA)
