"""The page of an acceptance: what an auditor reads and signs, on one sheet where it fits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from makellos.drawing.scales import Scale
from makellos.evaluation.acceptance import AcceptanceFigures, Detection, GroupShares, Promise
from makellos.evaluation.acceptance_record import AcceptanceRecord
from makellos.evaluation.detection_curve import FEWEST_SIZES, DetectionCurve
from makellos.evaluation.exact import Share
from makellos.reports.formats import MISSING, NARROW_SPACE, count, percent, percent_range
from makellos.reports.frames import ACROSS, UP, Frame, path_through, share_frame
from makellos.reports.pages import render_page
from makellos.reports.statements import Statement

__all__ = ["detection_sentence", "render_acceptance"]

_MOST_ROWS, _MOST_GROUPS = 12, 6  # of kinds and groups, the worst first
_N_STEPS = 80
_BESIDE = 1.15  # of the sizes at the ends of the curve's axis
_JUDGED = {
    "kept": ("right", "Within the budget"),
    "chance": ("again", "Does not contradict the budget"),
    "draw": ("again", "Above the budget"),
    "broken": ("wrong", "Contradicts the budget"),
    "unknown": ("none", "Cannot be judged"),
}
_UNFITTED = {
    "few": "Too few parts with damage of known size for a curve; the handbook asks for "
    f"{FEWEST_SIZES}.",
    "no size": "All damage has the same size, so there is no curve over sizes.",
    "all found": "All of it was found, whatever its size: no curve, and the bounds above hold.",
    "none found": "None of it was found, whatever its size: no curve.",
    "separable": "All longer damage was found and all shorter damage missed, so the slope of the "
    "curve is not determined: test more parts with damage of sizes in between.",
    "no slope": "Longer damage is not found more often than shorter damage: its length does not "
    "decide what is found.",
}


@dataclass(frozen=True)
class DetectionChart:
    """Hold the curve of detection by size: its line, the bound, marks of parts, in SVG units.

    `found` and `missed` are the ends of the axis of sizes; `point` is a90/95 where it is on it.
    """

    frame: Frame
    line: str
    bound: str
    band: str
    level: str
    point: tuple[float, float] | None


def render_acceptance(record: AcceptanceRecord) -> str:
    """Return the page as one HTML file that needs nothing else, and prints on A4."""
    figures = record.figures
    judged = figures.n_good + figures.n_defective
    return render_page(
        "acceptance.html.j2",
        record=record,
        figures=figures,
        created=f"{datetime.fromisoformat(record.created):%d %B %Y, %H:%M} UTC".lstrip("0"),
        noun=record.data.unit,
        n_judged=judged,
        statements=(_missed(figures, record.data.unit), _alarms(record)),
        rates=_rates(figures),
        promise=_promise_sentence(record.promise),
        kinds=_worst(figures.by_defect, figures),
        groups=_worst_groups(figures.by_group),
        n_groups=len(figures.by_group),
        chart=detection_chart(figures.detection),
        detection=detection_sentence(figures.detection),
        unit=figures.detection.unit,
        engines=_parity(record),
        bounds=bounds,
        size=size_text,
        found_size=found_size,
    )


def bounds(share: Share) -> str:
    """Return the exact bounds of a share as text."""
    if share.low is None or share.high is None:
        return MISSING
    return percent_range((share.low, share.high))


def size_text(size: float | None, unit: str) -> str:
    """Return a size with three digits and its unit."""
    if size is None:
        return MISSING
    return f"{f'{size:.3g}' if size < 1000 else count(size)}{NARROW_SPACE}{unit}"


def found_size(curve: DetectionCurve, unit: str) -> str:
    """Return a90/95 as text, for one beyond all damage that was tested that it is."""
    if curve.a90_95 is None or curve.largest is None or curve.a90_95 <= curve.largest:
        return size_text(curve.a90_95, unit)
    return f">{NARROW_SPACE}{size_text(curve.largest, unit)}"


def detection_sentence(found: Detection) -> str:
    """Say which size of damage is found at 90 % with 95 % confidence, or why that is unknown."""
    curve, unit = found.overall, found.unit
    if not curve.n:
        return "What size of damage is found is unknown: no masks show the sizes."
    ends = f"{size_text(curve.smallest, unit)} to {size_text(curve.largest, unit)}"
    tested = f"Of {count(curve.n)} parts with damage of {ends}, {count(curve.n_found)} were found."
    if curve.finding != "fitted":
        return f"{tested} {_UNFITTED[curve.finding]}"
    few = (
        ""
        if found.enough
        else f" The handbook asks for {FEWEST_SIZES} parts or more: take this as an indication."
    )
    return f"{tested} {_a90_sentence(curve, unit)}{few}"


def _a90_sentence(curve: DetectionCurve, unit: str) -> str:
    a90, largest = size_text(curve.a90, unit), curve.largest or math.inf
    if curve.a90_95 is None:
        beyond = f"beyond the longest damage tested, {size_text(largest, unit)},"
        where = beyond if (curve.a90 or math.inf) > largest else f"at about {a90},"
        return (
            f"The size found in 90{NARROW_SPACE}% of cases lies {where} and has no upper bound "
            f"with 95{NARROW_SPACE}% confidence: these parts hardly show that longer damage is "
            "found more often."
        )
    told = (
        f"Damage of {size_text(curve.a90_95, unit)} is found in 90{NARROW_SPACE}% of cases, with "
        f"95{NARROW_SPACE}% confidence (a90/95; best estimate {a90})."
    )
    if curve.a90_95 > largest:
        told += f" That is beyond the longest damage tested, {size_text(largest, unit)}."
    elif curve.smallest is not None and curve.a90_95 < curve.smallest:
        told += f" That is below the shortest damage tested, {size_text(curve.smallest, unit)}."
    return told


def detection_chart(found: Detection) -> DetectionChart | None:
    """Return the curve of detection by size, None where there is none."""
    curve = found.overall
    if (
        curve.finding != "fitted"
        or curve.smallest is None
        or curve.largest is None
        or curve.slope is None
        or curve.intercept is None
    ):
        return None
    marked = curve.a90_95 if curve.a90_95 and curve.a90_95 < 2 * curve.largest else None
    ends = (curve.smallest / _BESIDE, max(curve.largest, marked or 0) * _BESIDE)
    across, up = Scale(ends, ACROSS, log=True), Scale((0.0, 1.0), UP)
    first, last = map(math.log, ends)
    sizes = [math.exp(first + (last - first) * i / _N_STEPS) for i in range(_N_STEPS + 1)]
    line = [
        (across.at(a), up.at(1 / (1 + math.exp(-(curve.intercept + curve.slope * math.log(a))))))
        for a in sizes
    ]
    bound = [
        (across.at(far), up.at(share))
        for _, share, far in curve.points
        if far is not None and ends[0] <= far <= ends[1]
    ]
    drawn = len(bound) > 1
    is_whole = drawn and all(far is not None for _, _, far in curve.points)
    return DetectionChart(
        frame=share_frame(across.ticks(5)),
        line=path_through(line),
        bound=path_through(bound) if drawn else "",
        band=f"{path_through([*line, *reversed(bound)])}Z" if is_whole else "",
        level=path_through([(ACROSS[0], up.at(0.9)), (ACROSS[1], up.at(0.9))]),
        point=None if marked is None else (across.at(marked), up.at(0.9)),
    )


def _missed(figures: AcceptanceFigures, noun: str) -> Statement:
    share, n = figures.miss_rate, figures.n_defective
    if not n:
        sentence = f"How much damage would be missed cannot be said from these {noun}."
        return Statement("Tested", "0", f"defective {noun}", "none", None, (sentence,), ())
    again = figures.look_again_defective.n_hit
    later = f" {count(again)} of the missed were marked look again." if again else ""
    told = f"{percent(share.share)}; exact bounds {bounds(share)}.{later}"
    tone = "wrong" if share.n_hit else "right"
    return Statement(
        "Missed", count(share.n_hit), _of(n, "defective", noun), tone, None, (told,), ()
    )


def _alarms(record: AcceptanceRecord) -> Statement:
    share, noun = record.figures.false_alarm_rate, record.data.unit
    if not share.n:
        sentence = f"How many good {noun} would be rejected cannot be said from these {noun}."
        return Statement("Tested", "0", f"good {noun}", "none", None, (sentence,), ())
    tone, badge = _JUDGED["unknown" if record.promise is None else record.promise.finding]
    told = f"{percent(share.share)}; exact bounds {bounds(share)}."
    return Statement(
        "Rejected", count(share.n_hit), _of(share.n, "good", noun), tone, badge, (told,), ()
    )


def _of(n: int, kind: str, noun: str) -> str:
    return f"of {count(n)} {kind} {noun if n != 1 else noun[:-1]}"


def _rates(figures: AcceptanceFigures) -> list[tuple[str, Share]]:
    return [
        ("Miss rate (slip-through)", figures.miss_rate),
        ("False-alarm rate (pseudo rejects)", figures.false_alarm_rate),
        ("Judged correctly", figures.accuracy),
        ("Look again, of the defective", figures.look_again_defective),
        ("Look again, of the good", figures.look_again_good),
    ]


def _promise_sentence(promise: Promise | None) -> str:
    if promise is None:
        return "No good parts were tested, so the budget was not put to the test."
    rejected = f"{promise.n_rejected:.4g}"
    told = (
        f"Budget {percent(promise.budget)}; realised {percent(promise.share)} ({rejected} of "
        f"{count(promise.n_units)} good {promise.unit}), exact bounds "
        f"{percent_range((promise.low, promise.high))}."
    )
    says = {
        "kept": "That is within the budget.",
        "chance": "The bounds reach below the budget: it is not contradicted.",
        "draw": "The bounds lie above the budget, but which good parts set the threshold can "
        "explain it.",
        "broken": "The bounds, or how unlikely so many are, contradict the budget.",
        "unknown": "A single one says nothing about the others.",
    }[promise.finding]
    if promise.by_chance is None or promise.finding in ("kept", "unknown"):
        return f"{told} {says}"
    chance = percent(promise.by_chance)
    return f"{told} {says} By chance, {chance} of plants would see as many or more."


def _worst(
    shares: dict[str, Share], figures: AcceptanceFigures
) -> list[tuple[str, Share, DetectionCurve]]:
    ordered = sorted(shares.items(), key=lambda pair: -(pair[1].share or 0))
    curves = figures.detection.by_defect
    return [(name, share, curves[name]) for name, share in ordered[:_MOST_ROWS]]


def _worst_groups(groups: dict[str, GroupShares]) -> list[tuple[str, GroupShares]]:
    def badness(pair: tuple[str, GroupShares]) -> int:
        return -(pair[1].missed.n_hit + pair[1].false_alarms.n_hit)

    return sorted(groups.items(), key=badness)[:_MOST_GROUPS]


def _parity(record: AcceptanceRecord) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the names of what parity keeps, and a row of it for each runtime."""
    names = list(dict.fromkeys(name for each in record.parity.values() for name in each))
    rows = [
        (engine, [f"{each[name]:.3g}" if name in each else MISSING for name in names])
        for engine, each in record.parity.items()
    ]
    return [name.replace("_", " ") for name in names], rows
