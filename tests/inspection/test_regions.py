"""Regions of damage: where they lie, how large they are, and that none is lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from makellos.inspection import Region, find_regions, regions
from makellos.inspection.regions import damage_mask, resize_map

sides = st.integers(1, 12)
pixels = st.integers(1, 60)
eighths = st.integers(0, 16).map(lambda n: n / 8)
maps = hnp.arrays(np.float32, st.tuples(sides, sides), elements=eighths) | hnp.arrays(
    np.float32, st.tuples(sides, sides), elements=st.floats(0, 2, width=32)
)
thresholds = eighths | st.floats(0, 2)


def square_of(
    row: int, column: int, shape: tuple[int, ...], size: tuple[int, int]
) -> tuple[slice, slice]:
    """Return the pixels that a cell of a map covers, wholly or in part."""
    return (
        slice(row * size[0] // shape[0], math.ceil((row + 1) * size[0] / shape[0])),
        slice(column * size[1] // shape[1], math.ceil((column + 1) * size[1] / shape[1])),
    )


def flood(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """Return the 8-connected regions of a mask, found pixel by pixel."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    found = []
    while left:
        region, front = set(), [left.pop()]
        while front:
            y, x = front.pop()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            front += near
        found.append(region)
    return found


@given(maps, pixels, pixels, thresholds)
def test_regions_lie_in_the_picture_and_make_up_the_mask(
    anomaly_map: NDArray[np.float32], height: int, width: int, threshold: float
) -> None:
    regions = find_regions(anomaly_map, height, width, threshold)
    mask = damage_mask(anomaly_map, height, width, threshold)
    assert mask.shape == (height, width)
    assert sum(region.area for region in regions) == mask.sum()
    for region in regions:
        assert region.x >= 0
        assert region.y >= 0
        assert region.x + region.width <= width
        assert region.y + region.height <= height
        assert max(region.width, region.height) <= region.area <= region.width * region.height
        assert region.peak > threshold
    peaks = [region.peak for region in regions]
    assert peaks == sorted(peaks, reverse=True)


@given(maps, pixels, pixels, thresholds)
def test_a_cell_above_the_threshold_is_never_lost(
    anomaly_map: NDArray[np.float32], height: int, width: int, threshold: float
) -> None:
    mask = damage_mask(anomaly_map, height, width, threshold)
    cells = [(int(y), int(x)) for y, x in np.argwhere(anomaly_map.astype(float) > threshold)]
    for row, column in cells:
        assert mask[square_of(row, column, anomaly_map.shape, (height, width))].any()
    assert mask.any() == bool(cells)


@given(maps, pixels, pixels, thresholds)
def test_the_highest_peak_is_that_of_the_map(
    anomaly_map: NDArray[np.float32], height: int, width: int, threshold: float
) -> None:
    # A rejected part, scored by its maximum, then always shows a region with its score.
    regions = find_regions(anomaly_map, height, width, threshold)
    highest = float(anomaly_map.max())
    assert bool(regions) == (highest > threshold)
    if regions:
        assert regions[0].peak == highest


@given(maps, st.integers(1, 8), st.integers(1, 8), thresholds)
def test_nothing_is_marked_away_from_cells_above_the_threshold(
    anomaly_map: NDArray[np.float32], rows: int, columns: int, threshold: float
) -> None:
    h, w = anomaly_map.shape
    mask = damage_mask(anomaly_map, h * rows, w * columns, threshold)
    near = np.zeros((h + 2, w + 2), bool)
    for row, column in np.argwhere(anomaly_map.astype(float) > threshold):
        near[row : row + 3, column : column + 3] = True
    allowed = near[1:-1, 1:-1].repeat(rows, 0).repeat(columns, 1)
    assert not (mask & ~allowed).any()


@given(maps, thresholds)
def test_at_the_size_of_the_map_regions_are_those_of_a_flood_fill(
    anomaly_map: NDArray[np.float32], threshold: float
) -> None:
    expected = set()
    for region in flood(anomaly_map.astype(float) > threshold):
        ys, xs = [y for y, _ in region], [x for _, x in region]
        expected.add(
            Region(
                x=min(xs),
                y=min(ys),
                width=max(xs) - min(xs) + 1,
                height=max(ys) - min(ys) + 1,
                area=len(region),
                peak=max(float(anomaly_map[cell]) for cell in region),
            )
        )
    height, width = anomaly_map.shape
    assert set(find_regions(anomaly_map, height, width, threshold)) == expected


@pytest.mark.parametrize("size", [(40, 120), (120, 40), (7, 200), (4, 6), (3, 5), (1, 1)])
@pytest.mark.parametrize("cell", [(0, 0), (1, 4), (3, 5), (2, 0)])
def test_boxes_are_in_pixels_of_pictures_that_are_not_square(
    size: tuple[int, int], cell: tuple[int, int]
) -> None:
    anomaly_map = np.zeros((4, 6), np.float32)
    anomaly_map[cell] = 2.0
    (region,) = find_regions(anomaly_map, *size, 1.0)
    y, x = square_of(*cell, anomaly_map.shape, size)
    # At half of a peak, bilinear interpolation reaches half a cell from its centre: its square.
    assert x.start <= region.x < region.x + region.width <= x.stop
    assert y.start <= region.y < region.y + region.height <= y.stop
    centre = ((y.start + y.stop) // 2, (x.start + x.stop) // 2)
    assert region.y <= centre[0] < region.y + region.height
    assert region.x <= centre[1] < region.x + region.width


def test_two_peaks_just_above_the_threshold_are_both_found() -> None:
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[1, 1] = 50.0
    anomaly_map[6, 6] = 1.001
    high, low = find_regions(anomaly_map, 80, 160, 1.0)
    assert high.peak == 50.0
    assert (low.x, low.y, low.width, low.height) == (120, 60, 20, 10)
    assert low.peak == pytest.approx(1.001)


def test_threshold_is_not_rounded_to_float32() -> None:
    anomaly_map = np.full((4, 4), 0.1, np.float32)
    score = float(anomaly_map.max())
    assert find_regions(anomaly_map, 4, 4, score) == []
    assert find_regions(anomaly_map, 40, 40, score) == []
    for size in (4, 40):
        (region,) = find_regions(anomaly_map, size, size, score - 1e-12)
        assert region.area == size * size


def test_diagonal_neighbours_are_one_region() -> None:
    anomaly_map = np.eye(5, dtype=np.float32)
    (region,) = find_regions(anomaly_map, 5, 5, 0.5)
    assert region == Region(x=0, y=0, width=5, height=5, area=5, peak=1.0)


def test_the_map_is_left_as_it_was() -> None:
    anomaly_map = np.random.default_rng(0).random((6, 9), np.float32)
    before = anomaly_map.copy()
    for size in ((6, 9), (31, 17)):
        find_regions(anomaly_map, *size, 0.5)
        damage_mask(anomaly_map, *size, 0.5)
        resize_map(anomaly_map, *size)
    assert np.array_equal(anomaly_map, before)


def test_resized_map_keeps_size_and_constants() -> None:
    constant = np.full((3, 5), 0.25, np.float32)
    assert resize_map(constant, 20, 7).shape == (20, 7)
    assert np.allclose(resize_map(constant, 20, 7), 0.25)
    assert resize_map(constant, 3, 5) is constant


@pytest.mark.parametrize("threshold", [math.inf, 1e300])
def test_thresholds_beyond_float32_mark_nothing(threshold: float) -> None:
    assert find_regions(np.ones((3, 3), np.float32), 30, 30, threshold) == []


@given(
    st.tuples(st.integers(1, 25), st.integers(1, 12)),
    st.tuples(st.floats(1, 6), st.integers(1, 60)),
    st.integers(0, 10_000),
    st.floats(0.05, 0.95),
    st.integers(1, 2000),
)
def test_stripes_of_a_large_picture_have_the_regions_of_the_whole(
    shape: tuple[int, int],
    size: tuple[float, int],
    seed: int,
    threshold: float,
    stripe: int,
) -> None:
    anomaly_map = np.random.default_rng(seed).random(shape, np.float32)
    height, width = math.ceil(shape[0] * size[0]), size[1]
    whole = find_regions(anomaly_map, height, width, threshold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "_WHOLE", 0)
        patch.setattr(regions, "_STRIPE", stripe)
        striped = find_regions(anomaly_map, height, width, threshold)
    assert len(striped) == len(whole)

    def place(region: Region) -> tuple[int, ...]:
        return (region.y, region.x, region.height, region.width, region.area)

    for ours, theirs in zip(sorted(striped, key=place), sorted(whole, key=place), strict=True):
        assert place(ours) == place(theirs)
        assert ours.peak == pytest.approx(theirs.peak, rel=1e-5)


def test_a_region_in_the_shape_of_a_ring_is_joined_across_stripes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    anomaly_map = np.zeros((30, 30), np.float32)
    anomaly_map[3:28, 3:28] = 2.0
    anomaly_map[6:25, 6:25] = 0.0
    anomaly_map[15, 15] = 3.0
    monkeypatch.setattr(regions, "_WHOLE", 0)
    monkeypatch.setattr(regions, "_STRIPE", 4 * 300 * 10)
    inner, ring = find_regions(anomaly_map, 300, 300, 1.5)
    assert (inner.peak, ring.peak) == (3.0, 2.0)
    assert min(ring.width, ring.height) > 240
