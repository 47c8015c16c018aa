"""The page of a machine's health: its scores over time, the first lasting alarm, its recordings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from makellos.errors import InputError
from makellos.evaluation.trends import Trend, stamp_of_name
from makellos.reports.charts import Tick
from makellos.reports.formats import NARROW_SPACE, compact, count, finite
from makellos.reports.statements import Statement
from makellos.storage import storage_errors, write_text

__all__ = ["TrendPage", "headline", "render_trend", "write_trend"]

WIDE, NARROW = 1080.0, 350.0
TOP, LEFT, RIGHT, BELOW = 44.0, 56.0, 14.0, 50.0
LOGARITHMIC = 100.0  # times the lowest score that the highest is, from which the axis is so
N_MARKS = 700  # more recordings are drawn as dots without a text each
MAX_ROWS, N_FIRST, N_WORST = 120, 40, 40
_UNITS = ((1.0, "s", 120.0), (60.0, "min", 7200.0), (3600.0, "h", 172_800.0))
_DAYS = (86_400.0, "days")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_OUTCOMES = {"ok": "right", "look_again": "again", "reject": "wrong", "unreadable": "unreadable"}


@dataclass(frozen=True)
class TrendPage:
    """Hold all that the page of one machine shows, its recordings in order of time.

    `scores` are None for unreadable recordings, `verdicts` are `ok`, `look_again`, `reject` or
    `unreadable`, `times` in s or None where they are unknown; `findings` a sentence each, or None.
    `threshold` and `look_again_threshold` are in the unit of the scores, None where there is none.
    `trend` is that of these scores, verdicts and times.
    """

    title: str
    names: Sequence[str]
    scores: Sequence[float | None]
    verdicts: Sequence[str]
    times: Sequence[float] | None
    threshold: float | None
    look_again_threshold: float | None
    trend: Trend
    findings: Sequence[str | None]
    provenance: Mapping[str, str]


@dataclass(frozen=True)
class Mark:
    """Hold a recording in the chart; `outcome` is `right`, `again`, `wrong` or `unreadable`."""

    x: float
    y: float
    outcome: str
    text: str


@dataclass(frozen=True)
class Chart:
    """Hold the scores over time in SVG units; `dots` are paths by outcome in place of `marks`."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    across_name: str
    logarithmic: bool
    marks: tuple[Mark, ...]
    dots: tuple[tuple[str, str], ...]
    radius: float
    line: str
    threshold: float | None
    look_again: float | None
    alarm: float | None


@dataclass(frozen=True)
class Row:
    """Hold one recording in the table; `number` counts from 1."""

    number: int
    name: str
    time: str
    verdict: str
    outcome: str
    score: str
    finding: str
    alarm: bool


def headline(page: TrendPage) -> str:
    """Return the sentence that says whether an alarm lasts, from when on, and its lead."""
    alarm = page.trend.first_alarm
    if alarm is None:
        return f"No lasting alarm in {_recordings(page.trend.n_recordings)}"
    number, unit = _lead(page)
    return f"Lasting alarm from {_when(page, alarm)}, {number}{NARROW_SPACE}{unit} before the end"


def render_trend(page: TrendPage) -> str:
    """Return the page as one HTML file with style, script and charts inside.

    Raises `InputError` where lists differ in length.
    """
    _check(page)
    rows = _rows(page)
    return (
        _environment()
        .get_template("trend.html.j2")
        .render(
            page=page,
            sentence=headline(page),
            statements=(_alarm_statement(page), _counts_statement(page)),
            meta=_meta(page),
            charts=_charts(page),
            alarm_text=f"{' '.join(_lead(page))} before the end",
            apart=_verdicts_apart(page),
            rows=rows,
            time_unit=_unit(page),
            outcomes=[o for v, o in _OUTCOMES.items() if v in page.verdicts],
            with_findings=any(row.finding for row in rows),
            n_first=N_FIRST,
            n_worst=N_WORST,
        )
    )


def write_trend(page: TrendPage, path: Path) -> None:
    """Write the page to `path` as a whole or not at all, replacing an earlier one.

    Raises `InputError` where lists differ in length, `StorageError` where the folder cannot be made
    or the file cannot be written.
    """
    with storage_errors(f"{path} cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render_trend(page))


def _check(page: TrendPage) -> None:
    lists = {name: getattr(page, name) for name in ("names", "scores", "verdicts", "findings")}
    lists["indicator"] = page.trend.indicator
    if page.times is not None:
        lists["times"] = page.times
    lengths = {name: len(each) for name, each in lists.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{n} {name}" for name, n in lengths.items())
        raise InputError(f"A trend needs one of each per recording; received {said}.")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("makellos.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=count, compact=compact)
    return environment


def _unit_of(seconds: float) -> tuple[float, str]:
    """Return the unit in which a person would say a time, its seconds and its name."""
    return next(((size, name) for size, name, below in _UNITS if seconds < below), _DAYS)


def _amount(seconds: float) -> tuple[str, str]:
    """Return a time as a number and a unit.

    >>> _amount(45.0), _amount(276_480.0), _amount(10_000.0)
    (('45', 's'), ('3.2', 'days'), ('2.8', 'h'))
    """
    size, name = _unit_of(seconds)
    value = seconds / size
    digits = 3 if value < 1 else 1 if value < 100 else 0
    text = f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if digits else text), name


def _lead(page: TrendPage) -> tuple[str, str]:
    """Return the lead as a number and its unit."""
    lead = page.trend.lead or 0.0
    if page.times is not None:
        return _amount(lead)
    return count(lead), "recording" if lead == 1 else "recordings"


def _stamps(page: TrendPage) -> list[datetime] | None:
    """Return the dates and times in the names, where they tell the times of the page."""
    stamps = [stamp_of_name(name) for name in page.names]
    known = [stamp for stamp in stamps if stamp is not None]
    if page.times is None or not known or len(known) < len(stamps):
        return None
    pairs = zip(known, page.times, strict=True)
    offsets = [(stamp - known[0]).total_seconds() - time for stamp, time in pairs]
    return known if max(offsets) - min(offsets) < 1e-3 else None


def _when(page: TrendPage, place: int) -> str:
    stamps = _stamps(page)
    if stamps is not None:
        fine = (stamps[-1] - stamps[0]).total_seconds() < 7200
        return _date(stamps[place], "%H:%M:%S" if fine else "%H:%M")
    if page.times is not None:
        return f"{NARROW_SPACE.join(_amount(page.times[place] - page.times[0]))} after the first"
    return f"recording {place + 1}"


def _date(stamp: datetime, clock: str = "%H:%M") -> str:
    # Names of months by the locale would differ from machine to machine.
    return f"{stamp.day} {_MONTHS[stamp.month - 1]} {stamp.year} {stamp.strftime(clock)}"


def _meta(page: TrendPage) -> list[str]:
    said = [_recordings(len(page.names))]
    if page.times is not None and len(page.times) > 1:
        said.append(NARROW_SPACE.join(_amount(page.times[-1] - page.times[0])))
    stamps = _stamps(page)
    if stamps is not None and len(stamps) > 1:
        said.append(f"{_date(stamps[0])} to {_date(stamps[-1])}")
    return said


def _alarm_statement(page: TrendPage) -> Statement:
    trend = page.trend
    if trend.n_recordings == 0:
        sentences: tuple[str, ...] = ("No recording could be read.",)
        return Statement("Read", "0", "recordings", "none", None, sentences, ())
    if trend.first_alarm is None:
        n_last = _n_last_rejected(page)
        # Whether the one at the end passes is not known yet.
        said = [f"{_passing(trend.n_before - bool(n_last))} in {_recordings(trend.n_recordings)}."]
        if n_last:
            last = "The last recording is" if n_last == 1 else f"The last {count(n_last)} are"
            said.append(f"{last} rejected: more recordings will tell whether this alarm lasts.")
        tone = "again" if n_last else "right"
        return Statement("Found", "No", "lasting alarm", tone, None, tuple(said), ())
    place = trend.first_alarm
    number, unit = _lead(page)
    which = f"recording {count(place + 1)} of {count(len(page.names))}"
    since = which if page.times is None else f"{_when(page, place)}, {which}"
    sentences = (
        f"Since {since}: {page.names[place]}.",
        f"{_passing(trend.n_before)} before it.",
        *_found(page, place),
    )
    return Statement(
        "Lasting alarm", number, f"{unit} before the end", "wrong", None, sentences, ()
    )


def _passing(n: int) -> str:
    return f"{count(n) if n else 'No'} passing {'alarm' if n == 1 else 'alarms'}"


def _found(page: TrendPage, alarm: int) -> list[str]:
    """Say what was found when the alarm began, and at last where that is something else."""
    known = [(i, text) for i, text in enumerate(page.findings) if text and i >= alarm]
    if not known:
        return []
    (first, begun), (last, ended) = known[0], known[-1]
    where = "the alarm" if first == alarm else f"recording {count(first + 1)}"
    to = "the end" if last == len(page.names) - 1 else f"recording {count(last + 1)}"
    said = [(where, begun), (to, ended)][: 1 if ended == begun else 2]
    return [f"At {place}: {text}" for place, text in said]


def _counts_statement(page: TrendPage) -> Statement:
    n = {verdict: sum(each == verdict for each in page.verdicts) for verdict in _OUTCOMES}
    names = (("ok", "ok"), ("look_again", "look again"), ("unreadable", "unreadable"))
    said = ", ".join(f"{count(n[verdict])} {name}" for verdict, name in names if n[verdict])
    shares = (("wrong", n["reject"]), ("again", n["look_again"]), ("right", n["ok"]))
    rest = f"of {_recordings(page.trend.n_recordings)}"
    tone = "wrong" if n["reject"] else "right"
    sentences = (f"{said}.",) if said else ()
    return Statement("Rejected", count(n["reject"]), rest, tone, None, sentences, shares)


def _recordings(n: int) -> str:
    return f"{count(n)} {'recording' if n == 1 else 'recordings'}"


def _n_last_rejected(page: TrendPage) -> int:
    readable = [verdict for verdict in reversed(page.verdicts) if verdict != "unreadable"]
    return next((n for n, verdict in enumerate(readable) if verdict != "reject"), len(readable))


def _verdicts_apart(page: TrendPage) -> bool:
    """Tell whether a verdict is not what score and threshold alone would say."""
    limit = finite(page.threshold)
    if limit is None:
        return False
    pairs = zip(page.scores, page.verdicts, strict=True)
    return any(s is not None and (s > limit) != (v == "reject") for s, v in pairs if v in _OUTCOMES)


def _unit(page: TrendPage) -> tuple[float, str] | None:
    """Return the unit of the time axis, None where times are unknown."""
    if page.times is None or not page.times:
        return None
    return _unit_of(page.times[-1] - page.times[0])


def _rows(page: TrendPage) -> list[Row]:
    unit = _unit(page)
    rows = []
    for i in _shown(page):
        verdict, score = page.verdicts[i], finite(page.scores[i])
        time = ""
        if unit is not None and page.times is not None:
            time = f"{(page.times[i] - page.times[0]) / unit[0]:.5g}"
        rows.append(
            Row(
                number=i + 1,
                name=page.names[i],
                time=time,
                verdict=verdict.replace("_", " "),
                outcome=_OUTCOMES.get(verdict, ""),
                score=compact(score),
                finding=page.findings[i] or "",
                alarm=i == page.trend.first_alarm,
            )
        )
    return rows


def _shown(page: TrendPage) -> list[int]:
    """Return the recordings in the table: all, or the first rejected ones and the worst."""
    n = len(page.names)
    if n <= MAX_ROWS:
        return list(range(n))
    rejected = [i for i, verdict in enumerate(page.verdicts) if verdict == "reject"]
    known = [i for i, v in enumerate(page.verdicts) if v != "unreadable"]
    worst = sorted(known, key=lambda i: -(finite(page.scores[i]) or -math.inf))[:N_WORST]
    alarm = page.trend.first_alarm
    from_alarm = [] if alarm is None else [i for i in rejected if i >= alarm][: N_FIRST // 2]
    return sorted({*rejected[:N_FIRST], *worst, *from_alarm})


@dataclass(frozen=True)
class _Scale:
    """Map scores to heights; those outside lie on an edge."""

    low: float
    high: float
    bottom: float
    logarithmic: bool

    def y(self, score: float) -> float:
        low, high, at = (self._unit(value) for value in (self.low, self.high, score))
        share = (min(max(at, low), high) - low) / (high - low)
        return self.bottom - (self.bottom - TOP) * share

    def ticks(self) -> tuple[Tick, ...]:
        if not self.logarithmic:
            values = _round_values(self.low, self.high, 7)
        else:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            units = (1, 3) if last - first <= 4 else (1,)
            powers = range(first, last + 1, max(1, (last - first) // 6))
            values = [unit * 10.0**power for power in powers for unit in units]
        inside = [value for value in values if self.low <= value <= self.high]
        return tuple(Tick(self.y(value), compact(value)) for value in inside)

    def _unit(self, score: float) -> float:
        return math.log10(max(score, self.low)) if self.logarithmic else score


def _scale(page: TrendPage, bottom: float) -> _Scale:
    known = [v for score in page.scores if (v := finite(score)) is not None]
    drawn = [v for mark in (page.threshold, page.look_again_threshold) if (v := finite(mark))]
    values = sorted([*known, *drawn]) or [0.0, 1.0]
    low, high = values[0], values[-1]
    positive = [value for value in values if value > 0]
    if low >= 0 and len(positive) > len(values) / 2:
        # A few scores near 0 would press all others together at the upper edge.
        floor = max(positive[0], positive[len(positive) // 50] / 10)
        if high / floor > LOGARITHMIC:
            return _Scale(floor / 1.3, high * 1.3, bottom, logarithmic=True)
    pad = 0.06 * (high - low) or 0.5 * abs(low) or 0.5
    return _Scale(
        max(low - pad, 0.0) if low >= 0 else low - pad, high + pad, bottom, logarithmic=False
    )


def _charts(page: TrendPage) -> list[Chart]:
    if not page.trend.n_recordings:
        return []
    return [_chart(page, WIDE, 400.0), _chart(page, NARROW, 320.0)]


def _chart(page: TrendPage, width: float, height: float) -> Chart:
    bottom, left, right = height - BELOW, LEFT, width - RIGHT
    scale, unit = _scale(page, bottom), _unit(page)
    size, name = unit if unit is not None else (1.0, "")
    if page.times is None:
        at = [float(i + 1) for i in range(len(page.names))]
    else:
        at = [(time - page.times[0]) / size for time in page.times]
    length = at[-1] - at[0]

    def x(value: float) -> float:
        share = (value - at[0]) / length if length else 0.5
        return left + 10 + (right - left - 20) * share

    places = [x(value) for value in at]
    marks = tuple(_marks(page, places, scale))
    limit, band = finite(page.threshold), finite(page.look_again_threshold)
    ticks = _round_values(at[0], at[-1], max(4, width / 120)) if length else at[:1]
    if unit is None:
        ticks = sorted({round(tick) for tick in ticks if tick >= 1} | {1})
    alarm = page.trend.first_alarm
    dense = len(marks) > N_MARKS
    return Chart(
        width=width,
        height=height,
        left=left,
        right=right,
        top=TOP,
        bottom=bottom,
        across=tuple(Tick(x(tick), compact(tick)) for tick in ticks),
        up=scale.ticks(),
        across_name=f"Time since the first recording, {name}" if unit else "Recording",
        logarithmic=scale.logarithmic,
        marks=() if dense else marks,
        dots=tuple(_dots(marks)) if dense else (),
        radius=4.5 if len(marks) <= 60 and width == WIDE else 3.0,
        line=_line(zip(places, page.trend.indicator.tolist(), strict=True), scale),
        threshold=None if limit is None else scale.y(limit),
        look_again=None if band is None or limit is None else scale.y(band),
        alarm=None if alarm is None else places[alarm],
    )


def _marks(page: TrendPage, places: Sequence[float], scale: _Scale) -> Iterable[Mark]:
    columns = zip(page.names, page.scores, page.verdicts, places, strict=True)
    for number, (name, given, verdict, x) in enumerate(columns, 1):
        score = None if verdict == "unreadable" else finite(given)
        said = verdict.replace("_", " ") + (f", {compact(score)}" if score is not None else "")
        y = TOP - 12 if score is None else scale.y(score)
        yield Mark(x, y, _OUTCOMES.get(verdict, ""), f"{number}: {name}, {said}")


def _dots(marks: Sequence[Mark]) -> Iterable[tuple[str, str]]:
    """Yield outcomes and paths of their marks; those that cover each other are drawn once."""
    for outcome in _OUTCOMES.values():
        places = {(round(m.x), round(2 * m.y) / 2) for m in marks if m.outcome == outcome}
        if places:
            yield outcome, "".join(f"M{x} {y:g}h0" for x, y in sorted(places))


def _line(points: Iterable[tuple[float, float]], scale: _Scale) -> str:
    """Return a path through the finite values, at most one for each half unit of width."""
    known = {round(2 * x) / 2: scale.y(value) for x, value in points if math.isfinite(value)}
    return "M" + "L".join(f"{x:g} {y:.1f}" for x, y in known.items())


def _round_values(low: float, high: float, n: float) -> list[float]:
    """Return about `n` round values in [low, high]."""
    rough = (high - low) / n
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in (1, 2, 5, 10) if nice * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]
