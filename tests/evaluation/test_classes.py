"""A classifier's figures against scikit-learn and by hand, unknown kinds, intervals and edges."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from makellos.errors import ConfigurationError, InputError
from makellos.evaluation import Resampling, class_figures, class_intervals

CLASSES = ("good", "scratch", "dent", "crack")
VERDICT = ("good", "defective")


def sample(rng, n=120, classes=CLASSES, signal=1.5):
    """Probabilities that know something, true names, and who is rejected."""
    truth = rng.integers(0, len(classes), n)
    logits = rng.normal(size=(n, len(classes))) + signal * np.eye(len(classes))[truth]
    shares = np.exp(logits)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares, [classes[i] for i in truth], shares[:, 0] < 0.4


def sure(*named, classes=CLASSES, confidence=0.9):
    """Probabilities that name these classes with this confidence."""
    rest = (1 - confidence) / (len(classes) - 1)
    rows = np.full((len(named), len(classes)), rest)
    for row, name in zip(rows, named, strict=True):
        row[classes.index(name)] = confidence
    return rows


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [CLASSES, VERDICT, ("good", "dent")])
def test_figures_equal_those_of_scikit_learn(seed, classes):
    shares, truth, rejected = sample(np.random.default_rng(seed), classes=classes)
    found = class_figures(shares, truth, classes, rejected)
    named = [classes[i] for i in shares.argmax(axis=1)]
    labels = list(classes)
    assert found.confusion_matrix == confusion_matrix(truth, named, labels=labels).tolist()
    assert found.matrix_rows == found.classes == labels
    assert found.accuracy_of_classes == pytest.approx(np.mean(np.array(named) == truth))
    assert found.balanced_accuracy_of_classes == pytest.approx(
        balanced_accuracy_score(truth, named)
    )
    assert found.macro_f1 == pytest.approx(f1_score(truth, named, average="macro"))
    table = precision_recall_fscore_support(truth, named, labels=labels)
    for name, *expected in zip(labels, *table, strict=True):
        one = found.per_class[name]
        assert (one.precision, one.recall, one.f1, one.n) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("seed", range(5))
def test_the_verdicts_figures_equal_those_of_scikit_learn(seed):
    shares, truth, rejected = sample(np.random.default_rng(seed))
    found = class_figures(shares, truth, CLASSES, rejected)
    defective = np.array(truth) != "good"
    precision, recall, f1, _ = precision_recall_fscore_support(
        defective, rejected, average="binary"
    )
    assert found.precision == pytest.approx(precision)
    assert found.recall == pytest.approx(recall)
    assert found.f1 == pytest.approx(f1)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(defective, rejected))


def test_the_calibration_error_is_that_of_a_plain_loop():
    shares, truth, rejected = sample(np.random.default_rng(0), n=400)
    found = class_figures(shares, truth, CLASSES, rejected)
    confidence, right = shares.max(axis=1), [CLASSES[i] for i in shares.argmax(axis=1)]
    right = np.array(right) == truth
    expected = 0.0
    for i in range(15):
        here = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        one = found.reliability[i]
        assert (one.low, one.high) == pytest.approx((i / 15, (i + 1) / 15))
        assert one.n == here.sum()
        if here.any():
            expected += here.mean() * abs(right[here].mean() - confidence[here].mean())
            assert one.confidence == pytest.approx(confidence[here].mean())
            assert one.accuracy == pytest.approx(right[here].mean())
        else:
            assert (one.confidence, one.accuracy) == (None, None)
    assert found.ece == pytest.approx(expected)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    shares = sure("good", "good", classes=VERDICT, confidence=0.8)
    found = class_figures(shares, ["good", "good"], VERDICT, [0, 0])
    filled = [one for one in found.reliability if one.n]
    assert [(one.high, one.n) for one in filled] == [(pytest.approx(0.8), 2)]


def test_the_error_by_chance_is_what_calibrated_classifiers_show():
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.5, 1.0, 90)
    shares = np.stack([confidence, 1 - confidence], axis=1)
    shown, by_chance = [], None
    for _ in range(300):
        truth = ["good" if right else "defective" for right in rng.random(90) < confidence]
        found = class_figures(shares, truth, VERDICT, [0] * 90)
        shown.append(found.ece)
        by_chance = found.ece_by_chance
    assert by_chance == pytest.approx(np.mean(shown), rel=0.05)


def test_every_defect_is_defective_to_a_verdict():
    truth = ["good", "scratch", "dent", "defective"]
    shares = sure("good", "defective", "good", "defective", classes=VERDICT)
    found = class_figures(shares, truth, VERDICT, [False, True, False, True])
    assert found.confusion_matrix == [[1, 0], [1, 2]]
    assert found.unknown == {}
    assert found.note is None
    assert found.recall == pytest.approx(2 / 3)


def test_one_half_is_defective():
    found = class_figures([[0.5, 0.5]], ["scratch"], VERDICT, [0])
    assert found.confusion_matrix == [[0, 0], [0, 1]]


def test_an_unknown_kind_has_its_row_and_counts_for_the_verdict_alone():
    known = sure("good", "scratch", "dent")
    unknown = sure("dent", "good", "crack", "crack")
    truth = ["good", "scratch", "dent", "burn", "burn", "burn", "ash"]
    rejected = np.array([0, 1, 1, 1, 0, 1, 1])
    found = class_figures(np.concatenate([known, unknown]), truth, CLASSES, rejected)
    alone = class_figures(known, truth[:3], CLASSES, rejected[:3])
    assert found.matrix_rows == [*CLASSES, "unknown: ash", "unknown: burn"]
    assert found.confusion_matrix[:4] == alone.confusion_matrix
    assert found.confusion_matrix[4:] == [[0, 0, 0, 1], [1, 0, 1, 1]]
    assert found.unknown == {"ash": 1, "burn": 3}
    assert "4 parts are of a kind that the classifier has not learned: ash, burn." in found.note
    for name in ("accuracy_of_classes", "macro_f1", "ece", "ece_by_chance", "per_class"):
        assert getattr(found, name) == getattr(alone, name), name
    assert found.recall == pytest.approx(5 / 6)
    assert found.balanced_accuracy == pytest.approx((1 + 5 / 6) / 2)


def test_undefined_figures_are_none():
    found = class_figures(sure("scratch", "scratch"), ["dent", "scratch"], CLASSES, [0, 0])
    good, scratch, dent, crack = found.per_class.values()
    assert (good.precision, good.recall, good.f1) == (None, None, None)
    assert (scratch.precision, scratch.recall) == (0.5, 1.0)
    assert (dent.precision, dent.recall, dent.f1) == (None, 0.0, 0.0)
    assert crack == good
    assert found.macro_f1 == pytest.approx((2 / 3 + 0) / 2)
    assert found.precision is None
    assert found.recall == 0.0
    assert found.f1 == 0.0
    assert found.balanced_accuracy is None


def test_only_unknown_kinds_leave_the_classes_undefined():
    found = class_figures(sure("dent"), ["burn"], CLASSES, [1])
    assert found.macro_f1 is found.accuracy_of_classes is found.ece is None
    assert found.recall == found.precision == 1.0
    intervals = class_intervals(
        sure("dent"), ["burn"], CLASSES, [1], Resampling(np.random.default_rng(0), n_resamples=9)
    )
    assert intervals.macro_f1 is intervals.ece is intervals.balanced_accuracy is None
    assert intervals.recall == (pytest.approx(0.025), 1.0)


parts = st.lists(
    st.tuples(
        st.sampled_from([*CLASSES, "burn"]),
        st.lists(st.integers(0, 4), min_size=4, max_size=4).filter(any),
        st.booleans(),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(parts, st.integers(2, 4))
def test_any_parts_have_figures_in_range(drawn, n_classes):
    classes = CLASSES[:n_classes]
    truth = [name for name, _, _ in drawn]
    weights = np.array([row[:n_classes] for _, row, _ in drawn], float).reshape(-1, n_classes)
    weights[weights.sum(axis=1) == 0, 0] = 1
    shares = weights / weights.sum(axis=1, keepdims=True)
    rejected = np.array([flag for *_, flag in drawn], dtype=bool)
    found = class_figures(shares, truth, classes, rejected)
    json.dumps(asdict(found), allow_nan=False)
    assert np.sum(found.confusion_matrix, dtype=int) == len(drawn)
    assert sum(one.n for one in found.reliability) + sum(found.unknown.values()) == len(drawn)
    rng = np.random.default_rng(0)
    intervals = asdict(
        class_intervals(shares, truth, classes, rejected, Resampling(rng, n_resamples=20))
    )
    for name, interval in intervals.items():
        value = getattr(found, name)
        assert (value is None) == (interval is None), name
        if value is not None:
            assert 0.0 <= interval[0] <= interval[1] <= 1.0
            assert 0.0 <= value <= 1.0
    known = [i for i, name in enumerate(truth) if name in classes]
    if len({truth[i] for i in known}) > 1:
        named = [classes[n_classes - 1 - np.argmax(shares[i, ::-1])] for i in known]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = f1_score([truth[i] for i in known], named, average="macro")
        assert found.macro_f1 == pytest.approx(expected)


def test_intervals_equal_a_plain_bootstrap_of_the_figures():
    rng = np.random.default_rng(2)
    shares, truth, rejected = sample(rng, n=60)
    intervals = class_intervals(
        shares, truth, CLASSES, rejected, Resampling(np.random.default_rng(5))
    )
    defective = np.array(truth) != "good"
    draws = Resampling(np.random.default_rng(5)).blocks(defective, row_size=60)
    resampled = []
    for weights in np.concatenate(list(draws))[:400]:
        drawn = np.repeat(np.arange(60), weights.astype(int))
        again = class_figures(shares[drawn], np.array(truth)[drawn], CLASSES, rejected[drawn])
        resampled.append([again.macro_f1, again.balanced_accuracy, again.precision, again.f1])
    for column, name in enumerate(("macro_f1", "balanced_accuracy", "precision", "f1")):
        expected = np.quantile(np.array(resampled)[:, column], [0.025, 0.975])
        assert getattr(intervals, name) == pytest.approx(tuple(expected), abs=0.02), name


def test_groups_widen_the_intervals():
    shares, truth, rejected = sample(np.random.default_rng(3), n=40)
    many = [np.concatenate([values] * 5) for values in (shares, truth, rejected)]
    groups = list(range(40)) * 5
    width = []
    for chosen in (None, groups):
        rng = np.random.default_rng(0)
        low, high = class_intervals(
            many[0], many[1], CLASSES, many[2], Resampling(rng, groups=chosen)
        ).macro_f1
        width.append(high - low)
    assert width[1] > 1.7 * width[0]


def test_perfect_verdicts_are_no_certainty():
    truth = ["good"] * 20 + ["dent"] * 10
    shares = sure(*truth)
    rejected = np.array(truth) != "good"
    rng = np.random.default_rng(0)
    alone = class_intervals(shares, truth, CLASSES, rejected, Resampling(rng, n_resamples=50))
    assert alone.recall == (pytest.approx(0.025 ** (1 / 10)), 1.0)
    assert alone.precision == alone.recall
    expected = (0.025 ** (1 / 10) + 0.025 ** (1 / 20)) / 2
    assert alone.balanced_accuracy == (pytest.approx(expected), 1.0)
    groups = ["a"] * 20 + ["b", "b", "c", "c", "d", "d", None, None, None, None]
    grouped = class_intervals(
        shares, truth, CLASSES, rejected, Resampling(rng, n_resamples=50, groups=groups)
    )
    assert grouped.recall == (pytest.approx(0.025 ** (1 / 7)), 1.0)


@pytest.mark.parametrize(("sharpness", "true"), [(1.0, 0.0), (2.0, 0.1165)])
def test_the_interval_of_the_calibration_error_holds_the_truth(sharpness, true):
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(40):
        logits = 2 * rng.normal(size=(200, 3))
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        drawn = np.argmax(chances.cumsum(axis=1) >= rng.random((200, 1)), axis=1)
        said = np.exp(sharpness * logits)
        said /= said.sum(axis=1, keepdims=True)
        truth = [CLASSES[i] for i in drawn]
        low, high = class_intervals(
            said, truth, CLASSES[:3], drawn > 0, Resampling(rng, n_resamples=200)
        ).ece
        assert low <= class_figures(said, truth, CLASSES[:3], drawn > 0).ece <= high
        covered += low <= true <= high
    assert covered >= 34


def test_same_seed_same_intervals():
    shares, truth, rejected = sample(np.random.default_rng(6))
    first, second = (
        class_intervals(shares, truth, CLASSES, rejected, Resampling(np.random.default_rng(1)))
        for _ in range(2)
    )
    assert first == second


def test_a_thousand_resamples_take_no_time():
    shares, truth, rejected = sample(np.random.default_rng(0), n=280)
    rng = np.random.default_rng(0)
    start = time.process_time()
    class_intervals(shares, truth, CLASSES, rejected, Resampling(rng))
    assert time.process_time() - start < 2.0  # about 0.03 s on an idle machine


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": [[0.2, 0.2], [0.5, 0.5]]}, r"add up to 1"),
        ({"probabilities": [[0.2, 0.8], [np.nan, 0.5]]}, r"part 1 .*nan"),
        ({"probabilities": [[1.5, -0.5], [0.5, 0.5]]}, r"part 0 .*logits"),
        ({"probabilities": [[0.2, 0.3, 0.5]] * 2}, r"2 classes need \(parts, 2\)"),
        ({"probabilities": [0.5, 0.5]}, r"shape \(2,\)"),
        ({"truth": ["good"]}, r"`truth` needs one entry per part"),
        ({"truth": ["good", ""]}, r"Label '' at index 1"),
        ({"rejected": [0, 1, 1]}, r"`rejected` needs one entry"),
        ({"rejected": ["ok", "reject"]}, r"`rejected` holds True or False"),
    ],
)
def test_wrong_parts_are_named(changes, message):
    values = {
        "probabilities": [[0.2, 0.8], [0.5, 0.5]],
        "truth": ["good", "dent"],
        "classes": ("good", "dent"),
        "rejected": [0, 1],
    }
    with pytest.raises(InputError, match=message):
        class_figures(**(values | changes))


@pytest.mark.parametrize("classes", ["good", ("good",), ("good", "good"), ("dent", "good")])
def test_wrong_classes_are_named(classes):
    with pytest.raises(ConfigurationError, match="'good'"):
        class_figures([[0.2, 0.8]], ["good"], classes, [0])


def test_wrong_groups_are_named():
    with pytest.raises(InputError, match="groups"):
        class_intervals(
            [[0.2, 0.8]],
            ["good"],
            VERDICT,
            [0],
            Resampling(np.random.default_rng(0), groups=["a", "b"]),
        )
