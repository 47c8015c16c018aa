"""The page of a machine's health: what it says, draws and leaves behind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from makellos.errors import InputError, StorageError
from makellos.evaluation.trends import times_of_names, trend
from makellos.reports.pages import write_page
from makellos.reports.trend import headline, render_trend
from makellos.reports.trend_charts import TrendPage

STAMPED = [f"2024-05-{day:02d}T10-20-30.csv" for day in range(1, 31)]
RISING = [1.0, 1.1] * 10 + [2.0 * 2**k for k in range(10)]


def page(scores: Sequence[float | None], **options: Any) -> TrendPage:
    """Return the page of scores whose threshold is 1.5; times are those of stamped names."""
    verdicts = options.pop("verdicts", None) or [
        "unreadable" if s is None else "reject" if s > 1.5 else "look_again" if s > 1.2 else "ok"
        for s in scores
    ]
    names = options.pop("names", None) or [f"{i + 1}.csv" for i in range(len(scores))]
    times = options.pop("times", None) or times_of_names(names)
    given: dict[str, Any] = {
        "title": "Bearing 3",
        "names": names,
        "scores": scores,
        "verdicts": verdicts,
        "times": times,
        "threshold": 1.5,
        "look_again_threshold": 1.2,
        "trend": trend(scores, verdicts, times),
        "findings": [None] * len(scores),
        "provenance": {"Model": "bearing.makellos"},
    }
    return TrendPage(**{**given, **options})


def text_of(html: str) -> str:
    bare = re.sub(r"<(style|script)>.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", bare).split())


def charts_of(html: str) -> list[ElementTree.Element]:
    found = re.findall(r'<svg class="chart.*?</svg>', html, flags=re.DOTALL)
    return [ElementTree.fromstring(svg) for svg in found]  # noqa: S314


def by_class(chart: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [item for item in chart.iter() if name in item.get("class", "").split()]


def rows_of(html: str) -> list[str]:
    table = html.partition("<tbody>")[2].partition("</tbody>")[0]
    return [text_of(row) for row in table.split("</tr>") if row.strip()]


def test_lasting_alarm_has_date_and_lead() -> None:
    told = page(RISING, names=STAMPED)
    assert headline(told) == "Lasting alarm from 21 May 2024 10:20, 9\u202fdays before the end"
    text = text_of(render_trend(told))
    for words in (
        "Bearing 3 30 recordings 29 days",
        "1 May 2024 10:20 to 30 May 2024 10:20",
        "Lasting alarm 9 days before the end",
        "Since 21 May 2024 10:20, recording 21 of 30: 2024-05-21T10-20-30.csv.",
        "No passing alarms before it.",
        "Rejected 10 of 30 recordings",
        "20 ok.",
        "bearing.makellos",
        "Time since the first recording, days",
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (1.0, "20\u202fs after the first, 9\u202fs"),
        (60.0, "20\u202fmin after the first, 9\u202fmin"),
        (3600.0, "20\u202fh after the first, 9\u202fh"),
        (86_400.0, "20\u202fdays after the first, 9\u202fdays"),
        (8640.0, "2\u202fdays after the first, 21.6\u202fh"),
    ],
)
def test_times_have_the_unit_of_a_person(step: float, said: str) -> None:
    told = page(RISING, times=[7.0 + step * i for i in range(30)])
    assert headline(told) == f"Lasting alarm from {said} before the end"


def test_dates_of_names_are_shown_only_where_they_tell_the_times() -> None:
    told = page(RISING, names=STAMPED, times=[3600.0 * i for i in range(30)])
    assert headline(told).startswith("Lasting alarm from 20\u202fh after the first")
    assert "May 2024" not in text_of(render_trend(told)).partition("Recordings No.")[0]


def test_without_times_recordings_are_counted() -> None:
    told = page(RISING)
    assert headline(told) == "Lasting alarm from recording 21, 9\u202frecordings before the end"
    html = render_trend(told)
    assert "Time," not in text_of(html)
    assert by_class(charts_of(html)[0], "axis-name")[0].text == "Recording"


def test_no_alarm_and_one_that_is_not_sure_yet() -> None:
    quiet = page([1.0, 1.1, 1.0])
    assert headline(quiet) == "No lasting alarm in 3 recordings"
    text = text_of(render_trend(quiet))
    assert "No passing alarms in 3 recordings." in text
    assert "more recordings will tell" not in text
    text = text_of(render_trend(page([1.0, 5.0, 1.0, 2.0, None, 2.0])))
    assert "1 passing alarm in 5 recordings." in text
    assert "The last 2 are rejected: more recordings will tell" in text


def test_findings_of_the_alarm_and_of_the_end() -> None:
    findings: list[str | None] = [None] * 30
    findings[5], findings[20] = "cage", "inner race: 162.2 Hz stands out"
    told = page(RISING, findings=findings)
    alarm = text_of(render_trend(told)).partition("Health")[2].partition("Rejected")[0]
    assert "At the alarm: inner race: 162.2 Hz stands out" in alarm
    assert "At the end" not in alarm
    assert "cage" not in alarm
    findings[29] = "ball"
    assert "At the end: ball" in text_of(render_trend(replace(told, findings=findings)))


def test_chart_draws_each_recording_threshold_and_alarm() -> None:
    html = render_trend(page([*RISING[:5], None, *RISING[5:]]))
    wide, narrow = charts_of(html)
    assert (wide.get("viewBox"), narrow.get("viewBox")) == ("0 0 1080 400", "0 0 350 320")
    for chart in (wide, narrow):
        marks = by_class(chart, "mark")
        assert [m.get("class") for m in marks] == ["mark right"] * 20 + ["mark wrong"] * 10
        assert len(by_class(chart, "cross")) == 1
        height = float(by_class(chart, "limit")[0].get("y1", 0))
        assert all(float(m.get("cy", 0)) > height for m in marks[:20])  # y grows downwards
        assert all(float(m.get("cy", 0)) < height for m in marks[20:])
        assert by_class(chart, "alarm")[0].get("x1") == marks[20].get("cx")
        xs = [float(m.get("cx", 0)) for m in marks]
        assert xs == sorted(xs)
        assert xs[5] - xs[4] > 1.5 * (xs[4] - xs[3])  # the unreadable one keeps its place


@pytest.mark.parametrize(
    ("scores", "logarithmic"),
    [
        ([1.0, 2.0, 90.0], False),
        ([1.0, 2.0, 110.0], True),
        ([0.0, 0.5, 1.0, 110.0, 500.0], True),
        ([-1.0, 2.0, 900.0], False),
    ],
)
def test_scores_over_two_decades_have_a_logarithmic_axis(
    scores: list[float], logarithmic: bool
) -> None:
    html = render_trend(page(scores))
    assert ("Score (logarithmic)" in html) is logarithmic
    chart = charts_of(html)[0]
    heights = [float(mark.get("cy", 0)) for mark in by_class(chart, "mark")]
    assert heights == sorted(heights, reverse=True)
    assert all(44 <= height <= 350 for height in heights)
    assert len(by_class(chart, "grid")) >= 3


def test_one_score_near_zero_does_not_press_the_others_together() -> None:
    html = render_trend(page([1e-12] + [1.0] * 99 + [200.0] * 5))
    heights = [float(mark.get("cy", 0)) for mark in by_class(charts_of(html)[0], "mark")]
    assert heights[1] - heights[-1] > 150


def test_indicator_is_drawn_across_unreadable_recordings() -> None:
    html = render_trend(page([1.0, None, 1.0, 1.0]))
    line = by_class(charts_of(html)[0], "indicator")[0].get("d", "")
    assert line.count("L") == 2
    assert "nan" not in line


def test_long_records_are_drawn_as_dots_and_listed_in_part() -> None:
    rng = np.random.default_rng(0)
    scores = (np.exp(rng.normal(0, 0.1, 5000)) + np.linspace(-1, 5, 5000).clip(0)).tolist()
    scores[7] = None
    told = page(scores)
    html = render_trend(told)
    assert len(html) < 400_000
    dots = by_class(charts_of(html)[0], "dot")
    assert [dot.get("class", "").split()[1] for dot in dots] == [
        *("right", "again", "wrong", "unreadable")
    ]
    rows = rows_of(html)
    assert len(rows) <= 120
    assert f"{len(rows)} of 5000 recordings: the first 40" in text_of(html)
    first = told.trend.first_alarm
    assert first is not None
    assert any(row.startswith(f"{first + 1} ") and "first of the lasting" in row for row in rows)
    assert any(row.startswith(f"{int(np.nanargmax(np.array(scores, float))) + 1} ") for row in rows)
    assert any(row.startswith(f"{told.verdicts.index('reject') + 1} ") for row in rows)


def test_short_records_are_listed_whole() -> None:
    html = render_trend(page([1.0, None, 9.0], names=["a.csv", "b.csv", "c.csv"]))
    assert rows_of(html) == ["1 a.csv ok 1", "2 b.csv unreadable \u2013", "3 c.csv reject 9"]


@pytest.mark.parametrize("scores", [[], [None], [None, None], [3.0], [0.0, 0.0, 0.0]])
def test_little_is_shown_too(scores: list[float | None]) -> None:
    html = render_trend(page(scores, threshold=None, look_again_threshold=None))
    assert len(charts_of(html)) == (2 if any(s is not None for s in scores) else 0)
    assert ("No recording could be read." in html) == all(s is None for s in scores)
    assert "threshold<" not in html


def test_page_says_where_verdicts_are_not_those_of_the_threshold() -> None:
    assert "A verdict may differ" not in render_trend(page([1.0, 2.0]))
    html = render_trend(page([1.0, 2.0], verdicts=["reject", "reject"]))
    assert "A verdict may differ" in html


def test_page_asks_for_nothing_and_escapes_names() -> None:
    html = render_trend(page([1.0], names=["<b>&.csv"], findings=["<i>x</i>"], title="<u>"))
    assert "<b>&.csv" not in html
    assert "&lt;b&gt;&amp;.csv" in html
    assert "<i>x" not in html
    assert "<u>" not in html
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", html)
    assert "url(" not in html
    assert "prefers-color-scheme: dark" in html


def test_page_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "new" / "trend.html"
    write_page(file, render_trend(page([1.0])))
    write_page(file, render_trend(page([1.0, 2.0], names=["odd\udcff.csv", "b.csv"])))
    assert "b.csv" in file.read_text(encoding="utf-8")
    assert [each.name for each in file.parent.iterdir()] == ["trend.html"]
    with pytest.raises(StorageError, match=r"new cannot be written"):
        write_page(file.parent, render_trend(page([1.0])))
    assert [each.name for each in tmp_path.iterdir()] == ["new"]
    assert "b.csv" in file.read_text(encoding="utf-8")


def test_lists_of_another_length_are_named() -> None:
    with pytest.raises(InputError, match="2 names, 2 scores, 2 verdicts, 1 findings"):
        render_trend(page([1.0, 2.0], findings=[None]))
