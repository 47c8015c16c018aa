"""The verdict on a recording from its windows, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from makellos.calibration import Calibration
from makellos.calibration.recordings import judge_windows
from makellos.vibration.signal_record import SignalRecord
from makellos.vibration.views import SignalView

VIEW = SignalView(rate=1000.0, channels=("a",), view="features")


def calibrated(scores: list[float], groups: list[str], tolerance: float = 0.0) -> Calibration:
    return Calibration(np.array(scores), 0.25, groups, tolerance)


def judged(
    scores: list[float], verdicts: list[str], calibration: Calibration, record: SignalRecord
) -> tuple[float, float, str]:
    return judge_windows(scores, verdicts, calibration, record.numbers, record.apart)


def test_each_recording_of_a_group_has_a_median_of_its_own() -> None:
    """Group x has recordings of median 1 and 9: half of it is as high as 6, not none or all."""
    calibration = calibrated(
        [1, 1, 1, 9, 9, 9, 2, 2, 2, 8, 8, 8], 6 * ["x"] + 3 * ["y"] + 3 * ["z"]
    )
    record = SignalRecord(
        view=VIEW,
        calibrated_on="recordings",
        recordings=(0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3),
    )
    score, p_value, verdict = judge_windows(
        [0, 6, 50], 3 * ["ok"], calibration, record.numbers, record.apart
    )
    assert score == 6
    assert p_value == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert verdict == "look_again"
    assert judged([10, 10], 2 * ["ok"], calibration, record)[1:] == (
        0.25,
        "reject",
    )


def test_medians_closer_than_the_tolerance_count_as_equal() -> None:
    record = SignalRecord(view=VIEW, calibrated_on="recordings", recordings=(0, 1, 2))
    exact = calibrated([1, 2, 3], ["x", "y", "z"])
    assert judged([3.05], ["reject"], exact, record)[2] == "reject"
    slack = calibrated([1, 2, 3], ["x", "y", "z"], tolerance=0.1)
    assert judged([3.05], ["reject"], slack, record)[1] == pytest.approx(2 / 4)


def test_blocks_count_rejected_windows() -> None:
    calibration = calibrated([1, 2, 3], ["x", "y", "z"])
    record = SignalRecord(view=VIEW, calibrated_on="blocks")
    # All of 2 new windows above the highest of 3: of the 10 orders of 5, one.
    assert judged([9, 9], 2 * ["reject"], calibration, record)[1] == pytest.approx(0.1)
    assert judged([0, 0], 2 * ["ok"], calibration, record)[1:] == (
        1.0,
        "ok",
    )


@pytest.mark.parametrize(("again", "expected"), [(None, "look_again"), (0.0, "ok"), (0.3, "ok")])
def test_a_recording_is_looked_at_again_within_the_budget_of_the_band(
    again: float | None, expected: str
) -> None:
    calibration = Calibration(np.arange(9.0), 0.2, look_again=again)
    # Five of nine good recordings are as high: 0.6 is three budgets, beyond 0.2 and 0.5.
    _, p_value, verdict = judge_windows([4.0], ["ok"], calibration, tuple(range(9)))
    assert (p_value, verdict) == (pytest.approx(0.6), expected)
