"""Verdicts on recordings from those of their windows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from makellos.calibration.conformal import Calibration, Verdict
from makellos.calibration.counts import count_p_value

__all__ = ["judge_windows"]


def judge_windows(
    scores: Sequence[float],
    verdicts: Sequence[str],
    calibration: Calibration,
    recordings: Sequence[int] | None,
    apart: float = 1.0,
) -> tuple[float, float, Verdict]:
    """Return score, p-value and verdict of a recording from those of its windows.

    Its score is the median of theirs. `recordings` number the recording of each calibration score:
    the p-value is then the share of good recordings with so high a median, where those of one group
    share its weight. Without them calibration counts blocks of windows, and it is how likely a good
    recording has so many windows rejected (`count_p_value`); windows that overlap count as fewer,
    as the share `apart` of them, in (0, 1].
    """
    score = float(np.median(scores))
    if recordings is not None:
        p_value = _p_of_median(score, calibration, recordings)
    else:
        p_value = _p_of_count(verdicts, calibration, apart)
    budget = calibration.false_alarms * (1 + 1e-9)
    verdict: Verdict = "ok"
    if p_value <= calibration.look_again_limit * (1 + 1e-9):
        verdict = "reject" if p_value <= budget else "look_again"
    return score, p_value, verdict


def _p_of_count(verdicts: Sequence[str], calibration: Calibration, apart: float) -> float:
    n, n_rejected = len(verdicts), sum(verdict == "reject" for verdict in verdicts)
    n_apart = max(1, round(n * apart))
    counted = min(n_apart, math.ceil(n_rejected * apart)) if n > 1 else n_rejected
    rank = max(1, math.floor(calibration.false_alarms * (calibration.n_groups + 1) + 1e-9))
    return count_p_value(counted, n_apart, calibration.n_groups, rank)


def _p_of_median(score: float, calibration: Calibration, recordings: Sequence[int]) -> float:
    names = list(calibration.groups or range(calibration.scores.size))
    numbers = recordings or names
    by_recording: dict[tuple[object, object], list[float]] = {}
    for name, number, each in zip(names, numbers, calibration.scores, strict=True):
        by_recording.setdefault((name, number), []).append(float(each))
    by_group: dict[object, list[bool]] = {}
    for (name, _), scores in by_recording.items():
        high = float(np.median(scores)) + calibration.tolerance >= score
        by_group.setdefault(name, []).append(high)
    as_high = math.fsum(sum(each) / len(each) for each in by_group.values())
    return (1 + as_high) / (len(by_group) + 1)
