"""Image-level metrics against scikit-learn, and their invariances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from makellos.errors import InputError
from makellos.evaluation import (
    BestAccuracy,
    F1Max,
    auroc,
    average_precision,
    best_accuracy,
    f1_max,
    precision_recall_curve,
    roc_curve,
)

METRICS = [
    *(auroc, average_precision, f1_max, best_accuracy, roc_curve, precision_recall_curve),
]


@st.composite
def parts(draw):
    """Scores with many ties, from a small grid, and labels of both classes."""
    n = draw(st.integers(2, 60))
    scores = draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))
    defective = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    defective[0], defective[1] = True, False
    return np.array(scores) / 3.0, np.array(defective)


@settings(deadline=None)
@given(parts())
def test_auroc_and_ap_equal_scikit_learn(given_parts):
    scores, defective = given_parts
    assert auroc(scores, defective) == pytest.approx(oracle.roc_auc_score(defective, scores))
    expected = oracle.average_precision_score(defective, scores)
    assert average_precision(scores, defective) == pytest.approx(expected)


@settings(deadline=None)
@given(parts())
def test_curves_equal_scikit_learn(given_parts):
    scores, defective = given_parts
    fpr, tpr, thresholds = oracle.roc_curve(defective, scores, drop_intermediate=False)
    curve = roc_curve(scores, defective)
    np.testing.assert_allclose(curve.false_positive_rate, fpr)
    np.testing.assert_allclose(curve.true_positive_rate, tpr)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    precision, recall, thresholds = oracle.precision_recall_curve(defective, scores)
    curve = precision_recall_curve(scores, defective)
    np.testing.assert_allclose(curve.precision, precision[-2::-1])
    np.testing.assert_allclose(curve.recall, recall[-2::-1])
    np.testing.assert_array_equal(curve.thresholds, thresholds[::-1])


@settings(deadline=None)
@given(parts())
def test_f1_max_is_the_best_of_all_thresholds_and_its_threshold_reaches_it(given_parts):
    scores, defective = given_parts
    best = f1_max(scores, defective)
    every = {t: oracle.f1_score(defective, scores >= t) for t in np.unique(scores)}
    assert best.value == pytest.approx(max(every.values()))
    assert every[best.threshold] == pytest.approx(best.value)
    assert best.threshold == max(t for t, f1 in every.items() if f1 >= best.value - 1e-12)


@settings(deadline=None)
@given(parts())
def test_best_accuracy_is_that_of_the_best_of_all_thresholds(given_parts):
    scores, defective = given_parts
    best = best_accuracy(scores, defective)
    every = {t: float(np.mean((scores >= t) == defective)) for t in [*np.unique(scores), np.inf]}
    assert best.value == pytest.approx(max(every.values()))
    assert best.threshold == max(t for t, value in every.items() if value >= best.value - 1e-12)


def test_best_accuracy_may_be_to_reject_nothing_or_everything():
    assert best_accuracy([3.0, 2.0, 1.0], [False, False, True]) == BestAccuracy(2 / 3, np.inf)
    assert best_accuracy([3.0, 2.0, 1.0], [False, True, True]) == BestAccuracy(2 / 3, 1.0)
    assert best_accuracy([2.0] * 4, [True, True, True, False]) == BestAccuracy(0.75, 2.0)


def test_parts_of_equal_score_are_judged_alike():
    # One order of the tied parts would part them rightly, but no threshold can.
    assert best_accuracy([1.0, 1.0], [False, True]).value == 0.5
    assert best_accuracy([1.0, 1.0], [True, False]).value == 0.5


@settings(deadline=None)
@given(parts(), st.randoms(use_true_random=False))
def test_order_of_parts_and_monotone_maps_change_nothing(given_parts, random):
    scores, defective = given_parts
    order = list(range(scores.size))
    random.shuffle(order)
    for metric in (auroc, average_precision, lambda *given: best_accuracy(*given).value):
        expected = metric(scores, defective)
        assert metric(scores[order], defective[order]) == pytest.approx(expected)
        assert metric(np.exp(scores) * 1e6 - 5, defective) == pytest.approx(expected)
    assert auroc(-scores, defective) == pytest.approx(1 - auroc(scores, defective))


def test_constant_scores_are_chance():
    defective = [True, False, False, False]
    assert auroc([2.0] * 4, defective) == 0.5
    assert average_precision([2.0] * 4, defective) == 0.25
    assert f1_max([2.0] * 4, defective) == F1Max(0.4, 2.0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("defective", [[], [True, True], [False, False]])
def test_a_missing_class_gives_none(metric, defective):
    assert metric([0.5] * len(defective), defective) is None


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_named(metric, value):
    with pytest.raises(InputError, match="index 1"):
        metric([0.1, value, 0.3], [True, False, False])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("scores", "defective", "message"),
    [
        ([0.1, 0.2], [True], "one entry per part"),
        ([0.1, 0.2], ["good", "scratch"], "defective_from_labels"),
        ([0.1, 0.2], [0, 2], "1 and 0"),
        ([0.1, 0.2], [0.0, 0.5], "1 and 0"),
        ([[0.1, 0.2]], [True, False], "one number per part"),
        (["a", "b"], [True, False], "one number per part"),
    ],
)
def test_wrong_arguments_are_explained(metric, scores, defective, message):
    with pytest.raises(InputError, match=message):
        metric(scores, defective)
