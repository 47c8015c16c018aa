"""The page of a machine's health: its scores over time, the first lasting alarm, its recordings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from makellos.errors import InputError
from makellos.evaluation.trends import stamp_of_name
from makellos.reports.formats import NARROW_SPACE, compact, count, finite
from makellos.reports.pages import render_page
from makellos.reports.statements import Statement
from makellos.reports.trend_charts import OUTCOMES, TrendPage, time_unit, trend_charts, unit_of

__all__ = ["headline", "render_trend"]

MAX_ROWS, N_FIRST, N_WORST = 120, 40, 40
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


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
    return render_page(
        "trend.html.j2",
        page=page,
        sentence=headline(page),
        statements=(_alarm_statement(page), _counts_statement(page)),
        meta=_meta(page),
        charts=trend_charts(page),
        alarm_text=f"{' '.join(_lead(page))} before the end",
        apart=_verdicts_apart(page),
        rows=rows,
        time_unit=time_unit(page),
        outcomes=[o for v, o in OUTCOMES.items() if v in page.verdicts],
        with_findings=any(row.finding for row in rows),
        n_first=N_FIRST,
        n_worst=N_WORST,
    )


def _check(page: TrendPage) -> None:
    lists = {name: getattr(page, name) for name in ("names", "scores", "verdicts", "findings")}
    lists["indicator"] = page.trend.indicator
    if page.times is not None:
        lists["times"] = page.times
    lengths = {name: len(each) for name, each in lists.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{n} {name}" for name, n in lengths.items())
        raise InputError(f"A trend needs one of each per recording; received {said}.")


def _amount(seconds: float) -> tuple[str, str]:
    """Return a time as a number and a unit.

    >>> _amount(45.0), _amount(276_480.0), _amount(10_000.0)
    (('45', 's'), ('3.2', 'days'), ('2.8', 'h'))
    """
    size, name = unit_of(seconds)
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
    n = {verdict: sum(each == verdict for each in page.verdicts) for verdict in OUTCOMES}
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
    return any(s is not None and (s > limit) != (v == "reject") for s, v in pairs if v in OUTCOMES)


def _rows(page: TrendPage) -> list[Row]:
    unit = time_unit(page)
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
                outcome=OUTCOMES.get(verdict, ""),
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
