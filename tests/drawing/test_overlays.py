"""Overlays: their size for every kind of picture, and damage drawn where it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.data.pictures import Picture, read_picture
from makellos.drawing.lettering import SOFT, WHITE
from makellos.drawing.overlays import draw_overlay, write_picture
from makellos.errors import StorageError
from makellos.inspection import Inspection, Region, find_regions
from makellos.inspection.background import Beside

THRESHOLD = 1.0


def inspected(
    anomaly_map: NDArray[np.float32] | None, height: int, width: int, verdict: str = "reject"
) -> Inspection:
    found = [] if anomaly_map is None else find_regions(anomaly_map, height, width, THRESHOLD)
    return Inspection(
        "part.png",
        verdict,
        score=2.0,
        p_value=0.01,
        threshold=THRESHOLD,
        regions=tuple(found),
        size=(height, width),
        anomaly_map=anomaly_map,
    )


def one_hot(row: int = 2, column: int = 5, shape: tuple[int, int] = (6, 8)) -> NDArray[np.float32]:
    anomaly_map = np.zeros(shape, np.float32)
    anomaly_map[row, column] = 2.0
    return anomaly_map


def drawn(picture: Picture, inspection: Inspection, *, caption: bool = False) -> NDArray[np.uint8]:
    return draw_overlay(picture, inspection, map_threshold=THRESHOLD, caption=caption)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize(
    ("size", "factor"),
    [
        ((480, 300), 1),
        ((479, 300), 2),
        ((1, 1), 480),
        ((1, 700), 1),
        ((700, 1), 1),
        ((5, 96), 5),
        ((1500, 2100), 1),
    ],
)
def test_overlay_of_any_picture(
    dtype: type[np.uint8] | type[np.uint16],
    channels: tuple[int, ...],
    size: tuple[int, int],
    factor: int,
) -> None:
    picture = np.full((*size, *channels), np.iinfo(dtype).max // 2, dtype)
    before = picture.copy()
    overlay = drawn(picture, inspected(one_hot(), *size), caption=True)
    assert overlay.shape == (size[0] * factor, size[1] * factor, 3)
    assert overlay.dtype == np.uint8
    assert np.array_equal(picture, before)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 5), (5, 7)])
def test_damage_is_drawn_where_it_is_and_nowhere_else(row: int, column: int) -> None:
    height, width, cell = 600, 800, 100
    picture = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    overlay = drawn(picture, inspected(one_hot(row, column), height, width))
    changed = np.argwhere((overlay != picture).any(axis=2))
    # Heat starts at half of the threshold, three quarters of a cell from the centre of this peak.
    slack = 0.3 * cell
    assert changed[:, 0].min() >= max(0, row * cell - slack)
    assert changed[:, 1].min() >= max(0, column * cell - slack)
    assert changed[:, 0].max() <= (row + 1) * cell + slack
    assert changed[:, 1].max() <= (column + 1) * cell + slack
    centre = overlay[row * cell + 50, column * cell + 50].astype(int)
    assert np.abs(centre - picture[row * cell + 50, column * cell + 50]).max() > 20


def test_enlarged_overlay_keeps_places() -> None:
    picture = np.full((60, 80, 3), 100, np.uint8)
    overlay = drawn(picture, inspected(one_hot(2, 5), 60, 80))
    assert overlay.shape == (360, 480, 3)
    changed = np.argwhere((overlay != 100).any(axis=2))
    middle = (changed.min(0) + changed.max(0)) / 2
    assert np.allclose(middle, [2.5 * 60, 5.5 * 60], atol=6)


def test_box_surrounds_the_region() -> None:
    picture = np.zeros((600, 800, 3), np.uint8)
    inspection = inspected(one_hot(2, 5), 600, 800)
    (region,) = inspection.regions
    overlay = drawn(picture, inspection)
    left = overlay[region.y + region.height // 2, region.x - 12 : region.x]
    above = overlay[region.y - 12 : region.y, region.x + region.width // 2]
    assert (left >= 200).all(axis=1).any()
    assert (above >= 200).all(axis=1).any()


@pytest.mark.parametrize("y", [0, 300, 560])
def test_what_lies_beside_the_part_has_a_grey_box_with_its_name(y: int) -> None:
    picture = np.zeros((600, 800, 3), np.uint8)
    plain = inspected(None, 600, 800, "look_again")
    fibre = Beside("fibre", Region(x=700, y=y, width=60, height=30, area=90, peak=2.0))
    changed = (drawn(picture, replace(plain, beside=(fibre,))) != drawn(picture, plain)).any(2)
    rows, columns = np.nonzero(changed)
    assert columns.min() >= 560 and columns.max() >= 755  # the name stays in the picture
    assert y - 60 <= rows.min() and rows.max() <= y + 90  # and close to the box
    overlay = drawn(picture, replace(plain, beside=(fibre,)))
    assert (overlay[changed] == SOFT).all(1).sum() > 500
    assert (overlay[changed] == WHITE).all(1).any()  # letters
    inner = overlay[y + 8 : y + 22, 710:750]
    assert (inner == 0).all()  # the fibre itself stays to be seen


def test_below_half_the_threshold_nothing_is_drawn() -> None:
    picture = np.random.default_rng(1).integers(0, 255, (500, 500, 3), dtype=np.uint8)
    quiet = np.full((5, 5), 0.5 * THRESHOLD, np.float32)
    assert np.array_equal(drawn(picture, inspected(quiet, 500, 500, "ok")), picture)


def test_what_is_usual_on_a_part_is_not_heated() -> None:
    picture = np.full((500, 500, 3), 90, np.uint8)
    usual = np.full((5, 5), 0.8 * THRESHOLD, np.float32)
    warm = usual.copy()
    warm[1, 3] = 0.97 * THRESHOLD
    assert np.array_equal(drawn(picture, Inspection("a", "ok", anomaly_map=usual)), picture)
    overlay = drawn(picture, Inspection("a", "ok", anomaly_map=warm))
    assert not np.array_equal(overlay[150, 350], picture[150, 350])
    assert np.array_equal(overlay[400, 100], picture[400, 100])


@pytest.mark.parametrize("level", [0.95, 1.4])
def test_part_that_is_odd_all_over_is_heated_all_over(level: float) -> None:
    picture = np.full((500, 500, 3), 90, np.uint8)
    odd = np.full((5, 5), level * THRESHOLD, np.float32)
    overlay = drawn(picture, Inspection("a", "reject", anomaly_map=odd))
    assert (overlay[100:400, 100:400] != picture[100:400, 100:400]).any(axis=2).all()


def test_threshold_has_one_color_on_every_part() -> None:
    picture = np.full((500, 500, 3), 90, np.uint8)
    colors = []
    for usual in (0.0, 0.3, 0.8):
        anomaly_map = np.full((5, 5), usual * THRESHOLD, np.float32)
        anomaly_map[1, 3] = 0.999 * THRESHOLD  # below, so that no outline crosses
        found = Inspection("a", "ok", anomaly_map=anomaly_map)
        colors.append(drawn(picture, found)[150, 350].astype(int))
    assert np.ptp(colors, axis=0).max() <= 2


def test_colors_of_a_place_do_not_depend_on_how_much_worse_others_are() -> None:
    picture = np.full((500, 500, 3), 90, np.uint8)
    gradient = np.linspace(0, 1.6, 500, dtype=np.float32)[np.newaxis].repeat(500, 0)
    whole = drawn(picture, Inspection("a", "ok", anomaly_map=gradient))
    half = drawn(picture, Inspection("a", "ok", anomaly_map=np.minimum(gradient, 0.95)))
    cold = gradient[0] <= 0.95
    cold[np.flatnonzero(cold)[-4:]] = False  # beside the outline
    assert np.array_equal(whole[:, cold], half[:, cold])


@pytest.mark.parametrize("verdict", ["ok", "look_again", "reject"])
def test_caption_is_drawn_in_the_corner(verdict: str) -> None:
    picture = np.full((600, 800, 3), 100, np.uint8)
    quiet = inspected(np.zeros((6, 8), np.float32), 600, 800, verdict)
    changed = np.argwhere((drawn(picture, quiet, caption=True) != 100).any(axis=2))
    assert tuple(changed.min(0)) == (0, 0)
    assert changed[:, 0].max() < 80
    assert changed[:, 1].max() < 500
    assert np.array_equal(drawn(picture, quiet), picture)


def test_captions_of_verdicts_have_their_own_colors() -> None:
    picture = np.full((600, 800, 3), 100, np.uint8)
    corners = {
        tuple(drawn(picture, inspected(None, 600, 800, verdict), caption=True)[1, 1].tolist())
        for verdict in ("ok", "look_again", "reject")
    }
    assert len(corners) == 3


def test_unreadable_and_mapless_parts_are_shown_as_they_are() -> None:
    picture = np.random.default_rng(2).integers(0, 255, (500, 600, 3), dtype=np.uint8)
    unreadable = Inspection("part.png", "unreadable", error="part.png is empty.")
    assert np.array_equal(drawn(picture, unreadable, caption=True), picture)
    assert np.array_equal(drawn(picture, inspected(None, 500, 600)), picture)


def test_gray_is_shown_gray_and_color_as_red_green_blue() -> None:
    nothing = Inspection("a", "ok")
    gray = np.arange(256, dtype=np.uint8).repeat(4).reshape(2, 512)
    assert np.array_equal(drawn(gray, nothing), np.dstack([gray] * 3))
    red = np.full((500, 500, 3), (255, 0, 0), np.uint8)
    assert np.array_equal(drawn(red, nothing), red)


def test_16_bit_pictures_are_shown_by_their_white_level() -> None:
    nothing = Inspection("a", "ok")
    picture = np.zeros((2, 500), np.uint16)
    picture[0, :3] = (2048, 4095, 60000)
    full = draw_overlay(picture, nothing, map_threshold=1.0)
    twelve = draw_overlay(picture, nothing, map_threshold=1.0, white_level=4095)
    assert full[0, :3, 0].tolist() == [8, 16, 233]
    assert twelve[0, :3, 0].tolist() == [128, 255, 255]


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1e-30])
def test_thresholds_without_a_scale_still_draw(threshold: float) -> None:
    picture = np.full((500, 500, 3), 100, np.uint8)
    overlay = draw_overlay(picture, inspected(one_hot(), 500, 500), map_threshold=threshold)
    assert overlay.shape == picture.shape


@pytest.mark.parametrize("channels", [(), (3,)])
def test_written_picture_is_read_back(tmp_path: Path, channels: tuple[int, ...]) -> None:
    picture = np.random.default_rng(3).integers(0, 255, (20, 30, *channels), dtype=np.uint8)
    path = tmp_path / "new folder" / "überlagert.png"
    write_picture(path, picture)
    assert np.array_equal(read_picture(path), picture)


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.makellos"])
def test_unknown_suffix_is_a_storage_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match=r"Use \.png"):
        write_picture(tmp_path / name, np.zeros((4, 4), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        write_picture(tmp_path / "file" / "a.png", np.zeros((4, 4), np.uint8))


def test_outline_follows_the_damage() -> None:
    # The red of the outline surrounds the square of the cell, white beneath it.
    overlay = drawn(np.zeros((600, 800, 3), np.uint8), inspected(one_hot(2, 5), 600, 800))
    red = (overlay == (214, 40, 40)).all(axis=2).astype(np.uint8)
    outlines, _ = cv2.findContours(red, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    x, y, width, height = cv2.boundingRect(np.concatenate(outlines))
    assert (x + width / 2, y + height / 2) == pytest.approx((550, 250), abs=3)
    assert 90 <= width <= 110
    assert 90 <= height <= 110


def test_overlay_of_a_large_picture_is_shrunk_with_its_boxes() -> None:
    picture = np.full((300, 6000), 120, np.uint8)
    anomaly_map = np.zeros((30, 600), np.float32)
    anomaly_map[:, 300:] = 1.0
    box = Region(x=3000, y=0, width=3000, height=300, area=900_000, peak=1.0)
    found = Inspection("a", "reject", regions=(box,), anomaly_map=anomaly_map)
    drawn = draw_overlay(picture, found, map_threshold=0.5, caption=False)
    assert drawn.shape == (205, 4096, 3)
    changed = np.flatnonzero((drawn != drawn[0, 0]).any(axis=(0, 2)))
    assert abs(changed.min() - 2048) < 50
    (plain,) = np.unique(drawn[:, :1900].reshape(-1, 3), axis=0).tolist()
    assert plain == [120, 120, 120]
