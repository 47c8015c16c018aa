"""The program of an exported folder computes what OpenCV and makellos compute, by NumPy alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.inspection import background, loose
from makellos.models.standalone import beside

SIDE, CELL = 384, 24


def bolt(*, fibre: bool = False, stain: bool = False) -> NDArray[np.float32]:
    """Return a dark bolt on a plain table, 1×H×W in [0, 1], with dirt close to it."""
    rng = np.random.default_rng(0)
    solid, dirt = np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.float32)
    solid[144:240, 48:300] = 1
    if fibre:
        points = np.array([[80, 124], [120, 112], [160, 122]], np.int32).reshape(-1, 1, 2)
        cv2.polylines(dirt, [points], isClosed=False, color=1.0, thickness=2)
    if stain:
        cv2.circle(dirt, (4, 320), 24, 1.0, 2)
    rows = np.linspace(0, 0.05, SIDE, dtype=np.float32)[:, None]
    shadow = cv2.GaussianBlur(solid, (0, 0), 24)
    gray = 0.9 + rows - 0.3 * shadow - 0.35 * cv2.GaussianBlur(solid, (0, 0), 0.8)
    gray = gray - 0.2 * cv2.GaussianBlur(dirt, (0, 0), 0.7) + rng.normal(0, 0.004, gray.shape)
    return gray.astype(np.float32)[None]


def inside() -> NDArray[np.bool_]:
    cells = np.zeros((SIDE // CELL, SIDE // CELL), bool)
    cells[5:11, 1:14] = True
    return cells


def blots(shape: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    noise = np.random.default_rng(seed).random(shape).astype(np.float32)
    return np.asarray(cv2.blur(noise, (3, 3)) > 0.5, bool)


@pytest.mark.parametrize("shape", [(64, 64), (61, 90), (5, 7)])
@pytest.mark.parametrize("seed", range(3))
def test_masks_are_worked_on_as_opencv_does(shape: tuple[int, int], seed: int) -> None:
    mask, square = blots(shape, seed), np.ones((5, 5), np.uint8)
    raw = mask.astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(raw)
    labels, areas = beside.components(mask)
    assert len(areas) == count
    assert sorted(areas[1:]) == sorted(stats[1:, cv2.CC_STAT_AREA])
    assert all(len(np.unique(labels[labels == i])) == 1 for i in range(1, count))
    assert (beside.filled(mask) == loose.filled(mask)).all()
    assert (beside.part_in(mask) == background.part_in(mask)).all()
    assert (beside.grown(mask, 5) == cv2.dilate(raw, square)).all()
    assert (beside.shrunk(mask, 5, outside=False) == cv2.erode(raw, square, borderValue=0)).all()
    closed = cv2.morphologyEx(raw, cv2.MORPH_CLOSE, square)
    assert (beside.shrunk(beside.grown(mask, 5), 5) == closed).all()
    large = cv2.resize(raw, (200, 130), interpolation=cv2.INTER_NEAREST)
    assert (beside.enlarged(mask, (130, 200)) == large).all()


@pytest.mark.parametrize("shape", [(64, 64), (61, 90)])
def test_values_are_worked_on_as_opencv_does(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    for deviation in (beside.FINE, beside.COARSE):
        expected = cv2.GaussianBlur(values, (0, 0), deviation)
        assert np.abs(beside.blurred(values, deviation) - expected).max() < 1e-5
    small = cv2.resize(values, (9, 7), interpolation=cv2.INTER_AREA)
    assert np.abs(beside.averaged(values, (7, 9)) - small).max() < 1e-5
    large = cv2.resize(values, (200, 130), interpolation=cv2.INTER_LINEAR)
    assert np.abs(beside.between(values, (130, 200)) - large).max() < 1e-5


def test_hulls_are_those_of_opencv_but_for_single_pixels() -> None:
    mask = blots((64, 90), 7)
    expected = loose.filled(mask, hulls=True)
    assert (beside.filled(mask, hulls=True) != expected).sum() < 0.05 * expected.sum()


@pytest.mark.parametrize("dirt", [{}, {"fibre": True}, {"stain": True}])
def test_what_lies_loose_is_found_and_taken_out_alike(dirt: dict[str, bool]) -> None:
    picture = np.repeat(bolt(**dirt), 3, axis=0)
    expected, found = loose.find_loose(picture, inside()), beside.find_loose(picture, inside())
    if expected is None:
        assert found is None and not dirt
        return
    assert found is not None and dirt
    assert (found.loose != expected.loose).sum() <= 0.02 * expected.loose.sum()
    assert (found.part == expected.part).all()
    same = beside.Loose(expected.loose, expected.part)
    painted = beside.without(picture, same)
    assert np.abs(painted - loose.without(picture, expected)).max() < 1e-4


@pytest.mark.parametrize("choice", ["ignore", "look_again", "count"])
@pytest.mark.parametrize("least", [0.0, 0.9])
def test_maps_are_divided_alike(choice: background.Choice, least: float) -> None:
    rng = np.random.default_rng(0)
    anomaly_map = rng.random((16, 16)).astype(np.float32)
    part = cv2.blur(inside().astype(np.float32), (3, 3))
    ours = background.Background(choice=choice, least=least, most=1.0)
    theirs = beside.Background(choice, least, 1.0)
    removed = loose.find_loose(bolt(fibre=True), inside())
    assert removed is not None
    for taken in (None, removed):
        again = None if taken is None else beside.Loose(*taken)
        expected = ours.apart(anomaly_map, part, taken)
        for one, other in zip(theirs.apart(anomaly_map, part, again), expected, strict=True):
            assert np.abs(one - other).max() < 1e-6
    for counted in (part, 1 - part):
        one, other = (rule.loose(counted, part, bolt(fibre=True)) for rule in (theirs, ours))
        assert (one is None) == (other is None)
