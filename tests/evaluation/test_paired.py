"""Paired differences against resampling by hand, and what they must never do."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from makellos.errors import ConfigurationError, InputError
from makellos.evaluation import Resampling, paired_differences


def drawn_by_hand(strata, rng):
    """Return the parts of one resample: as many groups of each stratum, with replacement."""
    drawn = [units[rng.integers(0, len(units), len(units))].ravel() for units in strata]
    return np.concatenate(drawn)


def parts(n_good, n_bad, seed, noise=1.0):
    rng = np.random.default_rng(seed)
    defective = np.arange(n_good + n_bad) >= n_good
    hard = rng.normal(size=defective.size)  # what makes a part easy or hard for both
    one = 1.6 * defective + hard + 0.3 * noise * rng.normal(size=defective.size)
    other = 1.1 * defective + hard + 0.3 * noise * rng.normal(size=defective.size)
    return one, other, defective


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_are_those_of_resampled_parts(grouped):
    one, other, defective = parts(40, 60, seed=3)
    groups = [i // 4 for i in range(100)] if grouped else None
    found = paired_differences(
        one,
        one > 1.5,
        other,
        other > 1.5,
        defective,
        Resampling(np.random.default_rng(0), groups=groups),
    )
    assert found.image_auroc.value == pytest.approx(
        roc_auc_score(defective, one) - roc_auc_score(defective, other)
    )
    missed = np.mean(one[defective] <= 1.5) - np.mean(other[defective] <= 1.5)
    assert found.miss_rate.value == pytest.approx(missed)
    alarms = np.mean(one[~defective] > 1.5) - np.mean(other[~defective] > 1.5)
    assert found.false_alarm_rate.value == pytest.approx(alarms)
    size = 4 if grouped else 1
    units = np.arange(100).reshape(-1, size)
    strata = [units[: 40 // size], units[40 // size :]]
    rng, expected = np.random.default_rng(1), []
    for _ in range(1500):
        i = drawn_by_hand(strata, rng)
        bad = defective[i]
        auroc = roc_auc_score(bad, one[i]) - roc_auc_score(bad, other[i])
        expected.append((auroc, np.mean(one[i][bad] <= 1.5) - np.mean(other[i][bad] <= 1.5)))
    low, high = np.quantile(expected, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(found.image_auroc.interval, (low[0], high[0]), atol=0.01)
    np.testing.assert_allclose(found.miss_rate.interval, (low[1], high[1]), atol=0.03)


def test_pairing_sees_what_overlapping_intervals_hide():
    one, other, defective = parts(60, 60, seed=1, noise=0.2)
    rng = np.random.default_rng(0)
    strangers = np.concatenate([rng.permutation(other[:60]), rng.permutation(other[60:])])
    paired, unpaired = (
        paired_differences(one, one > 2, each, each > 2, defective, Resampling(rng)).image_auroc
        for each in (other, strangers)
    )
    assert paired.value == pytest.approx(unpaired.value)
    assert not paired.within_chance
    assert np.ptp(paired.interval) < np.ptp(unpaired.interval) / 2


def test_differences_turn_with_the_sides():
    one, other, defective = parts(30, 30, seed=2)
    there = paired_differences(
        one, one > 1, other, other > 1, defective, Resampling(np.random.default_rng(0))
    )
    back = paired_differences(
        other, other > 1, one, one > 1, defective, Resampling(np.random.default_rng(0))
    )
    assert there.image_auroc.value == pytest.approx(-back.image_auroc.value)
    assert there.miss_rate.interval == pytest.approx(
        tuple(-x for x in back.miss_rate.interval[::-1])
    )
    assert (there.n_found_alone, there.n_missed_alone) == (back.n_missed_alone, back.n_found_alone)
    assert there.n_found_alone == int(((one > 1) & (other <= 1) & defective).sum())


@pytest.mark.parametrize(("groups", "n"), [(None, 20), ([i // 5 for i in range(40)], 4)])
def test_the_same_results_are_no_proof_of_no_difference(groups, n):
    scores, defective = np.arange(40.0), np.arange(40) >= 20
    found = paired_differences(
        scores,
        scores > 19,
        scores,
        scores > 19,
        defective,
        Resampling(np.random.default_rng(0), groups=groups),
    )
    reach = 1 - 0.025 ** (1 / n)
    for difference in (found.image_auroc, found.miss_rate, found.false_alarm_rate):
        assert difference.value == 0
        assert difference.interval == pytest.approx((-reach, reach))
        assert difference.within_chance


def test_what_a_missing_class_leaves():
    scores, good = np.arange(5.0), np.zeros(5, bool)
    found = paired_differences(
        scores, scores > 3, scores, scores > 2, good, Resampling(np.random.default_rng(0))
    )
    assert found.image_auroc is found.miss_rate is None
    assert found.false_alarm_rate.value == pytest.approx(-0.2)


def test_wrong_input_is_explained():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="rejected"):
        paired_differences([1, 2], [True], [1, 2], [True, False], [False, True], Resampling(rng))
    with pytest.raises(InputError):
        paired_differences(
            [1, 2], [True, False], [1], [True, False], [False, True], Resampling(rng)
        )
    with pytest.raises(ConfigurationError, match="n_resamples"):
        paired_differences([1, 2], [1, 0], [1, 2], [1, 0], [0, 1], Resampling(rng, n_resamples=0))
