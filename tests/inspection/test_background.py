"""What lies beside a part: what counts, what is named, what it does to a verdict."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from makellos.calibration import Calibration
from makellos.data.parts import Part, Values
from makellos.inspection.acceptance import Acceptance
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.background import Background, kind_of, name_beside, part_in
from makellos.inspection.judge import Judge
from makellos.inspection.loose import Loose
from makellos.inspection.pictures import PictureLane
from makellos.inspection.preprocessing import Preprocessing
from makellos.inspection.regions import Region
from makellos.inspection.scorer import Scored

GRID = 16


def _part() -> np.ndarray:
    part = np.zeros((GRID, GRID), np.float32)
    part[6:10, 2:12] = 0.9
    return part


def _background(choice: str = "look_again") -> Background:
    return Background(choice=choice, least=0.1, most=0.3)  # type: ignore[arg-type]


def test_the_part_and_what_touches_it_counts() -> None:
    counted = _background().counted(_part())
    assert counted[5, 5] and counted[10, 11]  # a cell beside it
    assert not counted[3, 5] and not counted[0, 0]


def test_what_is_next_to_the_part_does_not_count_where_something_was_taken_out() -> None:
    pixels = np.zeros((GRID * 8, GRID * 8), bool)
    pixels[5 * 8 : 7 * 8, 5 * 8 : 6 * 8] = True  # of a cell beside the part, and of one in it
    weights = _background().counted(_part(), Loose(pixels, np.zeros_like(pixels)))
    assert weights[5, 5] == 0 and weights[6, 5] == 1 and weights[5, 6] == 1


def test_small_pieces_are_no_part_and_holes_are() -> None:
    found = _part() > 0
    found[7, 5:7] = False
    found[0, 13:15] = True
    inside = part_in(found)
    assert inside[7, 5] and not inside[0, 13]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_everything_counts_where_the_part_is_gone_or_fills_the_picture(share: float) -> None:
    assert _background().counted(np.full((GRID, GRID), share, np.float32)).all()


@pytest.mark.parametrize("choice", ["ignore", "look_again", "count"])
def test_an_oddity_beside_the_part_counts_by_choice(choice: str) -> None:
    anomaly_map = np.ones((GRID, GRID), np.float32)
    anomaly_map[7, 7], anomaly_map[1, 14] = 3, 9
    counted, beside = _background(choice).apart(anomaly_map, _part())
    assert counted.max() == (9 if choice == "count" else 3)
    assert beside.max() == 9 and beside[7, 7] == 1


def test_damage_that_leaves_the_outline_counts_in_full() -> None:
    part = _part()
    part[5, 12] = part[4, 13] = 0.9  # a bent tip
    anomaly_map = np.ones((GRID, GRID), np.float32)
    anomaly_map[3, 14] = 9  # and its end
    counted, _ = _background().apart(anomaly_map, part)
    assert Aggregation()(counted) == 9


def _picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(rng.normal(180, 2, (200, 200)), 0, 255).astype(np.uint8)


def test_dirt_is_told_by_its_shape() -> None:
    fibre, speck, stain = _picture(), _picture(), _picture()
    curve = np.array([[30, 30], [45, 38], [60, 36], [75, 50]], np.int32)
    cv2.polylines(fibre, [curve.reshape(-1, 1, 2)], isClosed=False, color=120, thickness=1)
    cv2.circle(speck, (50, 40), 1, 90, cv2.FILLED)
    cv2.circle(stain, (50, 40), 12, 150, cv2.FILLED)
    box = Region(x=26, y=22, width=56, height=36, area=900, peak=5.0)
    assert kind_of(fibre, box) == "fibre"
    assert kind_of(np.dstack([fibre] * 3), box) == "fibre"
    assert kind_of(fibre.astype(np.uint16) * 257, box) == "fibre"
    assert kind_of(speck, box) == "dust"
    assert kind_of(stain, box) == "stain"
    assert kind_of(_picture(), box) in ("dust", "oddity")


def test_what_lies_beside_is_named_where_it_is_as_odd_as_damage() -> None:
    picture = _picture()
    cv2.line(picture, (120, 20), (170, 32), 110, 1)
    beside = np.zeros((20, 20), np.float32)
    beside[2, 12:17] = 5
    (found,) = name_beside(picture, beside, 4.0)
    assert found.name == "fibre beside the part"
    assert found.row()["kind"] == "fibre" and found.row()["peak"] == 5
    assert name_beside(picture, beside, 6.0) == ()


def _judge(choice: str) -> Judge:
    good = np.linspace(1, 2, 100)
    calibration = Calibration(good, 0.05)
    background = _background(choice)
    return Judge(calibration, 2.0, None, Acceptance(), (), background, Calibration(good, 0.05))


@pytest.mark.parametrize(
    ("choice", "peak", "verdict"),
    [
        ("look_again", 5.0, "look_again"),
        ("look_again", 1.9, "ok"),
        ("ignore", 5.0, "ok"),
    ],
)
def test_what_is_odder_than_beside_good_parts_is_looked_at_again(
    choice: str, peak: float, verdict: str
) -> None:
    counted, beside = np.ones((GRID, GRID), np.float32), np.zeros((GRID, GRID), np.float32)
    beside[1, 14] = peak
    scored = Scored(1.0, counted, beside=beside)
    found = _judge(choice)("part", _picture(), scored, 0.0)
    assert found.verdict == verdict
    assert found.beside_maximum == pytest.approx(peak)
    assert bool(found.notes) == (peak > 2) == bool(found.row()["beside"])
    assert found.regions == ()


def test_what_asks_for_another_look_is_named_though_less_odd_than_damage() -> None:
    judge = replace(_judge("look_again"), map_threshold=9.0)
    beside = np.zeros((GRID, GRID), np.float32)
    beside[1, 14] = 5.0
    scored = Scored(1.0, np.ones((GRID, GRID), np.float32), beside=beside)
    found = judge("part", _picture(), scored, 0.0)
    assert found.verdict == "look_again" and found.notes


def test_a_model_without_background_says_nothing_of_it() -> None:
    judge = Judge(Calibration(np.linspace(1, 2, 100), 0.05), 2.0, None, Acceptance(), ())
    found = judge("part", _picture(), Scored(1.0, np.ones((4, 4), np.float32)), 0.0)
    assert found.beside is None and "beside" not in found.row()


def test_a_row_names_what_lies_beside_once() -> None:
    counted, beside = np.ones((GRID, GRID), np.float32), np.zeros((GRID, GRID), np.float32)
    beside[1, 14] = beside[1, 3] = 5.0
    scorer = SimpleNamespace(
        many=lambda pictures, **_: [Scored(1.0, counted, beside=beside)],
        preprocessing=Preprocessing(height=32, width=32),
    )
    lane = PictureLane(scorer, _judge("look_again"), None)  # type: ignore[arg-type]
    found = lane.inspect(Part(source=Values(_picture()), name="part"))
    assert found.beside is not None and len(found.beside) == 2
    assert found.notes == tuple({each.name: None for each in found.beside})
