"""The section of the classes in the evaluation report."""

from __future__ import annotations

import re
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pytest

from makellos.evaluation import Resampling, class_figures, class_intervals
from makellos.reports.classes import class_section
from makellos.reports.evaluation import render_evaluation

CLASSES = ("good", "dent", "crack")


def figures_of(named, truth, confidence=0.9, classes=CLASSES):
    """Figures of parts that were named so with this confidence, as plain data."""
    shares = np.full((len(named), len(classes)), (1 - confidence) / (len(classes) - 1))
    for row, name in zip(shares, named, strict=True):
        row[classes.index(name)] = confidence
    rejected = [name != "good" for name in named]
    found = class_figures(shares, truth, classes, rejected)
    rng = np.random.default_rng(0)
    intervals = class_intervals(shares, truth, classes, rejected, Resampling(rng, n_resamples=50))
    return asdict(found) | {"intervals": asdict(intervals)}


@pytest.fixture
def figures():
    truth = ["good"] * 40 + ["dent"] * 20 + ["crack"] * 10 + ["burn"] * 2
    named = ["good"] * 37 + ["dent"] * 3 + ["dent"] * 18 + ["good", "crack"] + ["crack"] * 10
    return figures_of([*named, "crack", "good"], truth)


class Cells(HTMLParser):
    """Collect the classes and the texts of the matrix's cells."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.inside = False
        self.feed(page.partition('<table class="matrix')[2].partition("</table>")[0])

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "td" or (self.inside and tag != "th")
        if tag == "td" and dict(attrs).get("class") != "corner":
            self.found.append([dict(attrs)["class"], ""])

    def handle_data(self, data):
        if self.inside and self.found:
            self.found[-1][1] += data.strip() + " "


def test_the_matrix_shows_counts_and_shares_and_what_is_grave(report, figures):
    cells = [
        (tone, text.replace("\u202f", " ").split())
        for tone, text in Cells(render_evaluation(report(figures=figures))).found
    ]
    assert cells == [
        ("right", ["37", "92", "%"]),
        ("wrong", ["3", "8", "%"]),
        ("none", ["0"]),
        ("wrong", ["1", "5", "%"]),
        ("right", ["18", "90", "%"]),
        ("again", ["1", "5", "%"]),
        ("none", ["0"]),
        ("none", ["0"]),
        ("right", ["10", "100", "%"]),
        ("wrong", ["1", "50", "%"]),
        ("none", ["0"]),
        ("again", ["1", "50", "%"]),
    ]


def test_the_section_says_what_was_confused_and_names_every_class(report, figures, text_of):
    seen = text_of(render_evaluation(report(figures=figures)))
    seen = seen.partition(" Classes 65 of 70")[2].partition(" Kinds of defects ")[0]
    assert "parts were named correctly. Most often confused: good taken for dent, 3 of 40." in seen
    assert re.search(r"good 40 parts", seen)
    assert re.search(r"unknown: burn 2 parts", seen)
    assert re.search(r"dent +20 +85.7 % +90 % +0.878", seen)
    assert re.search(r"Mean of classes +70 +94.2 % +0.926", seen)
    assert "marked unknown" in seen


def test_the_confidence_is_put_into_words(report, figures, text_of):
    seen = text_of(render_evaluation(report(figures=figures)))
    assert "When it says about 90 %, it is right 93 % of the time (65 of 70 parts)." in seen
    assert "Over all parts it says 90 % on average and is right 93 % of the time." in seen
    assert "differ by 2.9 percentage points" in seen
    assert "Chance alone would show about 2.8 percentage points" in seen
    assert "The difference may be chance: its confidence may be right." in seen


@pytest.mark.parametrize(
    ("n_right", "confidence", "expected"),
    [(60, 0.98, "it is too sure"), (99, 0.6, "it is not sure enough")],
)
def test_more_than_chance_has_a_direction(report, text_of, n_right, confidence, expected):
    truth = ["good"] * 50 + ["dent"] * 50
    named = [name if i % 50 < n_right // 2 else "crack" for i, name in enumerate(truth)]
    figures = figures_of(named, truth, confidence)
    seen = text_of(render_evaluation(report(figures=figures)))
    assert f"That is more than chance would explain: overall {expected}." in seen


def test_the_diagram_has_a_bar_per_filled_bin(figures):
    drawn = class_section(figures).reliability
    (bar,), frame = drawn.bars, drawn.frame
    assert bar.text == "70"
    assert not bar.few
    assert bar.height == pytest.approx((frame.bottom - frame.top) * 65 / 70)
    # 1/3 is an edge: the axis starts there, and with it the line of those that keep their word.
    share = (0.9 - 1 / 3) / (2 / 3)
    assert bar.x < frame.left + (frame.right - frame.left) * share < bar.x + bar.width
    x, y, end, top = drawn.diagonal
    assert (x, end, top) == pytest.approx((frame.left, frame.right, frame.top))
    assert y == pytest.approx(frame.bottom - (frame.bottom - frame.top) / 3)


def test_few_parts_make_a_pale_bar(report):
    figures = figures_of(["good", "dent"], ["good", "dent"])
    assert class_section(figures).reliability.bars[0].few
    assert 'class="right few"' in render_evaluation(report(figures=figures))


def test_all_right_is_said(figures):
    found = class_section(figures_of(["good", "dent"], ["good", "dent"]))
    assert found.lead == "All 2 parts were named correctly."


def test_the_figures_of_a_classifier_stand_in_the_table(report, figures, text_of):
    table = text_of(render_evaluation(report(figures=figures))).split("What it says")[-1]
    for row in ("Balanced accuracy 93.1 %", "Precision", "Recall", "F1", "Macro F1 0.926"):
        assert f" {row} " in table, row
    assert "Calibration error (ECE) 2.9 % 0 % to" in table


def test_nothing_changes_without_a_confusion_matrix(report):
    page = render_evaluation(report())
    assert 'id="classes"' not in page
    assert 'href="#classes"' not in page
    assert class_section(report().figures) is None


def test_any_figure_but_the_matrix_may_be_missing(report, text_of):
    bare = {"classes": list(CLASSES), "confusion_matrix": [[0, 0, 0]] * 3}
    page = render_evaluation(report(figures=bare))
    assert "No part of a class that the classifier knows was tested." in text_of(page)
    assert 'class="chart reliability"' not in page
    assert "None" not in text_of(page)


def test_only_unknown_kinds_can_be_shown(report, text_of):
    page = render_evaluation(report(figures=figures_of(["dent"], ["burn"])))
    assert "nothing can be said about the confidence" in text_of(page)


def test_a_ragged_matrix_is_left_out():
    assert class_section({"classes": ["good", "dent"], "confusion_matrix": [[1], [0, 1]]}) is None


def test_names_of_classes_are_text(report):
    evil = '"><script>alert(1)</script>'
    classes = ("good", evil)
    page = render_evaluation(
        report(figures=figures_of(["good", evil], ["good", "<b>x"], classes=classes))
    )
    assert page.count("<script>") == 1
    assert "<b>x" not in page


@pytest.mark.parametrize(("n", "upright", "stacked"), [(4, 0, 0), (6, 1, 0), (12, 1, 1)])
def test_many_classes_get_room(report, n, upright, stacked):
    classes = ("good", *(f"kind {i}" for i in range(1, n)))
    page = render_evaluation(report(figures=figures_of(classes, classes, classes=classes)))
    assert ('<table class="matrix upright"' in page) == bool(upright)
    assert ('<div class="classes stacked">' in page) == bool(stacked)
