"""From scores and maps to verdicts: calibration, zones, rules and regions."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from makellos.calibration import Calibration, Verdict
from makellos.data.pictures import Picture
from makellos.inspection.acceptance import (
    Acceptance,
    find_classes,
    find_zone_regions,
    find_zones,
)
from makellos.inspection.background import (
    Background,
    Beside,
    name_beside,
    name_removed,
    notes_on,
)
from makellos.inspection.findings import Inspection, unreadable
from makellos.inspection.regions import Region
from makellos.inspection.scorer import Scored
from makellos.inspection.zones import Zones

__all__ = ["Judge"]


@dataclass(frozen=True)
class Judge:
    """Hold what makes a verdict of a score, and regions of a map.

    `beside` is the calibration of what lies beside good parts, if a `background` is known,
    `map_name` what the map shows.
    """

    calibration: Calibration
    map_threshold: float
    zones: Zones | None
    acceptance: Acceptance
    classes: Sequence[str]
    background: Background | None = None
    beside: Calibration | None = None
    map_name: str = ""

    @property
    def threshold(self) -> float:
        """Return the score above which a part is rejected."""
        return self.calibration.threshold

    def __call__(
        self,
        label: str,
        picture: Picture,
        scored: Scored,
        started: float,
        *,
        outlined: bool = True,
    ) -> Inspection:
        """Return the finding on a part; the regions of its map are left out unless `outlined`."""
        score, anomaly_map, reconstruction, probabilities, looked, notes, aside, *_ = scored
        if not math.isfinite(score):
            reason = f"{label} has the score {score:g}, which allows no verdict. Look at the part."
            return unreadable(label, started, reason)
        regions: tuple[Region, ...] = ()
        if anomaly_map is not None and outlined:
            height, width = picture.shape[:2]
            found = find_zone_regions(anomaly_map, height, width, self.map_threshold, self.zones)
            regions = self.acceptance.measure(found)
        shares = dict[str, float]()
        if probabilities is not None:
            shares = dict(zip(self.classes, map(float, probabilities), strict=True))
        beside = self._beside(picture, scored)
        calibrated, broken = self._calibrated(scored), self.acceptance.broken(regions)
        return Inspection(
            input=label,
            verdict=self.acceptance.verdict(calibrated, broken),
            score=score,
            p_value=self.calibration.p_value(score),
            threshold=self.threshold,
            regions=regions,
            milliseconds=(time.perf_counter() - started) * 1e3,
            size=(picture.shape[0], picture.shape[1]) if picture.ndim > 1 else None,
            anomaly_map=anomaly_map,
            reconstruction=reconstruction,
            probabilities=shares,
            by_class=find_classes(self.classes[1:], [*shares.values()][1:], self.calibration)
            if shares and looked is None
            else (),
            zones=() if looked is None else find_zones(looked, self.zones, self.calibration),
            calibrated_verdict=calibrated if self.acceptance.rules else None,
            broken_rules=broken,
            notes=(*notes, *notes_on(beside or ())),
            beside=beside,
            beside_maximum=None if aside is None else float(aside.max()),
            map_name=self.map_name,
        )

    def _calibrated(self, scored: Scored) -> Verdict:
        """Return the verdict without rules: that of score and pose, and of what lies beside."""
        verdict = self.calibration.verdict(scored.score)
        if scored.in_doubt and verdict == "ok":
            return "look_again"
        if self.background is None or self.beside is None or scored.beside is None:
            return verdict
        looks = self.background.choice == "look_again" and verdict == "ok"
        odd = looks and self.beside.verdict(float(scored.beside.max())) == "reject"
        return "look_again" if odd else verdict

    def _beside(self, picture: Picture, scored: Scored) -> tuple[Beside, ...] | None:
        """Return what is as odd as damage, odder than beside good parts, or was taken out."""
        aside = scored.beside
        if aside is None:
            return None
        usual = self.map_threshold if self.beside is None else self.beside.threshold
        found = name_beside(picture, aside, min(self.map_threshold, usual))
        if scored.removed is None:
            return found
        removed = name_removed(picture, aside, scored.removed)
        return (*found, *(each for each in removed if not any(map(each.touches, found))))
