"""Statistics of a picture that tell of its taking: light, focus, pose, noise and dirt on the lens.

The camera is judged by the ground beside the part where a silhouette stands out from one, else by
the whole picture. All are made to answer to one cause each: levels are relative to the ground,
focus is a ratio of edges, and noise one of levels.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture, full_scale
from makellos.errors import InputError
from makellos.inspection.silhouette import Silhouette, find_silhouette

__all__ = ["CELLS", "FIGURES", "Statistics", "statistics_of"]

CELLS = 32  # of the field, along each side
FIGURES = (
    *("level", "red", "blue", "sharpness", "noise", "grain", "across", "along"),
    *("x", "y", "turn_x", "turn_y", "length", "width", "area", "part"),
)
_SIDE = 256  # pixels of the longer side, at which the part is found
_MOST = 1024  # pixels of a side that fine detail is looked at in
_CLEAR = 1 / 24  # of the longer side, around the part that is no ground
_EDGES = 0.995  # the quantile of gradients that edges have
_CLIP = 0.05  # of white, that no noise exceeds
_LEAST = 1e-4  # of white
_SURROUND = 2.0  # cells, of the ground that a cell is compared with
_BAND = 64  # rows, an even number
_STEP = 1e-4  # of the field, as it is written

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Answers to noise and not to slopes (Immerkær, Fast noise variance estimation, 1996).
_NOISE = np.array([1, -2, 1], np.float32)  # along both sides, six times too large
_ACROSS, _SMOOTH = np.array([-1, 0, 1], np.float32), np.array([1, 2, 1], np.float32)
_SLOPES = (_ACROSS, _SMOOTH), (_SMOOTH, _ACROSS)  # Sobel's, eight times too large


@dataclass(frozen=True, eq=False)
class Statistics:
    """Hold the figures of a picture by name, and its field of 32×32 levels relative to the ground.

    Figures that cannot be told are missing. `level`, `red`, `blue` (of green), `part` (of the
    ground), `sharpness`, `noise`, `grain`, `length`, `width` and `area` are logarithms; `x` and `y`
    are in shares of the longer side, `turn_x` and `turn_y` the direction of the longer axis as
    cosine and sine of its double angle, `across` and `along` that of fine structure. In `field`
    cells that are mostly `covered` by the part are levels of the part.
    """

    figures: Mapping[str, float]
    field: Floats
    covered: Mask

    def row(self) -> dict[str, Any]:
        """Return the statistics as plain data: rounded figures, and the field as text."""
        packed = self._steps().tobytes() + np.packbits(self.covered).tobytes()
        figures = {name: round(value, 6) for name, value in self.figures.items()}
        return {**figures, "field": base64.b64encode(packed).decode()}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """Return the statistics that `row` wrote; raise `InputError` for anything else."""
        try:
            packed = base64.b64decode(row["field"], validate=True)
            steps = np.frombuffer(packed[: 2 * CELLS * CELLS], "<i2").reshape(CELLS, CELLS)
            bits = np.frombuffer(packed[2 * CELLS * CELLS :], np.uint8)
            covered = np.unpackbits(bits, count=CELLS * CELLS).reshape(CELLS, CELLS) > 0
            figures = {name: float(row[name]) for name in FIGURES if row.get(name) is not None}
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"These are no statistics of a picture: {error}.") from None
        if not all(map(math.isfinite, figures.values())):
            raise InputError("These are no statistics of a picture: a figure is not finite.")
        return cls(figures, steps.astype(np.float32) * np.float32(_STEP), covered)

    def local(self) -> NDArray[np.float64]:
        """Return how much lighter cells (32, 32) are than their surroundings of the same kind.

        The field counts as a row holds it, so that a picture and its row have the same.
        """
        field = self._steps().astype(np.float32) * np.float32(_STEP)
        found = np.zeros(field.shape)
        for kind in (self.covered, ~self.covered):
            there = kind.astype(np.float32)
            near = cv2.GaussianBlur(there, (0, 0), _SURROUND)
            around = cv2.GaussianBlur(field * there, (0, 0), _SURROUND) / np.maximum(near, 1e-6)
            found = np.where(kind, field - around, found)
        return found

    def _steps(self) -> NDArray[np.int16]:
        """Return the field in whole steps, as rows hold it."""
        steps = np.clip(np.rint(self.field / _STEP), -(1 << 15), (1 << 15) - 1)
        return np.asarray(steps, "<i2")


def statistics_of(picture: Picture, white_level: int | None = None) -> Statistics:
    """Return the statistics of a picture H×W or H×W×3, uint8 or uint16."""
    white = full_scale(picture, white_level)
    height, width = picture.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32) / white
    planes = small[..., np.newaxis] if small.ndim == 2 else small
    gray = planes.mean(axis=2)
    silhouette = find_silhouette(np.ascontiguousarray(planes)) if min(size) > 8 else None
    ground = _ground(silhouette, gray.shape)
    level = max(_median(gray[ground]), _LEAST)
    figures = {"level": math.log(level)}
    if planes.shape[2] == 3:
        red, green, blue = (max(_median(planes[..., c][ground]), _LEAST) for c in range(3))
        figures |= {"red": math.log(red / green), "blue": math.log(blue / green)}
    figures |= _fine(picture, white, ground, level)
    if silhouette is not None:
        figures |= _lying(silhouette, gray, level)
    field, covered = _field(gray / np.float32(level), ground)
    known = {name: value for name, value in figures.items() if math.isfinite(value)}
    return Statistics(known, field, covered)


def _ground(silhouette: Silhouette | None, shape: tuple[int, ...]) -> Mask:
    """Return where the ground is; everywhere without a part, or where it leaves none."""
    if silhouette is None:
        return np.ones(shape, bool)
    reach = max(3, round(_CLEAR * max(shape))) | 1
    grown = cv2.dilate(silhouette.mask.astype(np.uint8), np.ones((reach, reach), np.uint8))
    ground = np.asarray(grown == 0, bool)
    return ground if ground.any() else np.ones(shape, bool)


def _fine(picture: Picture, white: float, ground: Mask, level: float) -> dict[str, float]:
    """Return focus, noise and the direction of fine structure, at the picture's own size.

    Edges and noise are looked at in every second pixel of every second row.
    """
    height, width = picture.shape[:2]
    top, left = max(0, (height - _MOST) // 2), max(0, (width - _MOST) // 2)
    cut = (slice(top, top + _MOST), slice(left, left + _MOST))
    if min(picture[cut].shape[:2]) < 16:
        return {}
    beside = cv2.resize(ground.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    whole = _gray(picture[cut])
    gray, free = whole.astype(np.float32), np.ascontiguousarray(beside[cut])
    if not free.any():
        free = np.ones_like(free)
    half, coarse = _smaller(gray, 2), _smaller(gray, 4)
    slopes = [_every_second(whole, each) / np.float32(8 * white) for each in _SLOPES]
    blurred = [_filtered(coarse, each) / np.float32(8 * white) for each in _SLOPES]
    sharpness = _quantile(cv2.magnitude(*slopes)) / _quantile(cv2.magnitude(*blurred))
    seen = cv2.resize(free, half.shape[::-1], interpolation=cv2.INTER_AREA)
    noise, below = _noise(whole, free, white), _noise(half, seen, white)
    here = free[::2, ::2] > 0
    x, y = (each[here] for each in slopes)
    across, along, both = (
        float(np.clip(each, -_LEAST, _LEAST).mean(dtype=np.float64))
        for each in (x * x, y * y, x * y)
    )
    strength = max(across + along, 1e-12)
    return {
        "sharpness": math.log(sharpness),
        "noise": math.log(noise / level),
        "grain": math.log(noise / below),
        "across": (across - along) / strength,
        "along": 2 * both / strength,
    }


def _gray(picture: Picture) -> NDArray[Any]:
    """Return the gray levels H×W of a picture, whole ones where it has bytes of gray.

    Filters are ten times as fast with these.
    """
    if picture.ndim == 2:
        return picture if picture.dtype == np.uint8 else picture.astype(np.float32)
    third = np.full((1, 3), 1 / 3, np.float32)
    return np.asarray(cv2.transform(picture.astype(np.float32), third))


def _smaller(gray: Floats, times: int) -> Floats:
    size = max(1, gray.shape[1] // times), max(1, gray.shape[0] // times)
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.float32)


def _filtered(gray: NDArray[Any], kernels: tuple[Floats, Floats]) -> NDArray[Any]:
    """Return a plane filtered by kernels of rows and of columns; whole levels stay whole."""
    kind = cv2.CV_16S if gray.dtype == np.uint8 else cv2.CV_32F
    return np.asarray(cv2.sepFilter2D(gray, kind, *kernels))


def _every_second(gray: NDArray[Any], kernels: tuple[Floats, Floats]) -> Floats:
    """Return every second pixel of every second row of a filtered plane.

    It is filtered in bands, as fresh memory for whole planes takes longer than the filter does.
    """
    found = []
    for top in range(0, len(gray), _BAND):
        above = min(top, 1)
        band = _filtered(gray[top - above : top + _BAND + 1], kernels)
        found.append(band[above : above + _BAND : 2, ::2])
    return np.concatenate(found, dtype=np.float32)


def _median(values: Floats) -> float:
    """Return the median; numpy's own takes four times as long."""
    half = values.size // 2
    parted = np.partition(values, half)
    upper = parted[half]
    return float(upper if values.size % 2 else np.float32(parted[:half].max() + upper) / 2)


def _quantile(values: Any) -> float:
    flat = np.ravel(values)
    place = int(_EDGES * (flat.size - 1))
    return max(float(np.partition(flat, place)[place]), _LEAST)


def _noise(gray: NDArray[Any], free: NDArray[np.uint8], white: float) -> float:
    found = np.abs(_every_second(gray, (_NOISE, _NOISE))[free[::2, ::2] > 0])
    usual = (
        float(np.minimum(found, _CLIP * 6 * white).mean(dtype=np.float64)) if found.size else 0.0
    )
    return max(usual / (6 * white), _LEAST / 10)


def _lying(silhouette: Silhouette, gray: Floats, level: float) -> dict[str, float]:
    mask, side = silhouette.mask, max(gray.shape)
    angle = math.radians(silhouette.degrees)
    middle = max(_median(gray[mask]), _LEAST)
    return {
        "x": silhouette.x / side,
        "y": silhouette.y / side,
        "turn_x": math.cos(2 * angle),
        "turn_y": math.sin(2 * angle),
        "length": math.log(silhouette.length / side),
        "width": math.log(silhouette.width / side),
        "area": math.log(float(mask.sum()) / side**2),
        "part": math.log(middle / level),
    }


def _field(levels: Floats, ground: Mask) -> tuple[Floats, Mask]:
    """Return levels of cells, of the ground alone where half of a cell is, and which are not."""
    there = ground.astype(np.float32)
    sides = (CELLS, CELLS)
    free = cv2.resize(there, sides, interpolation=cv2.INTER_AREA)
    alone = cv2.resize(levels * there, sides, interpolation=cv2.INTER_AREA) / np.maximum(free, 1e-6)
    whole = cv2.resize(levels, sides, interpolation=cv2.INTER_AREA)
    covered = np.asarray(free < 0.5, bool)
    return np.where(covered, whole, alone).astype(np.float32), covered
