"""The page of an audit: the suspects among good parts, where each is odd, what keeping it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from makellos.reports.pages import render_page

__all__ = ["AuditReport", "Left", "Shown", "render_audit"]


@dataclass(frozen=True)
class Left:
    """Say what is promised, and missed of labelled damage, without the `n` most suspicious."""

    n: int
    threshold: float
    false_alarms: float
    missed: int | None


@dataclass(frozen=True)
class Shown:
    """Hold one suspicious part with encoded thumbnails: overlay, its oddest place, a usual part."""

    input: str
    suspicion: float
    is_suspect: bool
    reason: str
    threshold_without: float
    missed_without: int | None
    nearest: str
    picture: bytes
    crop: bytes
    nearest_picture: bytes


@dataclass(frozen=True)
class AuditReport:
    """Hold all that the page shows; `leaving_out` begins with nothing left out."""

    title: str
    created: str
    detector: str
    n_good: int
    n_suspects: int
    n_defective: int
    threshold: float
    false_alarms: float
    leaving_out: Sequence[Left]
    shown: Sequence[Shown]
    notes: Sequence[str]


def render_audit(report: AuditReport) -> str:
    """Return the page with style, script and pictures inside."""
    cleaned = next((each for each in report.leaving_out if each.n == report.n_suspects), None)
    return render_page("audit.html.j2", report=report, cleaned=cleaned)
