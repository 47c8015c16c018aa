"""Damage planted in pictures of good parts, to try detectors where no defective part is known.

Scratches, spots and patches from elsewhere in the picture; stains, smears, dents that bend the
part, and pieces that are missing: generic, of several sizes and strengths, down to faint. They say
which of two detectors sees more, not how much of the damage that a plant really has would be found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Change
from makellos.data.pictures import Picture

__all__ = ["KINDS", "Damage", "plant"]

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_N_TRIES = 8
_N_PLACES = 6  # random places, of which the one with most structure is damaged
_STRENGTHS = (0.12, 0.7)  # change of brightness, relative to the picture's own range
_SIZES = (0.03, 0.16)  # of spots and patches, relative to the picture's shorter side
_LEAST = 0.02  # change, relative to that range, from which a pixel counts as damaged
_FAINT = (0.04, 0.25)  # change of brightness of a stain
_WIDE = (0.12, 0.4)  # size of a stain

# From a picture's values, its contrast, the value of white and a generator to damaged values.
Kind = Callable[[Floats, float, float, np.random.Generator], Floats]


@dataclass(frozen=True)
class Damage(Change):
    """Plant one damage of a `kind` in a picture; the same `seed` plants the same in it."""

    kind: str | None
    seed: tuple[int, ...]

    def __call__(self, picture: Picture) -> Picture:
        """Return the damaged picture."""
        return plant(picture, np.random.default_rng(self.seed), kind=self.kind)[0]


def plant(
    picture: Picture, rng: np.random.Generator, *, kind: str | None = None
) -> tuple[Picture, Mask]:
    """Return a copy of a picture with one damage planted, and the mask of the damaged pixels.

    `picture` is H×W or H×W×3, uint8 or uint16; the copy has its shape and kind, the mask H×W is
    True where it was changed, at one pixel or more. `kind` is one of `KINDS`; without it the draw
    is among scratch, spot and patch. The same state of `rng` plants the same.
    """
    values = picture.astype(np.float32)
    low, high = (float(level) for level in np.percentile(values, (1, 99)))
    white = 65535.0 if picture.dtype == np.uint16 else 255.0
    contrast = max(high - low, 0.05 * white)
    for _ in range(_N_TRIES):
        draw = KINDS[kind] if kind else _SHADES[int(rng.integers(len(_SHADES)))]
        changed = _stored(draw(values, contrast, white, rng), picture)
        mask = _changed(changed, values, _LEAST * contrast)
        if mask.any():
            return changed, mask
    # A plain picture, in which a patch from elsewhere changes nothing.
    damaged = _stored(values, picture)
    y, x = (int(rng.integers(side)) for side in picture.shape[:2])
    damaged[y, x] = 0 if float(values[y, x].mean()) > white / 2 else int(white)
    return damaged, _changed(damaged, values, 0.0)


def _changed(damaged: Picture, values: Floats, least: float) -> Mask:
    difference = np.abs(damaged.astype(np.float32) - values)
    mask: Mask = (difference if difference.ndim == 2 else difference.max(axis=2)) > least
    return mask


def _stored(values: Floats, like: Picture) -> Picture:
    rounded = np.rint(np.clip(values, 0, 65535 if like.dtype == np.uint16 else 255))
    return rounded.astype(np.uint16) if like.dtype == np.uint16 else rounded.astype(np.uint8)


def _scratch(values: Floats, contrast: float, white: float, rng: np.random.Generator) -> Floats:
    """Draw a line of two to four pieces, thin and a little blurred."""
    height, width = values.shape[:2]
    side = min(height, width)
    angle, length = rng.uniform(0, 2 * np.pi), side * rng.uniform(0.08, 0.5)
    point = np.array(_place(values, rng), np.float64)
    points = [point]
    n_pieces = int(rng.integers(1, 4))
    for _ in range(n_pieces):
        angle += rng.normal(0, 0.35)
        point = point + length / n_pieces * np.array([np.cos(angle), np.sin(angle)])
        points.append(point)
    drawn = np.zeros((height, width), np.uint8)
    thickness = max(1, round(side * rng.uniform(0.003, 0.012)))
    line = np.rint(np.array(points)).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(
        drawn, [line], isClosed=False, color=255, thickness=thickness, lineType=cv2.LINE_AA
    )
    alpha = drawn.astype(np.float32) / np.float32(255)
    return _shaded(values, alpha, contrast, white, rng)


def _spot(values: Floats, contrast: float, white: float, rng: np.random.Generator) -> Floats:
    """Draw an ellipse with a ragged, soft edge."""
    alpha = _ragged(values, rng, _SIZES, (0.1, 0.6))
    return _shaded(values, alpha, contrast, white, rng)


def _stain(values: Floats, contrast: float, white: float, rng: np.random.Generator) -> Floats:
    """Draw a wide and faint spot without an edge."""
    alpha = _ragged(values, rng, _WIDE, (0.8, 1.6))
    return _shaded(values, alpha, contrast, white, rng, _FAINT)


def _smear(values: Floats, contrast: float, white: float, rng: np.random.Generator) -> Floats:
    """Blur a place, as if it were worn, smeared or filled."""
    del contrast, white
    alpha = _ragged(values, rng, _SIZES, (0.2, 0.6))
    blurred = cv2.GaussianBlur(values, (0, 0), min(values.shape[:2]) * _drawn(rng, (0.004, 0.03)))
    smeared: Floats = values + _over(alpha, values) * (blurred - values)
    return smeared


def _bend(values: Floats, contrast: float, white: float, rng: np.random.Generator) -> Floats:
    """Push what is at a place to one side: an edge dented, a tip bent."""
    del contrast, white
    height, width = values.shape[:2]
    x, y = _place(values, rng)
    reach = 0.5 * min(height, width) * _drawn(rng, (0.06, 0.3))
    # Up to 0.8 of the reach nothing folds over.
    shift, angle = reach * _drawn(rng, (0.15, 0.8)), rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    near = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (reach * reach)).astype(np.float32)
    bent: Floats = cv2.remap(
        values,
        columns - np.float32(shift * np.cos(angle)) * near,
        rows - np.float32(shift * np.sin(angle)) * near,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return bent


def _missing(values: Floats, contrast: float, white: float, rng: np.random.Generator) -> Floats:
    """Put the plainest surrounding in the place of a piece: broken off, or a gap filled."""
    del contrast, white
    height, width = values.shape[:2]
    x, y = _place(values, rng)
    size = max(2, round(min(height, width) * _drawn(rng, _SIZES)))
    h, w = min(size, height), min(size, width)
    top, left = min(max(0, y - h // 2), height - h), min(max(0, x - w // 2), width - w)
    best: tuple[float, Floats] | None = None
    for angle in np.arange(8) * np.pi / 4:
        i, j = round(top + 1.5 * h * np.sin(angle)), round(left + 1.5 * w * np.cos(angle))
        if 0 <= i <= height - h and 0 <= j <= width - w:
            piece = values[i : i + h, j : j + w]
            if best is None or float(piece.std()) < best[0]:
                best = float(piece.std()), piece
    if best is None:
        return values
    alpha = cv2.GaussianBlur(_ellipse(h, w), (0, 0), max(0.5, size / 20))
    return _pasted(values, best[1], top, left, alpha)


def _ragged(
    values: Floats,
    rng: np.random.Generator,
    sizes: tuple[float, float],
    softness: tuple[float, float],
) -> Floats:
    """Return how much of each pixel H×W, in [0, 1], a ragged ellipse at some place covers."""
    height, width = values.shape[:2]
    x, y = _place(values, rng)
    radius = max(1.0, 0.5 * min(height, width) * _drawn(rng, sizes))
    stretch, angle = rng.uniform(0.4, 1.0), rng.uniform(0, np.pi)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    turn = np.arctan2(across, along)
    ragged = 1 + sum(
        rng.uniform(0, 0.2) * np.cos(n * turn + rng.uniform(0, 2 * np.pi)) for n in (2, 3, 5)
    )
    distance = np.hypot(along, across / stretch) / (radius * ragged)
    soft = rng.uniform(*softness)
    alpha: Floats = np.clip((1 + soft - distance) / soft, 0, 1).astype(np.float32)
    return alpha


def _patch(values: Floats, contrast: float, white: float, rng: np.random.Generator) -> Floats:
    """Paste a piece of the picture, perhaps turned, somewhere else."""
    del contrast, white
    height, width = values.shape[:2]
    side = min(height, width)
    h, w = (max(2, min(side - 1, round(side * _drawn(rng, _SIZES)))) for _ in range(2))
    if h >= height or w >= width:
        return values
    top, left = int(rng.integers(height - h)), int(rng.integers(width - w))
    piece = np.ascontiguousarray(values[top : top + h, left : left + w])
    if rng.random() < 0.5:
        piece = np.ascontiguousarray(piece[::-1, ::-1])
    x, y = _place(values, rng)
    x, y = min(max(0, x - w // 2), width - w), min(max(0, y - h // 2), height - h)
    return _pasted(values, piece, y, x, _ellipse(h, w) * np.float32(rng.uniform(0.5, 1.0)))


def _ellipse(height: int, width: int) -> Floats:
    alpha = np.zeros((height, width), np.float32)
    middle = width // 2, height // 2
    cv2.ellipse(alpha, middle, (max(1, middle[0]), max(1, middle[1])), 0, 0, 360, 1.0, -1)
    return alpha


def _pasted(values: Floats, piece: Floats, top: int, left: int, alpha: Floats) -> Floats:
    result = values.copy()
    there = result[top : top + alpha.shape[0], left : left + alpha.shape[1]]
    there += _over(alpha, there) * (piece - there)
    return result


def _shaded(
    values: Floats,
    alpha: Floats,
    contrast: float,
    white: float,
    rng: np.random.Generator,
    strengths: tuple[float, float] = _STRENGTHS,
) -> Floats:
    """Brighten or darken where `alpha` says; turned round where there is no room for it."""
    change = contrast * _drawn(rng, strengths) * (1 if rng.random() < 0.5 else -1)
    inside = values[alpha > 0.5] if (alpha > 0.5).any() else values
    if not 0 <= float(inside.mean()) + change <= white:
        change = -change
    return values + np.float32(change) * _over(alpha, values)


def _over(alpha: Floats, values: Floats) -> Floats:
    return alpha if values.ndim == 2 else alpha[..., np.newaxis]


def _drawn(rng: np.random.Generator, between: tuple[float, float]) -> float:
    """Return a number from low to high, as likely small as large."""
    low, high = between
    return float(low * (high / low) ** rng.random())


def _place(values: Floats, rng: np.random.Generator) -> tuple[int, int]:
    """Return x, y of the most structured of some random places: the part, not what is around."""
    height, width = values.shape[:2]
    reach = max(2, min(height, width) // 12)
    best, found = -1.0, (width // 2, height // 2)
    for _ in range(_N_PLACES):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        around = values[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        spread = float(around.std())
        if spread > best:
            best, found = spread, (x, y)
    return found


_SHADES: tuple[Kind, ...] = (_scratch, _spot, _patch)
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "scratch": _scratch,
        "spot": _spot,
        "patch": _patch,
        "stain": _stain,
        "smear": _smear,
        "bend": _bend,
        "missing": _missing,
    }
)
