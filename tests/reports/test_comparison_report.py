"""The page of a comparison: what it says, and that any outcome can be shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from makellos.evaluation import Difference, PairedDifferences
from makellos.reports.comparison import (
    ComparedDetector,
    ComparisonReport,
    Disputed,
    Judged,
    difference_sentence,
    render_comparison,
)
from makellos.reports.ranked import ComparedRun


def detector(name: str, auroc: float | None, missed: float | None, **more: Any) -> ComparedDetector:
    figures = {
        "n_good": 40,
        "n_defective": 20,
        "image_auroc": auroc,
        "image_ap": auroc,
        "miss_rate": missed,
        "false_alarm_rate": 0.05,
        "inspect_ms_per_part": 12.5,
        "intervals": {} if auroc is None else {"image_auroc": [auroc - 0.05, auroc + 0.02]},
    }
    run = ComparedRun(
        name=name,
        data="",
        detector=name,
        settings="",
        state="done",
        reason=None,
        report=f"{name}/report.html",
        log=f"{name}/log.txt",
        fit_seconds=30.0,
        figures=figures,
    )
    return ComparedDetector(replace(run, **more), 900.0, 200.0, 0.9, False, 12.0)


def difference(name: str, value: float, low: float, high: float) -> dict[str, Any]:
    found = {"value": value, "interval": [low, high], "within_chance": low <= 0 <= high}
    missed = {"value": -value, "interval": [-high, -low], "within_chance": low <= 0 <= high}
    return {
        "name": name,
        "against": "a",
        "n_groups": None,
        "image_auroc": found,
        "miss_rate": missed,
        "sentence": f"{name} is what it is.",
    }


def report(**changes: Any) -> ComparisonReport:
    judged = [Judged("a", "reject", 2.0, b""), Judged("b", "ok", 0.5, b"")]
    given = {
        "title": "screws",
        "created": "1 January 2030",
        "against": "a",
        "detectors": [
            detector("b", 0.97, 0.25),
            detector("a", 0.95, 0.10),
            detector("c", 0.70, 0.10),
        ],
        "differences": [difference("b", -0.05, -0.11, 0.01), difference("c", -0.25, -0.4, -0.1)],
        "disputed": [Disputed("test/dent/1.png", "dent", b"", judged, 7)],
        "notes": [],
    }
    return ComparisonReport(**{**given, **changes})


def test_page_says_who_is_ahead_and_by_how_much(text_of: Any) -> None:
    text = text_of(render_comparison(report()))
    assert "Highest image AUROC 0.970 b" in text
    assert "a: ahead of c by more than chance would explain. Ahead of b by no more than" in text
    assert "Fewest missed 2 of 20 defective parts, by a and c" in text
    assert "Others: b 5." in text
    assert "The detector that misses the fewest comes first" in text
    level = [difference("b", -0.05, -0.11, 0.01), difference("c", 0.0, -0.1, 0.1)]
    text = text_of(render_comparison(report(differences=level)))
    assert "Level with c, and of higher image AUROC." in text
    assert "b is what it is." in text
    assert "7 defective parts are rejected by some" in text
    assert "draws the same parts for both" in text


def test_detectors_that_promise_different_budgets_are_ranked_by_auroc(text_of: Any) -> None:
    lenient = detector("a", 0.95, 0.10)
    lenient.run.figures["false_alarms"] = 0.05  # type: ignore[index]
    page = render_comparison(report(detectors=[lenient, detector("b", 0.97, 0.25)], against="b"))
    rows = [row for row in page.split("<tr>") if row.startswith("<td>")]
    assert "b/report" in rows[0]
    assert "Misses do not compare here, so image AUROC ranks the detectors" in text_of(page)


def test_tables_begin_with_the_best_and_mark_the_best_of_each_column() -> None:
    page = render_comparison(report())
    rows = [row for row in page.split("<tr>") if row.startswith("<td>")][:3]
    assert ["a/report" in row for row in rows] == [True, False, False]
    assert ["c/report" in row for row in rows] == [False, True, False]  # as few, ranked worse
    assert "<b>10" in rows[0] and "<b>10" in rows[1]
    assert "<b>0.970</b>" in rows[2] and "<b>10" not in rows[2]
    assert "<b>5" not in page  # false alarms are alike for all


def test_differences_are_drawn_around_zero() -> None:
    given = report()
    only = [{**each, "miss_rate": None} for each in given.differences]
    page = render_comparison(replace(given, differences=only))
    start = page.index('<svg class="chart on-wide"', page.index('id="differences"'))
    drawn = ElementTree.fromstring(page[start : page.index("</svg>", start) + 6])  # noqa: S314
    (zero,) = [float(e.get("x1", "")) for e in drawn.iter("line") if e.get("class") == "zero"]
    spans = [
        (float(e.get("x1", "")), float(e.get("x2", "")), "beyond" in e.get("class", ""))
        for e in drawn.iter("line")
        if "whisker" in e.get("class", "")
    ]
    assert spans[0][0] < zero < spans[0][1] and not spans[0][2]
    assert spans[1][1] < zero and spans[1][2]
    unit = (spans[1][1] - spans[1][0]) / 0.3
    assert spans[0][1] - zero == pytest.approx(0.01 * unit, abs=0.2)


def test_any_outcome_can_be_shown(text_of: Any) -> None:
    failed = detector("<b>", None, None, state="failed", reason="Needs <more>.", figures={})
    alone = report(detectors=[failed], differences=[], disputed=[], against=None)
    page = render_comparison(alone)
    assert "&lt;more&gt;" in page and "<more>" not in page
    assert "Compared 0 of 1" in text_of(page)
    unlabelled = [detector("a", None, None), detector("b", None, None)]
    text = text_of(render_comparison(report(detectors=unlabelled, differences=[], disputed=[])))
    assert "needs good and defective test parts" in text
    torch = [replace(detector("a", 0.9, 0.1), loads_torch=True, fit_peak_mb=None)]
    text = text_of(render_comparison(report(detectors=torch, differences=[], disputed=[])))
    assert "PyTorch is loaded to inspect by a" in text and "Memory of fit" not in text


@pytest.mark.parametrize(
    ("auroc", "missed", "alone", "words"),
    [
        ((-0.02, (-0.05, 0.01)), (0.1, (-0.1, 0.3)), (1, 3), "0.020 lower than that of a; the"),
        (
            (-0.02, (-0.05, 0.01)),
            (0.1, (-0.1, 0.3)),
            (1, 3),
            "no more than chance would explain (95",
        ),
        ((0.03, (0.01, 0.05)), (0.0, (-0.1, 0.1)), (0, 0), "0.030 higher than that of a; the"),
        ((0.03, (0.01, 0.05)), (0.0, (-0.1, 0.1)), (0, 0), "is more than chance would explain"),
        ((0.03, (0.01, 0.05)), (0.0, (-0.1, 0.1)), (0, 0), "finds and misses the same of 20"),
        ((0.0, (-0.1, 0.1)), (-0.2, (-0.3, -0.1)), (4, 0), "image AUROC is the same as that of a"),
        ((0.0, (-0.1, 0.1)), (-0.2, (-0.3, -0.1)), (4, 0), "finds 4 of 20 defective parts that a"),
    ],
)
def test_sentence_says_what_chance_explains(
    auroc: Any, missed: Any, alone: tuple[int, int], words: str
) -> None:
    paired = PairedDifferences(Difference(*auroc), Difference(*missed), None, *alone)
    assert words in difference_sentence("b", "a", paired, 20)


def test_sentence_without_both_classes_claims_nothing() -> None:
    paired = PairedDifferences(None, None, None, 0, 0)
    assert difference_sentence("b", "a", paired, 0) == "b: too few kinds of parts to compare."
