"""What a fit covers of a picture: in tiles or whole, which zones of it, and by which rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from makellos.calibration import divided_budget, parts_needed
from makellos.data.parts import Part, group_names
from makellos.data.tiles import cut_parts
from makellos.detectors import Detector, Graph
from makellos.errors import ConfigurationError, InputError, suggest
from makellos.inspection.acceptance import Acceptance
from makellos.inspection.alignment import Alignment
from makellos.inspection.recipe import Recipe
from makellos.inspection.tiling import STRIDE, Tiling
from makellos.inspection.zone_files import read_acceptance, read_zones
from makellos.inspection.zones import MOST_ZONES, Zones

__all__ = [
    "ALIGN",
    "Coverage",
    "Frame",
    "check_enough",
    "class_shares",
    "cut_to_learn",
    "frame_of",
]

ALIGN = ("auto", "rotate", "register", "none")

_MOST_PROMISED = 0.5  # of good parts rejected: no budget is larger


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Say how pictures are covered: in tiles of `tile` pixels, which share `tile_overlap`.

    None for `tile`: pictures are seen as a whole; None for `tile_overlap`: a quarter of a tile.
    `zones` is a mask picture or a JSON file of polygons and rules, `rules` a JSON file of rules
    only, `mm_per_pixel` the size of a pixel. `align` says how parts are turned to one pose (one of
    `ALIGN`); None: as with ``auto`` if the detector needs one, else not at all.
    """

    tile: int | None = None
    tile_overlap: int | None = None
    zones: Path | None = None
    rules: Path | None = None
    mm_per_pixel: float | None = None
    align: str | None = None


@dataclass(frozen=True)
class Frame:
    """Hold what surrounds a detector's graph, for graphs of every fold alike; and the budget.

    `class_shares` are those of each kind of damage, where these have budgets of their own.
    """

    false_alarms: float
    white_level: int | None = None
    tiling: Tiling | None = None
    zones: Zones | None = None
    acceptance: Acceptance | None = None
    alignment: Alignment | None = None
    class_shares: tuple[float, ...] = ()

    @property
    def smallest_budget(self) -> float:
        """Return the budget that takes the most parts: that of one zone or kind, if they have."""
        if self.zones is None:
            return self.false_alarms * min(self.class_shares, default=1.0)
        return min(self.zones.record.budgets(self.false_alarms))

    def check_detector(self, detector: Detector) -> None:
        """Raise `ConfigurationError` for tiles or zones around a detector of whole pictures."""
        if detector.learns != "labels":
            return
        if self.zones is not None:
            raise ConfigurationError(
                f"{detector.name} scores whole pictures by class, but zones need maps. Leave "
                "--zones out, or use a detector that learns from good parts alone."
            )
        if self.tiling is not None:
            raise ConfigurationError(
                f"{detector.name} learns the labels of whole pictures, and a tile of a defective "
                "part may be good. Leave --tile out, or use a detector that learns from good "
                "parts alone."
            )

    def check(self, used: Sequence[Part], calibrating: Sequence[Part]) -> None:
        """Raise `InputError` where zones do not fit pictures, or are too many to calibrate."""
        check_enough(len(self.class_shares), "classes", len(set(group_names(calibrating))))
        if self.zones is None:
            return
        if self.zones.record.size is not None:
            for part in used:
                self.zones.record.check_size(str(part.path), part.read().shape[:2])
        check_enough(len(self.zones.record.zones), "zones", len(set(group_names(calibrating))))

    def notes(self, learned: Sequence[Part]) -> list[str]:
        """Return what a user should know of parts that are cut into tiles."""
        n_unmarked = sum(not part.is_good and part.mask is None for part in learned)
        if self.tiling is None or not n_unmarked:
            return []
        return [
            f"{n_unmarked} labelled defective {'part' if n_unmarked == 1 else 'parts'} without a "
            "mask left out: it is not known which of their tiles show damage."
        ]

    def recipe(self, graph: Graph) -> Recipe:
        """Return what scores parts with a graph, all of this around it."""
        around: dict[str, Any] = {"white_level": self.white_level}
        if self.alignment is not None:
            around["alignment"] = self.alignment
        preprocessing = graph.preprocessing.model_copy(update=around)
        return replace(
            graph.recipe(), preprocessing=preprocessing, tiling=self.tiling, zones=self.zones
        )


def check_enough(n: int, what: str, n_groups: int) -> None:
    """Raise `InputError` where `n` zones or classes are too many to calibrate on good groups."""
    if n > _MOST_PROMISED * (n_groups + 1):
        fewer = "Draw fewer zones" if what == "zones" else "Leave --class-budget out"
        raise InputError(
            f"{n} {what}, each with a threshold of its own, cannot be calibrated on {n_groups} "
            f"good parts or groups: half of all good parts would be rejected. {fewer}, or use at "
            f"least {math.ceil(n / _MOST_PROMISED) - 1} good parts."
        )


def class_shares(
    budgets: Mapping[str, float], classes: Sequence[str], asked: float
) -> tuple[float, tuple[float, ...]]:
    """Return the budget of all kinds of damage, and each kind's share of it.

    `classes` are those that a classifier tells apart, good first; kinds without a budget share what
    is left of `asked`. Raises `ConfigurationError` for kinds that are unknown, for a model without
    any, and for budgets that are no shares or add up to more than `asked`.
    """
    kinds = classes[1:]
    for name, budget in budgets.items():
        if not kinds or len(kinds) > MOST_ZONES:
            raise ConfigurationError(
                f"The budget of class {name!r} is for a classifier of up to {MOST_ZONES} kinds of "
                f"defects; this model tells {len(kinds) or 'none'} apart. Leave --class-budget "
                "out, or fit one: --detector classifier --set target=type."
            )
        if name not in kinds:
            raise ConfigurationError(
                f"The model knows no kind of defect {name!r}. {suggest(name, kinds)}"
            )
        parts_needed(budget)  # refuses what is no budget
    found = divided_budget([budgets.get(name) for name in kinds], asked, "classes")
    whole = sum(found)
    return whole, tuple(min(1.0, budget / whole) for budget in found)


def frame_of(
    coverage: Coverage,
    false_alarms: float,
    white_level: int | None,
) -> Frame:
    """Return what a coverage puts around the graphs of a fit; no picture is read.

    Raises `ConfigurationError` for what is not accepted, `InputError` for files that cannot be
    read.
    """
    check_align(coverage)
    if replace(coverage, align=None) == Coverage():
        return Frame(false_alarms, white_level)
    drawn = None if coverage.zones is None else read_zones(coverage.zones)
    zones = None if drawn is None else drawn.zones(false_alarms)
    own = None if drawn is None else drawn.acceptance
    acceptance = read_acceptance(coverage.rules, coverage.mm_per_pixel, own)
    if acceptance is not None:
        acceptance.check([] if zones is None else zones.record.names)
    if zones is not None:
        # A zone whose budget is not shared leaves less to promise.
        used = sum(zone.share for zone in zones.record.zones)
        if used < 1 - 1e-9:
            false_alarms, zones = false_alarms * used, _shared(zones, used)
    return Frame(false_alarms, white_level, _tiling(coverage), zones, acceptance)


def check_align(coverage: Coverage) -> None:
    """Raise `ConfigurationError` for an unknown way to align, and beside zones."""
    if coverage.align is None:
        return
    if coverage.align not in ALIGN:
        raise ConfigurationError(
            f"--align is {coverage.align!r}; expected one of {', '.join(ALIGN)}. "
            f"{suggest(coverage.align, ALIGN)}"
        )
    if coverage.align != "none" and coverage.zones is not None:
        raise ConfigurationError(
            "Zones are drawn on pictures as they are, and --align turns them. Turn the set first "
            "with 'makellos data align', and draw the zones on its pictures."
        )


def _shared(zones: Zones, used: float) -> Zones:
    records = [
        zone.model_copy(update={"share": min(1.0, zone.share / used)})
        for zone in zones.record.zones
    ]
    return replace(zones, record=zones.record.model_copy(update={"zones": records}))


def _tiling(coverage: Coverage) -> Tiling | None:
    if coverage.tile is None:
        if coverage.tile_overlap is not None:
            raise ConfigurationError(
                f"--tile-overlap is {coverage.tile_overlap}, but pictures are not cut. Add --tile."
            )
        return None
    return Tiling.of(coverage.tile, coverage.tile_overlap)


def cut_to_learn(parts: Sequence[Part], tiling: Tiling | None) -> tuple[list[Part], list[int]]:
    """Return what a detector learns from, parts or their tiles, and the number of each's part."""
    if tiling is None:
        return list(parts), list(range(len(parts)))
    return cut_parts(parts, size=tiling.size, overlap=tiling.overlap, unit=STRIDE)
