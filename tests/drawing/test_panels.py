"""Panels: part, nearest good part, difference and damage, side by side, of one size and crisp."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.data.pictures import Picture
from makellos.drawing.lettering import PAGE, letter, shorten, text_width
from makellos.drawing.overlays import draw_overlay
from makellos.drawing.panels import (
    DAMAGE,
    DIFFERENCE,
    NEAREST,
    PART,
    draw_panel,
    draw_tiles,
    fit_picture,
)
from makellos.inspection import Inspection, find_regions

THRESHOLD = 0.25
Floats = NDArray[np.float32]


def inspected(
    size: tuple[int, int], anomaly_map: Floats | None, made: Floats | None, verdict: str = "reject"
) -> Inspection:
    found = [] if anomaly_map is None else find_regions(anomaly_map, *size, THRESHOLD)
    return Inspection(
        "thread/000.png",
        verdict,
        score=2.0,
        p_value=0.01,
        threshold=1.0,
        regions=tuple(found),
        size=size,
        anomaly_map=anomaly_map,
        reconstruction=made,
    )


def spot(shape: tuple[int, int] = (7, 7), row: int = 2, column: int = 5) -> Floats:
    anomaly_map = np.zeros(shape, np.float32)
    anomaly_map[row, column] = 1.0
    return anomaly_map


def tiles(picture: Picture, inspection: Inspection) -> dict[str, NDArray[np.uint8]]:
    return draw_tiles(picture, inspection, map_threshold=THRESHOLD)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize(
    ("size", "tile"),
    [
        ((28, 28), (336, 336)),
        ((64, 48), (320, 240)),
        ((256, 256), (512, 512)),
        ((320, 512), (320, 512)),
        ((300, 900), (171, 512)),
        ((1, 1), (320, 320)),
        ((1, 900), (1, 512)),
    ],
)
def test_all_tiles_have_one_size(
    dtype: type[np.uint8] | type[np.uint16],
    channels: tuple[int, ...],
    size: tuple[int, int],
    tile: tuple[int, int],
) -> None:
    picture = np.full((*size, *channels), np.iinfo(dtype).max // 2, dtype)
    before = picture.copy()
    made = np.full((len(channels) * 2 + 1, 32, 32), 0.5, np.float32)
    inspection = inspected(size, spot(), made)
    found = tiles(picture, inspection)
    assert list(found) == [PART, NEAREST, DIFFERENCE, DAMAGE]
    assert {drawn.shape for drawn in found.values()} == {(*tile, 3)}
    assert {drawn.dtype for drawn in found.values()} == {np.dtype(np.uint8)}
    assert (found[PART] == found[PART][0, 0]).all()
    assert abs(int(found[PART][0, 0, 0]) - int(found[NEAREST][0, 0, 0])) <= 1
    panel = draw_panel(picture, inspection, map_threshold=THRESHOLD)
    assert panel.dtype == np.uint8
    assert np.array_equal(picture, before)


def test_small_pictures_are_enlarged_pixel_by_pixel() -> None:
    picture = noise(28, 28, 3)
    made = noise(3, 28, 28, seed=1).astype(np.float32) / 255
    found = tiles(picture, inspected((28, 28), spot(), made))
    assert np.array_equal(found[PART], np.kron(picture, np.ones((12, 12, 1), np.uint8)))
    expected = np.rint(255 * made).astype(np.uint8).transpose(1, 2, 0)
    assert np.array_equal(found[NEAREST][6::12, 6::12], expected)


def test_reconstruction_of_one_channel_is_gray_and_of_three_red_green_blue() -> None:
    gray = tiles(noise(64, 64), inspected((64, 64), None, np.full((1, 64, 64), 0.4, np.float32)))
    assert (gray[NEAREST] == 102).all()
    planes = np.zeros((3, 64, 64), np.float32)
    planes[0] = 1.5  # beyond white, and shown as white
    color = tiles(noise(64, 64, 3), inspected((64, 64), None, planes))
    assert (color[NEAREST] == (255, 0, 0)).all()


def test_reconstruction_is_stretched_to_its_part() -> None:
    made = np.zeros((1, 64, 64), np.float32)
    made[:, :, 32:] = 1.0
    drawn = tiles(noise(300, 900), inspected((300, 900), None, made))[NEAREST]
    assert (drawn[:, :240] == 0).all()
    assert (drawn[:, 272:] == 255).all()


def test_16_bit_pictures_are_shown_by_their_white_level() -> None:
    picture = np.full((400, 400), 2048, np.uint16)
    shown = draw_tiles(picture, Inspection("a", "ok"), map_threshold=1.0, white_level=4095)
    assert (shown[PART] == 128).all()
    assert (shown[DAMAGE] == 128).all()


def test_difference_is_brightest_at_the_damage_and_dark_elsewhere() -> None:
    found = tiles(noise(28, 28), inspected((28, 28), spot(), None))[DIFFERENCE]
    light = found.sum(axis=2)
    rows, columns = np.nonzero(light == light.max())
    np.testing.assert_allclose([rows.mean(), columns.mean()], [2.5 * 48, 5.5 * 48], atol=2)
    assert (found[200:] == found[-1, 0]).all()
    assert light[-1, 0] < 20


def test_colors_of_the_difference_are_those_of_the_overlay() -> None:
    # On black, the overlay at full opacity of 0.6 is 0.6 times the colour of the difference.
    picture = np.zeros((500, 500), np.uint8)
    anomaly_map = np.full((5, 5), 1.4 * THRESHOLD, np.float32)
    inspection = Inspection("a", "ok", anomaly_map=anomaly_map)
    overlay = draw_overlay(picture, inspection, map_threshold=THRESHOLD, caption=False)
    difference = tiles(picture, inspection)[DIFFERENCE]
    np.testing.assert_allclose(overlay[250, 250], 0.6 * difference[250, 250], atol=2)


def test_colors_depend_on_the_threshold_alone() -> None:
    gradient = np.linspace(0, 0.4, 400, dtype=np.float32)[np.newaxis].repeat(400, 0)
    picture = np.zeros((400, 400), np.uint8)
    whole = tiles(picture, inspected((400, 400), gradient, None))[DIFFERENCE]
    half = tiles(picture, inspected((400, 400), np.minimum(gradient, 0.2), None))[DIFFERENCE]
    assert np.array_equal(whole[:, :200], half[:, :200])
    assert not np.array_equal(whole[:, 300:], half[:, 300:])


@pytest.mark.parametrize(("side", "factor"), [(28, 12), (64, 5), (400, 1)])
def test_damage_is_outlined_where_it_is(side: int, factor: int) -> None:
    picture = np.full((side, side), 100, np.uint8)
    drawn = tiles(picture, inspected((side, side), spot((4, 4), 1, 2), None))[DAMAGE]
    assert drawn.shape == (side * factor, side * factor, 3)
    changed = np.argwhere((np.abs(drawn.astype(int) - 100) > 20).any(axis=2)) / factor / side
    middle = (changed.min(0) + changed.max(0)) / 2
    np.testing.assert_allclose(middle, [1.5 / 4, 2.5 / 4], atol=0.03)


def test_panel_holds_its_tiles_from_left_to_right() -> None:
    picture = noise(400, 300, 3)
    inspection = inspected((400, 300), spot(), np.full((3, 64, 64), 0.25, np.float32))
    panel = draw_panel(picture, inspection, map_threshold=THRESHOLD)
    places = []
    for tile in tiles(picture, inspection).values():
        match = cv2.matchTemplate(panel, tile, cv2.TM_SQDIFF)
        best, _, place, _ = cv2.minMaxLoc(match)
        assert best < 400 * 300  # rounding of sums in float32, far below one grey level a pixel
        places.append(place)
    assert len({y for _, y in places}) == 1
    steps = np.diff([x for x, _ in places])
    assert (steps == steps[0]).all()
    assert steps[0] > 300


def test_the_map_is_labelled_by_what_it_shows() -> None:
    made = np.zeros((1, 64, 64), np.float32)
    named = replace(inspected((100, 100), spot(), made), map_name="SSIM residual")
    assert list(tiles(noise(100, 100), named)) == [PART, NEAREST, "SSIM residual", DAMAGE]
    plain = replace(named, map_name="")
    panels = [draw_panel(noise(100, 100), each, map_threshold=THRESHOLD) for each in (named, plain)]
    # Label and scale stand at the map; nothing else changes.
    changed = np.argwhere((panels[0] != panels[1]).any(axis=2))
    assert panels[0].shape == panels[1].shape
    assert 0 < np.ptp(changed[:, 0]) < 20
    wide = replace(named, map_name="negative log-likelihood, relative to usual")
    assert draw_panel(noise(100, 100), wide, map_threshold=THRESHOLD).shape >= panels[0].shape


def test_what_a_detector_does_not_give_is_left_out() -> None:
    picture = noise(100, 100)
    assert list(tiles(picture, inspected((100, 100), None, None))) == [PART, DAMAGE]
    assert list(tiles(picture, inspected((100, 100), spot(), None))) == [PART, DIFFERENCE, DAMAGE]
    unreadable = Inspection("part.png", "unreadable", error="part.png is empty.")
    assert draw_panel(picture, unreadable, map_threshold=1.0).shape[2] == 3


def test_narrow_parts_leave_room_for_the_labels() -> None:
    tall = inspected((700, 4), spot(), np.zeros((1, 64, 64), np.float32))
    panel = draw_panel(noise(700, 4), tall, map_threshold=THRESHOLD)
    assert panel.shape[1] > 4 * text_width(NEAREST, 15)


def test_captions_of_verdicts_have_their_own_colors() -> None:
    panels = [
        draw_panel(noise(64, 64), inspected((64, 64), None, None, verdict), map_threshold=1.0)
        for verdict in ("ok", "look_again", "reject")
    ]
    assert len({tuple(panel[39, 28].tolist()) for panel in panels}) == 3
    assert all(tuple(panel[2, 2].tolist()) == PAGE for panel in panels)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1e-30])
def test_thresholds_without_a_scale_still_draw(threshold: float) -> None:
    inspection = inspected((64, 64), spot(), np.zeros((1, 64, 64), np.float32))
    assert draw_panel(noise(64, 64), inspection, map_threshold=threshold).size


def test_fitting_shrinks_by_averages() -> None:
    stripes = np.zeros((100, 100, 3), np.uint8)
    stripes[::2] = 255
    assert (np.abs(fit_picture(stripes, 50, 100).astype(int) - 128) <= 1).all()
    assert np.array_equal(fit_picture(stripes, 100, 100), stripes)


def test_text_is_written_within_its_width() -> None:
    canvas = np.full((40, 200, 3), 255, np.uint8)
    letter(canvas, "nearest good part", (10, 20), 15)
    dark = np.argwhere(canvas.min(axis=2) < 128)
    assert dark[:, 1].min() >= 10
    assert dark[:, 1].max() <= 10 + text_width("nearest good part", 15)
    assert dark[:, 0].min() >= 8
    assert dark[:, 0].max() <= 30


def test_long_names_lose_their_beginning() -> None:
    name = "a" * 200 + "/000.png"
    short = shorten(name, 15, 120)
    assert short.startswith("...")
    assert short.endswith("/000.png")
    assert text_width(short, 15) <= 120
    assert shorten("000.png", 15, 3) == ""
    assert shorten("000.png", 15, -5) == ""


def test_captions_of_narrow_parts_have_the_room_they_need() -> None:
    narrow = inspected((700, 4), spot(), None)
    panel = draw_panel(noise(700, 4), narrow, map_threshold=THRESHOLD)
    written = np.flatnonzero((panel[24:54] != PAGE).any(axis=(0, 2)))
    assert panel.shape[1] - 24 - text_width("000.png", 15) <= written[-1] < panel.shape[1] - 24
