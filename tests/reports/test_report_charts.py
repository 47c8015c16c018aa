"""The geometry of the charts: counts, edges, scales and operating points."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makellos.reports.charts import Histogram, ScoredPart, score_histogram
from makellos.reports.curves import curve

finite_scores = st.floats(-1e6, 1e6)


def parts(good=(), bad=(), threshold=2.5):
    def outcome(score, defective):
        return "right" if (score >= threshold) is defective else "wrong"

    return [ScoredPart(s, False, outcome(s, False)) for s in good] + [
        ScoredPart(s, True, outcome(s, True)) for s in bad
    ]


def draw(found, threshold=2.5, band=2.0, width=1000.0) -> Histogram:
    chart = score_histogram(found, threshold=threshold, look_again_threshold=band, width=width)
    assert chart is not None
    return chart


def test_bar_heights_are_proportional_to_counts():
    chart = draw(parts(good=[1.0] * 8 + [1.6] * 4))
    heights = [bar.height for bar in chart.panels[0].bars]
    assert heights == pytest.approx([2 * heights[1], heights[1]])
    assert chart.panels[0].title == "12 good parts"


def test_no_bar_straddles_the_threshold():
    good = [0.1 * i for i in range(1, 26)]
    chart = draw(parts(good=good, bad=[2.51, 2.49, 7.0, 2.5]))
    assert chart.threshold is not None
    line = chart.threshold.at
    for panel in chart.panels:
        for bar in panel.bars:
            assert bar.x + bar.width <= line + 1e-6 or bar.x >= line - 1e-6
    defective = chart.panels[1].bars
    assert [bar.outcome for bar in defective if bar.x < line] == ["wrong"]
    assert {bar.outcome for bar in defective if bar.x >= line - 1e-6} == {"right"}


def test_good_stands_above_defective_and_only_what_there_is():
    both = draw(parts(good=[1.0], bad=[3.0, 4.0]))
    assert [panel.title for panel in both.panels] == ["1 good part", "2 defective parts"]
    assert both.panels[0].baseline < both.panels[1].baseline
    assert [panel.title for panel in draw(parts(bad=[3.0])).panels] == ["1 defective part"]


def test_zones_cover_the_axis_in_order():
    chart = draw(parts(good=[1.0, 1.5], bad=[4.0]))
    assert [zone.name for zone in chart.zones] == ["ok", "look again", "reject"]
    ends = [(zone.x, zone.x + zone.width) for zone in chart.zones]
    assert ends[0][0] == chart.left
    assert ends[-1][1] == pytest.approx(chart.right)
    assert [end for _, end in ends[:-1]] == pytest.approx([start for start, _ in ends[1:]])


@pytest.mark.parametrize(
    ("good", "bad", "scale"),
    [
        ([1.0, 2.0], [3.0, 9.0], "linear"),
        ([1.0, 2.0], [3.0, 90.0], "logarithmic"),
        ([-1.0, 2.0], [3.0, 900.0], "broken"),
        ([100.0, 100.5], [3000.0], "broken"),
    ],
)
def test_long_tails_change_the_scale(good, bad, scale):
    threshold = max(good) + 0.5
    chart = draw(parts(good, bad, threshold), threshold=threshold, band=None)
    assert chart.scale == scale


def test_a_broken_axis_gathers_the_tail_in_its_last_bin():
    chart = draw(parts(good=[-1.0, 0.0, 2.0], bad=[3.0, 500.0, 900.0]))
    assert chart.beyond is not None
    last = chart.panels[1].bars[-1]
    assert last.x < chart.beyond.at < last.x + last.width
    assert last.height == pytest.approx(2 * chart.panels[1].bars[0].height)


def test_scores_far_above_the_threshold_are_not_gathered_where_no_part_is_good():
    chart = draw(parts(bad=[3.0 + 0.1 * i for i in range(70)]), band=2.4)
    assert chart.scale == "linear"
    assert len(chart.panels[0].bars) > 20


def test_without_finite_scores_there_is_no_histogram():
    infinite = [ScoredPart(math.inf, True, "right"), ScoredPart(math.nan, True, "right")]
    for found in ([], infinite):
        assert score_histogram(found, threshold=1.0, look_again_threshold=None, width=300) is None


@given(
    st.lists(finite_scores, min_size=1, max_size=30),
    st.lists(finite_scores, max_size=30),
    st.none() | finite_scores,
    st.none() | finite_scores,
)
def test_any_scores_stay_inside_the_chart(good, bad, threshold, band):
    chart = draw(parts(good, bad), threshold=threshold, band=band, width=350.0)
    for panel in chart.panels:
        assert panel.bars
        for bar in panel.bars:
            assert chart.left <= bar.x <= bar.x + bar.width <= chart.right + 1e-6
            assert math.isfinite(bar.y)
            assert bar.height > 0
    for tick in chart.ticks:
        assert chart.left - 1e-6 <= tick.at <= chart.right + 1e-6


def coordinates(path):
    return [tuple(map(float, pair.split())) for pair in re.split("[ML]", path.rstrip("Z")) if pair]


def test_a_curve_runs_through_its_points():
    drawn = curve([0.0, 0.0, 1.0], [0.0, 1.0, 1.0], point=(0.25, 0.75))
    assert drawn is not None
    corners = [
        (drawn.frame.left, drawn.frame.bottom),
        (drawn.frame.left, drawn.frame.top),
        (drawn.frame.right, drawn.frame.top),
    ]
    assert coordinates(drawn.line) == corners
    width, height = drawn.frame.right - drawn.frame.left, drawn.frame.bottom - drawn.frame.top
    expected = (drawn.frame.left + 0.25 * width, drawn.frame.bottom - 0.75 * height)
    assert drawn.point == pytest.approx(expected)


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    n = 100_000
    steps = [i / (n - 1) for i in range(n)]
    drawn = curve(steps, steps)
    assert drawn is not None
    points = coordinates(drawn.line)
    assert len(points) < 1000
    assert points[0] == (drawn.frame.left, drawn.frame.bottom)
    assert points[-1] == (drawn.frame.right, drawn.frame.top)


def test_an_unknown_operating_point_is_not_drawn():
    drawn = curve([0.0, 1.0], [0.0, 1.0], point=(0.5, None))
    assert drawn is not None
    assert drawn.point is None


@pytest.mark.parametrize(("x", "y"), [([], []), ([0.5], [0.5]), ([0.0, math.nan], [1.0, 1.0])])
def test_fewer_than_two_points_are_no_curve(x, y):
    assert curve(x, y) is None
