"""Tell part from background: what lies beside the part, or loose close to it, is no damage.

Maps are h x w cells, pictures C x H x W in [0, 1]; `part` tells how surely, from 0 to 1, a cell is
part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

PIECE = 0.2  # of the largest piece: smaller ones are no part
DOUBTFUL = 0.3  # from here to its complement a cell is part by degrees
SEEN = 3  # cells, as far as a network sees what lies loose
FINE, COARSE = 1.0, 2.2  # deviations of the blurs whose difference is structure, in pixels
CONTRAST = 8.0  # deviations of the plain background
LEAST_EDGE, LEAST_CHANGE = 0.002, 0.06
SHADOW = 0.7  # of the part's own difference: less may be a shadow
COARSER = 8  # times: the size at which the background's level is fitted
SAMPLE = 8192  # values that tell a median
GAP = 0.04  # of the shorter side: an outline with such a gap is still closed
LEAST = 0.012  # of the shorter side: smaller specks are left alone
ROUNDS = 8  # of averaging at each size, as gray levels go on
RIM = 7  # pixels around what is taken out that it still shades
DEEP, MOSTLY = 0.2, 0.5  # of a piece lies well inside of the part's cells, or in them


class Loose(NamedTuple):
    """Hold which pixels lie loose beside a part, and which are the part."""

    loose: Mask
    part: Mask


class Background:
    """Say how oddities beside the part count; `least` and `most` are shares that a part takes."""

    def __init__(self, choice: str, least: float, most: float) -> None:
        self.choice, self.least, self.most = choice, least, most

    def apart(
        self, anomaly_map: Floats, part: Floats, removed: Loose | None = None
    ) -> tuple[Floats, Floats]:
        """Return the map that decides, and that of what lies beside the part."""
        counted = self._counted(part, removed)
        beside = np.where(counted > 0.5, anomaly_map.min(), anomaly_map)
        if self.choice == "count":
            return anomaly_map, beside
        usual = np.minimum(anomaly_map, np.median(anomaly_map).astype(np.float32))
        return usual + counted * (anomaly_map - usual), beside

    def loose(self, counted: Floats, part: Floats, picture: Floats) -> Loose | None:
        """Return what lies loose near the highest cell that counts; None where nothing does."""
        inside = part_in(part > 0.5)
        if self.choice == "count" or not self._believed(inside):
            return None
        found = find_loose(picture, inside)
        if found is None:
            return None
        row, column = np.unravel_index(int(counted.argmax()), counted.shape)
        cells = on_cells(found.loose, counted.shape)
        near = cells[max(0, row - SEEN) : row + SEEN + 1, max(0, column - SEEN) : column + SEEN + 1]
        return found if near.any() else None

    def with_loose(self, beside: Floats, anomaly_map: Floats, found: Loose) -> Floats:
        """Return the map of what lies beside the part, with what lies loose close to it."""
        return np.where(on_cells(found.loose, beside.shape), anomaly_map, beside)

    def _counted(self, part: Floats, removed: Loose | None) -> Floats:
        if not self._believed(part_in(part > 0.5)):
            return np.ones(part.shape, np.float32)
        surely = np.clip((part - DOUBTFUL) / (1 - 2 * DOUBTFUL), 0, 1)
        surely = np.where(part_in(part > DOUBTFUL), surely, 0).astype(np.float32)
        near = grown(surely, 3)
        if removed is None:
            return near
        return np.where(on_cells(removed.loose, part.shape), surely, near)

    def _believed(self, inside: Mask) -> bool:
        return self.least <= float(inside.mean()) <= self.most


def part_in(found: Mask) -> Mask:
    """Return the large pieces of a mask, without their holes."""
    labels, areas = components(found)
    if len(areas) < 2:
        return np.zeros(found.shape, bool)
    large = areas >= PIECE * areas[1:].max()
    large[0] = False
    return filled(large[labels])


def find_loose(picture: Floats, inside: Mask) -> Loose | None:
    """Return what lies loose close to the part; `inside` are the cells that are part."""
    gray = np.ascontiguousarray(picture.mean(0))
    far = ~enlarged(grown(inside, 3), gray.shape)
    if not far.any():
        return None
    core = enlarged(shrunk(inside, 5, outside=False), gray.shape)
    labels, areas = components(_foreground(gray, far, core))
    part = _part_of(labels, areas, enlarged(inside, gray.shape), core)
    if not part.any():
        return None
    apart = np.bincount(labels[part], minlength=len(areas)) == 0
    close = enlarged(grown(inside, 2 * SEEN + 1), gray.shape)
    apart &= np.bincount(labels[close], minlength=len(areas)) > 0
    apart &= _lengths(labels, len(areas)) >= LEAST * min(gray.shape)
    apart[0] = False
    loose = filled(apart[labels], hulls=True) & ~part
    return Loose(loose, part) if loose.any() else None


def without(picture: Floats, found: Loose) -> Floats:
    """Return a picture in which the background goes on where something lies loose."""
    mask = grown(found.loose, RIM)
    plain = np.asarray(~mask & ~grown(found.part, RIM), np.float32)
    painted = np.empty_like(picture)
    for channel, values in enumerate(picture):
        grain = _grain(values - blurred(values, COARSE), mask)
        painted[channel] = np.where(mask, np.clip(_levelled(values, plain) + grain, 0, 1), values)
    return painted


def _foreground(gray: Floats, far: Mask, core: Mask) -> Mask:
    """Return which pixels differ from the plain background, or have structure that it has not."""
    structure = np.abs(blurred(gray, FINE) - blurred(gray, COARSE))
    change = np.abs(gray - _surface(gray, far))
    edges = structure > max(CONTRAST * 1.4826 * _middle(structure[far]), LEAST_EDGE)
    least = SHADOW * _middle(change[core]) if core.any() else 0.0
    noise = CONTRAST * 1.4826 * _middle(change[far])
    return shrunk(grown(edges | (change > max(noise, least, LEAST_CHANGE)), 3), 3)


def _surface(gray: Floats, far: Mask) -> Floats:
    """Return the level of the background: the surface of second order through it."""
    small = tuple(max(1, n // COARSER) for n in gray.shape)
    share, level = averaged(far.astype(np.float32), small), averaged(gray, small)
    rows, columns = np.mgrid[-1 : 1 : small[0] * 1j, -1 : 1 : small[1] * 1j]
    terms = np.stack([rows**0, rows, columns, rows**2, columns**2, rows * columns], axis=-1)
    seen = share > 1 - 1e-3
    weights = np.linalg.lstsq(terms[seen], level[seen], rcond=None)[0]
    return between((terms @ weights).astype(np.float32), gray.shape)


def _part_of(labels: NDArray[Any], areas: NDArray[Any], inside: Mask, core: Mask) -> Mask:
    """Return which pixels are part: large pieces in its cells, and what reaches deep into them."""
    deep = np.bincount(labels[core], minlength=len(areas)) > DEEP * areas
    within = np.bincount(labels[inside], minlength=len(areas))
    large = (areas >= PIECE * areas[1:].max(initial=0)) & (within > MOSTLY * areas)
    chosen = deep | large
    chosen[0] = False
    width = 2 * round(GAP * min(labels.shape) / 2) + 1
    return shrunk(grown(filled(chosen[labels]), width), width)


def _levelled(values: Floats, known: Floats) -> Floats:
    """Return gray levels that go on smoothly where they are not known, from coarse to fine."""
    if known.all() or min(values.shape) < 4:
        return values
    half = (values.shape[0] // 2, values.shape[1] // 2)
    share, below = averaged(known, half), averaged(values * known, half)
    levels = np.asarray(below / np.maximum(share, 1e-6), np.float32)
    coarse = _levelled(levels, np.asarray(share > 0, np.float32))
    level = between(coarse, values.shape)
    for _ in range(ROUNDS):
        box = np.full(3, 1 / 3, np.float32)
        level = convolved(np.where(known > 0, values, level), box)
    return np.where(known > 0, values, level).astype(np.float32)


def _grain(grain: Floats, mask: Mask) -> Floats:
    """Return the grain of a picture so moved that a plain place of it lies on a mask."""
    limit = 3 * 1.4826 * _middle(np.abs(grain).ravel())
    rough = (np.abs(grain) > limit) | mask
    n, m = mask.shape
    steps = [(y * n // 4, x * m // 4) for y in range(4) for x in range(4)]
    best = min(steps[1:], key=lambda step: int(np.roll(rough, step, (0, 1))[mask].sum()))
    clipped = np.where(mask, 0, np.clip(grain, -limit, limit))
    return np.asarray(np.roll(clipped, best, (0, 1)), np.float32)


def _lengths(labels: NDArray[Any], n: int) -> NDArray[Any]:
    """Return the longer side of the box around each piece."""
    sides = []
    for places in np.nonzero(labels):
        numbers = labels[np.nonzero(labels)]
        low, high = np.full(n, labels.size), np.full(n, -1)
        np.minimum.at(low, numbers, places)
        np.maximum.at(high, numbers, places)
        sides.append(high - low + 1)
    return np.asarray(np.maximum(*sides))


def _middle(values: Floats) -> float:
    return float(np.median(values[:: max(1, len(values) // SAMPLE)]))


def components(mask: Mask, *, corners: bool = True) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the number of each pixel's piece, 0 for none, and the areas of pieces by number.

    Pixels that touch at `corners` belong together.
    """
    numbers = np.arange(mask.size).reshape(mask.shape)
    pairs = [(numbers[:, :-1], numbers[:, 1:]), (numbers[:-1], numbers[1:])]
    if corners:
        pairs += [(numbers[:-1, :-1], numbers[1:, 1:]), (numbers[:-1, 1:], numbers[1:, :-1])]
    flat, root = mask.ravel(), np.arange(mask.size)
    one, other = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    joined = flat[one] & flat[other]
    one, other = one[joined], other[joined]
    while (apart := root[one] != root[other]).any():
        one, other = one[apart], other[apart]
        low = np.minimum(root[one], root[other])
        np.minimum.at(root, np.maximum(root[one], root[other]), low)
        while not np.array_equal(further := root[root], root):
            root = further
    _, named = np.unique(root[flat], return_inverse=True)
    labels = np.zeros(mask.size, np.int64)
    labels[flat] = named + 1
    return labels.reshape(mask.shape), np.bincount(labels)


def filled(pieces: Mask, *, hulls: bool = False) -> Mask:
    """Return pieces without their holes; with `hulls` the hulls of those the picture cuts."""
    outside, _ = components(np.pad(~pieces, 1, constant_values=True), corners=False)
    whole = np.asarray(outside != outside[0, 0], bool)[1:-1, 1:-1]
    if not hulls:
        return whole
    labels, areas = components(whole)
    rim = {*labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]} - {0}
    for number in sorted(rim & set(range(1, len(areas)))):
        whole |= _hull(labels == number)
    return whole


def _hull(piece: Mask) -> Mask:
    """Return the convex hull of a piece, row by row."""
    rows = np.flatnonzero(piece.any(1))
    left = piece[rows].argmax(1)
    right = piece.shape[1] - 1 - piece[rows, ::-1].argmax(1)
    columns = np.arange(piece.shape[1])
    low, high = _below(rows, left), -_below(rows, -right)
    hull = np.zeros(piece.shape, bool)
    hull[rows] = (columns >= np.rint(low)[:, None]) & (columns <= np.rint(high)[:, None])
    return hull


def _below(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the largest convex function below points, at their places."""
    kept: list[int] = []
    for i in range(len(x)):
        while len(kept) > 1:
            a, b = kept[-2:]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            kept.pop()
        kept.append(i)
    # A pixel reaches to either side of its row.
    places = np.clip(np.stack([x - 0.25, x + 0.25]), x[0], x[-1])
    return np.asarray(np.interp(places, x[kept], y[kept]).min(0))


def grown(values: NDArray[Any], size: int) -> NDArray[Any]:
    """Return the highest value in the square of `size` around each place."""
    return _extreme(values, size, np.max, values.min())


def shrunk(mask: Mask, size: int, *, outside: bool = True) -> Mask:
    """Return where the whole square of `size` lies in a mask; `outside` counts as in it or not."""
    return _extreme(mask, size, np.min, outside)


def _extreme(values: NDArray[Any], size: int, pick: Any, outside: Any) -> NDArray[Any]:
    for axis in (0, 1):
        edge = [(size // 2, size // 2) if axis == i else (0, 0) for i in (0, 1)]
        padded = np.pad(values, edge, constant_values=outside)
        values = pick(sliding_window_view(padded, size, axis), axis=-1)
    return values


def blurred(values: Floats, deviation: float) -> Floats:
    """Return values blurred by a Gaussian of a deviation in pixels."""
    half = round(deviation * 8 + 1) // 2
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / deviation) ** 2)
    return convolved(values, (kernel / kernel.sum()).astype(np.float32))


def convolved(values: Floats, kernel: Floats) -> Floats:
    """Return values convolved along both axes; beyond the border they are mirrored."""
    half = len(kernel) // 2
    for axis in (0, 1):
        edge = [(half, half) if axis == i else (0, 0) for i in (0, 1)]
        padded = np.pad(values, edge, mode="reflect")
        values = np.asarray(sliding_window_view(padded, len(kernel), axis) @ kernel, np.float32)
    return values


def on_cells(pixels: Mask, shape: tuple[int, ...]) -> Mask:
    """Return which cells h x w of a map hold one of these pixels."""
    return np.asarray(averaged(pixels.astype(np.float32), shape) > 0, bool)


def averaged(values: Floats, shape: tuple[int, ...]) -> Floats:
    """Return values averaged over equal pieces, h x w of them."""
    for axis, (n, m) in enumerate(zip(values.shape, shape, strict=True)):
        ends, pixels = np.arange(m + 1) * n / m, np.arange(n)
        covered = np.minimum(ends[1:, None], pixels + 1) - np.maximum(ends[:-1, None], pixels)
        weights = (np.clip(covered, 0, None) * (m / n)).astype(np.float32)
        values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
    return values


def between(values: Floats, shape: tuple[int, ...]) -> Floats:
    """Return values enlarged to h x w, with lines between the centres of cells."""
    for axis, (n, m) in enumerate(zip(values.shape, shape, strict=True)):
        places = np.clip((np.arange(m) + 0.5) * (n / m) - 0.5, 0, n - 1)
        first = np.minimum(places.astype(int), max(0, n - 2))
        near = (places - first).astype(np.float32).reshape(-1, *[1] * (1 - axis))
        one = np.take(values, first, axis)
        other = np.take(values, np.minimum(first + 1, n - 1), axis)
        values = one * (1 - near) + other * near
    return values


def enlarged(cells: Mask, shape: tuple[int, ...]) -> Mask:
    """Return cells as large as a picture H x W, each pixel as the cell that it lies in."""
    rows, columns = (
        np.minimum((np.arange(m) * (1 / (m / n))).astype(int), n - 1)
        for n, m in zip(cells.shape, shape, strict=True)
    )
    return np.asarray(cells[rows][:, columns], bool)
