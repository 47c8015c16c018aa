"""The figures of an acceptance: exact bounds, misses by kind, size and group, sizes found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from makellos.evaluation.attribute_study import AttributeStudy, attribute_study
from makellos.evaluation.detection_curve import FEWEST_SIZES, DetectionCurve, detection_curve
from makellos.evaluation.exact import (
    Share,
    effective_units,
    exact_bounds,
    rejected_as_many,
    share_of,
)
from makellos.evaluation.promise import LEVEL, PromiseCheck, Unit

__all__ = [
    "AcceptanceFigures",
    "Detection",
    "GroupShares",
    "Judged",
    "Promise",
    "SizeShare",
    "acceptance_figures",
    "promise_figures",
]

_GOOD = "good"
_N_SIZES = 4  # classes of as many parts each
_N_POINTS = 33
Finding = Literal["kept", "chance", "draw", "broken", "unknown"]


@dataclass(frozen=True)
class Judged:
    """Hold one part, or recording, that the system judged.

    `length` is the greatest distance across its damage; None where that is unknown. `judgements`
    say whether a judge rejected it, once or several times, by the name of the judge; with
    `by_majority` its label is what most of them say.
    """

    name: str
    label: str
    group: str | None
    verdict: str
    length: float | None = None
    judgements: Mapping[str, Sequence[bool]] = field(default_factory=dict)
    by_majority: bool = False

    @property
    def is_good(self) -> bool:
        """Tell whether it is truly good."""
        return self.label == _GOOD

    @property
    def is_rejected(self) -> bool:
        """Tell whether the system rejected it."""
        return self.verdict == "reject"


@dataclass(frozen=True)
class Promise:
    """Hold how good parts that were rejected agree with the budget; shares are in [0, 1].

    `n_rejected` of `n_units` good parts (or groups of them, by the share of each, or recordings)
    were rejected by the calibration alone; `low` and `high` are the exact 95 % bounds of their
    share. `by_chance` is how likely so many or more are for a threshold that the good parts of the
    calibration set, None where that is not known. `finding` is ``kept`` (within the budget),
    ``chance`` (above it, which the bounds allow), ``draw`` (they do not; which good parts set the
    threshold explains it), ``broken`` (nothing explains it) or ``unknown`` (a single unit).
    """

    budget: float
    budget_asked: float
    unit: Unit
    n_units: int
    n_rejected: float
    share: float
    low: float
    high: float
    by_chance: float | None
    finding: Finding


@dataclass(frozen=True)
class SizeShare:
    """Hold what was missed of damage of `low` to `high` size."""

    low: float
    high: float
    missed: Share


@dataclass(frozen=True)
class GroupShares:
    """Hold what was rejected of the good and missed of the defective parts of one group."""

    false_alarms: Share
    missed: Share


@dataclass(frozen=True)
class Detection:
    """Hold how damage was found by its size, the greatest distance across it, in `unit`.

    `n_unknown` defective parts have no mask that says it. `overall` and `by_defect` are the curves
    after MIL-HDBK-1823A; `enough` says that there are the 60 parts that it asks for; parts of a
    group count as one there, and in the bounds.
    """

    unit: Literal["mm", "px"]
    mm_per_pixel: float | None
    n_unknown: int
    enough: bool
    overall: DetectionCurve
    by_defect: dict[str, DetectionCurve]


@dataclass(frozen=True)
class AcceptanceFigures:
    """Hold the figures of parts with a known truth; a part counts as rejected by `reject` alone.

    `by_defect`, `by_size` and `by_group` hold what was missed by kind of defect, by size of damage
    (from the smallest) and by group. `study` is None without judges.
    """

    n_good: int
    n_defective: int
    false_alarm_rate: Share
    miss_rate: Share
    accuracy: Share
    look_again_good: Share
    look_again_defective: Share
    by_defect: dict[str, Share]
    by_size: tuple[SizeShare, ...]
    by_group: dict[str, GroupShares]
    detection: Detection
    study: AttributeStudy | None


def acceptance_figures(
    judged: Sequence[Judged], *, mm_per_pixel: float | None = None
) -> AcceptanceFigures:
    """Return the figures of judged parts, whose lengths are in pixels.

    With `mm_per_pixel` sizes are in millimetres.
    """
    scale = mm_per_pixel or 1.0
    good = [each for each in judged if each.is_good]
    bad = [each for each in judged if not each.is_good]
    measured = [(each.length * scale, each) for each in bad if each.length]
    groups = sorted({each.group for each in judged if each.group is not None})
    kinds = sorted({each.label for each in bad})
    overall = _curve(measured, n_points=_N_POINTS)
    return AcceptanceFigures(
        n_good=len(good),
        n_defective=len(bad),
        false_alarm_rate=_share(good, [each.is_rejected for each in good]),
        miss_rate=_missed(bad),
        accuracy=_share(judged, [each.is_rejected != each.is_good for each in judged]),
        look_again_good=_share(good, [each.verdict == "look_again" for each in good]),
        look_again_defective=_share(bad, [each.verdict == "look_again" for each in bad]),
        by_defect={kind: _missed([e for e in bad if e.label == kind]) for kind in kinds},
        by_size=_by_size(measured),
        by_group={
            name: GroupShares(
                share_of([e.is_rejected for e in good if e.group == name], _alone(good, name)),
                share_of([not e.is_rejected for e in bad if e.group == name], _alone(bad, name)),
            )
            for name in groups
        },
        detection=Detection(
            unit="mm" if mm_per_pixel else "px",
            mm_per_pixel=mm_per_pixel,
            n_unknown=len(bad) - len(measured),
            enough=_missed([each for _, each in measured]).n_units >= FEWEST_SIZES,
            overall=overall,
            by_defect={
                kind: _curve([pair for pair in measured if pair[1].label == kind]) for kind in kinds
            },
        ),
        study=_study(judged),
    )


def promise_figures(
    check: PromiseCheck, budget: float, asked: float, n_calibrated: int | None
) -> Promise:
    """Return what a check of the promise says with exact bounds.

    `n_calibrated` good parts or groups set the threshold; None where that is not known.
    """
    low, high = exact_bounds(check.n_rejected, check.n_units)
    by_chance = None
    if n_calibrated is not None:
        n_rejected = int(check.n_rejected + 1e-9)
        by_chance = rejected_as_many(n_rejected, check.n_units, n_calibrated, budget)
    finding: Finding = check.finding
    if finding == "chance" and low > budget:
        finding = "broken"
    if finding == "broken" and by_chance is not None and by_chance >= LEVEL:
        finding = "chance" if low <= budget else "draw"
    return Promise(
        budget=budget,
        budget_asked=asked,
        unit=check.unit,
        n_units=check.n_units,
        n_rejected=check.n_rejected,
        share=check.n_rejected / check.n_units,
        low=low,
        high=high,
        by_chance=by_chance,
        finding=finding,
    )


def _share(parts: Sequence[Judged], hit: Sequence[bool]) -> Share:
    return share_of(hit, [each.group for each in parts])


def _missed(bad: Sequence[Judged]) -> Share:
    return _share(bad, [not each.is_rejected for each in bad])


def _alone(parts: Sequence[Judged], group: str) -> list[None]:
    """Return that the parts of one group count by themselves, where it alone is spoken of."""
    return [None for each in parts if each.group == group]


def _by_size(measured: Sequence[tuple[float, Judged]]) -> tuple[SizeShare, ...]:
    """Split parts by size into classes of as many each; those of equal size share one."""
    if not measured:
        return ()
    sizes = np.array([size for size, _ in measured])
    inner = np.quantile(sizes, np.arange(1, _N_SIZES) / _N_SIZES, method="inverted_cdf")
    classes = np.searchsorted(inner, sizes, side="left")
    found = []
    for number in np.unique(classes):
        here = [measured[i] for i in np.flatnonzero(classes == number).tolist()]
        ends = [size for size, _ in here]
        found.append(SizeShare(min(ends), max(ends), _missed([each for _, each in here])))
    return tuple(found)


def _curve(measured: Sequence[tuple[float, Judged]], n_points: int = 0) -> DetectionCurve:
    sizes, parts = [size for size, _ in measured], [each for _, each in measured]
    hit = [each.is_rejected for each in parts]
    n_units = effective_units([each.group for each in parts])
    return detection_curve(sizes, hit, n_points=n_points, n_units=n_units or None)


def _study(judged: Sequence[Judged]) -> AttributeStudy | None:
    parts = [each for each in judged if each.judgements]
    if not parts:
        return None
    return attribute_study(
        [not each.is_good for each in parts],
        [each.judgements for each in parts],
        [each.is_rejected for each in parts],
        [each.group for each in parts],
        n_by_majority=sum(each.by_majority for each in parts),
    )
