"""The page that sets detectors side by side: figures, paired differences, cost, disputed parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from makellos.drawing.scales import Scale, Tick, round_span
from makellos.evaluation import Difference, PairedDifferences
from makellos.reports.few_good import few_good_curves
from makellos.reports.formats import MISSING, auroc, duration, finite, percent, whole
from makellos.reports.pages import render_page
from makellos.reports.ranked import MISSES, ComparedRun, Group, number, ranked_charts, spread_text
from makellos.reports.statements import n_of_rate

__all__ = [
    "ComparedDetector",
    "ComparisonReport",
    "Disputed",
    "Judged",
    "difference_sentence",
    "render_comparison",
]

MINUS = "\u2212"
_VERDICTS = {"reject": "right", "look_again": "again", "ok": "wrong", "unreadable": "unreadable"}


@dataclass(frozen=True)
class ComparedDetector:
    """Hold one detector: its run, and what it costs; None where that was not measured."""

    run: ComparedRun
    fit_peak_mb: float | None
    inspect_peak_mb: float | None
    first_verdict_seconds: float | None
    loads_torch: bool | None
    model_mb: float | None


@dataclass(frozen=True)
class Judged:
    """Hold how one detector judged a part; `overlay` is an encoded thumbnail."""

    name: str
    verdict: str
    score: float | None
    overlay: bytes


@dataclass(frozen=True)
class Disputed:
    """Hold a defective part that some detectors reject and others do not, of `n_all` such."""

    input: str
    label: str
    picture: bytes
    judged: Sequence[Judged]
    n_all: int


@dataclass(frozen=True)
class ComparisonReport:
    """Hold all that the page shows; `differences` and `few_good` are those of `compare --json`."""

    title: str
    created: str
    against: str | None
    detectors: Sequence[ComparedDetector]
    differences: Sequence[Mapping[str, Any]]
    disputed: Sequence[Disputed]
    notes: Sequence[str]
    few_good: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Span:
    """Hold a difference along its axis, in [0, 1], and its text."""

    at: float
    low: float
    high: float
    text: str
    beyond: bool


def render_comparison(report: ComparisonReport) -> str:
    """Return the page with style, script, charts and pictures inside."""
    runs = [each.run for each in report.detectors]
    done = [run for run in runs if run.state == "done"]
    (group,) = ranked_charts({report.title: done})
    ranked = [next(each for each in report.detectors if each.run is row.run) for row in group.rows]
    return render_page(
        "comparison.html.j2",
        report=report,
        group=group,
        failed=[run for run in runs if run.state == "failed"],
        waiting=sum(run.state == "waiting" for run in runs),
        least_missed=_least_missed(ranked),
        tested=_tested(ranked),
        figures=_table(_FIGURES, ranked),
        cost=_table(_COST, ranked),
        forest=_forest(report.differences),
        highest=_highest(ranked),
        few_good=few_good_curves(report.few_good),
        lead=_lead(report, group),
        verdict_class=_VERDICTS,
    )


def difference_sentence(
    name: str, against: str, paired: PairedDifferences, n_defective: int
) -> str:
    """Say in words how one differs from another, and whether chance explains it."""
    said = [] if paired.miss_rate is None else [_miss_sentence(against, paired, n_defective)]
    told = " ".join(filter(None, [*said, _auroc_sentence(against, paired.image_auroc)]))
    return f"{name}: {told}" if told else f"{name}: too few kinds of parts to compare."


def _auroc_sentence(against: str, found: Difference | None) -> str:
    if found is None:
        return ""
    span = f"95\u202f% interval {_signed(found.interval[0])} to {_signed(found.interval[1])}"
    if found.value == 0:
        return f"Its image AUROC is the same as that of {against} ({span})."
    way = "higher" if found.value > 0 else "lower"
    text = f"Its image AUROC is {abs(found.value):.3f} {way} than that of {against}"
    return f"{text}; the difference is {_chance(found)} ({span})."


def _miss_sentence(against: str, paired: PairedDifferences, n_defective: int) -> str:
    alone, missed = paired.n_found_alone, paired.n_missed_alone
    if not alone and not missed:
        return f"finds and misses the same of {n_defective} defective parts as {against}."
    text = f"finds {alone} of {n_defective} defective parts that {against} misses"
    text = f"{text}, and misses {missed} that {against} finds"
    return f"{text}: {_chance(paired.miss_rate)}." if paired.miss_rate else f"{text}."


def _chance(found: Difference) -> str:
    least = "no more" if found.within_chance else "more"
    return f"{least} than chance would explain"


def _signed(value: float, digits: int = 3) -> str:
    return _with_sign(f"{value:.{digits}f}")


def _with_sign(text: str) -> str:
    if float(text) == 0:
        return text.removeprefix("-")
    return MINUS + text[1:] if text.startswith("-") else f"+{text}"


def _count_of(each: ComparedDetector, rate: str, among: str) -> str:
    n = whole(each.run.figures.get(among)) or 0
    hits = n_of_rate(each.run.figures.get(rate), n)
    return "" if hits is None else f"{hits} of {n}"


@dataclass(frozen=True)
class Column:
    """Hold a column: its head, the value it ranks by, its text and the small text below."""

    name: str
    value: Callable[[ComparedDetector], float | None]
    text: Callable[[float], str]
    below: Callable[[ComparedDetector], str] = lambda _: ""
    higher_is_better: bool = False


def _ratio(name: str, key: str) -> Column:
    return Column(
        name,
        lambda each: number(each.run, key),
        auroc,
        lambda each: spread_text(each.run, key),
        higher_is_better=True,
    )


def _rate(name: str, key: str, among: str) -> Column:
    return Column(
        name,
        lambda each: number(each.run, key),
        percent,
        lambda each: _count_of(each, key, among),
    )


_FIGURES = (
    _rate("Missed", "miss_rate", "n_defective"),
    _ratio("Image AUROC", "image_auroc"),
    _ratio("Image AP", "image_ap"),
    _ratio("Pixel AUROC", "pixel_auroc"),
    _ratio("AUPRO", "aupro"),
    _ratio("AUPRO 5\u202f%", "aupro_5"),
    _ratio("SegF1", "seg_f1"),
    _rate("False alarms", "false_alarm_rate", "n_good"),
)
_COST = (
    Column("Fit", lambda each: finite(each.run.fit_seconds), duration),
    Column("Memory of fit", lambda each: each.fit_peak_mb, lambda mb: f"{mb:.0f}\u202fMB"),
    Column(
        "Inspect a part",
        lambda each: number(each.run, "inspect_ms_per_part"),
        lambda ms: f"{ms:.3g}\u202fms",
    ),
    Column(
        "Memory of inspection", lambda each: each.inspect_peak_mb, lambda mb: f"{mb:.0f}\u202fMB"
    ),
    Column("First verdict", lambda each: each.first_verdict_seconds, duration),
    Column("Model file", lambda each: each.model_mb, lambda mb: f"{mb:.3g}\u202fMB"),
)


def _table(columns: Sequence[Column], ranked: Sequence[ComparedDetector]) -> Mapping[str, Any]:
    """Return heads and rows of cells (text, below, is best); columns that nobody has are left out.

    What is printed alike is best alike.
    """
    kept, cells = [], []
    for column in columns:
        values = [column.value(each) for each in ranked]
        known = [value for value in values if value is not None]
        if not known:
            continue
        best = column.text(max(known) if column.higher_is_better else min(known))
        texts = [MISSING if value is None else column.text(value) for value in values]
        kept.append(column.name)
        cells.append(
            [
                (text, column.below(each), len(set(texts)) > 1 and text == best)
                for text, each in zip(texts, ranked, strict=True)
            ]
        )
    rows = [(each, [column[i] for column in cells]) for i, each in enumerate(ranked)]
    return {"heads": kept, "rows": rows}


def _missed(each: ComparedDetector) -> int | None:
    n = whole(each.run.figures.get("n_defective")) or 0
    return n_of_rate(each.run.figures.get("miss_rate"), n) if n else None


def _least_missed(ranked: Sequence[ComparedDetector]) -> Mapping[str, Any] | None:
    counts = [(missed, each) for each in ranked if (missed := _missed(each)) is not None]
    if not counts:
        return None
    n = min(missed for missed, _ in counts)
    names = [each.run.name for missed, each in counts if missed == n]
    others = [f"{each.run.name} {missed}" for missed, each in counts if missed != n]
    among = whole(counts[0][1].run.figures.get("n_defective")) or 0
    return {"n": n, "by": _listed(names), "among": among, "others": _listed(others)}


def _listed(names: Sequence[str]) -> str:
    """Return names as a list in words.

    >>> _listed(["a", "b", "c"]), _listed(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _tested(ranked: Sequence[ComparedDetector]) -> str:
    if not ranked:
        return ""
    n_good, n_bad = (whole(ranked[0].run.figures.get(n)) or 0 for n in ("n_good", "n_defective"))
    return f"{n_good} good and {n_bad} defective test parts"


def _highest(ranked: Sequence[ComparedDetector]) -> ComparedRun | None:
    known = [each.run for each in ranked if number(each.run, "image_auroc") is not None]
    return max(known, key=lambda run: number(run, "image_auroc") or 0.0, default=None)


def _lead(report: ComparisonReport, group: Group) -> str:
    """Say whether the best is ahead by more than chance would explain."""
    key = group.measure.key
    if group.best is None or report.against != group.best.name:
        return ""
    found = [(d["name"], d[key]) for d in report.differences if d[key]]
    level = [name for name, each in found if each["value"] == 0]
    close = [name for name, each in found if each["within_chance"] and name not in level]
    clear = [name for name, _ in found if name not in (*close, *level)]
    said = [f"Ahead of {_listed(clear)} by more than chance would explain."] if clear else []
    said += [f"Ahead of {_listed(close)} by no more than chance would explain."] if close else []
    beside = ", and of higher image AUROC" if group.measure is MISSES else ""
    said += [f"Level with {_listed(level)}{beside}."] if level else []
    return " ".join(said)


def _forest(differences: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the chart of differences: an axis and a span per row for misses and for AUROC."""
    panels = []
    for key, name, scale, digits in (
        ("miss_rate", "Missed, difference in percentage points", 100.0, 1),
        ("image_auroc", "Image AUROC, difference", 1.0, 3),
    ):
        known = [each[key] for each in differences if each[key] is not None]
        if not known:
            continue
        ends = [end * scale for each in known for end in each["interval"]]
        axis = Scale(round_span(min(0.0, *ends), max(0.0, *ends), 4))
        ticks = [Tick(at, _with_sign(text)) for at, text in axis.ticks(5)]
        spans = [_span(each[key], axis, scale, digits) for each in differences]
        panels.append((name, axis.at(0.0), ticks, spans))
    return {"names": [each["name"] for each in differences], "panels": panels} if panels else None


def _span(found: Mapping[str, Any] | None, axis: Scale, scale: float, digits: int) -> Span | None:
    if found is None:
        return None
    low, high = (axis.at(end * scale) for end in found["interval"])
    text = _signed(found["value"] * scale, digits)
    return Span(axis.at(found["value"] * scale), low, high, text, not found["within_chance"])
