"""Registration: known motions are found again, maps come back, and what is foreign is told."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from makellos.inspection.aggregation import Aggregation
from makellos.inspection.engines import EngineChoice
from makellos.inspection.preprocessing import Preprocessing
from makellos.inspection.registration import Registered, Registration
from makellos.inspection.scorer import Scorer

SIDE = 160


def scene(seed: int, side: int = 3 * SIDE) -> NDArray[np.uint8]:
    """Return a larger picture of bright discs and bars, of which parts show the middle."""
    rng = np.random.default_rng(seed)
    picture = np.full((side, side, 3), 70, np.uint8)
    for _ in range(180):
        x, y, size = (int(v) for v in rng.integers(0, (side, side, 14)))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        if rng.random() < 0.5:
            cv2.circle(picture, (x, y), 3 + size, colour, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(picture, (x, y), (x + 4 + size, y + 18), colour, -1)
    return picture


def moved(picture: NDArray[np.uint8], turn: float, shift: tuple[float, float]) -> NDArray[np.uint8]:
    """Return the middle of a scene, turned in degrees and shifted in pixels."""
    middle = (len(picture) - 1) / 2
    pose = cv2.getRotationMatrix2D((middle, middle), turn, 1.0)
    pose[:, 2] += np.array(shift) - SIDE
    return cv2.warpAffine(picture, pose, (SIDE, SIDE), flags=cv2.INTER_CUBIC)


WORLD = scene(0)
REFERENCE = moved(WORLD, 0, (0, 0))
ONTO = Registration.onto(REFERENCE)


@pytest.mark.parametrize(
    ("turn", "shift"), [(0.6, (2.5, -3.25)), (-4, (9, 6)), (0, (30, -20)), (14, (10, -12))]
)
def test_known_motions_are_found_again(turn, shift):
    placed = ONTO(moved(WORLD, turn, shift))
    assert placed.motion is not None
    assert placed.correlation > 0.9
    angle = np.degrees(np.arctan2(placed.motion[0, 1], placed.motion[0, 0]))
    assert angle == pytest.approx(turn, abs=0.25)
    middle = placed.motion @ [0, 0, 1] * SIDE
    assert middle == pytest.approx(shift, abs=0.3)
    inside = (slice(50, 110), slice(50, 110))
    apart = np.abs(placed.picture[inside].astype(int) - REFERENCE[inside])
    assert np.median(apart) <= 4
    assert placed.notes == ()


def test_light_depth_size_and_colour_make_no_difference():
    part = moved(WORLD, 1.5, (4, -3))
    expected = ONTO(part).motion
    slope = np.linspace(0.5, 1.0, SIDE)[np.newaxis, :, np.newaxis]
    variants = {
        "light": (part * slope + 10).astype(np.uint8),
        "depth": (part.astype(np.uint16) * 16),
        "gray": cv2.cvtColor(part, cv2.COLOR_RGB2GRAY),
        "size": cv2.resize(part, (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_CUBIC),
    }
    for name, variant in variants.items():
        placed = ONTO(variant)
        assert placed.picture.shape == variant.shape, name
        assert placed.picture.dtype == variant.dtype, name
        assert placed.motion == pytest.approx(expected, abs=0.004), name


def test_the_reference_itself_stays_as_it_is():
    for _ in range(2):
        ONTO(moved(WORLD, 0, (30, -20)))  # of which no trace stays
    placed = ONTO(REFERENCE)
    assert placed.correlation > 0.999
    assert placed.picture is REFERENCE
    assert Registered(ONTO)(REFERENCE) is REFERENCE


@pytest.mark.parametrize(
    "foreign",
    [
        moved(scene(1), 0, (0, 0)),
        np.rot90(REFERENCE, 2).copy(),
        np.zeros_like(REFERENCE),
        np.random.default_rng(0).integers(0, 256, REFERENCE.shape, np.uint8),
    ],
    ids=["another", "upside down", "black", "noise"],
)
def test_what_cannot_be_laid_is_left_as_it_is_and_told(foreign):
    placed = ONTO(foreign)
    assert placed.motion is None
    assert placed.picture is foreign
    assert "could not be laid onto the reference" in placed.notes[0]
    flat = np.ones((4, 4), np.float32)
    assert placed.back(flat) is flat


def test_what_a_picture_does_not_show_is_taken_from_the_reference():
    part = moved(WORLD, 0, (24, 0))  # its left edge shows what lies left of the reference
    dark = (part * 0.7).astype(np.uint8)
    laid = ONTO(dark).picture
    beyond = (slice(8, -8), slice(-20, -2))
    expected = REFERENCE[beyond] * 0.7
    assert np.abs(laid[beyond] - expected).mean() < 8


def test_maps_come_back_to_where_the_picture_shows_the_place():
    turn, shift = 5.0, (12, -7)
    mark = (slice(1 * SIDE + 100, 1 * SIDE + 108), slice(1 * SIDE + 40, 1 * SIDE + 48))
    seen = np.zeros(WORLD.shape[:2], np.uint8)
    seen[mark] = 255
    where = np.argwhere(moved(seen, turn, shift) > 127).mean(0)
    found = np.zeros((40, 40), np.float32)
    found[25:27, 10:12] = [[3, 4], [5, 3]]
    back = ONTO(moved(WORLD, turn, shift)).back(found)
    assert back.max() == 5
    assert np.argwhere(back > 2).mean(0) * 4 + 2 == pytest.approx(where, abs=4)


def test_what_a_picture_does_not_show_decides_nothing():
    found = np.ones((40, 40), np.float32)
    found[:, 36:] = 9
    back = ONTO(moved(WORLD, 0, (24, 0))).back(found)
    assert back.max() == 1
    assert (back[:, :5] <= 0).all()


class _Counting:
    """An engine whose map is the mean of each 8×8 pixels."""

    choice, batch_size = EngineChoice("none", "f32"), 1

    def run(self, batch):
        return {"anomaly_map": batch[:, 0].reshape(len(batch), 20, 8, 20, 8).mean((2, 4))}


def test_a_scorer_lays_pictures_and_takes_maps_back():
    sized = Preprocessing(height=SIDE, width=SIDE, registration=ONTO)
    assert Preprocessing.model_validate_json(sized.model_dump_json()) == sized
    scorer = Scorer(_Counting(), sized, Aggregation())
    part, foreign = moved(WORLD, 0, (16, 8)), np.zeros_like(REFERENCE)
    laid, left = scorer.many([part, foreign])
    plain = Scorer(_Counting(), Preprocessing(height=SIDE, width=SIDE), Aggregation())(part)
    inside = (slice(3, -3), slice(4, -4))
    apart = np.abs(laid.anomaly_map[inside] - plain.anomaly_map[inside])
    assert apart.mean() < 0.02
    assert laid.score == laid.anomaly_map.max()
    assert laid.notes == ()
    assert "could not be laid" in left.notes[0]


@pytest.mark.parametrize("reference", ["", "no base64!", "AAAA", ONTO.reference[:200]])
def test_a_reference_that_is_no_picture_is_refused(reference):
    with pytest.raises(ValidationError):
        Registration(reference=reference)
