"""The page that compares the runs of a queue: ranked charts, a sortable table, what failed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from makellos.reports.formats import (
    MISSING,
    count,
    duration,
    finite,
    percent,
)

__all__ = [
    "WIDTHS",
    "ComparedRun",
    "QueueReport",
    "auroc_text",
    "page_environment",
    "ranked_axis",
    "ranked_group",
    "render_queue",
]

WIDTHS = {"wide": 1080.0, "narrow": 350.0}
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class ComparedRun:
    """Hold one run: what was asked, what became of it.

    `state` is ``done``, ``failed``, ``running`` or ``waiting``; `figures` are those of ``evaluate
    --json``, empty where nothing was evaluated; `report` and `log` are paths relative to the page.
    """

    name: str
    data: str
    detector: str
    settings: str
    state: str
    reason: str | None
    report: str | None
    log: str | None
    fit_seconds: float | None
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class QueueReport:
    """Hold all that the page of a queue shows."""

    title: str
    file: str
    created: str
    runs: Sequence[ComparedRun]


@dataclass(frozen=True)
class Axis:
    """Hold the shared axis of AUROC, from `low` to 1, and its ticks."""

    low: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Return where a value lies along the axis, in [0, 1]."""
        return min(1.0, max(0.0, (value - self.low) / (1.0 - self.low)))


@dataclass(frozen=True)
class ChartRow:
    """Hold one run of a chart: AUROC and its interval along the axis, fit time as a share."""

    run: ComparedRun
    value: str
    at: float | None
    low: float | None
    high: float | None
    time: str
    time_share: float


@dataclass(frozen=True)
class Group:
    """Hold the finished runs on one set of data, the highest AUROC first, and what to say."""

    data: str
    rows: tuple[ChartRow, ...]
    best: ComparedRun | None
    lead: str


def render_queue(report: QueueReport) -> str:
    """Return the page with style, script and charts inside."""
    done = [run for run in report.runs if run.state == "done"]
    axis = ranked_axis(done)
    longest = max((finite(run.fit_seconds) or 0.0 for run in done), default=0.0)
    columns = [column for column in _COLUMNS if any(column[1](run) for run in report.runs)]
    template = page_environment().get_template("queue.html.j2")
    return template.render(
        report=report,
        counts={state: sum(run.state == state for run in report.runs) for state in _STATES},
        groups=[ranked_group(data, runs, axis, longest) for data, runs in _by_data(done)],
        axis=axis,
        several=len({run.data for run in report.runs if run.data}) > 1,
        columns=[name for name, *_ in columns],
        table=[
            (run, [(read(run) or MISSING, below(run)) for _, read, below in columns])
            for run in _ranked(report.runs)
        ],
        failed=[run for run in report.runs if run.state == "failed"],
        noted=[(run, run.figures.get("notes") or []) for run in done if run.figures.get("notes")],
        **WIDTHS,
    )


def page_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("makellos.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        auroc=auroc_text, duration=duration, number=count, link=quote, short=_short
    )
    return environment


def _short(text: str, n: int) -> str:
    return text if len(text) <= n else text[: n - 1] + "…"


_STATES = ("done", "failed", "running", "waiting")


def _number(run: ComparedRun, name: str) -> float | None:
    return finite(run.figures.get(name))


def auroc_text(value: Any) -> str:
    """Return an AUROC that never rounds to 1 falsely.

    >>> auroc_text(0.98765), auroc_text(0.99999), auroc_text(1.0)
    ('0.988', '0.9999', '1.000')
    """
    number = finite(value)
    if number is None:
        return ""
    text = f"{number:.3f}"
    return f"{math.floor(number * 1e4) / 1e4:.4f}" if text == "1.000" and number < 1 else text


def _spread(run: ComparedRun, name: str) -> tuple[float, float] | None:
    found = (run.figures.get("intervals") or {}).get(name)
    if found is None or len(found) != 2:
        return None
    low, high = finite(found[0]), finite(found[1])
    return None if low is None or high is None else (low, high)


def _spread_text(run: ComparedRun) -> str:
    spread = _spread(run, "image_auroc")
    return "" if spread is None else f"{auroc_text(spread[0])} to {auroc_text(spread[1])}"


def _share(run: ComparedRun, name: str) -> str:
    value = _number(run, name)
    return "" if value is None else percent(value)


def _seconds(run: ComparedRun) -> str:
    value = finite(run.fit_seconds)
    return "" if value is None else count(value) if value >= 10 else f"{value:.1f}"


def _inspect(run: ComparedRun) -> str:
    value = _number(run, "inspect_ms_per_part")
    return "" if value is None else f"{value:.3g}"


def _nothing(run: ComparedRun) -> str:
    del run
    return ""


# Name, text of a run's cell, and what stands small below it.
_COLUMNS = (
    ("AUROC", lambda run: auroc_text(run.figures.get("image_auroc")), _spread_text),
    ("Missed", lambda run: _share(run, "miss_rate"), _nothing),
    ("False alarms", lambda run: _share(run, "false_alarm_rate"), _nothing),
    ("Accuracy", lambda run: _share(run, "accuracy"), _nothing),
    ("Balanced", lambda run: _share(run, "balanced_accuracy"), _nothing),
    ("Macro F1", lambda run: auroc_text(run.figures.get("macro_f1")), _nothing),
    ("Fit, s", _seconds, _nothing),
    ("Inspect, ms", _inspect, _nothing),
)


def _ranked(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Return runs with the highest AUROC first, those without one in their order behind."""

    def place(run: ComparedRun) -> tuple[int, float]:
        value = _number(run, "image_auroc")
        behind = _STATES.index(run.state) if run.state in _STATES else len(_STATES)
        return (behind, math.inf if value is None else -value)

    return sorted(runs, key=place)


def _by_data(runs: Sequence[ComparedRun]) -> list[tuple[str, list[ComparedRun]]]:
    found: dict[str, list[ComparedRun]] = {}
    for run in runs:
        found.setdefault(run.data, []).append(run)
    return list(found.items())


def ranked_axis(runs: Sequence[ComparedRun]) -> Axis:
    """Return the axis that the AUROC of all runs fits on."""
    values = [value for run in runs if (value := _number(run, "image_auroc")) is not None]
    values += [spread[0] for run in runs if (spread := _spread(run, "image_auroc"))]
    lowest = min([0.9, *values])
    step = next((s for s in _STEPS if (1 - lowest) / s <= 6), _STEPS[-1])
    n_steps = max(1, math.ceil((1 - lowest) / step - 1e-9))
    ticks = tuple(round(1 - i * step, 4) for i in reversed(range(n_steps + 1)))
    return Axis(ticks[0], ticks)


def ranked_group(data: str, runs: Sequence[ComparedRun], axis: Axis, longest: float) -> Group:
    """Return runs on one set of data as a chart; `longest` is the longest fit in seconds."""
    ranked = _ranked(runs)
    rows = tuple(_row(run, axis, longest) for run in ranked)
    measured = [run for run in ranked if _number(run, "image_auroc") is not None]
    return Group(data, rows, measured[0] if measured else None, _lead(measured))


def _row(run: ComparedRun, axis: Axis, longest: float) -> ChartRow:
    value, spread = _number(run, "image_auroc"), _spread(run, "image_auroc")
    seconds = finite(run.fit_seconds)
    return ChartRow(
        run=run,
        value="not evaluated" if value is None else auroc_text(value),
        at=None if value is None else axis.share(value),
        low=None if spread is None else axis.share(spread[0]),
        high=None if spread is None else axis.share(spread[1]),
        time="" if seconds is None else duration(seconds),
        time_share=(seconds or 0.0) / longest if longest else 0.0,
    )


def _lead(measured: Sequence[ComparedRun]) -> str:
    """Say whether the parts tested can tell the best run from the others."""
    if len(measured) < 2:
        return ""
    best = _spread(measured[0], "image_auroc")
    if best is None:
        return ""
    close = [run for run in measured[1:] if (s := _spread(run, "image_auroc")) and s[1] >= best[0]]
    if not close:
        return f"{measured[0].name} is ahead by more than chance explains."
    if len(close) == 1:
        return f"{measured[0].name} is ahead; its interval overlaps with that of {close[0].name}."
    return (
        f"{measured[0].name} is ahead; its interval overlaps with those of {len(close)} other runs."
    )
