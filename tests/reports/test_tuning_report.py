"""The page of a search: what it shows, in one file that asks the network for nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from makellos.reports.trial_charts import courses, history
from makellos.reports.tuning import TuningReport, TuningTrial, render_tuning


def trial(slot: int, value: float, state: str = "complete", **options: Any) -> TuningTrial:
    steps = [(step, value + 1 / step) for step in (1, 3, 9)]
    steps = steps[:1] if state == "pruned" else steps[:0] if state == "failed" else steps
    given: dict[str, Any] = {
        "slot": slot,
        "state": state,
        "value": value if state == "complete" else None,
        "parameters": {"rate": 0.1 * (slot + 1), "kind": "fine"},
        "steps": steps,
        "used": 9.0 if state == "complete" else 1.0,
        "seconds": 1.5,
    }
    return TuningTrial(**{**given, **options})


def report(**options: Any) -> TuningReport:
    given: dict[str, Any] = {
        "detector": "classifier",
        "data": "tiles",
        "created": "2030-01-02T03:04:05+00:00",
        "value": "validation loss",
        "resource": "epochs",
        "judged": "40 labelled validation parts",
        "n_wanted": 20,
        "n_killed": 0,
        "used": 21.0,
        "unpruned": 45.0,
        "seed": 3,
        "defaults": {"rate": 0.1, "kind": "fine"},
        "fixed": {"epochs": 9},
        "space": {"rate": "0.01..1.0:log", "kind": "fine | coarse"},
        "best": 2,
        "trials": [
            trial(0, 0.5),
            trial(1, 0.7, "pruned"),
            trial(2, 0.3),
            trial(3, 9.0, "failed", reason="Training diverged <here>."),
            trial(4, 0.4),
        ],
        "importance": {"kind": 0.2, "rate": 0.8},
    }
    return TuningReport(**{**given, **options})


def text_of(page: str) -> str:
    bare = re.sub(r"<(style|script)>.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", bare).split())


def test_page_says_what_was_found() -> None:
    text = text_of(render_tuning(report()))
    for words in (
        "classifier on tiles",
        "Best validation loss 0.3",
        "The defaults reach 0.5: 40 % less.",
        "Took 21 epochs; without pruning, the same trials would have taken 45",
        "3 complete, 1 pruned, 1 failed",
        "53.3 %",
        "Training diverged &lt;here&gt;.",
        "makellos fit tiles -o MODEL --detector classifier --config best.json",
        "0.01 to 1.0, logarithmic",
        "epochs=9",
    ):
        assert words in text, words


def test_page_is_one_file_without_requests() -> None:
    page = render_tuning(report())
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)
    assert "default-src 'none'" in page
    assert "@import" not in page
    assert "url(" not in page
    assert "prefers-color-scheme: dark" in page


def test_charts_are_well_formed() -> None:
    for chart in re.findall(r"<svg.*?</svg>", render_tuning(report()), flags=re.DOTALL):
        ElementTree.fromstring(chart)  # noqa: S314 -- our own
        assert "nan" not in chart


def test_best_and_pruned_trials_stand_out() -> None:
    page = render_tuning(report())
    assert page.count('class="way best"') == 2  # in the wide and in the narrow chart
    assert page.count('class="way pruned"') == 2
    assert page.count('class="way complete"') == 4
    assert page.count('class="trial failed"') == 2
    assert page.count('class="is-best"') == 1


def test_importance_is_in_order_or_said_to_be_unknown() -> None:
    text = text_of(render_tuning(report()))
    assert text.index("rate 80") < text.index("kind 20")
    assert "Unknown: this needs more complete trials" in text_of(
        render_tuning(report(importance={}))
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"best": 0, "trials": [trial(0, 0.2)]}, "No trial is better than the defaults."),
        (
            {"trials": [trial(0, 0.2, "failed", reason="no"), trial(2, 0.3)]},
            "The defaults have no value.",
        ),
        ({"n_killed": 2}, "2 trials were interrupted by a kill and run again."),
        ({"unpruned": 0.0, "used": 0.0}, "Saved by pruning 0"),
        ({"trials": [trial(2, 0.0, steps=[])]}, "No trial has reported an intermediate value."),
    ],
)
def test_other_outcomes_are_said(options: Mapping[str, Any], words: str) -> None:
    assert words in text_of(render_tuning(replace(report(), **options)))


def test_names_from_outside_are_escaped() -> None:
    page = render_tuning(report(data="<script>alert(1)</script>", judged="<b>"))
    assert "<script>alert" not in page


def test_history_keeps_the_better_half_apart_from_a_wild_trial() -> None:
    values = [0.50, 0.48, 0.46, 0.44, 8.0]
    chart = history(
        [(i, "complete", v) for i, v in enumerate(values)], best=3, default=0.5, width=1080
    )
    heights = [point.y for point in chart.points]
    assert chart.points[-1].beyond
    assert heights[0] < heights[1] < heights[2] < heights[3]
    assert heights[3] - heights[0] > 60
    assert chart.points[3].kind == "best"
    assert chart.best == (chart.points[3].x, chart.points[3].y)


def test_history_line_never_rises() -> None:
    values = [0.5, 0.7, 0.3, 0.9, 0.2]
    chart = history(
        [(i, "complete", v) for i, v in enumerate(values)], best=4, default=None, width=350
    )
    turns = [float(y) for y in re.findall(r"V([\d.]+)", chart.best_line)]
    assert turns == sorted(turns)
    assert len(turns) == 2
    # It falls where the better trial stands, and not a trial before.
    falls = re.findall(r"H([\d.]+)V([\d.]+)", chart.best_line)
    better = [chart.points[i] for i in (2, 4)]
    assert falls == [(f"{point.x:.1f}", f"{point.y:.1f}") for point in better]
    assert chart.default is None


def test_wide_ranges_are_logarithmic() -> None:
    chart = history([(i, "complete", 10.0**-i) for i in range(5)], best=4, default=None, width=1080)
    steps = [b.y - a.y for a, b in zip(chart.points, chart.points[1:], strict=False)]
    assert max(steps) - min(steps) < 1e-6
    assert chart.frame.logarithmic
    assert "0.001" in [tick.text for tick in chart.frame.up]


def test_ways_over_rungs_are_spread_evenly() -> None:
    chart = courses(
        [(0, "complete", [(1, 0.5), (3, 0.4), (9, 0.3)])],
        best=0,
        rungs={1: "1/9", 3: "1/3", 9: "all"},
        width=1080,
    )
    assert chart is not None
    places = [tick.at for tick in chart.frame.across]
    assert [tick.text for tick in chart.frame.across] == ["1/9", "1/3", "all"]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])


def test_ways_leave_out_what_is_not_finite() -> None:
    assert courses([(0, "failed", [(1, math.nan)])], best=1, rungs={}, width=350) is None
    chart = courses(
        [(0, "pruned", [(1, math.inf), (2, 0.5)]), (1, "complete", [(1, 0.2)])],
        best=1,
        rungs={},
        width=350,
    )
    assert chart is not None
    assert [line.kind for line in chart.lines] == ["pruned", "best"]
