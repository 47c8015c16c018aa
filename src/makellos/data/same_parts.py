"""Pictures that show the same part once more: under other light, shifted, or cut otherwise.

Copies (``copies.py``) are one photograph saved anew; these are several photographs of one part. The
relief of a picture is its fine detail at 64 cells of side, every place weighed alike, without what
runs along rows or columns, such as grooves, which parts of one make share. Two reliefs are laid
over each other at the shift at which they agree best. Pictures of one part agree far better than
any two of the set usually do. Measured figures stand in ``docs/benchmarks.md``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.neighbours import Joined, nearest
from makellos.data.pictures import Picture

__all__ = ["Relief", "relief", "same_parts"]

Relief = NDArray[np.float32]

_SIDE = 64  # cells, the root of their number
_LEAST_SIDE, _MOST_SIDE = 12, 256
_BAND = 4.0  # cells: what is wider than that is light
_EDGE = 2  # cells, at which blurring sees what is not there
_SHIFT = 0.12  # of a side, at most
_SCALE = 1.25  # between sides of one part, at most
_LEAST = 0.35  # correlation; other parts of the tiles have up to 0.2
_APART = 8.0  # standard deviations above what two pictures usually have
_GAP, _BETWEEN = 0.6, 0.1  # as wide, relative; with as many pairs in it, as a share of those above
_STEP = 0.02
_NEIGHBOURS = 8
_GRID, _SOFT = 24, 1.5  # of the coarse look that finds neighbours
_N_USUAL = 400
_MOST_SHARE = 4  # a part has at most that fraction of all pictures


def relief(picture: Picture) -> Relief | None:
    """Return the relief h×w of a picture H×W or H×W×3, of mean 0; None where it has no detail."""
    gray = picture if picture.ndim == 2 else picture.mean(2, dtype=np.float32)
    white = 65535.0 if picture.dtype == np.uint16 else 255.0
    height, width = gray.shape
    scale = _SIDE / math.sqrt(height * width)
    size = [min(_MOST_SIDE, max(_LEAST_SIDE, round(side * scale))) for side in (width, height)]
    small = cv2.resize(gray.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    # A gain of the light is a constant beside the logarithm.
    logs = np.log(small * (255.0 / white) + 8)
    fine = logs - _along(logs, (1, 0))
    fine = _blurred(fine - _along(fine, (0, 1)), 0.5)
    fine /= np.sqrt(_blurred(fine * fine, 2 * _BAND)) + 0.003
    fine = fine[_EDGE:-_EDGE, _EDGE:-_EDGE].copy()
    fine -= fine.mean()
    return fine if float(np.square(fine).mean()) > 0.05 else None


def same_parts(reliefs: Sequence[Relief | None]) -> list[list[int]]:
    """Return the sets of pictures that show the same part, by their positions.

    There are none where agreement is a matter of degree, as of parts in similar pose, or where a
    set would hold more than a quarter of all pictures: such pictures are merely alike.
    """
    known = [i for i, each in enumerate(reliefs) if each is not None]
    seen = [each for each in reliefs if each is not None]
    if len(seen) < 3:
        return []
    pairs = _neighbours(seen)
    found = np.array([agreement(seen[i], seen[j]) for i, j in pairs])
    needed = _gap(found, _usual(seen))
    joined_by = Joined(len(seen))
    for (i, j), agreed in zip(pairs, found, strict=True):
        if agreed >= needed:
            joined_by.join(i, j)
    sets: dict[int, list[int]] = {}
    for place, i in enumerate(known):
        sets.setdefault(joined_by.of(place), []).append(i)
    joined = [members for members in sets.values() if len(members) > 1]
    most = max(2.0, len(reliefs) / _MOST_SHARE)
    return [] if any(len(members) > most for members in joined) else joined


def agreement(one: Relief, other: Relief) -> float:
    """Return the highest correlation of two reliefs over small shifts; 0 for other formats."""
    sides = list(zip(one.shape, other.shape, strict=True))
    if any(max(pair) > _SCALE * min(pair) for pair in sides):
        return 0.0
    size = [cv2.getOptimalDFTSize(math.ceil(max(pair) * (1 + _SHIFT))) for pair in sides]
    spectrum = np.fft.rfft2(other, size) * np.conj(np.fft.rfft2(one, size))
    found = np.fft.irfft2(spectrum, size)
    reach = [max(3, int(side * _SHIFT)) for side in one.shape]
    near = np.roll(found, reach, (0, 1))[: 2 * reach[0] + 1, : 2 * reach[1] + 1]
    return float(near.max() / math.sqrt(float(np.square(one).sum() * np.square(other).sum())))


def _usual(reliefs: Sequence[Relief]) -> float:
    """Return the agreement that is far above what two pictures of the set usually have."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(reliefs), (_N_USUAL, 2))
    usual = [agreement(reliefs[i], reliefs[j]) for i, j in drawn if i != j]
    found = np.arctanh(np.clip([each for each in usual if each > 0], 0, 0.999999))
    if not found.size:
        return _LEAST
    middle = float(np.median(found))
    spread = 1.4826 * float(np.median(np.abs(found - middle)))
    return max(_LEAST, math.tanh(middle + _APART * spread))


def _gap(found: NDArray[np.float64], least: float) -> float:
    """Return the agreement above a gap in what neighbours have; infinity without a gap."""
    for needed in np.arange(least, 1.0, _STEP):
        n_clear = int((found >= needed).sum())
        below = math.tanh(_GAP * math.atanh(needed))
        if n_clear and ((found >= below) & (found < needed)).sum() <= _BETWEEN * n_clear:
            return float(needed)
    return math.inf


def _neighbours(reliefs: Sequence[Relief]) -> list[tuple[int, int]]:
    """Return the pairs of each picture and those most like it at a coarse look."""
    vectors = np.array([_coarse(each) for each in reliefs])
    k = min(_NEIGHBOURS, len(reliefs) - 1)
    pairs: set[tuple[int, int]] = set()
    for rows, found, alike in nearest(vectors, k):
        known = np.isfinite(alike)
        ends = np.stack([np.broadcast_to(rows[:, None], found.shape)[known], found[known]], 1)
        pairs.update((i, j) for i, j in np.sort(ends, axis=1).tolist())
    return sorted(pairs)


def _coarse(each: Relief) -> NDArray[np.float32]:
    small = cv2.resize(_blurred(each, _SOFT), (_GRID, _GRID)).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    vector: NDArray[np.float32] = small / length if length > 0 else small
    return vector


def _along(values: NDArray[np.float32], axis: tuple[int, int]) -> NDArray[np.float32]:
    """Return values averaged along rows (1, 0) or columns (0, 1)."""
    cells = 2 * math.ceil(3 * _BAND) + 1
    kernel, one = cv2.getGaussianKernel(cells, _BAND, cv2.CV_32F), np.ones(1, np.float32)
    x, y = (kernel, one) if axis[0] else (one, kernel)
    found: NDArray[np.float32] = cv2.sepFilter2D(values, -1, x, y, borderType=cv2.BORDER_REFLECT)
    return found


def _blurred(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    found: NDArray[np.float32] = cv2.GaussianBlur(
        values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT
    )
    return found
