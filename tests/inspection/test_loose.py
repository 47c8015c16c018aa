"""What lies loose beside a part: found pixel by pixel, and taken out of the picture."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from makellos.calibration import Calibration
from makellos.inspection.acceptance import Acceptance
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.background import Background
from makellos.inspection.judge import Judge
from makellos.inspection.loose import find_loose, without
from makellos.inspection.preprocessing import Preprocessing
from makellos.inspection.scorer import Scorer

SIDE, CELL = 384, 24
GRID = SIDE // CELL


def _bolt(*, burr: bool = False) -> np.ndarray:
    """Return a dark bolt with a soft shadow on a plain table, 1×H×W in [0, 1]."""
    rng = np.random.default_rng(0)
    solid = np.zeros((SIDE, SIDE), np.float32)
    solid[144:240, 48:300] = 1
    if burr:
        cv2.line(solid, (180, 146), (194, 104), 1, 3)
    shadow = cv2.GaussianBlur(solid, (0, 0), 24)
    rows = np.linspace(0, 0.05, SIDE, dtype=np.float32)[:, None]
    gray = 0.9 + rows - 0.3 * shadow - 0.35 * cv2.GaussianBlur(solid, (0, 0), 0.8)
    return (gray + rng.normal(0, 0.004, gray.shape)).astype(np.float32)[None]


def _with_fibre(picture: np.ndarray, row: int) -> np.ndarray:
    drawn = np.zeros(picture.shape[1:], np.float32)
    points = np.array([[80, row], [120, row - 12], [160, row - 2]], np.int32)
    cv2.polylines(drawn, [points.reshape(-1, 1, 2)], isClosed=False, color=1.0, thickness=2)
    return np.asarray(picture - 0.2 * cv2.GaussianBlur(drawn, (0, 0), 0.7), np.float32)


def _inside() -> np.ndarray:
    """Return the part as a network sees it: a cell wider than it is."""
    cells = np.zeros((GRID, GRID), bool)
    cells[5:11, 1:14] = True
    return cells


def test_a_clean_picture_has_nothing_loose() -> None:
    assert find_loose(_bolt(), _inside()) is None


def test_a_fibre_close_to_the_part_is_loose() -> None:
    dirty = _with_fibre(_bolt(), 124)
    found = find_loose(dirty, _inside())
    assert found is not None
    fibre = np.abs(dirty - _bolt())[0] > 0.05
    assert found.loose[fibre].mean() > 0.95
    assert found.part[160:224, 64:280].all() and not found.part[fibre].any()
    assert not found.loose[140:244].any()


def test_what_lies_too_far_away_to_matter_is_left_alone() -> None:
    assert find_loose(_with_fibre(_bolt(), 30), _inside()) is None
    both = _with_fibre(_with_fibre(_bolt(), 30), 124)
    found = find_loose(both, _inside())
    assert found is not None and not found.loose[:60].any()


def test_a_stain_that_the_picture_cuts_off_is_loose_as_a_whole() -> None:
    ring = np.zeros((SIDE, SIDE), np.float32)
    cv2.circle(ring, (4, 320), 24, 1.0, 2)
    found = find_loose(_bolt() - 0.1 * cv2.GaussianBlur(ring, (0, 0), 0.7), _inside())
    assert found is not None
    assert found.loose[310:330, :20].all()


def test_a_burr_hangs_on_the_part() -> None:
    found = find_loose(_with_fibre(_bolt(burr=True), 300), _inside())
    assert found is not None
    assert not found.loose[:260].any()
    assert found.part[112, 191]


def test_the_background_goes_on_where_something_is_taken_out() -> None:
    clean, dirty = _bolt(), _with_fibre(_bolt(), 124)
    found = find_loose(dirty, _inside())
    assert found is not None
    filled = without(dirty, found)
    fibre = np.abs(dirty - clean)[0] > 0.05
    assert np.abs(filled - clean)[0][fibre].max() < 0.04
    untouched = cv2.dilate(found.loose.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    assert np.array_equal(filled[0][untouched], dirty[0][untouched])


def test_a_surface_without_far_background_has_nothing_loose() -> None:
    assert find_loose(_with_fibre(_bolt(), 124), np.ones((GRID, GRID), bool)) is None


class _Engine:
    """See what differs from a clean bolt, blurred over the cells around it, as a network does."""

    batch_size = 1

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        self.seen.append(batch)
        change = np.abs(batch[0, 0] - _bolt()[0])
        found = cv2.resize(change, (GRID, GRID), interpolation=cv2.INTER_AREA)
        wide = cv2.dilate(found, np.ones((3, 3), np.uint8)).astype(np.float32)
        return {
            "anomaly_map": wide[None],
            "part": np.where(_inside(), 0.95, 0.05).astype(np.float32)[None],
        }


def _score(picture: np.ndarray, choice: str) -> tuple[float, float, int]:
    """Return the score, the highest value beside the part, and how often the graph ran."""
    background = Background(choice=choice, least=0.1, most=0.6)  # type: ignore[arg-type]
    engine = _Engine()
    shape = Preprocessing(height=SIDE, width=SIDE, channels=1)
    scorer = Scorer(engine, shape, Aggregation(), background=background)  # type: ignore[arg-type]
    levels = np.rint(picture[0] * 65535).astype(np.uint16)
    scored = scorer(levels)
    assert scored.beside is not None
    return scored.score, float(scored.beside.max()), len(engine.seen)


def test_a_fibre_close_to_the_part_does_not_decide() -> None:
    dirty = _with_fibre(_bolt(), 124)
    counted, _, _ = _score(dirty, "count")
    score, beside, n_runs = _score(dirty, "look_again")
    assert n_runs == 2
    assert score < 0.3 * counted and beside == pytest.approx(counted)
    clean, _, n_runs = _score(_bolt(), "look_again")
    assert n_runs == 1 and clean <= score


def test_what_was_taken_out_is_named_though_it_is_usual() -> None:
    dirty = _with_fibre(_bolt(), 124)
    background = Background(choice="look_again", least=0.1, most=0.6)
    shape = Preprocessing(height=SIDE, width=SIDE, channels=1)
    scorer = Scorer(_Engine(), shape, Aggregation(), background=background)  # type: ignore[arg-type]
    levels = np.rint(dirty[0] * 65535).astype(np.uint16)
    usual = Calibration(np.linspace(10, 20, 100), 0.05)
    judge = Judge(usual, 20.0, None, Acceptance(), (), background, usual)
    scored = scorer(levels)
    found = judge("part", levels, scored, 0.0)
    assert found.verdict == "ok" and found.notes == ("fibre beside the part",)
    (fibre,) = found.beside or ()
    assert abs(fibre.region.x - 80) < 12 and abs(fibre.region.y - 112) < 12
    assert fibre.region.peak == pytest.approx(float(scored.beside.max()))  # type: ignore[union-attr]
    # What is odd as well is named once.
    found = replace(judge, map_threshold=0.01)("part", levels, scored, 0.0)
    assert len(found.beside or ()) == 1


def test_a_burr_decides_with_and_without_a_fibre() -> None:
    burr, _, _ = _score(_bolt(burr=True), "count")
    both = _with_fibre(_bolt(burr=True), 300)
    assert _score(_bolt(burr=True), "look_again")[0] == pytest.approx(burr)
    assert _score(both, "look_again")[0] == pytest.approx(burr, rel=0.05)
