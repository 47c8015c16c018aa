"""What lies loose close beside a part, pixel by pixel: found, and taken out of the picture.

A network sees a fibre that lies close to a part in the patches of the part as well. In pixels it is
apart from it: between both is a strip of plain background, while a burr or a bent tip hangs on the
part. Shadows are smooth, and no structure.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["SEEN", "Loose", "filled", "find_loose", "without"]

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

SEEN = 3  # cells, as far as a network sees what lies loose
_FINE, _COARSE = 1.0, 2.2  # deviations of the blurs whose difference is structure, in pixels
_CONTRAST = 8.0  # deviations of the plain background
_LEAST_EDGE, _LEAST_CHANGE = 0.002, 0.06
_SHADOW = 0.7  # of the part's own difference: less may be a shadow
_COARSER = 8  # times: the size at which the background's level is fitted
_SAMPLE = 8192  # values that tell a median
_LARGE = 0.2  # of the largest piece: of the part
_GAP = 0.04  # of the shorter side: an outline with such a gap is still closed
_LEAST = 0.012  # of the shorter side: smaller specks are left alone
_ROUNDS = 8  # of averaging at each size, as gray levels go on
_RIM = 7  # pixels around what is taken out that it still shades
_DEEP = 0.2  # of a piece lies well inside of the part's cells: of the part
_MOSTLY = 0.5  # of a piece lies in the part's cells


class Loose(NamedTuple):
    """Hold which pixels h×w lie loose beside a part, and which are the part."""

    loose: Mask
    part: Mask


def find_loose(picture: Floats, inside: Mask) -> Loose | None:
    """Return what lies loose close to the part in C×H×W in [0, 1]; None where nothing does.

    `inside` (h, w) are the cells that are part; close are `SEEN` cells.
    """
    gray = np.ascontiguousarray(picture.mean(0))
    far = _enlarged(cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0, gray)
    if not far.any():
        return None
    core = _enlarged(
        cv2.erode(inside.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0) > 0, gray
    )
    _, labels, stats, _ = cv2.connectedComponentsWithStats(_foreground(gray, far, core))
    part = _part_of(labels, stats[:, cv2.CC_STAT_AREA], _enlarged(inside, gray), core)
    if not part.any():
        return None
    longest = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(1)
    apart = np.bincount(labels[part], minlength=len(stats)) == 0
    close = cv2.dilate(inside.astype(np.uint8), np.ones((2 * SEEN + 1,) * 2, np.uint8)) > 0
    apart &= np.bincount(labels[_enlarged(close, gray)], minlength=len(stats)) > 0
    apart &= longest >= _LEAST * min(gray.shape)
    apart[0] = False
    loose = filled(apart[labels], hulls=True) & ~part
    return Loose(loose, part) if loose.any() else None


def _foreground(gray: Floats, far: Mask, core: Mask) -> NDArray[np.uint8]:
    """Return which pixels differ from the plain background, or have structure that it has not.

    Shadows are smooth, and differ less than the `core` of the part does (by `_SHADOW`).
    """
    structure = np.abs(
        cv2.GaussianBlur(gray, (0, 0), _FINE) - cv2.GaussianBlur(gray, (0, 0), _COARSE)
    )
    change = np.abs(gray - _surface(gray, far))
    edges = structure > max(_CONTRAST * 1.4826 * _middle(structure[far]), _LEAST_EDGE)
    least = _SHADOW * _middle(change[core]) if core.any() else 0.0
    noise = _CONTRAST * 1.4826 * _middle(change[far])
    other = change > max(noise, least, _LEAST_CHANGE)
    either = (edges | other).astype(np.uint8)
    closed = cv2.morphologyEx(either, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    return np.asarray(closed, np.uint8)


def _surface(gray: Floats, far: Mask) -> Floats:
    """Return the level h×w of the background: the surface of second order through it."""
    height, width = gray.shape
    small = (max(1, width // _COARSER), max(1, height // _COARSER))
    share = cv2.resize(far.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    level = cv2.resize(gray, small, interpolation=cv2.INTER_AREA)
    rows, columns = np.mgrid[-1 : 1 : small[1] * 1j, -1 : 1 : small[0] * 1j]
    terms = np.stack([rows**0, rows, columns, rows**2, columns**2, rows * columns], axis=-1)
    seen = share > 1 - 1e-3
    weights = np.linalg.lstsq(terms[seen], level[seen], rcond=None)[0]
    surface = (terms @ weights).astype(np.float32)
    return np.asarray(cv2.resize(surface, (width, height), interpolation=cv2.INTER_LINEAR))


def without(picture: Floats, found: Loose) -> Floats:
    """Return a picture C×H×W in which the background goes on where something lies loose.

    Its gray levels go on smoothly, and its grain is that of another place.
    """
    rim = np.ones((_RIM, _RIM), np.uint8)
    mask = cv2.dilate(found.loose.astype(np.uint8), rim) > 0
    plain = (~mask & (cv2.dilate(found.part.astype(np.uint8), rim) == 0)).astype(np.float32)
    painted = np.empty_like(picture)
    for channel, values in enumerate(picture):
        grain = _grain(values - cv2.GaussianBlur(values, (0, 0), _COARSE), mask)
        level = _levelled(values, plain)
        painted[channel] = np.where(mask, np.clip(level + grain, 0, 1), values)
    return painted


def _levelled(values: Floats, known: Floats) -> Floats:
    """Return gray levels h×w that go on smoothly where they are not known, from coarse to fine."""
    height, width = values.shape
    if known.all() or min(height, width) < 4:
        return values
    half = (width // 2, height // 2)
    share = cv2.resize(known, half, interpolation=cv2.INTER_AREA)
    below = cv2.resize(values * known, half, interpolation=cv2.INTER_AREA)
    coarse = _levelled(below / np.maximum(share, 1e-6), (share > 0).astype(np.float32))
    level = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    for _ in range(_ROUNDS):
        level = cv2.blur(np.where(known > 0, values, level), (3, 3))
    return np.where(known > 0, values, level).astype(np.float32)


def _grain(grain: Floats, mask: Mask) -> Floats:
    """Return the grain h×w of a picture so moved that a plain place of it lies on a mask."""
    limit = 3 * 1.4826 * _middle(np.abs(grain).ravel())
    rough = (np.abs(grain) > limit) | mask
    steps = [(y * n // 4, x * m // 4) for n, m in [mask.shape] for y in range(4) for x in range(4)]
    best = min(steps[1:], key=lambda step: int(np.roll(rough, step, (0, 1))[mask].sum()))
    return np.roll(np.where(mask, 0, np.clip(grain, -limit, limit)), best, (0, 1))


def _part_of(labels: NDArray[np.int32], areas: NDArray[np.int32], inside: Mask, core: Mask) -> Mask:
    """Return which pixels are part: large pieces in its cells, and what reaches deep into them."""
    n = len(areas)
    deep = np.bincount(labels[core], minlength=n) > _DEEP * areas
    within = np.bincount(labels[inside], minlength=n)
    large = (areas >= _LARGE * areas[1:].max(initial=0)) & (within > _MOSTLY * areas)
    chosen = deep | large
    chosen[0] = False
    part = filled(chosen[labels]).astype(np.uint8)
    width = 2 * round(_GAP * min(labels.shape) / 2) + 1
    closed = cv2.morphologyEx(part, cv2.MORPH_CLOSE, np.ones((width, width), np.uint8))
    return np.asarray(closed > 0, bool)


def filled(pieces: Mask, *, hulls: bool = False) -> Mask:
    """Return pieces h×w without their holes; with `hulls` the hulls of those the picture cuts."""
    drawn = pieces.astype(np.uint8)
    height, width = drawn.shape
    outlines, _ = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        x, y, across, down = cv2.boundingRect(outline)
        cut = hulls and (x == 0 or y == 0 or x + across == width or y + down == height)
        hull = cv2.convexHull(outline) if cut else outline
        cv2.drawContours(drawn, [hull], -1, 1, cv2.FILLED)
    return np.asarray(drawn > 0, bool)


def _middle(values: Floats) -> float:
    """Return the median of values (n,), of some thousand where they are more."""
    return float(np.median(values[:: max(1, len(values) // _SAMPLE)]))


def _enlarged(cells: Mask, like: NDArray[Any]) -> Mask:
    height, width = like.shape
    large = cv2.resize(cells.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(large > 0, bool)
