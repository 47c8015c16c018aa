"""Statistics of pictures: each answers to its own cause, and rows hold them."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from makellos.errors import InputError
from makellos.inspection.statistics import CELLS, FIGURES, Statistics, statistics_of

Picture = NDArray[np.uint8]


def part(
    *, x: float = 96.0, degrees: float = 30.0, size: float = 1.0, ground: float = 180.0
) -> Picture:
    """Return a picture of 192 pixels, a bar with a slit on a ground with a little grain."""
    picture = np.full((192, 192), ground, np.float32)
    for length, width, shade in ((120, 36, 70), (80, 6, 120)):
        box = ((x, 96.0), (length * size, width * size), degrees)
        cv2.fillPoly(picture, [cv2.boxPoints(box).round().astype(np.int32)], shade)
    picture = cv2.GaussianBlur(picture, (0, 0), 0.7)
    grain = np.random.default_rng(0).normal(0, 1.5, picture.shape)
    return np.clip(picture + grain + 0.5, 0, 255).astype(np.uint8)


def figures(picture: Picture) -> dict[str, float]:
    return dict(statistics_of(picture).figures)


def test_light_changes_the_level_alone() -> None:
    plain, light = figures(part()), figures(np.clip(part() * 1.08 + 0.5, 0, 255).astype(np.uint8))
    assert light["level"] - plain["level"] == pytest.approx(math.log(1.08), abs=0.01)
    for name in ("sharpness", "noise", "part", "length", "width"):
        # Whole gray values make a little noise of their own.
        assert light[name] == pytest.approx(plain[name], abs=0.1 if name == "noise" else 0.03)


def test_blur_takes_sharpness_and_no_size() -> None:
    plain, soft = figures(part()), figures(cv2.GaussianBlur(part(), (0, 0), 1.2).astype(np.uint8))
    assert soft["sharpness"] < plain["sharpness"] - 0.15
    assert soft["length"] == pytest.approx(plain["length"], abs=0.03)


def test_noise_is_noise() -> None:
    drawn = np.random.default_rng(1).normal(0, 3, (192, 192))
    loud = figures(np.clip(part() + drawn, 0, 255).astype(np.uint8))
    assert loud["noise"] > figures(part())["noise"] + 0.4
    assert loud["sharpness"] == pytest.approx(figures(part())["sharpness"], abs=0.1)


def test_pose_is_place_direction_and_size() -> None:
    plain, moved = figures(part()), figures(part(x=106, degrees=50, size=1.1))
    assert moved["x"] - plain["x"] == pytest.approx(10 / 192, abs=0.004)
    turn = math.degrees(math.atan2(moved["turn_y"], moved["turn_x"])) / 2
    assert turn == pytest.approx(50, abs=1)
    assert moved["length"] - plain["length"] == pytest.approx(math.log(1.1), abs=0.02)


def test_colour_is_told_against_green() -> None:
    plain = np.repeat(part()[..., np.newaxis], 3, axis=2)
    cast = np.clip(plain * np.array([1.06, 1.0, 0.96]), 0, 255).astype(np.uint8)
    before, after = figures(plain), figures(cast)
    assert after["red"] - before["red"] == pytest.approx(math.log(1.06), abs=0.01)
    assert after["blue"] - before["blue"] == pytest.approx(math.log(0.96), abs=0.01)
    assert "red" not in figures(part())


def test_spot_darkens_the_cells_where_it_lies() -> None:
    dirty = part().copy()
    dirty[12:24, 150:162] = (dirty[12:24, 150:162] * 0.85).astype(np.uint8)
    change = statistics_of(dirty).local() - statistics_of(part()).local()
    row, column = np.unravel_index(change.argmin(), change.shape)
    assert (row, column) in {(r, c) for r in (2, 3) for c in (25, 26)}
    far = np.abs(change[20:, :12])
    assert -change.min() > 10 * far.max()


def test_depth_of_a_picture_does_not_matter() -> None:
    eight, sixteen = figures(part()), figures(part().astype(np.uint16) * 257)  # type: ignore[arg-type]
    assert sixteen == pytest.approx(eight, abs=2e-3)


# What the first version of these figures gave: models hold limits of them.
_GRAY = (
    *{"level": -0.34831, "sharpness": -0.25253, "noise": -4.99233, "grain": 0.85795}.items(),
    *{"across": -0.01123, "along": -0.01459, "x": 0.49989, "y": 0.49981}.items(),
    *{"turn_x": 0.49816, "turn_y": 0.86709, "length": -0.45083, "width": -1.58374}.items(),
    *{"area": -2.06031, "part": -0.93028}.items(),
)
_COLOUR = (
    *{"level": -0.44547, "red": 0.32542, "blue": 0.32542, "sharpness": -0.27028}.items(),
    *{"noise": -5.3991, "grain": 0.84964, "across": -0.01505, "along": -0.00871}.items(),
    *{"x": 0.5, "y": 0.4974, "turn_x": 1.0, "turn_y": 0.0, "length": -0.47837}.items(),
    *{"width": -0.75769, "area": -1.56836, "part": -0.39229}.items(),
)


def test_figures_mean_what_they_meant_when_older_models_learned_them() -> None:
    gray = part()[:, :189]
    colour = np.stack([gray, gray // 2 + 40, gray[::-1]], -1)
    assert figures(gray) == pytest.approx(dict(_GRAY), abs=1e-4)
    assert figures(colour) == pytest.approx(dict(_COLOUR), abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255), st.booleans())
def test_any_picture_has_finite_statistics(h: int, w: int, level: int, colour: bool) -> None:
    shape = (h, w, 3) if colour else (h, w)
    found = statistics_of(np.full(shape, level, np.uint8))
    assert set(found.figures) <= set(FIGURES)
    assert all(map(math.isfinite, found.figures.values()))
    assert found.field.shape == (CELLS, CELLS) and np.isfinite(found.field).all()


def test_rows_hold_statistics() -> None:
    found = statistics_of(part())
    again = Statistics.of_row(found.row())
    assert again.figures == pytest.approx(found.figures, abs=1e-6)
    assert (again.covered == found.covered).all()
    assert np.abs(again.field - found.field).max() <= 1e-4


@pytest.mark.parametrize(
    "row",
    [{}, {"field": "no"}, {"field": 3}, {"field": "AAAA"}, {"field": None, "level": 1.0}],
)
def test_rows_without_statistics_are_refused(row: dict[str, object]) -> None:
    with pytest.raises(InputError, match="no statistics of a picture"):
        Statistics.of_row(row)


def test_figures_of_a_row_are_finite_numbers() -> None:
    row = statistics_of(part()).row()
    for wrong in ("x", math.nan, [1]):
        with pytest.raises(InputError, match="no statistics of a picture"):
            Statistics.of_row({**row, "level": wrong})
