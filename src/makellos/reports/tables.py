"""Rows of the tables in an evaluation report: kinds, sizes, verdicts, recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from makellos.reports.formats import (
    MISSING,
    compact,
    count,
    duration,
    finite,
    percent,
    whole,
)
from makellos.reports.gallery import GalleryItem
from makellos.reports.statements import n_of_rate

__all__ = [
    "Group",
    "VerdictRow",
    "facts",
    "kinds",
    "recordings",
    "sizes",
    "verdict_rows",
    "worst_group",
]


@dataclass(frozen=True)
class Group:
    """Hold how a group of defective parts fared.

    `n_missed` counts every part that was not rejected, `n_look_again` those of them that were
    marked look again; either is None where it is unknown.
    """

    name: str
    detail: str
    n: int
    n_missed: int | None
    n_look_again: int | None
    image_auroc: float | None = None

    @property
    def n_found(self) -> int | None:
        return None if self.n_missed is None else self.n - self.n_missed

    @property
    def miss_rate(self) -> float | None:
        return None if self.n_missed is None or self.n == 0 else self.n_missed / self.n

    @property
    def shares(self) -> tuple[tuple[str, int], ...]:
        """Return (outcome, count) pairs from found to missed that add up to `n`."""
        if self.n_missed is None:
            return ()
        again = min(self.n_missed, self.n_look_again or 0)
        return (
            ("right", self.n - self.n_missed),
            ("again", again),
            ("wrong", self.n_missed - again),
        )


@dataclass(frozen=True)
class VerdictRow:
    """Hold how many parts of one truth got each verdict; None where a rate is unknown."""

    name: str
    ok: int | None
    look_again: int | None
    reject: int | None
    unreadable: int
    total: int


def kinds(figures: Mapping[str, Any]) -> list[Group]:
    """Return the defect kinds, the most often missed first."""
    rows = []
    for name, entry in (figures.get("by_defect") or {}).items():
        n = whole(entry.get("n")) or 0
        missed = n_of_rate(entry.get("miss_rate"), n)
        again = n_of_rate(entry.get("look_again_rate"), n)
        rows.append(Group(str(name), "", n, missed, again, finite(entry.get("image_auroc"))))
    return sorted(rows, key=lambda row: (-(row.miss_rate or 0), -(row.n_missed or 0), row.name))


def sizes(figures: Mapping[str, Any]) -> list[Group]:
    """Return the size classes of damage in the order given, each with its range in pixels.

    An entry may hold `n_look_again` beside the keys it must have.
    """
    rows = []
    for entry in figures.get("by_size") or ():
        n = whole(entry.get("n")) or 0
        missed = whole(entry.get("n_missed"))
        again = whole(entry.get("n_look_again"))
        detail = _pixel_range(finite(entry.get("low")), finite(entry.get("high")))
        rows.append(Group(str(entry.get("name", "")), detail, n, missed, again))
    return rows


def worst_group(groups: Sequence[Group]) -> Group | None:
    """Return the group with the highest miss rate, or None where it says nothing.

    It says nothing when fewer than two groups hold parts, or when none was missed.
    """
    known = [group for group in groups if group.n and group.n_missed is not None]
    if len(known) < 2 or not any(group.n_missed for group in known):
        return None
    return max(known, key=lambda group: (group.miss_rate or 0, group.n_missed or 0))


def verdict_rows(figures: Mapping[str, Any], items: Sequence[GalleryItem]) -> list[VerdictRow]:
    """Return the verdict counts of good and of defective parts."""
    unreadable_good = sum(i.verdict == "unreadable" and i.label == "good" for i in items)
    unreadable_bad = sum(i.verdict == "unreadable" and i.label != "good" for i in items)
    n_good = whole(figures.get("n_good")) or 0
    n_bad = whole(figures.get("n_defective")) or 0
    rejected = n_of_rate(figures.get("false_alarm_rate"), n_good)
    missed = n_of_rate(figures.get("miss_rate"), n_bad)
    found = None if missed is None else n_bad - missed
    rows = (
        ("Good", n_good, rejected, figures.get("n_look_again_good"), unreadable_good),
        ("Defective", n_bad, found, figures.get("n_look_again_defective"), unreadable_bad),
    )
    return [_verdict_row(*row) for row in rows if row[1] or row[4]]


def _verdict_row(
    name: str, n: int, reject: int | None, look_again: Any, unreadable: int
) -> VerdictRow:
    if n == 0:
        return VerdictRow(name, 0, 0, 0, unreadable, unreadable)
    again = whole(look_again)
    ok = None if reject is None or again is None else n - reject - again
    return VerdictRow(name, ok, again, reject, unreadable, n + unreadable)


def recordings(figures: Mapping[str, Any]) -> list[tuple[str, str, str, str, str, str]]:
    """Return (name, label, verdict, windows, share rejected, finding), the worst first."""
    found = (figures.get("recordings") or {}).items()
    ordered = sorted(found, key=lambda pair: -(finite(pair[1].get("share_rejected")) or 0))
    return [
        (
            str(name),
            str(entry.get("label", "")),
            str(entry.get("verdict", "")).replace("_", " "),
            count(entry.get("n_windows")),
            percent(entry.get("share_rejected")),
            " ".join([entry.get("finding") or "", *(entry.get("notes") or [])]).strip(),
        )
        for name, entry in ordered
    ]


def facts(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the figures that belong beside the provenance: thresholds and times."""
    rows: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("Threshold (reject)", "threshold", compact),
        ("Threshold (look again)", "look_again_threshold", compact),
        ("Fitting took", "fit_seconds", duration),
        (
            "Inspection takes",
            "inspect_ms_per_part",
            lambda ms: f"{ms:.3g}\u202fms per part",
        ),
    )
    found = [(name, finite(figures.get(key)), text) for name, key, text in rows]
    return [(name, text(value)) for name, value, text in found if value is not None]


def _pixel_range(low: float | None, high: float | None) -> str:
    if high is None:
        return "" if low is None else f"from {count(low)} px"
    if not low:
        return f"up to {count(high)} px"
    return f"{count(low)}{MISSING}{count(high)} px"
