"""What inspection says of a part, and of a recording by its windows."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture
from makellos.inspection.acceptance import ZoneFinding
from makellos.inspection.background import Beside
from makellos.inspection.regions import Region
from makellos.inspection.statistics import Statistics

if TYPE_CHECKING:
    from makellos.vibration.bearing_faults import FaultFinding
    from makellos.vibration.signals import Windows
    from makellos.vibration.views import SignalView

__all__ = ["UNREADABLE", "Inspection", "RecordingFinding", "region_on_axes", "unreadable"]

UNREADABLE = "unreadable"


@dataclass(frozen=True, eq=False)
class RecordingFinding:
    """Hold what was found in a recording, besides its verdict.

    `windows` are the inspections of its windows, `starts` their first samples' times in s,
    `share_rejected` the share of them that are rejected. `notes` say what is odd about the
    recording. `faults` is what the envelope spectrum shows, by channel; empty for a recording that
    is ok, and without a bearing and a speed. `samples` are what was judged, if the inspector was
    asked to keep it. `rpm` is the speed at which it was judged; None for that of the model.
    """

    windows: tuple[Inspection, ...]
    starts: tuple[float, ...]
    share_rejected: float
    notes: tuple[str, ...]
    faults: dict[str, FaultFinding]
    samples: Windows | None = field(default=None, repr=False)
    rpm: float | None = None

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


@dataclass(frozen=True, eq=False)
class Inspection:
    """Hold what was found on one part.

    `verdict` is ``ok``, ``look_again``, ``reject`` or ``unreadable`` (then `error` says why and the
    figures are None). `anomaly_map` is h×w float32 on the detector's own grid, `reconstruction`,
    C×H×W float32 in [0, 1], is the nearest good part that a reconstructing detector can produce; of
    a model that cuts pictures into tiles it is there if the picture is kept.
    `size` is the height and width of the picture, `regions` are in its pixels. `probabilities` are
    those of a classifier's classes by name, good first. A recording's verdict combines those of its
    windows, which `recording` holds; these have no regions, but `window_regions` finds them in
    their maps. `zones` are the results of each zone, if the model has any: score and map are then
    in units of the zones' thresholds. `by_class` are the results of a classifier's kinds of
    damage, if they have budgets of their own: the score is then in units of their thresholds.
    `broken_rules` are those of the model's rules that regions
    break, and `calibrated_verdict` is the verdict without rules; None if there are no rules.
    `picture` is what was judged, decoded, if the inspector was asked to keep it. `notes` say what
    is odd about it, as those of a `recording` do. `beside` are the oddities beside the part, and
    `beside_maximum` the highest value of the map there; None where no background is known.
    `map_name` says what the map shows, such as ``residual``; "" where there is no name for it.
    `statistics` are those of the picture that tell of a drift, if the inspector was asked for them.
    """

    input: str
    verdict: str
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    regions: tuple[Region, ...] = ()
    milliseconds: float = 0.0
    error: str | None = None
    size: tuple[int, int] | None = None
    anomaly_map: NDArray[np.float32] | None = field(default=None, repr=False)
    reconstruction: NDArray[np.float32] | None = field(default=None, repr=False)
    probabilities: dict[str, float] = field(default_factory=dict)
    recording: RecordingFinding | None = field(default=None, repr=False)
    zones: tuple[ZoneFinding, ...] = ()
    by_class: tuple[ZoneFinding, ...] = ()
    calibrated_verdict: str | None = None
    broken_rules: tuple[str, ...] = ()
    picture: Picture | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    beside: tuple[Beside, ...] | None = None
    beside_maximum: float | None = None
    map_name: str = ""
    statistics: Statistics | None = field(default=None, repr=False)

    @property
    def rejected_as(self) -> str:
        """Return the kind of damage that passes its own threshold the most; "" where none does."""
        passed = [(kind.score or 0.0) / kind.threshold for kind in self.by_class if kind.rejects]
        names = [kind.name for kind in self.by_class if kind.rejects]
        return names[passed.index(max(passed))] if names else ""

    def row(self) -> dict[str, Any]:
        """Return the row that `makellos inspect` writes, as plain data.

        It has ``notes``, and ``probabilities`` where the model is a classifier; a recording's has
        ``n_windows``, ``share_rejected``, ``fault`` and ``finding``. With zones it has ``zones``,
        with budgets per class ``classes``,
        with rules ``calibrated_verdict`` and ``broken_rules``, with a known background ``beside``,
        and ``statistics`` if the inspector was asked for them.
        """
        row: dict[str, Any] = {
            "input": self.input,
            "verdict": self.verdict,
            "score": self.score,
            "p_value": self.p_value,
            "threshold": self.threshold,
            "regions": [region.row() for region in self.regions],
            "milliseconds": round(self.milliseconds, 3),
            "error": self.error,
        }
        if self.probabilities:
            row["probabilities"] = {k: round(v, 6) for k, v in self.probabilities.items()}
        row.update({"notes": list(self.notes)} if self.recording is None else self.recording.row())
        if self.zones:
            row["zones"] = [zone.row() for zone in self.zones]
        if self.by_class:
            row["classes"] = [kind.row() for kind in self.by_class]
        if self.beside is not None:
            row["beside"] = [each.row() for each in self.beside]
        if self.calibrated_verdict is not None:
            row["calibrated_verdict"] = self.calibrated_verdict
            row["broken_rules"] = list(self.broken_rules)
        if self.statistics is not None:
            row["statistics"] = self.statistics.row()
        return row


def unreadable(name: str, started: float, reason: str) -> Inspection:
    """Return the inspection of a part that no verdict can rest on, begun at `started` in s."""
    spent = (time.perf_counter() - started) * 1e3
    return Inspection(name, UNREADABLE, milliseconds=spent, error=reason)


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
