"""Acceptance: regions by zone, in square millimetres, and the rules that they are held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from makellos.calibration import Calibration, Verdict, ZonedCalibration
from makellos.data.limits import Count, Name
from makellos.errors import ConfigurationError, suggest
from makellos.inspection.regions import Region, find_regions
from makellos.inspection.zones import IGNORED, ZonedMap, Zones

__all__ = [
    "MOST_RULES",
    "Acceptance",
    "Rule",
    "ZoneFinding",
    "find_classes",
    "find_zone_regions",
    "find_zones",
]

MOST_RULES = 1000
_MEASURES = ("larger_than_mm2", "longer_than_mm", "more_than")


@dataclass(frozen=True)
class ZoneFinding:
    """Hold what one zone of a part says: its score, in the detector's own unit, and its p-value.

    `maximum` is the highest value of the map there. All are None in a zone that the map does not
    show. Of a classifier's kind of damage the score is its probability, without a maximum.
    """

    name: str
    threshold: float
    score: float | None
    p_value: float | None
    maximum: float | None

    @property
    def rejects(self) -> bool:
        """Tell whether the part is rejected by what is found here."""
        return self.score is not None and self.score > self.threshold

    def row(self) -> dict[str, Any]:
        """Return what a row of `makellos inspect` says of the zone or class."""
        return {
            "name": self.name,
            "score": self.score,
            "p_value": self.p_value,
            "threshold": self.threshold,
        }


class Rule(BaseModel):
    """Reject for regions in `zone` (None: anywhere) that exceed the limit of one measure.

    `larger_than_mm2` is the area of a region, `longer_than_mm` the longer side of its box,
    `more_than` the number of regions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    zone: Name | None = None
    larger_than_mm2: float | None = Field(default=None, ge=0)
    longer_than_mm: float | None = Field(default=None, ge=0)
    more_than: Count | None = None

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if sum(getattr(self, name) is not None for name in _MEASURES) != 1:
            raise ValueError(f"a rule needs exactly one of {', '.join(_MEASURES)}")
        return self

    def __str__(self) -> str:
        """Return the rule in words."""
        where = "" if self.zone is None else f" in zone {self.zone}"
        if self.larger_than_mm2 is not None:
            return f"a region larger than {self.larger_than_mm2:g} mm2{where}"
        if self.longer_than_mm is not None:
            return f"a region longer than {self.longer_than_mm:g} mm{where}"
        return f"more than {self.more_than} region{'' if self.more_than == 1 else 's'}{where}"

    def is_broken(self, regions: Sequence[Region], mm_per_pixel: float | None) -> bool:
        """Tell whether the regions of a part break the rule."""
        inside = [each for each in regions if self.zone is None or each.zone == self.zone]
        if self.more_than is not None:
            return len(inside) > self.more_than
        scale = mm_per_pixel or 0.0
        if self.larger_than_mm2 is not None:
            return any(each.area * scale**2 > self.larger_than_mm2 for each in inside)
        longest = max((max(each.width, each.height) for each in inside), default=0)
        return longest * scale > (self.longer_than_mm or 0.0)


class Acceptance(BaseModel):
    """Say how large a pixel is, and which rules apply to regions.

    With ``replace`` the rules alone decide; with ``tighten`` a part is rejected if calibration or a
    rule rejects it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mm_per_pixel: float | None = Field(default=None, gt=0)
    combine: Literal["replace", "tighten"] = "replace"
    rules: list[Rule] = Field(default=[], max_length=MOST_RULES, fail_fast=True)

    @property
    def how(self) -> str:
        """Return in words what decides: the rules, or calibration with them."""
        return "alone" if self.combine == "replace" else "together with the threshold"

    def check(self, zones: Sequence[str]) -> None:
        """Raise `ConfigurationError` for a rule of an unknown zone, or of millimetres unknown."""
        for rule in self.rules:
            if rule.zone is not None and rule.zone not in zones:
                hint = suggest(rule.zone, zones) if zones else "The model has no zones."
                raise ConfigurationError(
                    f"The rule on {rule} names zone {rule.zone!r}, which the model does not have. "
                    f"{hint}"
                )
            if rule.more_than is None and self.mm_per_pixel is None:  # it is in mm
                raise ConfigurationError(
                    f"The rule on {rule} needs the size of a pixel. Give it with --mm-per-pixel, "
                    "such as 0.02."
                )

    def measure(self, regions: Sequence[Region]) -> tuple[Region, ...]:
        """Return regions with their areas in mm², where the size of a pixel is known."""
        if self.mm_per_pixel is None:
            return tuple(regions)
        square = self.mm_per_pixel**2
        return tuple(replace(region, area_mm2=region.area * square) for region in regions)

    def broken(self, regions: Sequence[Region]) -> tuple[str, ...]:
        """Return the rules that regions break, in words."""
        return tuple(str(r) for r in self.rules if r.is_broken(regions, self.mm_per_pixel))

    def verdict(self, calibrated: Verdict, broken: Sequence[str]) -> Verdict:
        """Return the verdict of calibration and rules together."""
        if not self.rules:
            return calibrated
        if broken:
            return "reject"
        return "ok" if self.combine == "replace" else calibrated


def find_zone_regions(
    anomaly_map: NDArray[np.float32], height: int, width: int, threshold: float, zones: Zones | None
) -> list[Region]:
    """Return the regions above `threshold`, each in one zone, highest peak first."""
    if zones is None:
        return find_regions(anomaly_map, height, width, threshold)
    labels = zones.labels((anomaly_map.shape[0], anomaly_map.shape[1]))
    lowest = min(float(anomaly_map.min()), threshold)
    found = []
    for number, name in enumerate(zones.record.names, start=IGNORED + 1):
        inside = np.where(labels == number, anomaly_map, np.float32(lowest))
        regions = find_regions(inside, height, width, threshold)
        found += [replace(region, zone=name) for region in regions]
    return sorted(found, key=lambda region: -region.peak)


def find_zones(
    looked: ZonedMap, zones: Zones | None, calibration: Calibration
) -> tuple[ZoneFinding, ...]:
    """Return what each zone of a part says, under a calibration of zones."""
    names = [] if zones is None else zones.record.names
    return _findings(names, looked.scores, looked.maxima, calibration)


def find_classes(
    names: Sequence[str], probabilities: Sequence[float], calibration: Calibration
) -> tuple[ZoneFinding, ...]:
    """Return what each of a classifier's kinds of damage says, where they have own budgets."""
    return _findings(names, probabilities, [None] * len(names), calibration)


def _findings(
    names: Sequence[str],
    scores: Sequence[float | None],
    maxima: Sequence[float | None],
    calibration: Calibration,
) -> tuple[ZoneFinding, ...]:
    if not names or not isinstance(calibration, ZonedCalibration):
        return ()
    found = []
    for name, zone, scale, score, maximum in zip(
        names, calibration.zones, calibration.scales, scores, maxima, strict=True
    ):
        shift = calibration.tolerance * scale
        threshold = zone.threshold if zone.threshold < 0 else scale
        p_value = None if score is None else zone.p_value(score - shift)
        found.append(ZoneFinding(name, threshold + shift, score, p_value, maximum))
    return tuple(found)
