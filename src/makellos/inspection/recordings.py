"""The verdict on a recording: its windows inspected, their verdicts joined, the fault named."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from makellos.calibration import Calibration, Verdict, count_p_value
from makellos.errors import InputError
from makellos.vibration.bearing_faults import FaultFinding, name_fault
from makellos.vibration.bearings import parse_bearing
from makellos.vibration.envelopes import BandSpectra
from makellos.vibration.signals import Windows
from makellos.vibration.views import SignalView

if TYPE_CHECKING:
    from makellos.inspection.inspector import Inspection
    from makellos.inspection.regions import Region

__all__ = [
    "RecordingFinding",
    "SignalRecord",
    "fault_of",
    "judge_windows",
    "region_on_axes",
    "seen_in_batches",
]

_SAME_SPEED = 0.01  # relative
_BATCH = 256  # windows seen and scored at once


class SignalRecord(BaseModel):
    """Say how a model sees signals, and what its calibration took for units that are alike.

    ``recordings``: a good recording still to come is like those that calibrated. ``blocks``: its
    windows are like those of the recordings that calibrated, which are too few to count themselves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    view: SignalView
    calibrated_on: Literal["recordings", "blocks"]
    recordings: tuple[int, ...] = ()  # number of the recording of each calibration score


@dataclass(frozen=True, eq=False)
class RecordingFinding:
    """Hold what was found on a recording beside its verdict.

    `windows` are the inspections of its windows, `starts` their first samples' times in s,
    `share_rejected` the share of them that are rejected. `notes` say what is odd about the
    recording. `faults` is what the envelope spectrum shows, by channel; empty for a recording that
    is ok, and without a bearing and a speed.
    """

    windows: tuple[Inspection, ...]
    starts: tuple[float, ...]
    share_rejected: float
    notes: tuple[str, ...]
    faults: dict[str, FaultFinding]

    @property
    def fault(self) -> FaultFinding | None:
        """Return the finding of the channel where a fault stands out most; None without any."""
        if not self.faults:
            return None
        return max(self.faults.values(), key=_evidence)

    def row(self) -> dict[str, Any]:
        """Return what the row of a recording has beside that of a picture."""
        fault = self.fault
        return {
            "n_windows": len(self.windows),
            "share_rejected": round(self.share_rejected, 6),
            "fault": None if fault is None else fault.fault,
            "finding": None if fault is None else fault.sentence,
            "notes": list(self.notes),
        }


def seen_in_batches(view: SignalView, windows: Windows) -> Iterator[list[Any]]:
    """Yield the windows of a recording as detectors see them, some at once."""
    for start in range(0, len(windows.values), _BATCH):
        yield list(view.see(windows.values[start : start + _BATCH]))


def judge_windows(
    scores: Sequence[float],
    verdicts: Sequence[str],
    calibration: Calibration,
    record: SignalRecord,
) -> tuple[float, float, Verdict]:
    """Return score, p-value and verdict of a recording from those of its windows.

    Its score is the median of theirs. Calibrated on recordings, the p-value is the share of good
    recordings with so high a median, where those of one group share its weight. Calibrated on
    blocks, it is how likely a good recording has so many windows rejected (`count_p_value`);
    windows that overlap count as fewer.
    """
    score = float(np.median(scores))
    if record.calibrated_on == "recordings":
        p_value = _p_of_median(score, calibration, record)
    else:
        p_value = _p_of_count(verdicts, calibration, record.view)
    budget = calibration.false_alarms * (1 + 1e-9)
    verdict: Verdict = "ok"
    if p_value <= 3 * budget:
        verdict = "reject" if p_value <= budget else "look_again"
    return score, p_value, verdict


def fault_of(
    windows: Windows, view: SignalView, rpm: float | None, good: Mapping[str, BandSpectra]
) -> dict[str, FaultFinding]:
    """Return what the envelope spectrum of each channel shows, where bearing and speed are known.

    `good` are spectra of the good state by channel; they count at the speed that they were taken
    at. A recording that is too short has no finding.
    """
    shaft_hz = view.shaft_hz if rpm is None else rpm / 60
    if not view.bearing or shaft_hz is None:
        return {}
    bearing, found = parse_bearing(view.bearing), {}
    for name, signal in zip(view.channels, windows.signal, strict=True):
        same_speed = view.shaft_hz is not None and abs(shaft_hz / view.shaft_hz - 1) < _SAME_SPEED
        reference = good.get(name) if same_speed else None
        try:
            found[name] = name_fault(signal, view.rate, bearing, shaft_hz, reference)
        except InputError:
            continue  # too short or too slow: the verdict stands without a name
    return found


def region_on_axes(region: Region, view: SignalView, start: float) -> dict[str, Any]:
    """Return channel, times in s and frequencies in Hz of a region of a window's picture.

    `start` is the window's own in s.
    """
    top, bottom = region.y, region.y + region.height - 1
    number = min(len(view.channels) - 1, (top + bottom) // 2 // view.height)
    rows = [min(view.height - 1, max(0, row - number * view.height)) for row in (top, bottom)]
    high, low = (float(view.frequencies()[row]) for row in rows)
    times = view.times()
    half = float(times[1] - times[0]) / 2
    return {
        "channel": view.channels[number],
        "start_s": round(start + float(times[region.x]) - half, 6),
        "end_s": round(start + float(times[region.x + region.width - 1]) + half, 6),
        "low_hz": round(low, 2),
        "high_hz": round(high, 2),
    }


def _evidence(finding: FaultFinding) -> float:
    if finding.fault is None:
        return -math.inf
    return finding.strengths[finding.fault].evidence


def _p_of_count(verdicts: Sequence[str], calibration: Calibration, view: SignalView) -> float:
    n, n_rejected = len(verdicts), sum(verdict == "reject" for verdict in verdicts)
    apart = min(1.0, view.hop / view.window)
    n_apart = max(1, round(n * apart))
    counted = min(n_apart, math.ceil(n_rejected * apart)) if n > 1 else n_rejected
    rank = max(1, math.floor(calibration.false_alarms * (calibration.n_groups + 1) + 1e-9))
    return count_p_value(counted, n_apart, calibration.n_groups, rank)


def _p_of_median(score: float, calibration: Calibration, record: SignalRecord) -> float:
    names = list(calibration.groups or range(calibration.scores.size))
    numbers = record.recordings or names
    by_recording: dict[tuple[object, object], list[float]] = {}
    for name, number, each in zip(names, numbers, calibration.scores, strict=True):
        by_recording.setdefault((name, number), []).append(float(each))
    by_group: dict[object, list[bool]] = {}
    for (name, _), scores in by_recording.items():
        high = float(np.median(scores)) + calibration.tolerance >= score
        by_group.setdefault(name, []).append(high)
    as_high = math.fsum(sum(each) / len(each) for each in by_group.values())
    return (1 + as_high) / (len(by_group) + 1)
